//! What the servers answer, lenient: one alert that cannot be read does not hide its neighbours.
//!
//! Prometheus: `GET /api/v1/alerts`, "HTTP API" in its documentation. Alertmanager: `gettableAlerts` in
//! `api/v2/openapi.yaml` of its repository.

use std::collections::{BTreeMap, BTreeSet};

use sentinel_config::WatcherKind;
use sentinel_core::UnixMs;
use sentinel_core::alert::{Alert, AlertStatus, Labels};
use sentinel_core::notification::Refusal;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The alerts of one server at one time.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Polled {
    /// Those that fire, and that nobody has silenced.
    pub(crate) firing: Vec<Alert>,
    /// The label sets of all alerts that the server knows of: silenced, inhibited and pending ones are not over.
    pub(crate) known: BTreeSet<Labels>,
    /// Those that could not be read.
    pub(crate) refused: Vec<Refusal>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<T>,
}

#[derive(Deserialize)]
struct PrometheusAlerts<'a> {
    #[serde(borrow)]
    alerts: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PrometheusAlert {
    labels: Labels,
    #[serde(default)]
    annotations: Labels,
    /// `firing`, `pending` or `inactive`.
    state: String,
    active_at: Option<String>,
    value: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertmanagerAlert {
    labels: Labels,
    #[serde(default)]
    annotations: Labels,
    starts_at: Option<String>,
    status: AlertmanagerStatus,
    fingerprint: Option<String>,
    #[serde(rename = "generatorURL")]
    generator_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertmanagerStatus {
    /// `active`, `suppressed` or `unprocessed`.
    state: String,
    #[serde(default)]
    silenced_by: Vec<String>,
    #[serde(default)]
    inhibited_by: Vec<String>,
}

/// Reads the alerts of a server. `Err`: what is wrong with the answer as a whole.
pub(crate) fn alerts(kind: WatcherKind, body: &[u8]) -> Result<Polled, String> {
    let mut polled = Polled::default();
    match kind {
        WatcherKind::Prometheus => {
            let answer: Envelope<PrometheusAlerts<'_>> = parse(body)?;
            let data = answer.data.filter(|_| answer.status == "success");
            let Some(data) = data else { return Err(format!("it says {}: {}", answer.status, answer.error)) };
            for (place, raw) in data.alerts.iter().enumerate() {
                polled.take(&format!("data.alerts[{place}]"), raw, prometheus);
            }
        }
        WatcherKind::Alertmanager => {
            let alerts: Vec<&RawValue> = parse(body)?;
            for (place, raw) in alerts.iter().enumerate() {
                polled.take(&format!("[{place}]"), raw, alertmanager);
            }
        }
    }
    Ok(polled)
}

/// When the server was started, where it says so.
pub(crate) fn started(kind: WatcherKind, body: &[u8]) -> Option<UnixMs> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RuntimeInfo {
        start_time: String,
    }
    #[derive(Deserialize)]
    struct Status {
        /// An instant, in spite of its name.
        uptime: String,
    }
    let text = match kind {
        WatcherKind::Prometheus => parse::<Envelope<RuntimeInfo>>(body).ok()?.data?.start_time,
        WatcherKind::Alertmanager => parse::<Status>(body).ok()?.uptime,
    };
    UnixMs::parse_rfc3339(&text).ok()
}

fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, String> {
    // Places only: the text may quote what came.
    serde_json::from_slice(body).map_err(|e| {
        format!("it is not what this type of server answers: line {}, column {}", e.line(), e.column())
    })
}

/// An alert, and whether it is to be told.
type Read = Result<(Alert, bool), String>;

impl Polled {
    fn take(&mut self, path: &str, raw: &RawValue, read: fn(&str) -> Read) {
        match read(raw.get()) {
            // No store keeps it.
            Ok((alert, _)) if alert.labels.contains_key("") => {
                let reason = "has a label without a name".to_owned();
                self.refused.push(Refusal { path: path.to_owned(), reason });
            }
            Ok((alert, told)) => {
                self.known.insert(alert.labels.clone());
                if told {
                    self.firing.push(alert);
                }
            }
            Err(reason) => self.refused.push(Refusal { path: path.to_owned(), reason }),
        }
    }
}

fn prometheus(raw: &str) -> Read {
    let alert: PrometheusAlert = serde_json::from_str(raw).map_err(|e| e.to_string())?;
    let values = alert.value.map(|value| ("value".to_owned(), number(value)));
    let read = Alert {
        starts_at: time("activeAt", alert.active_at.as_deref())?,
        values: values.into_iter().collect(),
        ..firing(alert.labels, alert.annotations)
    };
    Ok((read, alert.state == "firing"))
}

fn alertmanager(raw: &str) -> Read {
    let alert: AlertmanagerAlert = serde_json::from_str(raw).map_err(|e| e.to_string())?;
    let AlertmanagerStatus { state, silenced_by, inhibited_by } = alert.status;
    let told = state == "active" && silenced_by.is_empty() && inhibited_by.is_empty();
    let read = Alert {
        starts_at: time("startsAt", alert.starts_at.as_deref())?,
        fingerprint: alert.fingerprint,
        generator_url: alert.generator_url.filter(|url| !url.is_empty()),
        ..firing(alert.labels, alert.annotations)
    };
    Ok((read, told))
}

fn firing(labels: Labels, annotations: Labels) -> Alert {
    Alert {
        status: AlertStatus::Firing,
        labels,
        annotations,
        starts_at: None,
        ends_at: None,
        ends_at_is_receipt: false,
        generator_url: None,
        fingerprint: None,
        values: BTreeMap::new(),
        member: None,
    }
}

fn time(name: &str, text: Option<&str>) -> Result<Option<UnixMs>, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    UnixMs::parse_rfc3339(text).map(Some).map_err(|_| format!("{name} is no RFC 3339 time"))
}

/// Prometheus writes a sample's value as text, because JSON has no infinity.
fn number(value: Value) -> Value {
    let parsed = value.as_str().and_then(|text| text.parse::<f64>().ok());
    parsed.and_then(serde_json::Number::from_f64).map_or(value, Value::Number)
}
