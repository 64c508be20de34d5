//! What one webhook said: the envelope around its alerts, and the part of it that concerns one incident.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::alert::{Alert, Labels};
use crate::redact::Redactor;

/// Who sent the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Alertmanager's webhook, of any version.
    Alertmanager,
    /// Grafana's alerting webhook.
    Grafana,
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
    /// The credential that the sender showed, by its place in `ingest:` (`bearer[0]`, `basic:alertmanager`, `hmac[0]`,
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

impl Message {
    /// The message without the credentials that stand in its texts: before anything of it is stored or told. Whoever
    /// puts one into an annotation has it in every notification.
    #[must_use]
    pub fn redacted(mut self, redactor: &Redactor) -> Self {
        let Envelope { common_labels, common_annotations, group_labels, external_url, .. } =
            &mut self.envelope;
        for labels in [common_labels, common_annotations, group_labels] {
            redact_values(labels, redactor);
        }
        redact_text(external_url, redactor);
        for alert in &mut self.alerts {
            redact_values(&mut alert.labels, redactor);
            redact_values(&mut alert.annotations, redactor);
            redact_text(&mut alert.generator_url, redactor);
            alert.values.values_mut().for_each(|value| redactor.redact_json(value));
        }
        self
    }
}

fn redact_values(labels: &mut Labels, redactor: &Redactor) {
    for value in labels.values_mut() {
        if let Cow::Owned(redacted) = redactor.redact(value) {
            *value = redacted;
        }
    }
}

fn redact_text(text: &mut Option<String>, redactor: &Redactor) {
    if let Some(text) = text
        && let Cow::Owned(redacted) = redactor.redact(text)
    {
        *text = redacted;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{alert, envelope, labels};

    #[test]
    fn no_credential_of_a_webhook_is_kept() {
        let mut told = alert("X", &[("url", "postgres://app:s3cr3t-pw@db/x")]);
        told.annotations = labels(&[("description", "use AKIAABCDEFGHIJKLMNOP, password=correct-horse")]);
        told.generator_url = Some("http://admin:s3cr3t-pw@prometheus/graph".into());
        told.values.insert("line".into(), serde_json::json!("password=correct-horse"));
        let mut envelope = envelope(&[("url", "postgres://app:s3cr3t-pw@db/x")]);
        envelope.common_annotations = told.annotations.clone();
        envelope.external_url = Some("http://admin:s3cr3t-pw@alertmanager".into());
        let message =
            Message { envelope, alerts: vec![told], refused: vec![] }.redacted(&Redactor::default());
        let kept = format!("{message:?}");
        for secret in ["s3cr3t", "AKIAABCD", "correct-horse"] {
            assert!(!kept.contains(secret), "{kept}");
        }
        assert!(kept.contains("alertname"), "{kept}");
    }
}
