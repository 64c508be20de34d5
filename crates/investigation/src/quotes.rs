//! Whether a quote stands in the evidence that it cites.

use std::collections::BTreeMap;

use crate::evidence::{EvidenceRecord, normal_id};

/// A quote shorter than this, whitespace folded, would stand in most outputs by chance.
const SHORTEST: usize = 8;
/// The longest quote that is looked up, in bytes.
pub(crate) const LONGEST_QUOTE: usize = 4096;
/// The most quotes of a report that are looked up.
pub(crate) const MOST_QUOTES: usize = 200;
/// The most bytes that are compared for one report. A quote costs the text that it is looked for in, and itself once more
/// for each place where it stands and cuts a number.
pub(crate) const MOST_COMPARED: usize = 64 << 20;

/// A text as quotes are looked up in it: whitespace folded; once as it is, once with JSON escapes resolved, because a
/// model that read `\"x\"` inside a JSON string may quote `"x"`. A quote may begin and end anywhere but inside a number.
#[derive(Clone, Debug)]
pub(crate) struct Searchable {
    plain: String,
    /// `None`: there is nothing to resolve.
    unescaped: Option<String>,
}

impl Searchable {
    pub(crate) fn new(text: &str) -> Self {
        Self { plain: fold(text), unescaped: text.contains('\\').then(|| fold(&unescape(text))) }
    }

    /// Whether the quote stands in it. An empty one stands nowhere.
    fn holds(&self, quote: &Quote, left: &mut Left) -> Result<bool, UsedUp> {
        if quote.plain.is_empty() {
            return Ok(false);
        }
        if stands(&self.plain, &quote.plain, left)? {
            return Ok(true);
        }
        if self.unescaped.is_none() && quote.plain == quote.unescaped {
            return Ok(false);
        }
        stands(self.unescaped.as_ref().unwrap_or(&self.plain), &quote.unescaped, left)
    }
}

/// A quote, folded as a [`Searchable`] is.
struct Quote {
    plain: String,
    unescaped: String,
}

impl Quote {
    fn new(text: &str) -> Self {
        Self { plain: fold(text), unescaped: fold(&unescape(text)) }
    }
}

/// The bytes that may still be compared.
struct Left(usize);

/// Nothing is left.
#[derive(Debug)]
struct UsedUp;

impl Left {
    fn take(&mut self, bytes: usize) -> Result<(), UsedUp> {
        self.0 = self.0.checked_sub(bytes).ok_or(UsedUp)?;
        Ok(())
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
    /// It was not looked up: it is too long.
    TooLong,
    /// It was not looked up: the report has too many, or those before took too long.
    TooMany,
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
            Self::TooLong => Some("is longer than 4096 bytes and was not looked up: quote what matters"),
            Self::TooMany => Some("was not looked up, as there are too many before it: quote what matters"),
        }
    }
}

/// Checks the quotes of a report, each with the id of what it cites. Each evidence is folded once, and let go before the
/// next one is.
pub(crate) fn check<'e>(
    quotes: &[(&str, &str)],
    find: impl Fn(&str) -> Option<&'e EvidenceRecord>,
    alert: &Searchable,
) -> Vec<Mark> {
    counted(quotes, find, alert).0
}

/// The same, with how many bytes were compared.
pub(crate) fn counted<'e>(
    quotes: &[(&str, &str)],
    find: impl Fn(&str) -> Option<&'e EvidenceRecord>,
    alert: &Searchable,
) -> (Vec<Mark>, usize) {
    let mut marks = vec![Mark::TooMany; quotes.len()];
    let mut by_evidence: BTreeMap<String, Vec<(&mut Mark, &str)>> = BTreeMap::new();
    for (mark, (id, quote)) in marks.iter_mut().zip(quotes).take(MOST_QUOTES) {
        if quote.len() > LONGEST_QUOTE {
            *mark = Mark::TooLong;
        } else {
            by_evidence.entry(normal_id(id)).or_default().push((mark, quote));
        }
    }
    let mut left = Left(MOST_COMPARED);
    for (id, quotes) in by_evidence {
        let record = find(&id);
        let pieces = record.filter(|record| record.status.is_the_tools()).map(|record| {
            let (head, tail) = record.pieces();
            [head, tail].map(Searchable::new)
        });
        for (mark, quote) in quotes {
            *mark = match (&record, &pieces) {
                (None, _) => Mark::NoSuchEvidence,
                (Some(_), None) => Mark::NotAnOutput,
                (Some(_), Some(pieces)) => {
                    of_one(&Quote::new(quote), pieces, alert, &mut left).unwrap_or(Mark::TooMany)
                }
            };
        }
    }
    (marks, MOST_COMPARED - left.0)
}

