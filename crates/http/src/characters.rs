//! Text as servers write it: bytes that are no UTF-8, and escapes of half a character, become U+FFFD, as browsers read
//! them. One that cut its output in the middle of an emoji has still said the rest.

use std::borrow::Cow;

/// JSON, or what should be JSON, without a character that cannot be read; borrowed where there was none.
pub fn whole_characters(json: &[u8]) -> Cow<'_, [u8]> {
    let text = String::from_utf8_lossy(json);
    match (without_halves(&text), text) {
        (Some(whole), _) => Cow::Owned(whole.into_bytes()),
        (None, Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
        (None, Cow::Borrowed(_)) => Cow::Borrowed(json),
    }
}

/// The text with U+FFFD in the place of each escape of half a character; `None`: there is none.
fn without_halves(text: &str) -> Option<String> {
    let mut whole: Option<String> = None;
    // What of the text is in `whole` already, and where the search goes on.
    let (mut done, mut at) = (0, 0);
    while let Some(next) = text.get(at..).and_then(|rest| rest.find('\\')) {
        let begin = at.saturating_add(next);
        let escape = text.get(begin..).unwrap_or_default();
        let taken = match unit(escape) {
            Some(0xd800..=0xdbff) if escape.get(6..).and_then(unit).is_some_and(is_low) => 12,
            Some(0xd800..=0xdfff) => {
                let whole = whole.get_or_insert_default();
                whole.push_str(text.get(done..begin).unwrap_or_default());
                whole.push_str("\\ufffd");
                done = begin.saturating_add(6);
                6
            }
            Some(_) => 6,
            // The escaped character is not looked at: it may be a backslash.
            None => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        at = begin.saturating_add(taken);
    }
    let mut whole = whole?;
    whole.push_str(text.get(done..).unwrap_or_default());
    Some(whole)
}

/// The UTF-16 unit of an escape at the beginning.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

fn is_low(unit: u16) -> bool {
    (0xdc00..=0xdfff).contains(&unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_a_character_becomes_one_that_says_so() {
        for (written, whole) in [
            (r#""pod \ud83d""#, r#""pod \ufffd""#),
            (r#""\ud83d\ud83d\ude00\ude00 x""#, r#""\ufffd\ud83d\ude00\ufffd x""#),
            (r#""\\ud83d \uD83D x""#, r#""\\ud83d \ufffd x""#),
            (r#""\ud83d\n""#, r#""\ufffd\n""#),
        ] {
            let mended = whole_characters(written.as_bytes());
            assert_eq!(String::from_utf8_lossy(&mended), whole);
        }
        assert_eq!(&*whole_characters(b"\"cut \xf0\x9f\x98\""), "\"cut \u{fffd}\"".as_bytes());
        for good in [&br#"{"\\ud83d": "\ud83d\ude00 \u00e9 \n"}"#[..], b"\"\\ud8\"", b"<html>", b"", b"\"\\"]
        {
            assert!(matches!(whole_characters(good), Cow::Borrowed(_)), "{good:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_mended_once(text in "[\"\\\\ud83de0 é]{0,24}") {
            let once = whole_characters(text.as_bytes()).into_owned();
            let twice = whole_characters(&once);
            prop_assert!(matches!(twice, Cow::Borrowed(_)));
        }
    }
}
