//! The kinds of credentials that are known by their shape, as data: `kinds.tsv`, one line a kind.
//!
//! Its columns are the slug that a placeholder names; how far the shape can be trusted ([`Trust`]); the literals of which
//! one stands in every such credential (small letters, separated by commas); the pattern, whose first group is the
//! secret where it has one; and an example in base64, so that no scanner trips over this file.
//!
//! One search for all literals at once finds out which patterns are worth a look; a pattern is compiled when its
//! literal is first seen. Patterns know ASCII alone and repeat within bounds, so that each is done in one pass.

use std::ops::Range;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::bytes::{Regex, RegexBuilder};

use super::encoded::{self, Coding};
use super::values::is_opaque;

/// How far a shape can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    /// `token`: nothing else looks so.
    Token,
    /// `mixed`: the same where small letters, capitals and digits stand in it; names of pods do not.
    Mixed,
    /// `context`: what stands around it makes it one.
    Context,
    /// `opaque`: the same, where it looks made by a machine.
    Opaque,
}

/// One kind.
struct Kind {
    slug: &'static str,
    trust: Trust,
    literals: Vec<&'static str>,
    pattern: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

/// What a literal, found in a text, calls for.
#[derive(Clone, Copy)]
enum Literal {
    Kind(usize),
    Name,
    Url,
    Manifest,
    Encoded(Coding),
}

/// What stands in names of secrets.
const NAMES: [&str; 14] = [
    "pass",
    "pwd",
    "pw=",
    "pw:",
    "secret",
    "token",
    "cred",
    "key",
    "auth",
    "cookie",
    "session",
    "jwt",
    "sig=",
    "signature",
];

struct Table {
    kinds: Vec<Kind>,
    literals: Vec<Literal>,
    search: Option<AhoCorasick>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let kinds: Vec<Kind> = include_str!("kinds.tsv").lines().filter_map(read).collect();
        let mut words: Vec<String> = Vec::new();
        let mut literals = Vec::new();
        let mut add = |word: &str, literal| {
            words.push(word.to_owned());
            literals.push(literal);
        };
        for (at, kind) in kinds.iter().enumerate() {
            for literal in &kind.literals {
                add(literal, Literal::Kind(at));
            }
        }
        for word in NAMES {
            add(word, Literal::Name);
        }
        add("://", Literal::Url);
        add("data:", Literal::Manifest);
        add("value:", Literal::Manifest);
        for beginning in ENCODED {
            for (word, coding) in encoded::literals(beginning) {
                add(&word, Literal::Encoded(coding));
            }
        }
        let search = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&words)
            .ok();
        Table { kinds, literals, search }
    })
}

/// How tokens begin that are looked for in base64 and hexadecimal, too.
const ENCODED: [&str; 34] = [
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "gldt-",
    "glrt-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "sk_live_",
    "rk_live_",
    "sk-ant-",
    "sk-proj-",
    "sk-or-v1-",
    "PRIVATE KEY",
    "AIza",
    "GOCSPX-",
    "npm_",
    "hf_",
    "dop_v1_",
    "glsa_",
    "hvs.",
    "shpat_",
    "AGE-SECRET-KEY-",
    "SG.",
    "pypi-",
    "dckr_pat_",
    "lin_api_",
    "ATATT3",
    "\"auths\"",
    "tskey-",
];

fn read(line: &'static str) -> Option<Kind> {
    let mut columns = line.split('\t');
    let (slug, trust, literals, pattern) =
        (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    let trust = match trust {
        "token" => Trust::Token,
        "mixed" => Trust::Mixed,
        "opaque" => Trust::Opaque,
        _ => Trust::Context,
    };
    Some(Kind { slug, trust, literals: literals.split(',').collect(), pattern, compiled: OnceLock::new() })
}

impl Kind {
    fn pattern(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| RegexBuilder::new(self.pattern).unicode(false).build().ok()).as_ref()
    }

    fn is_unmistakable(&self) -> bool {
        matches!(self.trust, Trust::Token | Trust::Mixed)
    }

    fn fits(&self, secret: &[u8]) -> bool {
        let has = |test: fn(&u8) -> bool| secret.iter().any(test);
        match self.trust {
            Trust::Token | Trust::Context => !secret.starts_with(b"<") && !secret.starts_with(b"$("),
            Trust::Mixed => {
                has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit)
            }
            Trust::Opaque => {
                std::str::from_utf8(secret).is_ok_and(is_opaque)
                    || secret.len() >= 20 && has(u8::is_ascii_digit)
            }
        }
    }
}

