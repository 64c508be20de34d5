//! One alert of a body.

use std::collections::BTreeMap;

use sentinel_core::UnixMs;
use sentinel_core::alert::{Alert, AlertStatus, Labels};
use sentinel_core::notification::{Refusal, Source};
use serde_json::value::RawValue;

use crate::json::{self, Object};

/// Go's zero time is the first instant of year 1 in any zone; two days later nothing means "no time" any more.
const ZERO_TIME_ENDS: UnixMs = UnixMs::new(-62_135_424_000_000);

/// What Grafana says of an alert beside its annotations (`valueString` and the links).
const GRAFANA_NOTES: [&str; 5] = ["valueString", "dashboardURL", "panelURL", "silenceURL", "imageURL"];

/// What an alert takes from the message that it stands in.
pub(crate) struct Context {
    /// Who sent it.
    pub(crate) source: Source,
    /// The list is called `alert`: versions 1 and 2.
    pub(crate) singular: bool,
    /// The status of an alert that names none; why it has none, where the notification's cannot be read.
    pub(crate) status: Result<AlertStatus, Refusal>,
    /// The time of receipt.
    pub(crate) received: UnixMs,
}

/// Reads the alert `raw`, which stands at `path`.
pub(crate) fn read(raw: &RawValue, path: &str, context: &Context) -> Result<Alert, Refusal> {
    let at = |name: &str| json::member(path, name);
    let fields = json::object(raw, path)?;
    let labels = match json::field(&fields, "labels") {
        Some(raw) => json::labels(raw, &at("labels"))?,
        None => return Err(json::refusal(&at("labels"), "is missing; an object of texts would be right")),
    };
    let annotations = json::field(&fields, "annotations").map(|raw| json::texts(raw, "annotations"));
    let status = match status(json::field(&fields, "status"), &at("status"))? {
        Some(own) => own,
        None => context.status.clone().map_err(|notification| {
            let reason = format!("is missing, and the notification's `status` {}", notification.reason);
            json::refusal(&at("status"), reason)
        })?,
    };
    let ends_at = time(json::field(&fields, "endsAt"), &at("endsAt")).ok().flatten();
    let mut alert = Alert {
        status,
        labels,
        annotations: annotations.unwrap_or_default(),
        starts_at: start(json::field(&fields, "startsAt"), &at("startsAt"), status)?,
        ends_at: match status {
            AlertStatus::Firing => None,
            AlertStatus::Resolved => Some(ends_at.unwrap_or(context.received)),
        },
        ends_at_is_receipt: status == AlertStatus::Resolved && ends_at.is_none(),
        generator_url: json::note(&fields, "generatorURL"),
        fingerprint: json::note(&fields, "fingerprint"),
        values: values(&fields),
        member: None,
    };
    if context.source == Source::Grafana {
        take_notes(&mut alert.annotations, &fields, &GRAFANA_NOTES);
    }
    if context.singular {
        add_version_1(&mut alert, &fields, path)?;
    }
    Ok(alert)
}

/// Version 1 (Alertmanager 0.0.x): the texts lie on the alert itself, its beginning and its link in `payload`.
fn add_version_1(alert: &mut Alert, fields: &Object<'_>, path: &str) -> Result<(), Refusal> {
    take_notes(&mut alert.annotations, fields, &["summary", "description", "runbook"]);
    let at = json::member(path, "payload");
    let Some(payload) = json::field(fields, "payload").and_then(|raw| json::object(raw, &at).ok()) else {
        return Ok(());
    };
    take_notes(&mut alert.annotations, &payload, &["value", "alertingRule"]);
    let since = json::field(&payload, "activeSince");
    let since = start(since, &json::member(&at, "activeSince"), alert.status)?;
    alert.starts_at = alert.starts_at.or(since);
    alert.generator_url = alert.generator_url.take().or_else(|| json::note(&payload, "generatorURL"));
    Ok(())
}

/// Takes the fields `names` over as annotations, where there is none of that name.
fn take_notes(annotations: &mut Labels, fields: &Object<'_>, names: &[&str]) {
    for &name in names {
        if let Some(text) = json::note(fields, name) {
            annotations.entry(name.to_owned()).or_insert(text);
        }
    }
}

/// Grafana's measured values: numbers by name (texts and truth values pass too; it sends nothing else).
fn values(fields: &Object<'_>) -> BTreeMap<String, serde_json::Value> {
    let Some(values) = json::field(fields, "values").and_then(|raw| json::object(raw, "values").ok()) else {
        return BTreeMap::new();
    };
    let scalar = |raw: &RawValue| !raw.get().starts_with(['{', '[']) && raw.get() != "null";
    let read = |raw: &RawValue| serde_json::from_str(raw.get()).ok();
    values.into_iter().filter(|(_, raw)| scalar(raw)).filter_map(|(k, raw)| Some((k, read(raw)?))).collect()
}

/// A status; `None` where there is none.
pub(crate) fn status(raw: Option<&RawValue>, path: &str) -> Result<Option<AlertStatus>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    let text = json::text(raw, path)?;
    match text.to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "firing" => Ok(Some(AlertStatus::Firing)),
        "resolved" => Ok(Some(AlertStatus::Resolved)),
        _ => Err(json::refusal(
            path,
            format!("is {:?}; `firing` or `resolved` would be right", json::shown(&text)),
        )),
    }
}

/// When an alert of this status began. Of what fires it says which episode it is, and has to be readable.
fn start(raw: Option<&RawValue>, path: &str, status: AlertStatus) -> Result<Option<UnixMs>, Refusal> {
    match (time(raw, path), status) {
        (Err(_), AlertStatus::Resolved) => Ok(None),
        (read, _) => read,
    }
}

/// A time; `None` where there is none: missing, an empty text, 0, or Go's zero time.
fn time(raw: Option<&RawValue>, path: &str) -> Result<Option<UnixMs>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    let text = json::text(raw, path)?;
    if text.is_empty() || raw.get() == "0" {
        return Ok(None);
    }
    match UnixMs::parse_rfc3339(&text).or_else(|error| gos_own(&text).ok_or(error)) {
        Ok(time) if time < ZERO_TIME_ENDS => Ok(None),
        Ok(time) => Ok(Some(time)),
        Err(_) => Err(json::refusal(
            path,
            format!(
                "is {:?}; a time like `2026-11-20T09:14:32Z` (RFC 3339) would be right",
                json::shown(&text)
            ),
        )),
    }
}

/// A time as Go prints one where nobody says how (`2026-11-20 10:00:00.25 +0000 UTC`), which is what a template says that
/// names `.StartsAt` alone.
fn gos_own(text: &str) -> Option<UnixMs> {
    let mut words = text.split(' ');
    let (date, clock, offset) = (words.next()?, words.next()?, words.next()?);
    UnixMs::parse_rfc3339(&format!("{date}T{clock}{offset}")).ok()
}
