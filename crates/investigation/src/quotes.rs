//! Whether a quote stands in the evidence that it cites.

use sentinel_core::report::Citation;

use crate::evidence::{EvidenceRecord, normal_id};

/// A quote shorter than this, whitespace folded, would stand in most outputs by chance.
const SHORTEST: usize = 8;

/// A text as quotes are looked up in it: whitespace folded; once as it is, once with JSON escapes resolved, because a
/// model that read `\"x\"` inside a JSON string may quote `"x"`. A quote may begin and end anywhere but inside a number.
#[derive(Clone, Debug)]
pub(crate) struct Searchable {
    plain: String,
    unescaped: String,
}

impl Searchable {
    pub(crate) fn new(text: &str) -> Self {
        Self { plain: fold(text), unescaped: fold(&unescape(text)) }
    }

    /// Whether the quote stands in it. An empty one stands nowhere.
    pub(crate) fn holds(&self, quote: &str) -> bool {
        let plain = fold(quote);
        !plain.is_empty() && (stands(&self.plain, &plain) || stands(&self.unescaped, &fold(&unescape(quote))))
    }
}

/// How a quote fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    /// It stands there and says something.
    Stands,
    /// It stands there, but is too short to say anything.
    TooShort,
    /// It stands there, but in the alert as well: it shows nothing that was not claimed before.
    RepeatsTheAlert,
    /// It does not stand there.
    Invented,
    /// There is no such evidence.
    NoSuchEvidence,
    /// What it cites is not a tool's words: the call failed or never left.
    NotAnOutput,
}

impl Mark {
    /// Whether it stands where it is said to.
    pub(crate) fn is_found(self) -> bool {
        matches!(self, Self::Stands | Self::TooShort | Self::RepeatsTheAlert)
    }

    /// What to tell the model.
    pub(crate) fn problem(self) -> Option<&'static str> {
        match self {
            Self::Stands => None,
            Self::TooShort => Some("is shorter than 8 characters and supports nothing"),
            Self::RepeatsTheAlert => Some("stands in the alert itself and so supports nothing"),
            Self::Invented => Some("does not stand there"),
            Self::NoSuchEvidence => Some("cites evidence that does not exist"),
            Self::NotAnOutput => Some("cites a call that gave no output"),
        }
    }
}

/// Checks one citation.
pub(crate) fn check<'e>(
    citation: &Citation,
    find: impl Fn(&str) -> Option<&'e EvidenceRecord>,
    alert: &Searchable,
) -> Mark {
    let Some(record) = find(&normal_id(&citation.id)) else { return Mark::NoSuchEvidence };
    if !record.status.is_the_tools() {
        return Mark::NotAnOutput;
    }
    let (head, tail) = record.pieces();
    if ![head, tail].iter().any(|piece| Searchable::new(piece).holds(&citation.quote)) {
        return Mark::Invented;
    }
    if fold(&citation.quote).chars().count() < SHORTEST {
        return Mark::TooShort;
    }
    if alert.holds(&citation.quote) { Mark::RepeatsTheAlert } else { Mark::Stands }
}

/// Whether a quote stands in a text without cutting a number: `restarts: 12` stands neither in `restarts: 123` nor in
/// `restarts: 12.5`, and `5 degrees` not in `-5 degrees`.
fn stands(text: &str, quote: &str) -> bool {
    let (opens, closes) =
        (quote.starts_with(|c: char| c.is_ascii_digit()), quote.ends_with(|c: char| c.is_ascii_digit()));
    let mut from = 0;
    while let Some((at, rest)) = text.get(from..).and_then(|rest| Some((from + rest.find(quote)?, rest))) {
        let after = text.get(at + quote.len()..).unwrap_or_default();
        let before = text.get(..at).unwrap_or_default();
        let cuts_a_number = (opens && is_in_number(before, quote)) || (closes && goes_on(after));
        if !cuts_a_number {
            return true;
        }
        // The next place may overlap this one.
        from = at + rest.get(at - from..).and_then(|r| r.chars().next()).map_or(1, char::len_utf8);
    }
    false
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Whether the number that a quote begins with began in the text before it, or has a sign there.
fn is_in_number(before: &str, quote: &str) -> bool {
    let mut back = before.chars().rev();
    let (last, previous, earlier) = (back.next(), back.next(), back.next());
    match last {
        Some(c) if c.is_ascii_digit() => true,
        Some('.') => previous.is_some_and(|c| c.is_ascii_digit()),
        // `1,234`, and not the next of a list.
        Some(',') => previous.is_some_and(|c| c.is_ascii_digit()) && digits(quote) == 3,
        // `1.2e+06`.
        Some('+' | '-') if matches!(previous, Some('e' | 'E')) => {
            earlier.is_some_and(|c| c.is_ascii_digit() || c == '.')
        }
        // A sign, and not a hyphen as in `api-5`.
        Some('-') => previous.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '-' | '_' | '.' | '/')),
        _ => false,
    }
}

