//! Alerts that no card takes: they are logged, so that a gap in the configuration does not stay unseen.

use std::collections::BTreeMap;

use sentinel_core::alert::Alert;
use sentinel_core::redact::Redactor;

use crate::MAX_LOGGED;

/// The longest text of a sender that goes into a log field, in characters.
const MAX_TEXT: usize = 200;

/// Logs the alerts at these places, which no card takes: how many of one name and one set of label names, the most
/// numerous first, at most [`MAX_LOGGED`] lines. Label values may be anything; they stay out.
pub(crate) fn log(alerts: &[Alert], places: &[usize], redactor: &Redactor) {
    let mut found: BTreeMap<(&str, String), u64> = BTreeMap::new();
    for alert in places.iter().filter_map(|place| alerts.get(*place)) {
        let name = alert.labels.get("alertname").map(String::as_str).unwrap_or_default();
        let labels = alert.labels.keys().map(String::as_str).collect::<Vec<_>>().join(",");
        *found.entry((name, labels)).or_default() += 1;
    }
    let mut lines: Vec<_> = found.into_iter().collect();
    lines.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for ((alertname, labels), count) in lines.into_iter().take(MAX_LOGGED) {
        // Without secrets before they are cut: half of one is none that the log would know.
        let (alertname, labels) = (cut(&redactor.redact(alertname)), cut(&redactor.redact(&labels)));
        tracing::warn!(alertname, labels, count, "alerts that no incident card takes");
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
