//! What one webhook said: the envelope around its alerts, and the part of it that concerns one incident.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::UnixMs;
use crate::alert::{Alert, AlertStatus, Labels};
use crate::incident::{Head, MemberId};

/// Who sent the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Alertmanager's webhook, of any version.
    Alertmanager,
    /// Grafana's alerting webhook.
    Grafana,
    /// An alarm of Amazon `CloudWatch`.
    CloudWatch,
    /// A body that carries little more than `alerts`.
    Custom,
    /// A poll of Prometheus or Alertmanager.
    Watcher,
}

/// What a payload says about all of its alerts. Everything in it is data for the prompt; only `group_labels` takes
/// part in deduplication, because the rest changes with route edits and between highly available senders.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// Who sent it.
    pub source: Source,
    /// The receiver's name in the sender's configuration.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub receiver: String,
    /// The labels that the sender grouped by, with their values.
    #[serde(default)]
    pub group_labels: Labels,
    /// Labels that all alerts share.
    #[serde(default)]
    pub common_labels: Labels,
    /// Annotations that all alerts share.
    #[serde(default)]
    pub common_annotations: Labels,
    /// The sender's name for the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_key: Option<String>,
    /// A link back to the sender. Untrusted text.
    #[serde(rename = "externalURL", default, skip_serializing_if = "Option::is_none")]
    pub external_url: Option<String>,
    /// Why Alertmanager notified (`notification_reason`, since 0.33), where it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many alerts the sender left out of the payload (`max_alerts`).
    #[serde(default)]
    pub truncated_alerts: u64,
    /// The credential that the sender showed, by its place in `ingest:` (`bearer[0]`, `basic:alertmanager`, `hmac[0]`, `sns[0]`,
    /// `header:x-api-key`) and never its value; `watcher` for what Sentinel fetched itself. `None`: it showed none. The
    /// payload has no say in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_by: Option<String>,
}

/// A whole webhook, readable part of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// What it says about all alerts.
    pub envelope: Envelope,
    /// The readable alerts, in the payload's order. Not empty, unless nothing was sent.
    pub alerts: Vec<Alert>,
    /// The unreadable ones.
    pub refused: Vec<Refusal>,
}

/// One alert that could not be read while its neighbours could.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Refusal {
    /// Where in the payload, as a path: `alerts[3].startsAt`.
    pub path: String,
    /// What is wrong with it and what would be right.
    pub reason: String,
}

/// The alerts of one webhook that fold into one incident: what a snapshot keeps and a prompt shows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// The incident card that took the alerts.
    pub card: String,
    /// The labels of the dedupe key.
    pub key_labels: Labels,
    /// What the webhook said about all of its alerts.
    pub envelope: Envelope,
    /// One alert a label set, in the payload's order.
    pub alerts: Vec<Alert>,
}

/// What all notifications of a generation say together: of each alert the latest, those that fire first and then in the
/// order of their labels; around them what the one that the head speaks of says, which is the latest. `snapshots` are
/// named by their digests. `None` without any.
pub fn merged(snapshots: &[(String, Notification)], head: &Head) -> Option<Notification> {
    let latest = snapshots
        .iter()
        .find(|(digest, _)| *digest == head.digest)
        .or_else(|| snapshots.iter().max_by_key(|(_, n)| n.alerts.iter().map(moment).max()))?;
    // How much an alert counts: whether the head says so of its member, then when it changed.
    let weight = |alert: &Alert| {
        let said = alert.member.filter(|_| !head.firing.is_many());
        (said.is_none_or(|id| head.firing.contains(id) == alert.is_firing()), moment(alert))
    };
    // Two members may show the same labels once secrets are taken out; records that do not say who is who have
    // nothing but the labels.
    let mut all: BTreeMap<(&Labels, Option<MemberId>), &Alert> = BTreeMap::new();
    let earlier = snapshots.iter().filter(|s| s.0 != latest.0);
    for alert in earlier.chain([latest]).flat_map(|(_, n)| &n.alerts) {
        let who = (&alert.labels, alert.member);
        match all.get(&who) {
            Some(known) if weight(known) > weight(alert) => {}
            _ => {
                all.insert(who, alert);
            }
        }
    }
    let mut alerts: Vec<Alert> = all.into_values().cloned().collect();
    alerts.sort_by_key(|a| !a.is_firing());
    let (_, Notification { card, key_labels, envelope, .. }) = latest;
    let truncated_alerts = snapshots.iter().map(|(_, n)| n.envelope.truncated_alerts).max().unwrap_or(0);
    // Alerts that were posted by different credentials are together no better than one without.
    let verified_by = envelope.verified_by.clone();
    let verified_by =
        verified_by.filter(|by| snapshots.iter().all(|(_, n)| n.envelope.verified_by.as_ref() == Some(by)));
    Some(Notification {
        card: card.clone(),
        key_labels: key_labels.clone(),
        envelope: Envelope { truncated_alerts, verified_by, ..envelope.clone() },
        alerts,
    })
}

/// When an alert last changed, by its sender's clock; a resolve counts for more than a firing of the same instant.
fn moment(alert: &Alert) -> (Option<UnixMs>, bool) {
    match alert.status {
        AlertStatus::Firing => (alert.starts_at, false),
        AlertStatus::Resolved => (alert.ends_at.max(alert.starts_at), true),
    }
}
