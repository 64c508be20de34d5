//! The body around the alerts.

use sentinel_core::UnixMs;
use sentinel_core::alert::{AlertStatus, Labels};
use sentinel_core::notification::{Envelope, Message, Refusal, Source};

use crate::MOST_COPIED;
use crate::cloudwatch;
use crate::error::EnvelopeError;
use crate::json::{self, Object};
use crate::one_alert::{self, Context};

/// Reads a webhook of any known shape (see the crate's page). `received` is the time of receipt, by our clock: the end
/// of an alert that is resolved and does not say when.
///
/// The alerts and the refusals of the message together are as many as the body's.
///
/// # Errors
/// [`EnvelopeError`], where nothing of the body can be read: it says why, where, and which HTTP status answers it.
pub fn parse(body: &[u8], received: UnixMs) -> Result<Message, EnvelopeError> {
    let top = json::document(body)?;
    if let Some(alarm) = cloudwatch::read(&top, received) {
        return alarm.map_err(|refusal| EnvelopeError::NoneReadable { refused: vec![refusal] });
    }
    let (list, singular) = match json::field(&top, "alerts") {
        Some(raw) => (Some(raw), false),
        None => (json::field(&top, "alert"), true),
    };
    let name = if singular && list.is_some() { "alert" } else { "alerts" };
    let elements = json::alerts(list)?;
    let envelope = envelope(&top, singular).and_then(|read| bounded(read, elements.len()));
    let envelope = envelope.map_err(EnvelopeError::GroupLabels)?;
    let status = one_alert::status(json::field(&top, "status"), "status");
    let status = status.map(|found| found.unwrap_or(AlertStatus::Firing));
    let context = Context { source: envelope.source, singular, status, received };

    let mut message = Message { envelope, alerts: Vec::new(), refused: Vec::new() };
    for (index, raw) in elements.into_iter().enumerate() {
        match one_alert::read(raw, &json::element(name, index), &context) {
            Ok(alert) => message.alerts.push(alert),
            Err(refusal) => message.refused.push(refusal),
        }
    }
    if message.alerts.is_empty() && !message.refused.is_empty() {
        return Err(EnvelopeError::NoneReadable { refused: message.refused });
    }
    Ok(message)
}

fn envelope(top: &Object<'_>, singular: bool) -> Result<Envelope, Refusal> {
    let texts = |name: &str| json::field(top, name).map(|raw| json::texts(raw, name)).unwrap_or_default();
    let common_labels = json::field(top, "commonLabels").filter(|raw| raw.get().starts_with('{'));
    let group_labels = json::field(top, "groupLabels").map(|raw| json::labels(raw, "groupLabels"));
    Ok(Envelope {
        source: source(top, singular),
        receiver: json::note(top, "receiver").unwrap_or_default(),
        group_labels: group_labels.transpose()?.unwrap_or_default(),
        common_labels: common_labels.map(|raw| json::texts(raw, "commonLabels")).unwrap_or_default(),
        common_annotations: texts("commonAnnotations"),
        group_key: json::note(top, "groupKey"),
        external_url: json::note(top, "externalURL"),
        reason: json::note(top, "notification_reason"),
        truncated_alerts: json::note(top, "truncatedAlerts").and_then(|n| n.parse().ok()).unwrap_or(0),
        // Whoever carries the request knows, not the payload.
        verified_by: None,
    })
}

/// The envelope without what only informs, where that is too much to be kept with each of so many alerts.
fn bounded(mut envelope: Envelope, alerts: usize) -> Result<Envelope, Refusal> {
    let of = |labels: &Labels| labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let texts = [&envelope.group_key, &envelope.external_url, &envelope.reason];
    let note = envelope.receiver.len() + texts.into_iter().flatten().map(String::len).sum::<usize>();
    let informs = note + of(&envelope.common_labels) + of(&envelope.common_annotations);
    let group = of(&envelope.group_labels);
    if group.saturating_mul(alerts) > MOST_COPIED {
        let reason = format!("has {group} bytes, which is too much for {alerts} alerts");
        return Err(Refusal { path: "groupLabels".to_owned(), reason });
    }
    if (group + informs).saturating_mul(alerts) > MOST_COPIED {
        let Envelope { source, group_labels, truncated_alerts, .. } = envelope;
        envelope = Envelope {
            source,
            group_labels,
            truncated_alerts,
            receiver: String::new(),
            common_labels: Labels::new(),
            common_annotations: Labels::new(),
            group_key: None,
            external_url: None,
            reason: None,
            verified_by: None,
        };
    }
    Ok(envelope)
}

/// Grafana names its organisation, and calls its version 1 with a list `alerts`; Alertmanager names a version, a group
/// key, or a list `alert`.
fn source(top: &Object<'_>, singular: bool) -> Source {
    let has = |name: &str| json::field(top, name).is_some();
    let version = json::note(top, "version");
    if has("orgId") || (version.as_deref() == Some("1") && !singular && has("state")) {
        Source::Grafana
    } else if version.is_some() || has("groupKey") || singular {
        Source::Alertmanager
    } else {
        Source::Custom
    }
}
