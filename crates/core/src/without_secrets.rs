//! Records as they are kept, shown and told: without the secrets that came with them.
//!
//! Each record says here which of its texts come from outside. Whoever stores, shows or tells one passes it through this
//! module, with the redactor of its incident ([`Redactor::for_incident`]); identity has been decided before
//! ([`crate::intake`]).

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::alert::{Alert, Labels};
use crate::incident::Head;
use crate::notification::{Envelope, Notification, Refusal};
use crate::ports::Telling;
use crate::redact::Redactor;
use crate::report::Report;

/// Takes secrets out of a text.
pub fn redact_text(text: &mut String, redactor: &Redactor) {
    if let Cow::Owned(redacted) = redactor.redact(text) {
        *text = redacted;
    }
}

/// Labels or annotations without secrets, in names as in values: a name says what its value is, and may itself hold one.
#[must_use]
pub fn redacted_labels(labels: &Labels, redactor: &Redactor) -> Labels {
    let values = labels.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    let kept = redacted_map(values, redactor).into_iter();
    kept.map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect()
}

/// The same pairs as the redactor leaves an object of them.
fn redacted_map(values: Map<String, Value>, redactor: &Redactor) -> Map<String, Value> {
    let mut object = Value::Object(values);
    redactor.redact_json(&mut object);
    match object {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

impl Alert {
    /// Takes secrets out of all that a sender wrote.
    pub fn redact(&mut self, redactor: &Redactor) {
        self.labels = redacted_labels(&self.labels, redactor);
        self.annotations = redacted_labels(&self.annotations, redactor);
        for text in [&mut self.generator_url, &mut self.fingerprint].into_iter().flatten() {
            redact_text(text, redactor);
        }
        let values = std::mem::take(&mut self.values).into_iter().collect();
        self.values = redacted_map(values, redactor).into_iter().collect();
    }
}

impl Notification {
    /// Takes secrets out of all that its sender wrote. Whoever puts one into an annotation has it in every notification.
    pub fn redact(&mut self, redactor: &Redactor) {
        let Self { card: _, key_labels, envelope, alerts } = self;
        let Envelope {
            source: _,
            receiver,
            group_labels,
            common_labels,
            common_annotations,
            group_key,
            external_url,
            reason,
            truncated_alerts: _,
            verified_by: _,
        } = envelope;
        for labels in [key_labels, group_labels, common_labels, common_annotations] {
            *labels = redacted_labels(labels, redactor);
        }
        redact_text(receiver, redactor);
        for text in [group_key, external_url, reason].into_iter().flatten() {
            redact_text(text, redactor);
        }
        for alert in alerts {
            alert.redact(redactor);
        }
    }
}

impl Refusal {
    /// Without secrets: the path names labels, and the reason may quote a value.
    pub(crate) fn redacted(&self, redactor: &Redactor) -> Self {
        let redact = |text: &str| redactor.redact(text).into_owned();
        Self { path: redact(&self.path), reason: redact(&self.reason) }
    }
}

impl Head {
    /// Takes secrets out of what it shows: who wrote it may know fewer of them than who reads it.
    pub fn redact(&mut self, redactor: &Redactor) {
        self.labels = redacted_labels(&self.labels, redactor);
        let errors = self.deliveries.iter_mut().filter_map(|delivery| delivery.error.as_mut());
        for text in self.reason.iter_mut().chain(errors) {
            redact_text(text, redactor);
        }
    }
}

impl Report {
    /// The same report without secrets.
    ///
    /// # Errors
    /// It cannot be written as JSON, or not read back.
    pub fn redacted(&self, redactor: &Redactor) -> serde_json::Result<Self> {
        let mut value = serde_json::to_value(self)?;
        redactor.redact_json(&mut value);
        serde_json::from_value(value)
    }
}

impl Telling {
    /// Takes secrets out of what a sink is given: the last door before people, behind which nothing is looked at again.
    pub fn redact(&mut self, redactor: &Redactor) {
        self.head.redact(redactor);
        if let Some(notification) = &mut self.notification {
            notification.redact(redactor);
        }
        for listed in &mut self.listed {
            listed.labels = redacted_labels(&listed.labels, redactor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{alert, envelope, labels};

    fn kept(mut notification: Notification) -> Notification {
        notification.redact(&Redactor::default());
        notification
    }

    fn notification(alert: Alert, envelope: Envelope) -> Notification {
        Notification { card: "c".into(), key_labels: alert.labels.clone(), envelope, alerts: vec![alert] }
    }

    #[test]
    fn no_credential_of_a_webhook_is_kept() {
        let mut told = alert("X", &[("url", "postgres://app:s3cr3t-pw@db/x")]);
        told.annotations = labels(&[("description", "use AKIAABCDEFGHIJKLMNOP, password=correct-horse")]);
        told.labels.insert("of_password=correct-horse".into(), "x".into());
        told.generator_url = Some("http://admin:s3cr3t-pw@prometheus/graph".into());
        told.values.insert("line".into(), serde_json::json!("password=correct-horse"));
        let mut envelope = envelope(&[("url", "postgres://app:s3cr3t-pw@db/x")]);
        envelope.common_annotations = told.annotations.clone();
        envelope.external_url = Some("http://admin:s3cr3t-pw@alertmanager".into());
        envelope.receiver = "password=correct-horse".into();
        envelope.group_key = Some("{}:{url=\"postgres://app:s3cr3t-pw@db/x\"}".into());
        envelope.reason = Some("password=correct-horse".into());
        let kept = format!("{:?}", kept(notification(told, envelope)));
        for secret in ["s3cr3t", "AKIAABCD", "correct-horse"] {
            assert!(!kept.contains(secret), "{kept}");
        }
        assert!(kept.contains("alertname"), "{kept}");
    }

    #[test]
    fn two_names_that_differ_only_in_a_secret_both_keep_their_values() {
        let mut told = alert("X", &[]);
        told.labels.insert("password=correct-horse".into(), "one".into());
        told.labels.insert("password=battery-staple".into(), "two".into());
        let kept = kept(notification(told, envelope(&[])));
        let values: Vec<&str> = kept.alerts[0].labels.values().map(String::as_str).collect();
        assert_eq!(values.len(), 3, "{values:?}");
        assert!(values.contains(&"one") && values.contains(&"two"), "{values:?}");
    }
}
