//! A model's regular expression over a stored output: linear in both, whatever they are.

use regex::{Regex, RegexBuilder};
use regex_automata::nfa::thompson::NFA;
use regex_automata::util::syntax;

use crate::fence::clip;

/// The longest expression, in bytes, and how deep its groups may stand in each other.
pub(crate) const LONGEST_PATTERN: usize = 1000;
const DEEPEST_PATTERN: u32 = 50;
/// The most that its automaton may take, in bytes.
const LARGEST_PATTERN: usize = 1 << 20;
/// The most that one reading searches: bytes times the automaton's states, as each byte may meet each state. A simple
/// word has some thirty states, so that it is looked for in megabytes; the largest automaton in tens of kilobytes.
pub(crate) const MOST_SEARCHED: u64 = 1 << 28;
/// The most places that are shown.
pub(crate) const MOST_MATCHES: usize = 40;
/// The longest line that is shown whole.
const LONGEST_LINE: usize = 400;
/// What is shown on both sides of a match in a longer line, in bytes.
const AROUND: usize = 160;

/// A compiled expression and what a byte costs.
#[derive(Debug)]
pub(crate) struct Search {
    regex: Regex,
    states: u64,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Found {
    pub(crate) places: usize,
    pub(crate) body: String,
    /// Why there may be more; `None`: there is no more.
    pub(crate) ended: Option<String>,
}

impl Search {
    /// Compiles an expression; case does not count.
    ///
    /// # Errors
    /// Why it cannot be used, for the model.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        if pattern.len() > LONGEST_PATTERN {
            return Err(format!("the pattern is longer than {LONGEST_PATTERN} bytes"));
        }
        let problem = |e: String| format!("the pattern is no regular expression: {}", clip(&e, 300));
        let states = NFA::compiler()
            .syntax(syntax::Config::new().case_insensitive(true).nest_limit(DEEPEST_PATTERN))
            .configure(NFA::config().nfa_size_limit(Some(LARGEST_PATTERN)))
            .build(pattern);
        let states = match states {
            Ok(nfa) => nfa.states().len() as u64,
            Err(e) if e.size_limit().is_some() => {
                return Err(format!(
                    "the pattern takes more than {LARGEST_PATTERN} bytes when it is compiled"
                ));
            }
            Err(e) => return Err(problem(e.to_string())),
        };
        let regex = RegexBuilder::new(pattern)
            .case_insensitive(true)
            .nest_limit(DEEPEST_PATTERN)
            .size_limit(2 * LARGEST_PATTERN)
            .build()
            .map_err(|e| problem(e.to_string()))?;
        Ok(Self { regex, states })
    }

    /// How many states the automaton has.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn states(&self) -> u64 {
        self.states
    }

    /// The first places in these lines. To iterate over all matches would be quadratic in the line.
    pub(crate) fn places<'t>(&self, lines: impl IntoIterator<Item = (usize, &'t str)>) -> Found {
        self.counted(lines).0
    }

    /// The same, with what was searched: bytes times states.
    pub(crate) fn counted<'t>(&self, lines: impl IntoIterator<Item = (usize, &'t str)>) -> (Found, u64) {
        let mut found = Found::default();
        let mut searched = 0u64;
        for (number, line) in lines {
            let mut from = 0;
            while from <= line.len() {
                if found.places >= MOST_MATCHES {
                    found.ended = Some(format!(
                        "the search ended in line {number}, as {MOST_MATCHES} are shown at most"
                    ));
                    return (found, searched);
                }
                let cost = self.states.saturating_mul((line.len() - from) as u64 + 1);
                if searched.saturating_add(cost) > MOST_SEARCHED {
                    found.ended = Some(format!(
                        "the search ended in line {number}, as it would take too long: ask for fewer lines or a simpler pattern"
                    ));
                    return (found, searched);
                }
                searched += cost;
                let Some(place) = self.regex.find_at(line, from) else { break };
                found.places += 1;
                let whole = line.len() <= LONGEST_LINE;
                let excerpt = if whole { line } else { around(line, place.start(), place.end()) };
                found.body.extend(["line ", &number.to_string(), ":\n", excerpt, "\n"]);
                if whole {
                    break;
                }
                // An empty match, and one that is shown already, would be found again.
                let next = place.end().max(place.start() + 1);
                from = (next..=line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(line.len() + 1);
            }
        }
        (found, searched)
    }
}

