//! The expressions of label matchers: anchored at both ends, as in Alertmanager.

use std::fmt;

use regex_automata::meta::{Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Dot, Hir, HirKind, Look};
use thiserror::Error;

/// The largest automaton that an expression may become, in bytes.
const LARGEST: usize = 10 << 20;

/// An expression that matches a label's whole value; `.` matches a line break too.
///
/// It is compiled for values that are short, and for starts that are quick: `regex` builds besides what searches long
/// texts quickly, and that is most of what a Lambda does at a cold start with a dozen matchers.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// Why a text is no expression.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct PatternError(String);

impl Pattern {
    /// Compiles `text`, which is in the syntax of the crate `regex` (RE2's, nearly).
    ///
    /// # Errors
    /// What is wrong with it; or that it would become too large.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        // Parsed alone: inside of anchors that are text, `a)(b` would become valid.
        let parsed = ParserBuilder::new().dot_matches_new_line(true).build().parse(text).map_err(|e| {
            let reason = e.to_string();
            let last = reason.lines().last().unwrap_or_default();
            PatternError(last.trim_start_matches("error: ").to_owned())
        })?;
        let parsed = if parsed.properties().look_set().is_empty() { in_bytes(parsed) } else { parsed };
        let whole = Hir::concat(vec![Hir::look(Look::Start), parsed, Hir::look(Look::End)]);
        let config = Config::new()
            .nfa_size_limit(Some(LARGEST))
            .which_captures(WhichCaptures::Implicit)
            .hybrid(false)
            .dfa(false)
            .onepass(false);
        let regex = Regex::builder().configure(config).build_from_hir(&whole).map_err(|e| {
            PatternError(match e.size_limit() {
                Some(limit) => format!("it would take more than {limit} bytes when compiled"),
                None => e.to_string(),
            })
        })?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// Whether it matches all of `value`.
    pub fn is_match(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The same language with each `.*` read byte by byte, without the states that tell characters apart: compiling those was
/// a tenth of ingest's start (tests/bench/README.md).
///
/// A label is UTF-8, and whatever else an expression has begins and ends between two characters of it. So bytes that one
/// `.*` after another takes are whole characters together, and the first might have taken them alone. Not so with a
/// `\b` between them, which would be asked in the middle of a character.
fn in_bytes(hir: Hir) -> Hir {
    match hir.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Repetition(mut repeated) => {
            let any = Hir::dot(Dot::AnyChar);
            repeated.sub = Box::new(match (repeated.min, repeated.max) {
                (0, None) if *repeated.sub == any => Hir::dot(Dot::AnyByte),
                _ => in_bytes(*repeated.sub),
            });
            Hir::repetition(repeated)
        }
        HirKind::Capture(mut capture) => {
            capture.sub = Box::new(in_bytes(*capture.sub));
            Hir::capture(capture)
        }
        HirKind::Concat(parts) => Hir::concat(parts.into_iter().map(in_bytes).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.into_iter().map(in_bytes).collect()),
    }
}

/// Its text: the automaton's own says more than anyone reads.
impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, value: &str) -> bool {
        Pattern::new(pattern).unwrap().is_match(value)
    }

    #[test]
    fn the_whole_value_has_to_match() {
        assert!(matches("web|api", "api"));
        assert!(!matches("web|api", "apis"));
        assert!(!matches("web|api", "my-api"));
        assert!(matches("a|ab", "ab"), "not the first branch alone");
        assert!(matches("", ""));
        assert!(!matches("", "x"));
        assert!(matches("a.b", "a\nb"));
        assert!(!matches("(?m)a$", "a\nb"));
        assert!(matches(".*ê.*", "éê") && !matches(".*ê.*", "éé"), "they share their first byte");
        assert!(matches("(.*|x).", "é") && !matches("(.*|x).{2}", "é"));
        assert!(!matches(r".*\B.*", "é"), "not in the middle of a character");
    }

    #[test]
    fn what_is_no_expression_is_told_in_a_line() {
        for (text, reason) in [
            ("a)(b", "unopened group"),
            ("(a", "unclosed group"),
            ("a{2,1}", "invalid repetition count range, the start must be <= the end"),
            (r"(\w{1000}){1000}", "it would take more than 10485760 bytes when compiled"),
        ] {
            assert_eq!(Pattern::new(text).unwrap_err().to_string(), reason, "{text}");
        }
    }

    /// Any signs, and what is read byte by byte beside what is not.
    fn patterns() -> impl Strategy<Value = String> {
        let parts =
            vec![".*", "(.*)", ".*?", ".+", ".", "{2}", "|", "(", ")", "*", "a", "é", "[^ê]", r"\b", r"\w"];
        prop_oneof![
            r"[abAB.|*+?()\[\]^$\\wdsbé-]{0,12}",
            prop::collection::vec(prop::sample::select(parts), 0..8).prop_map(|parts| parts.concat()),
        ]
    }

    proptest! {
        #[test]
        fn it_matches_as_the_crate_regex_does_between_anchors(
            pattern in patterns(),
            value in r"[abAB1 éê€\n-]{0,8}",
        ) {
            let ours = Pattern::new(&pattern);
            let alone = regex::Regex::new(&pattern);
            prop_assert_eq!(ours.is_ok(), alone.is_ok());
            if let (Ok(ours), Ok(_)) = (ours, alone) {
                let theirs = regex::Regex::new(&format!("^(?s:{pattern})$")).unwrap();
                prop_assert_eq!(ours.is_match(&value), theirs.is_match(&value));
            }
        }
    }
}
