//! Patterns of secrets that only the operator knows.

use sentinel_core::redact::{Pattern, PatternError};

use super::unique;
use crate::reader::{Field, Keys, Reader, Section};

pub(super) const PATTERN: Keys = &[("name", &[]), ("pattern", &[])];

/// The most patterns: each text is searched for each of them.
const MOST: usize = 64;

/// `redact`
pub(super) fn patterns(r: &mut Reader<'_>, top: &Section<'_>) -> Vec<Pattern> {
    let items = r.items(top, "redact");
    if let Some(field) = items.get(MOST) {
        r.error(
            field,
            format!("is one pattern more than the {MOST} that there may be"),
            "join patterns with `|`",
        );
    }
    let mut seen = std::collections::BTreeMap::new();
    items.iter().take(MOST).filter_map(|item| pattern(r, item, &mut seen)).collect()
}

fn pattern(
    r: &mut Reader<'_>,
    item: &Field<'_>,
    seen: &mut std::collections::BTreeMap<String, usize>,
) -> Option<Pattern> {
    let section = r.section(item, PATTERN);
    let name = r.required_text(&section, "name", "write {name: badge, pattern: 'badge ([0-9]{6})'}");
    let text = r.required_text(&section, "pattern", "write {name: badge, pattern: 'badge ([0-9]{6})'}");
    let (name, text) = name.zip(text)?;
    let is_first = unique(r, seen, &section, &name, "pattern");
    match Pattern::new(&name, &text) {
        Ok(pattern) => is_first.then_some(pattern),
        Err(error) => {
            let (key, help) = match error {
                PatternError::Name => {
                    ("name", "write it as placeholders are to show it: `badge`, `customer-key`")
                }
                PatternError::Syntax(_) => {
                    ("pattern", "write a regular expression as the crate regex takes it")
                }
                PatternError::Large => ("pattern", "repeat less, or name fewer characters"),
                PatternError::Everything(_) => (
                    "pattern",
                    "say what stands around the secret, and put the secret in a group: 'badge ([0-9]{6})'",
                ),
            };
            if let Some(field) = section.get(key) {
                r.error(&field, error.to_string(), help);
            }
            None
        }
    }
}