/// Whether a number that ends before this text goes on in it.
fn goes_on(after: &str) -> bool {
    let mut rest = after.chars();
    match rest.next() {
        Some(c) if c.is_ascii_digit() => true,
        Some('.') => digits(rest.as_str()) > 0,
        Some(',') => digits(rest.as_str()) == 3,
        // `1.2e+06`.
        Some('e' | 'E') => digits(rest.as_str().trim_start_matches(['+', '-'])) > 0,
        _ => false,
    }
}

fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Resolves JSON's escapes where they are well-formed; what is not stays as it is.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let (resolved, next) = escape(after);
        out.push_str(&resolved);
        rest = next;
    }
    out.push_str(rest);
    out
}

fn escape(after: &str) -> (String, &str) {
    let mut chars = after.chars();
    let simple = match chars.next() {
        Some(c @ ('"' | '\\' | '/')) => Some(c),
        Some('n' | 'r' | 't' | 'f' | 'b') => Some(' '),
        Some('u') => {
            return match unicode(after) {
                Some((c, rest)) => (c.to_string(), rest),
                None => ("\\".to_owned(), after),
            };
        }
        _ => None,
    };
    match simple {
        Some(c) => (c.to_string(), chars.as_str()),
        None => ("\\".to_owned(), after),
    }
}

