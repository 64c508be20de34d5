//! `resources`: named sets of label matchers.

use std::collections::BTreeMap;

use sentinel_core::card::{Comparison, Matcher, Resource};
use sentinel_core::pattern::Pattern;

use super::{labels, unique};
use crate::reader::{Field, Keys, Reader, Section};

pub(super) const RESOURCE: Keys = &[
    ("name", &[]),
    ("type", &["resource-type"]),
    ("filters", &["labels", "selectors"]),
    ("annotations", &["default-annotations"]),
];

pub(super) fn resources(r: &mut Reader<'_>, top: &Section<'_>) -> Vec<Resource> {
    let (mut all, mut names) = (vec![], BTreeMap::new());
    for field in r.items(top, "resources") {
        let s = r.section(&field, RESOURCE);
        let name = r.required_text(&s, "name", "name it as the cards' `resource` does");
        let kind = r.optional_text(&s, "type").unwrap_or_else(|| "prometheus_alert".into());
        let matchers = match s.get("filters") {
            Some(f) => r.free_map(&f).iter().filter_map(|(label, f)| matcher(r, label, f)).collect(),
            None => vec![],
        };
        let annotations = s.get("annotations").map(|f| labels(r, &f)).unwrap_or_default();
        if let Some(name) = name
            && unique(r, &mut names, &s, &name, "resource")
        {
            all.push(Resource { name, kind, matchers, annotations });
        }
    }
    all
}

/// `value`, `=value`, `!=value`, `=~re` or `!~re`.
fn matcher(r: &mut Reader<'_>, label: &str, field: &Field<'_>) -> Option<Matcher> {
    let (text, _) = r.loose_text(field)?;
    let comparison = if let Some(re) = text.strip_prefix("=~") {
        Comparison::Matches(pattern(r, field, re)?)
    } else if let Some(re) = text.strip_prefix("!~") {
        Comparison::NotMatches(pattern(r, field, re)?)
    } else if let Some(value) = text.strip_prefix("!=") {
        Comparison::NotEqual(value.into())
    } else {
        Comparison::Equal(text.strip_prefix('=').unwrap_or(&text).into())
    };
    Some(Matcher { label: label.to_owned(), comparison })
}

fn pattern(r: &mut Reader<'_>, field: &Field<'_>, re: &str) -> Option<Pattern> {
    let found = Pattern::new(re);
    found
        .inspect_err(|reason| {
            r.error(
                field,
                format!("is not a regular expression: {reason}"),
                "write RE2 syntax after `=~` or `!~`",
            );
        })
        .ok()
}
