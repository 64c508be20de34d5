//! What holds for every body.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "the helpers of a test fail it")]

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use sentinel_alertmanager::{EnvelopeError, parse};
use sentinel_core::UnixMs;
use sentinel_core::alert::{Alert, AlertStatus, Labels};
use sentinel_core::notification::{Envelope, Message, Source};
use serde_json::{Value, json};

const RECEIVED: UnixMs = UnixMs::new(1_795_176_000_000);

/// Any JSON at all, not deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![
            Just("firing".to_owned()),
            Just("resolved".to_owned()),
            Just("2026-11-20T10:00:00Z".to_owned()),
            Just("0001-01-01T00:00:00Z".to_owned()),
            any::<String>(),
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// An object with the fields `names`, each of which may be missing or anything.
fn any_object(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    vec(option::of(any_json()), names.len()).prop_map(|values| {
        let pairs = names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
        Value::Object(pairs.collect())
    })
}

fn any_alert() -> impl Strategy<Value = Value> {
    let fields = &[
        "labels",
        "annotations",
        "status",
        "startsAt",
        "endsAt",
        "generatorURL",
        "fingerprint",
        "values",
        "valueString",
        "payload",
        "summary",
    ];
    prop_oneof![
        3 => (any_object(fields), btree_map("[a-z]{1,4}", any::<String>(), 0..3)).prop_map(|(mut alert, labels)| {
            alert["labels"] = json!(labels);
            alert
        }),
        2 => any_object(fields),
        1 => any_json(),
    ]
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(any::<String>().prop_filter("no name", |name| !name.is_empty()), any::<String>(), 0..4)
}

fn time() -> impl Strategy<Value = UnixMs> {
    // 1970 to 9999, where RFC 3339 ends.
    (0..253_402_300_800_000_i64).prop_map(UnixMs::new)
}

prop_compose! {
    fn valid_alert()(
        labels in labels(),
        annotations in labels(),
        starts_at in option::of(time()),
        ends_at in option::of(time()),
        generator_url in option::of("https://[a-z]{1,20}"),
        fingerprint in option::of("[0-9a-f]{16}"),
        values in btree_map("[A-Z]", any::<i32>().prop_map(Value::from), 0..3),
    ) -> Alert {
        let status = if ends_at.is_some() { AlertStatus::Resolved } else { AlertStatus::Firing };
        Alert {
            status, labels, annotations, starts_at, ends_at, ends_at_is_receipt: false, generator_url, fingerprint, values,
            member: None,
        }
    }
}

prop_compose! {
    fn valid_envelope()(
        receiver in "[a-z]{0,8}",
        group_labels in labels(),
        common_labels in labels(),
        common_annotations in labels(),
        group_key in option::of(".{1,20}"),
        reason in option::of("[a-z ]{1,20}"),
        truncated_alerts in any::<u64>(),
    ) -> Envelope {
        Envelope {
            source: Source::Alertmanager, receiver, group_labels, common_labels, common_annotations, group_key,
            external_url: Some("https://alertmanager.example.com".to_owned()), reason, truncated_alerts,
            verified_by: None,
        }
    }
}

