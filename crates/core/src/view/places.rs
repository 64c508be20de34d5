//! Where quotes stand in a stored output, so that a surface can mark them.

use std::ops::Range;

/// The most bytes that are compared for one output.
const MOST_COMPARED: usize = 32 << 20;

/// Where these quotes stand in the text: of each the first place, whitespace and the backslash of an escaped quotation mark
/// aside; in order, those that overlap as one.
pub fn places(text: &str, quotes: &[&str]) -> Vec<Range<usize>> {
    let mut left = MOST_COMPARED;
    let mut found: Vec<Range<usize>> =
        quotes.iter().filter_map(|quote| place(text, quote, &mut left)).collect();
    found.sort_by_key(|place| (place.start, place.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for place in found {
        match merged.last_mut() {
            Some(last) if place.start <= last.end => last.end = last.end.max(place.end),
            _ => merged.push(place),
        }
    }
    merged
}

/// Where one quote stands first. A number that it begins or ends with is not cut.
fn place(text: &str, quote: &str, left: &mut usize) -> Option<Range<usize>> {
    let quote = quote.trim();
    let first = quote.chars().next().filter(|c| *c != '\\')?;
    let (opens, closes) = (first.is_ascii_digit(), quote.ends_with(|c: char| c.is_ascii_digit()));
    for (start, _) in text.match_indices(first) {
        let Some(end) = end_of(text.get(start..)?, quote, left)?.map(|length| start + length) else {
            continue;
        };
        let before = text.get(..start)?.chars().next_back();
        let mut after = text.get(end..)?.chars();
        let goes_on = match after.next() {
            Some('.') => after.next().is_some_and(|c| c.is_ascii_digit()),
            next => next.is_some_and(|c| c.is_ascii_digit()),
        };
        let cuts = (opens && before.is_some_and(|c| c.is_ascii_digit() || c == '.')) || (closes && goes_on);
        if !cuts {
            return Some(start..end);
        }
    }
    None
}

/// How long the quote is where the text begins with it. `None`: enough was compared.
#[expect(clippy::option_option, reason = "no match is not the end of the search")]
fn end_of(text: &str, quote: &str, left: &mut usize) -> Option<Option<usize>> {
    let (mut text_left, mut quote_left) = (text, quote);
    loop {
        *left = left.checked_sub(1)?;
        let Some(wanted) = quote_left.chars().next() else { return Some(Some(text.len() - text_left.len())) };
        if wanted.is_whitespace() {
            let rest = text_left.trim_start();
            if rest.len() == text_left.len() {
                return Some(None);
            }
            (text_left, quote_left) = (rest, quote_left.trim_start());
            continue;
        }
        if let Some(rest) = text_left.strip_prefix(wanted) {
            (text_left, quote_left) = (rest, quote_left.strip_prefix(wanted)?);
        } else if wanted == '"' && text_left.starts_with("\\\"") {
            text_left = text_left.strip_prefix('\\')?;
        } else if wanted == '\\' && quote_left.starts_with("\\\"") {
            quote_left = quote_left.strip_prefix('\\')?;
        } else {
            return Some(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marked<'t>(text: &'t str, quotes: &[&str]) -> Vec<&'t str> {
        places(text, quotes).into_iter().map(|place| &text[place]).collect()
    }

    #[test]
    fn a_quote_is_marked_whatever_its_whitespace_and_its_backslashes_are() {
        let text = "a: Back-off  restarting\n\tfailed container\n{\"m\":\"secret \\\"db\\\" not found\"}";
        assert_eq!(marked(text, &["restarting failed container"]), ["restarting\n\tfailed container"]);
        assert_eq!(marked(text, &["secret \"db\" not"]), ["secret \\\"db\\\" not"]);
        assert_eq!(marked("say \"db\"", &["say \\\"db\\\""]), ["say \"db\""]);
        assert_eq!(marked(text, &["elsewhere", "", "\\"]), Vec::<&str>::new());
    }

    #[test]
    fn places_are_in_order_and_those_that_overlap_are_one() {
        assert_eq!(marked("one two three four", &["three", "one two", "two three"]), ["one two three"]);
        assert_eq!(marked("one two three four", &["four", "one"]), ["one", "four"]);
    }

    #[test]
    fn a_number_is_not_cut() {
        let first = |text: &str, quote: &str| places(text, &[quote]).first().cloned();
        assert_eq!(first("911 pods, 11.5, 11 11", "11"), Some(16..18));
        assert_eq!(first("load 12.", "load 12"), Some(0..7));
        assert_eq!(first("load 12.5", "load 12"), None);
    }

    #[test]
    fn a_search_ends_within_its_bound() {
        let text = "1 ".repeat(130_000);
        let quote = format!("{}2", "1 ".repeat(2_000));
        let mut left = MOST_COMPARED;
        assert_eq!(place(&text, &quote, &mut left), None);
        assert!(left < 10, "{left} left: it gave up");
        assert_eq!(place("a quote", "quote", &mut left), None, "nothing is left for another");
    }

    proptest! {
        #[test]
        fn what_is_marked_is_the_quote(text in "[a-z \\n\"\\\\é]{0,40}", quote in "[a-z \"é]{1,6}") {
            for place in places(&text, &[&quote]) {
                let folded = |text: &str| text.replace('\\', "").split_whitespace().collect::<Vec<_>>().join(" ");
                prop_assert_eq!(folded(&text[place]), folded(&quote));
            }
        }
    }
}