/// What the literals of a text say is worth a look.
#[derive(Default)]
pub(super) struct Hints {
    /// Places in the table, each once, in order.
    kinds: Vec<usize>,
    /// Where a word of a secret's name stands.
    pub(super) names: Vec<Range<usize>>,
    /// Where `://` stands.
    pub(super) urls: Vec<usize>,
    /// Whether a manifest may hold data or an environment.
    pub(super) manifest: bool,
    /// Where the beginning of a token may stand encoded.
    pub(super) encoded: Vec<(usize, Coding)>,
}

/// One pass over `text`.
pub(super) fn hints(text: &[u8]) -> Hints {
    let table = table();
    let mut hints = Hints::default();
    let mut seen = vec![false; table.kinds.len()];
    let Some(search) = &table.search else { return hints };
    for found in search.find_overlapping_iter(text) {
        match table.literals.get(found.pattern().as_usize()) {
            Some(Literal::Kind(at)) => {
                if let Some(seen) = seen.get_mut(*at) {
                    *seen = true;
                }
            }
            Some(Literal::Name) => hints.names.push(found.range()),
            Some(Literal::Url) => hints.urls.push(found.start()),
            Some(Literal::Manifest) => hints.manifest = true,
            Some(Literal::Encoded(coding)) => hints.encoded.push((found.start(), *coding)),
            None => {}
        }
    }
    hints.kinds = seen.iter().enumerate().filter_map(|(at, seen)| seen.then_some(at)).collect();
    hints
}

/// Whether a kind goes by this slug.
pub(super) fn is_slug(slug: &str) -> bool {
    table().kinds.iter().any(|kind| kind.slug == slug)
}

/// Whether only the unmistakable kinds count, or all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that need nothing around them.
    Unmistakable,
    /// All.
    All,
}

/// Where the kinds that `hints` names stand in `text`, and the slug of each.
pub(super) fn find(text: &[u8], hints: &Hints, which: Which) -> Vec<(Range<usize>, &'static str)> {
    let mut found = Vec::new();
    for kind in hints.kinds.iter().filter_map(|at| table().kinds.get(*at)) {
        if which == Which::Unmistakable && !kind.is_unmistakable() {
            continue;
        }
        let Some(pattern) = kind.pattern() else { continue };
        let mut from = 0;
        // What ends one credential may begin the next: the search goes on behind the secret, not behind the match.
        while let Some(groups) = pattern.captures_at(text, from) {
            let Some(secret) = groups.get(1).or_else(|| groups.get(0)) else { break };
            if secret.is_empty() {
                break;
            }
            if kind.fits(secret.as_bytes()) {
                found.push((secret.range(), kind.slug));
            }
            from = secret.end();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    #[test]
    fn every_kind_is_read_compiles_and_finds_its_example_by_a_literal() {
        let lines: Vec<&str> = include_str!("kinds.tsv").lines().collect();
        assert_eq!(table().kinds.len(), lines.len());
        assert!(table().search.is_some());
        for (line, kind) in lines.iter().zip(&table().kinds) {
            let example = BASE64_STANDARD.decode(line.split('\t').nth(4).unwrap()).unwrap();
            let shown = String::from_utf8_lossy(&example);
            assert!(kind.pattern().is_some(), "{}: {}", kind.slug, kind.pattern);
            let small = shown.to_lowercase();
            assert!(kind.literals.iter().any(|literal| small.contains(literal)), "{}: {shown}", kind.slug);
            let found = find(&example, &hints(&example), Which::All);
            assert!(found.iter().any(|(_, slug)| *slug == kind.slug), "{}: {shown}", kind.slug);
        }
    }
}