/// The surroundings of a match; of a long match its beginning.
fn around(line: &str, start: usize, end: usize) -> &str {
    let mut from = start.saturating_sub(AROUND);
    while !line.is_char_boundary(from) {
        from -= 1;
    }
    let mut to = end.min(start + LONGEST_LINE).saturating_add(AROUND).min(line.len());
    while !line.is_char_boundary(to) {
        to += 1;
    }
    line.get(from..to).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn search(pattern: &str, text: &str) -> (Found, u64) {
        Search::new(pattern).unwrap().counted(text.lines().enumerate().map(|(at, line)| (at + 1, line)))
    }

    #[test]
    fn a_pattern_whose_matches_are_quadratic_ends_with_the_most_that_are_shown() {
        // Each match looks at the whole rest of the line before it takes one letter.
        let (found, searched) = search(".*[^A-Z]|[A-Z]", &"A".repeat(256 * 1024));
        assert!(searched <= MOST_SEARCHED, "{searched}");
        assert!(found.places <= MOST_MATCHES && found.ended.is_some());
    }

    #[test]
    fn ten_times_the_text_takes_at_most_ten_times_the_steps() {
        for pattern in [".*[^A-Z]|[A-Z]", "(a|aa)+$", "x*", "[a-z]{1,9}!", "\\bno\\b"] {
            let (_, one) = search(pattern, &"Ab a\nlonger line than that\n".repeat(100));
            let (_, ten) = search(pattern, &"Ab a\nlonger line than that\n".repeat(1000));
            assert!(ten <= one * 10, "{pattern}: {one} {ten}");
        }
    }

    #[test]
    fn a_pattern_that_is_large_long_or_deep_is_told_so() {
        for (pattern, why) in [
            ("\\w{1,900}".to_owned(), "takes more than 1048576 bytes"),
            ("(a{1000}){1000}".to_owned(), "takes more than 1048576 bytes"),
            ("a".repeat(1001), "longer than 1000 bytes"),
            (format!("{}a{}", "(".repeat(60), ")".repeat(60)), "no regular expression"),
            ("(a".to_owned(), "no regular expression"),
            ("(?=a)".to_owned(), "no regular expression"),
        ] {
            let told = Search::new(&pattern).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn a_large_automaton_over_a_long_line_is_not_begun() {
        let (found, searched) = search("\\pL{20}\\d", &"é".repeat(128 * 1024));
        assert_eq!((found.places, searched), (0, 0));
        assert!(found.ended.unwrap().contains("ask for fewer lines"));
    }

    #[test]
    fn places_in_a_long_line_are_shown_with_their_surroundings() {
        let (found, _) = search("needle", &format!("{}needle{}needle", "x".repeat(1000), "y".repeat(1000)));
        assert_eq!((found.places, found.ended), (2, None));
        assert!(found.body.len() < 1000 && found.body.contains("xneedley"), "{}", found.body);
        let (found, _) = search("", &"é".repeat(500));
        assert_eq!(found.places, MOST_MATCHES);
        let (found, _) = search("e+", &"e".repeat(100_000));
        assert!(found.places == 1 && found.body.len() < 1000);
    }

    proptest! {
        #[test]
        fn any_search_stays_within_its_bound(pattern in "[a-c.*+?|(){}0-9\\[\\]\\\\^$é]{0,12}", text in "[a-cé\n]{0,600}") {
            let Ok(search) = Search::new(&pattern) else { return Ok(()) };
            let lines: Vec<&str> = text.lines().collect();
            let (found, searched) = search.counted(lines.iter().copied().enumerate());
            prop_assert!(searched <= MOST_SEARCHED && found.places <= MOST_MATCHES);
            prop_assert!(found.body.len() <= MOST_MATCHES * (2 * AROUND + LONGEST_LINE + 24));
            let any = lines.iter().any(|line| search.regex.is_match(line));
            prop_assert!(found.ended.is_some() || any == (found.places > 0));
        }
    }
}
