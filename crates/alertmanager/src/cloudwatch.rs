//! Alarms of Amazon `CloudWatch`, as they are sent to Amazon SNS and as `EventBridge` sends their changes of state.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html>

use std::collections::{BTreeMap, BTreeSet};

use sentinel_core::UnixMs;
use sentinel_core::alert::{Alert, AlertStatus, Labels};
use sentinel_core::notification::{Envelope, Message, Refusal, Source};
use serde_json::value::RawValue;

use crate::json::{self, Object};

/// What `EventBridge` calls an alarm's change of state.
const STATE_CHANGE: &str = "CloudWatch Alarm State Change";

/// Reads `top` where it is an alarm; `None`: it is none.
pub(crate) fn read(top: &Object<'_>, received: UnixMs) -> Option<Result<Message, Refusal>> {
    let has = |name: &str| json::field(top, name).is_some();
    let alarm = if has("AlarmName") && has("NewStateValue") {
        of_topic(top)
    } else if has("detail-type") && has("detail") {
        of_event(top)
    } else {
        return None;
    };
    Some(alarm.map(|alarm| alarm.message(received)))
}

/// What both forms say.
struct Alarm {
    name: String,
    account: Option<String>,
    region: Option<String>,
    dimensions: Labels,
    state: Status,
    annotations: Labels,
    /// When it came into its state.
    at: Option<UnixMs>,
    /// When it came into the one before, where that was ALARM.
    before: Option<UnixMs>,
}

/// An alarm's state. One that has too little data fires: whoever lets that be told wants to know.
enum Status {
    Ok,
    Alarm,
    InsufficientData,
}

impl Status {
    fn read(raw: Option<&RawValue>, path: &str) -> Result<Self, Refusal> {
        let reason = "`OK`, `ALARM` or `INSUFFICIENT_DATA` would be right";
        let Some(raw) = raw else { return Err(json::refusal(path, format!("is missing; {reason}"))) };
        match json::text(raw, path)?.as_str() {
            "OK" => Ok(Self::Ok),
            "ALARM" => Ok(Self::Alarm),
            "INSUFFICIENT_DATA" => Ok(Self::InsufficientData),
            other => Err(json::refusal(path, format!("is {:?}; {reason}", json::shown(other)))),
        }
    }
}

impl Alarm {
    fn message(self, received: UnixMs) -> Message {
        let Self { name, account, region, dimensions, state, annotations, at, before } = self;
        let of = |name: &str, value: &Option<String>| value.clone().map(|value| (name.to_owned(), value));
        let group_labels: Labels =
            [of("account", &account), of("region", &region)].into_iter().flatten().collect();
        let mut labels = group_labels.clone();
        labels.extend(dimensions);
        labels.insert("alertname".to_owned(), name);
        let (status, starts_at, ends_at) = match state {
            Status::Ok => (AlertStatus::Resolved, before, Some(at.unwrap_or(received))),
            Status::Alarm | Status::InsufficientData => (AlertStatus::Firing, at, None),
        };
        let alert = Alert {
            status,
            labels,
            annotations,
            starts_at,
            ends_at,
            ends_at_is_receipt: ends_at.is_some() && at.is_none(),
            generator_url: None,
            fingerprint: None,
            values: BTreeMap::new(),
            member: None,
        };
        let envelope = Envelope {
            source: Source::CloudWatch,
            receiver: String::new(),
            common_labels: Labels::new(),
            common_annotations: Labels::new(),
            group_labels,
            group_key: None,
            external_url: None,
            reason: None,
            truncated_alerts: 0,
            verified_by: None,
        };
        Message { envelope, alerts: vec![alert], refused: Vec::new() }
    }
}

/// The form that an alarm's action sends to a topic.
fn of_topic(top: &Object<'_>) -> Result<Alarm, Refusal> {
    let trigger = json::field(top, "Trigger").and_then(|raw| json::object(raw, "Trigger").ok());
    let mut dimensions = Dimensions::default();
    if let Some(trigger) = &trigger {
        dimensions.take(json::field(trigger, "Dimensions"));
        for metric in elements(json::field(trigger, "Metrics")) {
            dimensions.take(within(metric, &["MetricStat", "Metric", "Dimensions"]));
        }
    }
    let notes = [
        ("description", "AlarmDescription"),
        ("summary", "NewStateReason"),
        ("state", "NewStateValue"),
        ("previous_state", "OldStateValue"),
        ("rule", "AlarmRule"),
        ("alarm_arn", "AlarmArn"),
    ];
    let mut annotations = annotations(top, &notes);
    annotations.extend(json::field(top, "Trigger").map(|raw| ("trigger".to_owned(), raw.get().to_owned())));
    let arn = json::note(top, "AlarmArn").unwrap_or_default();
    Ok(Alarm {
        name: named(top, "AlarmName", "AlarmName")?,
        account: json::note(top, "AWSAccountId").or_else(|| part_of_arn(&arn, 4)),
        region: part_of_arn(&arn, 3),
        dimensions: dimensions.labels(),
        state: Status::read(json::field(top, "NewStateValue"), "NewStateValue")?,
        annotations,
        at: json::note(top, "StateChangeTime").and_then(|text| UnixMs::parse_rfc3339(&text).ok()),
        before: None,
    })
}