fn of_one(
    quote: &Quote,
    pieces: &[Searchable; 2],
    alert: &Searchable,
    left: &mut Left,
) -> Result<Mark, UsedUp> {
    let [head, tail] = pieces;
    if !head.holds(quote, left)? && !tail.holds(quote, left)? {
        return Ok(Mark::Invented);
    }
    if quote.plain.chars().count() < SHORTEST {
        return Ok(Mark::TooShort);
    }
    Ok(if alert.holds(quote, left)? { Mark::RepeatsTheAlert } else { Mark::Stands })
}

/// Whether a quote stands in a text without cutting a number: `restarts: 12` stands neither in `restarts: 123` nor in
/// `restarts: 12.5`, and `5 degrees` not in `-5 degrees`.
fn stands(text: &str, quote: &str, left: &mut Left) -> Result<bool, UsedUp> {
    let (opens, closes) =
        (quote.starts_with(|c: char| c.is_ascii_digit()), quote.ends_with(|c: char| c.is_ascii_digit()));
    let mut from = 0;
    loop {
        let rest = text.get(from..).unwrap_or_default();
        let place = rest.find(quote);
        left.take(quote.len() + place.unwrap_or(rest.len()))?;
        let Some(at) = place.map(|at| from + at) else { return Ok(false) };
        let after = text.get(at + quote.len()..).unwrap_or_default();
        let before = text.get(..at).unwrap_or_default();
        let cuts_a_number = (opens && is_in_number(before, quote)) || (closes && goes_on(after));
        if !cuts_a_number {
            return Ok(true);
        }
        // The next place may overlap this one.
        from = at + text.get(at..).and_then(|r| r.chars().next()).map_or(1, char::len_utf8);
    }
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
    use std::cell::Cell;

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
            refusal: None,
            turn: 0,
            own: None,
            at: UnixMs::new(0),
            ms: 0,
            kept: Kept::of(text, &Redactor::default(), MOST_ENCODED),
            remarks: Vec::new(),
        };
        EvidenceRecord::new(ended, &Redactor::default())
    }

    fn mark(text: &str, id: &str, quote: &str) -> Mark {
        let e = evidence(text, CallStatus::Answered);
        let alert = Searchable::new("{\"summary\":\"the pod is not ready\"}");
        check(&[(id, quote)], |id| (id == "E1").then_some(&e), &alert)[0]
    }

    fn plainly(text: &str, quote: &str) -> bool {
        stands(text, quote, &mut Left(MOST_COMPARED)).unwrap()
    }

    fn holds(text: &str, quote: &str) -> bool {
        Searchable::new(text).holds(&Quote::new(quote), &mut Left(MOST_COMPARED)).unwrap()
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
            assert!(plainly(text, quote), "{quote}");
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
            assert!(!plainly(text, quote), "{quote}");
        }
        // The first place is inside a number, and the second overlaps it.
        assert!(plainly("911 11 11", "11 11"));
        assert!(!plainly("911 11", "11 11"));
        assert!(!plainly("é12", "é1") && plainly("é12", "é12"));
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
        assert_eq!(mark("ready=10 here", "E1", "ready=10"), Mark::Stands, "eight characters are enough");
        assert_eq!(mark("größe=9 hier", "E1", "größe=9"), Mark::TooShort, "characters count, not bytes");
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
        let quote = |quote: &str| check(&[("E1", quote)], |_| Some(&e), &Searchable::new(""))[0];
        assert_eq!((quote("xxHEADEND"), quote("HEADENDTAILBEGIN")), (Mark::Stands, Mark::Invented));
        assert_eq!(quote("TAILBEGINzz"), Mark::Stands, "what was kept of the end is searched too");
    }

    #[test]
    fn our_own_words_about_a_failed_call_are_no_evidence() {
        let e = evidence("the server did not answer", CallStatus::NoAnswer);
        let marks = check(&[("E1", "the server did not answer")], |_| Some(&e), &Searchable::new(""));
        assert_eq!(marks, [Mark::NotAnOutput]);
    }

    /// How these quotes of one evidence fare, and how many bytes were compared.
    fn compared(text: &str, quotes: &[String]) -> (Vec<Mark>, usize) {
        let e = evidence(text, CallStatus::Answered);
        let quotes: Vec<_> = quotes.iter().map(|quote| ("E1", quote.as_str())).collect();
        let folded = Cell::new(0);
        let find = |_: &str| {
            folded.set(folded.get() + 1);
            Some(&e)
        };
        let found = counted(&quotes, find, &Searchable::new("the alert"));
        assert!(folded.get() <= 1, "it was looked up {} times", folded.get());
        found
    }

    #[test]
    fn ten_times_the_evidence_or_the_quotes_takes_about_ten_times_the_steps() {
        let line = "pod web-1 restarted 12 times, last at 06:26 \\\"OOMKilled\\\"\n";
        let quotes = |n: usize| (0..n).map(|i| format!("pod web-1 restarted {i} times")).collect::<Vec<_>>();
        let (_, one) = compared(&line.repeat(100), &quotes(10));
        let (_, longer) = compared(&line.repeat(1000), &quotes(10));
        let (_, more) = compared(&line.repeat(100), &quotes(100));
        for ten in [longer, more] {
            assert!((one * 8..one * 11).contains(&ten), "{one} {ten}");
        }
    }

    #[test]
    fn quotes_that_nearly_stand_everywhere_are_looked_up_within_the_bound() {
        // Each place cuts a number, and the next one overlaps it.
        let text = "12 ".repeat(80_000);
        let quote = format!("{}1", "12 ".repeat(1300));
        let (marks, compared) = compared(&text, &vec![quote; 200]);
        assert!(compared <= MOST_COMPARED, "{compared}");
        assert_eq!(marks.last(), Some(&Mark::TooMany));
    }

    #[test]
    fn what_is_too_long_or_too_much_is_not_looked_up_and_says_so() {
        let (marks, bytes) = compared(&"a line of it\n".repeat(900), &["a line of it ".repeat(400)]);
        assert_eq!((marks, bytes), (vec![Mark::TooLong], 0));
        let (marks, _) = compared("a line of it", &vec!["a line of it".to_owned(); 100_000]);
        assert_eq!(marks.iter().filter(|mark| **mark == Mark::Stands).count(), MOST_QUOTES);
        assert!(marks[MOST_QUOTES..].iter().all(|mark| *mark == Mark::TooMany && !mark.is_found()));
        assert!(Mark::TooLong.problem().unwrap().contains(&LONGEST_QUOTE.to_string()));
    }

    proptest! {
        #[test]
        fn any_piece_of_an_output_stands_in_it_also_when_json_encodes_it(text in "\\PC{20,80}", from in 0usize..20, len in 8usize..40) {
            let piece: String = text.chars().skip(from).take(len).collect();
            prop_assume!(!piece.trim().is_empty());
            let trimmed = piece.trim();
            // A number that is cut in two is another number.
            prop_assume!(!trimmed.starts_with(|c: char| c.is_ascii_digit()) && !trimmed.ends_with(|c: char| c.is_ascii_digit()));
            prop_assert!(holds(&text, trimmed));
            // A backslash before the piece's edge makes the encoded text ambiguous; models do not cut there.
            prop_assume!(!text.contains('\\'));
            let encoded = json!(text).to_string();
            prop_assert!(holds(&encoded, trimmed));
        }
    }
}