/// A body of version 4 that says what `message` does.
fn body(message: &Message) -> Vec<u8> {
    let rfc3339 = |time: Option<UnixMs>| match time {
        Some(time) => time.to_string(),
        None => "0001-01-01T00:00:00Z".to_owned(),
    };
    let alert = |a: &Alert| {
        json!({
            "status": a.status, "labels": a.labels, "annotations": a.annotations, "values": a.values,
            "startsAt": rfc3339(a.starts_at), "endsAt": rfc3339(a.ends_at),
            "generatorURL": a.generator_url.clone().unwrap_or_default(), "fingerprint": a.fingerprint,
        })
    };
    let e = &message.envelope;
    let alerts: Vec<_> = message.alerts.iter().map(alert).collect();
    let body = json!({
        "version": "4", "status": "firing", "receiver": e.receiver, "groupLabels": e.group_labels,
        "commonLabels": e.common_labels, "commonAnnotations": e.common_annotations, "groupKey": e.group_key,
        "externalURL": e.external_url, "notification_reason": e.reason, "truncatedAlerts": e.truncated_alerts,
        "alerts": alerts,
    });
    serde_json::to_vec(&body).unwrap()
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes, RECEIVED);
    }

    #[test]
    fn no_cut_or_changed_body_panics(at in 0_usize..2048, with in any::<u8>()) {
        let whole = include_bytes!("fixtures/grafana-1.json");
        let at = at % whole.len();
        let _ = parse(&whole[..at], RECEIVED);
        let mut changed = whole.to_vec();
        changed[at] = with;
        let _ = parse(&changed, RECEIVED);
    }

    #[test]
    fn alerts_and_refusals_are_as_many_as_were_sent(sent in vec(any_alert(), 0..6), list in "alerts?", status in any_json()) {
        let body = json!({list: sent, "status": status});
        let count = match parse(&serde_json::to_vec(&body).unwrap(), RECEIVED) {
            Ok(message) => {
                prop_assert!(sent.is_empty() || !message.alerts.is_empty());
                message.alerts.len() + message.refused.len()
            }
            Err(EnvelopeError::NoneReadable { refused }) => refused.len(),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        prop_assert_eq!(count, sent.len());
    }

    #[test]
    fn what_a_valid_body_says_comes_out_again(envelope in valid_envelope(), alerts in vec(valid_alert(), 0..4)) {
        let message = Message { envelope, alerts, refused: Vec::new() };
        prop_assert_eq!(parse(&body(&message), RECEIVED), Ok(message));
    }

    #[test]
    fn unknown_fields_change_nothing(extra in btree_map("x_[a-z]{1,5}", any_json(), 0..4)) {
        let plain: BTreeMap<String, Value> =
            serde_json::from_slice(include_bytes!("fixtures/alertmanager-4.json")).unwrap();
        let mut more = plain.clone();
        more.extend(extra.clone());
        for alert in more.get_mut("alerts").unwrap().as_array_mut().unwrap() {
            alert.as_object_mut().unwrap().extend(extra.clone());
        }
        let read = |body| parse(&serde_json::to_vec(body).unwrap(), RECEIVED);
        prop_assert_eq!(read(&more), read(&plain));
    }

    #[test]
    fn any_alarm_is_one_alert_with_a_name_or_one_refusal(
        mut alarm in any_object(&["AWSAccountId", "AlarmArn", "StateChangeTime", "Trigger", "account", "region", "resources", "time"]),
        mut detail in any_object(&["alarmName", "state", "previousState", "configuration"]),
        (name, metrics) in (any_json(), any_json()),
        state in prop_oneof![Just(json!("OK")), Just(json!("ALARM")), Just(json!("INSUFFICIENT_DATA")), any_json()],
        is_event: bool,
    ) {
        let dimensions = json!({"Dimensions": metrics, "dimensions": metrics});
        if is_event {
            detail["configuration"] = json!({});
            detail["configuration"]["metrics"] = json!([{"metricStat": {"metric": dimensions}}, metrics]);
            detail["alarmName"] = name;
            detail["state"] = json!({"value": state});
            alarm["detail-type"] = json!("CloudWatch Alarm State Change");
            alarm["detail"] = detail;
        } else {
            alarm["Trigger"] = json!({"Dimensions": metrics, "Metrics": [{"MetricStat": {"Metric": dimensions}}, metrics]});
            alarm["AlarmName"] = name;
            alarm["NewStateValue"] = state;
        }
        match parse(&serde_json::to_vec(&alarm).unwrap(), RECEIVED) {
            Ok(message) => {
                prop_assert_eq!(message.alerts.len(), 1);
                let labels = &message.alerts[0].labels;
                prop_assert!(!labels["alertname"].is_empty() && !labels.contains_key(""));
            }
            Err(EnvelopeError::NoneReadable { refused }) => prop_assert_eq!(refused.len(), 1),
            // A field that is null is none: then it is no alarm.
            Err(EnvelopeError::NoAlerts { .. }) => prop_assert!(!is_event),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }
}
