//! The secrets that the configuration holds, and the patterns of its own.

use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::{Regex, RegexBuilder};
use thiserror::Error;

use super::encoded;
use super::values::stands_for_no_secret;

/// A configured value shorter than this is not searched for: it would stand in ordinary text by chance.
const SHORTEST_VALUE: usize = 6;
/// The most memory that a compiled pattern may take, in bytes.
const LARGEST_PATTERN: usize = 256 * 1024;
/// A line that is longer is looked at in pieces.
const LONGEST_LINE: usize = 16 * 1024;

/// Whether text is searched for this value: not where it is short, or a word that stands for no secret (`ollama`,
/// `not-needed`), which ordinary text is full of.
pub fn is_searched_for(value: &str) -> bool {
    value.len() >= SHORTEST_VALUE && !stands_for_no_secret(value)
}

/// What the configuration knows of secrets.
#[derive(Default)]
pub(super) struct Known {
    values: Vec<String>,
    /// Of each form that is searched for, whose it is.
    owners: Vec<usize>,
    search: Option<AhoCorasick>,
    patterns: Vec<Pattern>,
}

impl Known {
    pub(super) fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut values: Vec<String> = values.into_iter().filter(|value| is_searched_for(value)).collect();
        values.sort_unstable();
        values.dedup();
        let (mut forms, mut owners) = (Vec::new(), Vec::new());
        for (at, value) in values.iter().enumerate() {
            for form in encoded::forms(value) {
                forms.push(form);
                owners.push(at);
            }
        }
        let build = || {
            let mut builder = AhoCorasick::builder();
            builder
                .match_kind(MatchKind::Standard)
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(&forms)
                .ok()
        };
        let search = if forms.is_empty() { None } else { build() };
        Self { values, owners, search, patterns: Vec::new() }
    }

    pub(super) fn with_patterns(self, patterns: Vec<Pattern>) -> Self {
        Self { patterns, ..self }
    }

    pub(super) fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    pub(super) fn values(&self) -> &[String] {
        &self.values
    }

    /// Where configured secrets stand in `text`, and which.
    pub(super) fn find(&self, text: &str) -> Vec<(Range<usize>, &str)> {
        let Some(search) = &self.search else { return Vec::new() };
        let mut found: Vec<(Range<usize>, &str)> = Vec::new();
        for hit in search.find_overlapping_iter(text) {
            let owner = self.owners.get(hit.pattern().as_usize()).and_then(|at| self.values.get(*at));
            let Some(value) = owner else { continue };
            let mut range = hit.range();
            if text.get(range.clone()).is_some_and(|form| form != value) {
                // Its neighbours have a part in the first and the last character of base64.
                let bytes = text.as_bytes();
                let shares = |at: usize| {
                    bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || b"+/-_".contains(b))
                };
                range.start -= usize::from(range.start.checked_sub(1).is_some_and(shares));
                range.end += usize::from(shares(range.end));
            }
            found.push((range, value));
        }
        found
    }
}

/// A pattern of the configuration: what it finds is a secret, its first group where it has one.
#[derive(Clone)]
pub struct Pattern {
    name: String,
    pattern: Regex,
}

/// Why a pattern is not taken.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PatternError {
    /// The name is no slug.
    #[error("a pattern's name has 1 to 40 small letters, digits and dashes")]
    Name,
    /// It is no pattern.
    #[error("it is not a regular expression: {0}")]
    Syntax(String),
    /// It would take more memory than a pattern may.
    #[error("it is too large")]
    Large,
    /// It finds something in ordinary text.
    #[error("it matches {0:?}, as it would nearly everything")]
    Everything(&'static str),
}

/// What a pattern must not find all of.
const ORDINARY: [&str; 4] = ["the pod is not ready", "KubePodNotReady", "12:04:05.678", "web-7d9f"];

impl Pattern {
    /// A pattern under the name that placeholders show.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn new(name: &str, pattern: &str) -> Result<Self, PatternError> {
        let slug = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=40).contains(&name.len()) || !name.bytes().all(slug) {
            return Err(PatternError::Name);
        }
        let built =
            RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).dfa_size_limit(LARGEST_PATTERN).build();
        let pattern = built.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::Large,
            error => PatternError::Syntax(error.to_string().lines().last().unwrap_or_default().to_owned()),
        })?;
        if pattern.is_match("") {
            return Err(PatternError::Everything(""));
        }
        if ORDINARY.iter().all(|text| pattern.is_match(text)) {
            return Err(PatternError::Everything(ORDINARY[0]));
        }
        Ok(Self { name: name.to_owned(), pattern })
    }

    /// What placeholders call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it matches in `text`, looked for line by line.
    pub(super) fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let mut rest = line;
            while !rest.is_empty() {
                let cut = rest.floor_char_boundary(LONGEST_LINE);
                let (piece, next) = rest.split_at(if cut == 0 { rest.len() } else { cut });
                for groups in self.pattern.captures_iter(piece) {
                    if let Some(secret) = groups.get(1).or_else(|| groups.get(0)).filter(|m| !m.is_empty()) {
                        found.push(start + secret.start()..start + secret.end());
                    }
                }
                start += piece.len();
                rest = next;
            }
        }
        found
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.name)
    }
}
