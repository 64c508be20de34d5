//! Which incident an alert belongs to.

use sha2::{Digest, Sha256};

use crate::alert::{Alert, Labels};
use crate::card::{Card, DedupeBy};
use crate::digest::hex;
use crate::incident::{IncidentId, MemberId};
use crate::notification::Envelope;

/// The dedupe key of an alert under a card, and the labels that make it.
///
/// SHA-256 over length-prefixed parts: the card's name and the key labels. Never in it: annotations (their values
/// change), the sender's fingerprint (64 bits, absent in old payloads), `startsAt` (a Prometheus restart moves it),
/// `groupKey` and `externalURL` (route edits and highly available peers change them).
pub fn dedupe_key(card: &Card, envelope: &Envelope, alert: &Alert) -> (IncidentId, Labels) {
    let mut labels = match &card.dedupe_by {
        DedupeBy::Group => {
            let mut labels = envelope.group_labels.clone();
            // A route without `group_by` would otherwise turn a whole cluster into one incident.
            if let Some(name) = alert.labels.get("alertname") {
                labels.insert("alertname".to_owned(), name.clone());
            }
            labels
        }
        DedupeBy::Alert => alert.labels.clone(),
        DedupeBy::Labels(names) => names
            .iter()
            .map(|name| (name.clone(), alert.labels.get(name).cloned().unwrap_or_default()))
            .collect(),
    };
    labels.retain(|name, _| !card.ignore_labels.contains(name));
    if labels.is_empty() {
        // Neither a group nor a name: what is left to tell alerts apart is everything they carry.
        labels = identity(card, &alert.labels);
    }
    let mut hash = Sha256::new();
    part(&mut hash, &card.name);
    for (name, value) in &labels {
        part(&mut hash, name);
        part(&mut hash, value);
    }
    (IncidentId::new(hex(&hash.finalize())), labels)
}

/// Which member of an incident the alert with these labels, as they were sent, is: all of them, but those that highly available senders disagree on.
pub fn member_id(card: &Card, labels: &Labels) -> MemberId {
    let mut hash = Sha256::new();
    for (name, value) in identity(card, labels) {
        part(&mut hash, &name);
        part(&mut hash, &value);
    }
    MemberId(hash.finalize().iter().take(8).fold(0, |id, byte| (id << 8) | u64::from(*byte)))
}

fn identity(card: &Card, labels: &Labels) -> Labels {
    let mut labels = labels.clone();
    labels.retain(|name, _| !card.ignore_labels.contains(name));
    labels
}

/// Length first, so that no two lists of parts hash alike.
fn part(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{alert, card, envelope, labels};

    #[test]
    fn replicas_of_a_prometheus_name_the_same_incident_and_member() {
        let card = card("c");
        let one = alert("X", &[("replica", "a"), ("pod", "p")]);
        let two = alert("X", &[("replica", "b"), ("pod", "p")]);
        assert_eq!(dedupe_key(&card, &envelope(&[]), &one).0, dedupe_key(&card, &envelope(&[]), &two).0);
        assert_eq!(member_id(&card, &one.labels), member_id(&card, &two.labels));
    }

    #[test]
    fn replicas_name_the_same_incident_however_its_key_is_made() {
        let list = DedupeBy::Labels(vec!["pod".into(), "replica".into()]);
        for dedupe_by in [DedupeBy::Group, DedupeBy::Alert, list] {
            let card = Card { dedupe_by, ..card("c") };
            let of = |replica: &str| {
                let alert = alert("X", &[("replica", replica), ("pod", "p")]);
                dedupe_key(&card, &envelope(&[("replica", replica), ("pod", "p")]), &alert)
            };
            assert_eq!(of("a"), of("b"), "{:?}", card.dedupe_by);
            assert!(!of("a").1.contains_key("replica"));
        }
    }

    #[test]
    fn the_same_value_under_another_label_is_another_incident() {
        let card = Card { dedupe_by: DedupeBy::Alert, ..card("c") };
        let of = |label| dedupe_key(&card, &envelope(&[]), &alert("X", &[(label, "a-7")])).0;
        assert_ne!(of("node"), of("pod"));
    }

    #[test]
    fn the_same_value_under_another_label_is_another_member() {
        let of = |label| member_id(&card("c"), &alert("X", &[(label, "a-7")]).labels);
        assert_ne!(of("node"), of("pod"));
    }

    #[test]
    fn annotations_fingerprint_start_and_group_key_are_never_in_the_key() {
        let card = card("c");
        let one = alert("X", &[("pod", "p")]);
        let mut two = one.clone();
        two.annotations = labels(&[("value", "99")]);
        two.fingerprint = Some("f".into());
        two.starts_at = Some(crate::UnixMs::new(7));
        let mut other = envelope(&[]);
        other.group_key = Some("{}:{}".into());
        other.external_url = Some("http://am-2".into());
        assert_eq!(dedupe_key(&card, &envelope(&[]), &one), dedupe_key(&card, &other, &two));
    }

    #[test]
    fn a_route_without_group_by_still_tells_alert_names_apart() {
        let card = card("c");
        let (one, _) = dedupe_key(&card, &envelope(&[]), &alert("X", &[]));
        let (two, _) = dedupe_key(&card, &envelope(&[]), &alert("Y", &[]));
        assert_ne!(one, two);
    }

    #[test]
    fn alerts_without_group_or_name_are_told_apart_by_all_their_labels() {
        let card = card("c");
        let mut one = alert("", &[("pod", "1")]);
        let mut two = alert("", &[("pod", "2")]);
        one.labels.remove("alertname");
        two.labels.remove("alertname");
        assert_ne!(dedupe_key(&card, &envelope(&[]), &one).0, dedupe_key(&card, &envelope(&[]), &two).0);
    }

    #[test]
    fn parts_are_length_prefixed_so_that_shifted_text_is_another_key() {
        let mut card = card("c");
        card.dedupe_by = DedupeBy::Alert;
        let one = alert("X", &[("a", "bc")]);
        let two = alert("X", &[("ab", "c")]);
        assert_ne!(dedupe_key(&card, &envelope(&[]), &one).0, dedupe_key(&card, &envelope(&[]), &two).0);
    }

    #[test]
    fn a_list_of_labels_names_the_incident_whatever_the_group_says() {
        let mut card = card("c");
        card.dedupe_by = DedupeBy::Labels(vec!["namespace".into()]);
        let one = alert("X", &[("namespace", "web"), ("pod", "1")]);
        let two = alert("Y", &[("namespace", "web"), ("pod", "2")]);
        let (id, key) = dedupe_key(&card, &envelope(&[("pod", "1")]), &one);
        assert_eq!(id, dedupe_key(&card, &envelope(&[]), &two).0);
        assert_eq!(key, labels(&[("namespace", "web")]));
    }
}