/// `u00e9`, or the two halves of a character beyond them, `ud83d\ude00`.
fn unicode(after: &str) -> Option<(char, &str)> {
    let code = |text: &str| u32::from_str_radix(text.get(..4)?, 16).ok();
    let (first, rest) = (code(after.get(1..)?)?, after.get(5..)?);
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, rest));
    }
    let second = code(rest.strip_prefix("\\u")?)?;
    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    Some((char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + low)?, rest.get(6..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sentinel_core::UnixMs;
    use sentinel_core::redact::Redactor;
    use serde_json::{Map, json};

    use super::*;
    use crate::evidence::{CallStatus, Ended, Kept, MOST_ENCODED};

    fn evidence(text: &str, status: CallStatus) -> EvidenceRecord {
        let ended = Ended {
            number: 1,
            tool: "s.t".into(),
            arguments: &Map::new(),
            status,
            turn: 0,
            at: UnixMs::new(0),
            ms: 0,
            kept: Kept::of(text, &Redactor::default(), MOST_ENCODED),
        };
        EvidenceRecord::new(ended, &Redactor::default())
    }

    fn mark(text: &str, id: &str, quote: &str) -> Mark {
        let e = evidence(text, CallStatus::Answered);
        let citation = Citation { id: id.into(), quote: quote.into(), found: None };
        check(
            &citation,
            |id| (id == "E1").then_some(&e),
            &Searchable::new("{\"summary\":\"the pod is not ready\"}"),
        )
    }

    #[test]
    fn a_quote_stands_where_only_whitespace_differs() {
        assert_eq!(
            mark("Back-off  restarting\n\tfailed container", "E1", "restarting failed container"),
            Mark::Stands
        );
        assert_eq!(mark("restarting failed container", "[e1]", " restarting\nfailed "), Mark::Stands);
    }

    #[test]
    fn a_quote_of_an_escaped_string_stands() {
        let text = r#"{"message":"secret \"db\" not found\nretry"}"#;
        assert_eq!(mark(text, "E1", r#"secret "db" not found retry"#), Mark::Stands);
        assert_eq!(mark(text, "E1", r#"secret \"db\" not found"#), Mark::Stands);
        assert_eq!(mark("caf\\u00e9 closed \\u00zz", "E1", "café closed"), Mark::Stands);
        assert_eq!(mark("on fire \\ud83d\\udd25 now", "E1", "on fire 🔥 now"), Mark::Stands);
        assert_eq!(mark("half \\ud83d of it", "E1", "half \\ud83d of it"), Mark::Stands);
    }

    #[test]
    fn numbers_stand_exactly_or_not_at_all() {
        let text = "restarts: 123, load 12.5, at 1.2e+06 bytes, -5 degrees, 1,234 pods, list [12,34], api-5 has 9 of 911 9";
        for quote in [
            "restarts: 123",
            "load 12.5",
            "1.2e+06 bytes",
            "-5 degrees",
            "1,234 pods",
            "list [12",
            "34], api-5",
            "5 has 9 of",
            "9 of 911",
        ] {
            assert!(stands(text, quote), "{quote}");
        }
        for quote in [
            "restarts: 12",
            "23, load",
            "load 12",
            "5, at",
            "at 1.2",
            "06 bytes,",
            "5 degrees",
            "234 pods",
            "degrees, 1",
            "11 9",
        ] {
            assert!(!stands(text, quote), "{quote}");
        }
        // The first place is inside a number, and the second overlaps it.
        assert!(stands("911 11 11", "11 11"));
        assert!(!stands("911 11", "11 11"));
        assert!(!stands("é12", "é1") && stands("é12", "é12"));
    }

    #[test]
    fn a_quote_that_does_not_stand_is_invented() {
        assert_eq!(mark("OOMKilled once", "E1", "OOMKilled twice"), Mark::Invented);
        assert_eq!(mark("OOMKilled once", "E1", "OOMKilled ... once"), Mark::Invented);
        assert_eq!(mark("OOMKilled once", "E1", "  "), Mark::Invented);
    }

    #[test]
    fn unknown_evidence_holds_nothing() {
        assert_eq!(mark("OOMKilled once", "E2", "OOMKilled once"), Mark::NoSuchEvidence);
    }

    #[test]
    fn a_short_quote_and_one_that_repeats_the_alert_are_found_and_support_nothing() {
        assert_eq!(mark("ready=0 here", "E1", "ready=0"), Mark::TooShort);
        let mark = mark("event: the pod is not ready", "E1", "the pod is not ready");
        assert_eq!(mark, Mark::RepeatsTheAlert);
        assert!(mark.is_found() && mark.problem().is_some());
    }

    #[test]
    fn a_quote_across_what_was_not_kept_does_not_stand() {
        let text =
            format!("{}HEADEND{}TAILBEGIN{}", "x".repeat(174_756), "y".repeat(99_999), "z".repeat(87_372));
        let e = evidence(&text, CallStatus::Answered);
        let (head, tail) = e.pieces();
        assert!(head.ends_with("HEADEND") && tail.starts_with("TAILBEGIN"), "{} {}", head.len(), tail.len());
        let quote = |quote: &str| {
            let citation = Citation { id: "E1".into(), quote: quote.into(), found: None };
            check(&citation, |_| Some(&e), &Searchable::new(""))
        };
        assert_eq!((quote("xxHEADEND"), quote("HEADENDTAILBEGIN")), (Mark::Stands, Mark::Invented));
    }

    #[test]
    fn our_own_words_about_a_failed_call_are_no_evidence() {
        let e = evidence("the server did not answer", CallStatus::NoAnswer);
        let citation = Citation { id: "E1".into(), quote: "the server did not answer".into(), found: None };
        assert_eq!(check(&citation, |_| Some(&e), &Searchable::new("")), Mark::NotAnOutput);
    }

    proptest! {
        #[test]
        fn any_piece_of_an_output_stands_in_it_also_when_json_encodes_it(text in "\\PC{20,80}", from in 0usize..20, len in 8usize..40) {
            let piece: String = text.chars().skip(from).take(len).collect();
            prop_assume!(!piece.trim().is_empty());
            let trimmed = piece.trim();
            // A number that is cut in two is another number.
            prop_assume!(!trimmed.starts_with(|c: char| c.is_ascii_digit()) && !trimmed.ends_with(|c: char| c.is_ascii_digit()));
            prop_assert!(Searchable::new(&text).holds(trimmed));
            // A backslash before the piece's edge makes the encoded text ambiguous; models do not cut there.
            prop_assume!(!text.contains('\\'));
            let encoded = json!(text).to_string();
            prop_assert!(Searchable::new(&encoded).holds(trimmed));
        }
    }
}
