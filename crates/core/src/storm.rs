//! Storm notices: which incidents ended on their evidence alone because the budget is used up.
//!
//! [`note`] puts an incident on the notices of its sinks, [`listed`] reads a notice. When it is told is the lifecycle's
//! business: [`Note`].

use crate::alert::Labels;
use crate::drive::{DriveError, Start, drive};
use crate::incident::{Child, ChildName, Event, Head};
use crate::lifecycle::{Note, Rules, notice_id};
use crate::notification::{Envelope, Notification, Source};
use crate::ports::Ports;

/// One incident on a notice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
pub struct Listed {
    /// Its card.
    pub card: String,
    /// The labels of its dedupe key.
    pub labels: Labels,
    /// Its id and generation: `<id>-<gen>`.
    pub incident: String,
}

/// Puts an incident, which ends without a model because of `reason`, on the notice of each sink that wants notices.
///
/// # Errors
/// The store or the queue. Doing it again is harmless.
pub async fn note(ports: &Ports, rules: &Rules, head: &Head, reason: &str) -> Result<(), DriveError> {
    let listed = Notification {
        card: head.card.clone(),
        key_labels: head.labels.clone(),
        envelope: Envelope {
            source: Source::Custom,
            receiver: String::new(),
            group_labels: Labels::new(),
            common_labels: Labels::new(),
            common_annotations: Labels::new(),
            group_key: None,
            external_url: None,
            reason: None,
            truncated_alerts: 0,
            verified_by: None,
        },
        alerts: Vec::new(),
    };
    let entry = format!("{}-{}", head.id, head.generation);
    for subscription in rules.sinks.iter().filter(|s| s.events.contains(&Event::Storm)) {
        let sink = subscription.sink.clone();
        let id = notice_id(&sink);
        let input = Note { id: id.clone(), sink, entry: entry.clone(), reason: reason.to_owned() };
        let rules = Rules::of_no_card();
        let noted = drive(ports, &id, &input, &rules, Start::Absent, Some(&listed)).await?;
        if noted.head.is_some_and(|notice| notice.version == 1) {
            // A head that is created has its list written after it. Whoever was held up in between may find that the
            // notice was told without this incident: then it is on the next one.
            let _ = drive(ports, &id, &input, &rules, Start::Load, Some(&listed)).await?;
        }
    }
    Ok(())
}

/// What a notice lists, by card and labels. Of an entry that cannot be read, its name is left.
pub fn listed(children: &[Child]) -> Vec<Listed> {
    let mut all = Vec::new();
    for child in children {
        let ChildName::Snapshot(entry) = &child.name else { continue };
        let (card, labels) = serde_json::from_str(&child.body)
            .map_or_else(|_| Default::default(), |n: Notification| (n.card, n.key_labels));
        all.push(Listed { card, labels, incident: entry.clone() });
    }
    all.sort();
    all
}
