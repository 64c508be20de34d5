//! Alerts that no card takes: they are logged, so that a gap in the configuration does not stay unseen.

use std::collections::BTreeMap;

use sentinel_core::alert::Alert;
use sentinel_core::card::Card;

use crate::MAX_LOGGED;

/// The longest text of a sender that goes into a log field, in characters.
const MAX_TEXT: usize = 200;

/// How many alerts of one name and one set of label names no card takes. Label values may be anything; they stay out.
pub(crate) type Unmatched = BTreeMap<(String, String), u64>;

/// Counts the alerts that no card takes.
pub(crate) fn find(cards: &[Card], alerts: &[Alert]) -> Unmatched {
    let mut found = Unmatched::new();
    for alert in alerts.iter().filter(|a| !cards.iter().any(|c| c.resource.matches(&a.labels))) {
        let name = alert.labels.get("alertname").map(String::as_str).unwrap_or_default();
        let labels = alert.labels.keys().map(String::as_str).collect::<Vec<_>>().join(",");
        *found.entry((cut(name), cut(&labels))).or_default() += 1;
    }
    found
}

/// Logs them, the most numerous first, at most [`MAX_LOGGED`] lines.
pub(crate) fn log(unmatched: &Unmatched) {
    let mut lines: Vec<_> = unmatched.iter().collect();
    lines.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for ((alertname, labels), count) in lines.into_iter().take(MAX_LOGGED) {
        tracing::warn!(alertname, labels, count, "alerts that no incident card takes");
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