/// The form that `EventBridge` sends, to an API destination or a topic.
fn of_event(top: &Object<'_>) -> Result<Alarm, Refusal> {
    let kind = json::note(top, "detail-type").unwrap_or_default();
    if kind != STATE_CHANGE {
        let reason = format!("is {:?}; `{STATE_CHANGE}` would be right", json::shown(&kind));
        return Err(json::refusal("detail-type", reason));
    }
    let Some(raw) = json::field(top, "detail") else { return Err(json::refusal("detail", "is missing")) };
    let detail = json::object(raw, "detail")?;
    let state = json::field(&detail, "state").map(|raw| json::object(raw, "detail.state")).transpose()?;
    let state = state.unwrap_or_default();
    let previous = json::field(&detail, "previousState").and_then(|raw| json::object(raw, "").ok());
    let previous = previous.unwrap_or_default();
    let configuration = json::field(&detail, "configuration");
    let settings = configuration.and_then(|raw| json::object(raw, "").ok()).unwrap_or_default();
    let mut dimensions = Dimensions::default();
    for metric in elements(json::field(&settings, "metrics")) {
        dimensions.take(within(metric, &["metricStat", "metric", "dimensions"]));
    }
    let mut annotations = annotations(&state, &[("summary", "reason"), ("state", "value")]);
    annotations.extend(json::note(&settings, "description").map(|text| ("description".to_owned(), text)));
    annotations.extend(json::note(&settings, "alarmRule").map(|text| ("rule".to_owned(), text)));
    annotations.extend(json::note(&previous, "value").map(|text| ("previous_state".to_owned(), text)));
    annotations.extend(configuration.map(|raw| ("trigger".to_owned(), raw.get().to_owned())));
    let arn = elements(json::field(top, "resources")).next().and_then(|raw| json::text(raw, "").ok());
    annotations.extend(arn.map(|arn| ("alarm_arn".to_owned(), arn)));
    let time = |object: &Object<'_>| {
        json::note(object, "timestamp").and_then(|text| UnixMs::parse_rfc3339(&text).ok())
    };
    let was_alarm = json::note(&previous, "value").is_some_and(|value| value == "ALARM");
    Ok(Alarm {
        name: named(&detail, "alarmName", "detail.alarmName")?,
        account: json::note(top, "account"),
        region: json::note(top, "region"),
        dimensions: dimensions.labels(),
        state: Status::read(json::field(&state, "value"), "detail.state.value")?,
        annotations,
        at: time(&state).or_else(|| json::note(top, "time").and_then(|t| UnixMs::parse_rfc3339(&t).ok())),
        before: time(&previous).filter(|_| was_alarm),
    })
}

/// The dimensions of all metrics of an alarm.
#[derive(Default)]
struct Dimensions(BTreeMap<String, BTreeSet<String>>);

impl Dimensions {
    /// Takes those of one metric: a list of names and values, or an object.
    fn take(&mut self, raw: Option<&RawValue>) {
        let pairs: Vec<(String, String)> = match raw.map(|raw| json::object(raw, "")) {
            None => return,
            Some(Ok(object)) => {
                object.keys().filter_map(|name| Some((name.clone(), json::note(&object, name)?))).collect()
            }
            Some(Err(_)) => elements(raw)
                .filter_map(|raw| json::object(raw, "").ok())
                .filter_map(|pair| Some((json::note(&pair, "name")?, json::note(&pair, "value")?)))
                .collect(),
        };
        for (name, value) in pairs.into_iter().filter(|(name, _)| !name.is_empty()) {
            self.0.entry(name).or_default().insert(value);
        }
    }

    /// As labels; of metrics that differ in one, all values, in their order.
    fn labels(self) -> Labels {
        let joined = |values: BTreeSet<String>| values.into_iter().collect::<Vec<_>>().join(",");
        self.0.into_iter().map(|(name, values)| (name, joined(values))).collect()
    }
}

/// An alarm's name, without which nobody could say which one it is.
fn named(object: &Object<'_>, field: &str, path: &str) -> Result<String, Refusal> {
    let missing = || json::refusal(path, "is missing; the alarm's name would be right");
    let name = json::text(json::field(object, field).ok_or_else(missing)?, path)?;
    if name.is_empty() { Err(missing()) } else { Ok(name) }
}

/// What stands in these fields, under these names.
fn annotations(object: &Object<'_>, names: &[(&str, &str)]) -> Labels {
    let said =
        names.iter().filter_map(|(name, field)| Some(((*name).to_owned(), json::note(object, field)?)));
    said.collect()
}

/// The value at the end of a path of fields.
fn within<'a>(raw: &'a RawValue, path: &[&str]) -> Option<&'a RawValue> {
    path.iter().try_fold(raw, |raw, name| json::field(&json::object(raw, "").ok()?, name))
}

/// The elements of an array, none of anything else.
fn elements(raw: Option<&RawValue>) -> impl Iterator<Item = &RawValue> {
    raw.and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok()).into_iter().flatten()
}

/// One part of `arn:aws:cloudwatch:REGION:ACCOUNT:alarm:NAME`.
fn part_of_arn(arn: &str, index: usize) -> Option<String> {
    arn.starts_with("arn:")
        .then(|| arn.split(':').nth(index))?
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
}
