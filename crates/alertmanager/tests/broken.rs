//! What is broken: whole bodies, and single alerts among readable ones.
#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail it")]

use sentinel_alertmanager::{EnvelopeError, MAX_ALERTS, MAX_BODY_BYTES, MAX_DEPTH, parse};
use sentinel_core::UnixMs;
use sentinel_core::alert::AlertStatus;
use sentinel_core::notification::Message;

const RECEIVED: UnixMs = UnixMs::new(1_795_176_000_000);

fn error(body: &[u8]) -> EnvelopeError {
    parse(body, RECEIVED).unwrap_err()
}

fn message(body: &str) -> Message {
    parse(body.as_bytes(), RECEIVED).unwrap_or_else(|e| panic!("{body}: {e}"))
}

#[test]
fn a_broken_envelope_says_where_and_what_would_be_right() {
    let deep = format!(r#"{{"alerts":[{{"labels":{}1{}}}]}}"#, r#"{"a":"#.repeat(200), "}".repeat(200));
    let table: &[(&[u8], &str)] = &[
        (b"", "the body is not JSON: line 1, column 0: EOF while parsing a value"),
        (b"alerts=1", "the body is not JSON: line 1, column 1: expected value"),
        (
            b"{\"alerts\": [\n  {\"labels\": {\"a\": \"b\"}},\n  {\"labels\": {\"a\": b}}\n]}",
            "the body is not JSON: line 3, column 20, in `alerts[1].labels.a`: expected value",
        ),
        (
            b"{\"alerts\": [{\"labels\": {\"a\": \"b\"",
            "the body is not JSON: line 1, column 32, in `alerts[0].labels.a`: EOF while parsing an object",
        ),
        (b"{\"alerts\": []} x", "the body is not JSON: line 1, column 16: trailing characters"),
        (
            b"{\"alerts\": [\"caf\xe9\"]}",
            "the body is not UTF-8: byte 16 cannot be read; JSON in UTF-8 would be right",
        ),
        (b" [1]", "the body is an array; an object with an array `alerts` would be right"),
        (b"\"x\"", "the body is a text; an object with an array `alerts` would be right"),
        (b"null", "the body is null; an object with an array `alerts` would be right"),
        (b"{}", "`alerts` is missing; an array of alerts would be right"),
        (b"{\"alerts\": null}", "`alerts` is missing; an array of alerts would be right"),
        (b"{\"alerts\": {\"labels\": {}}}", "`alerts` is an object; an array of alerts would be right"),
        (b"{\"alerts\": \"many\"}", "`alerts` is a text; an array of alerts would be right"),
        (
            deep.as_bytes(),
            "the body is nested too deep, in `alerts[0].labels.a.a.a.a.a…`: at most 64 arrays and objects within each \
             other are read",
        ),
        (
            b"{\"groupLabels\": \"map[a:b]\", \"alerts\": [{\"labels\": {}}]}",
            "`groupLabels` is a text; an object would be right",
        ),
        (
            b"{\"groupLabels\": {\"a\": [1]}, \"alerts\": [{\"labels\": {}}]}",
            "`groupLabels.a` is an array; a text would be right",
        ),
        (
            b"{\"groupLabels\": {\"\": \"a\"}, \"alerts\": [{\"labels\": {}}]}",
            "`groupLabels[\"\"]` has no name; a label without its name says nothing: leave it out",
        ),
        (
            b"{\"alerts\": [{\"labels\": 1}, 2]}",
            "none of the 2 alerts can be read; the first: `alerts[0].labels` is a number; an object would be right",
        ),
        (
            b"{\"AlarmName\": \"\", \"NewStateValue\": \"ALARM\"}",
            "none of the 1 alerts can be read; the first: `AlarmName` is missing; the alarm's name would be right",
        ),
        (
            b"{\"AlarmName\": \"a\", \"NewStateValue\": \"alarm\"}",
            "none of the 1 alerts can be read; the first: `NewStateValue` is \"alarm\"; `OK`, `ALARM` or `INSUFFICIENT_DATA` \
             would be right",
        ),
        (
            b"{\"detail-type\": \"EC2 Instance State-change Notification\", \"detail\": {}}",
            "none of the 1 alerts can be read; the first: `detail-type` is \"EC2 Instance State-change Notification\"; \
             `CloudWatch Alarm State Change` would be right",
        ),
        (
            b"{\"detail-type\": \"CloudWatch Alarm State Change\", \"detail\": {\"alarmName\": \"a\", \"state\": []}}",
            "none of the 1 alerts can be read; the first: `detail.state` is an array; an object would be right",
        ),
    ];
    for (body, expected) in table {
        let error = error(body);
        assert_eq!(error.to_string(), *expected, "{}", String::from_utf8_lossy(body));
        assert_eq!(error.status(), 400, "{error}");
    }
}

#[test]
fn the_largest_body_is_read_and_one_byte_more_is_413() {
    let mut body = br#"{"alerts":[{"labels":{"alertname":"A"}}]}"#.to_vec();
    body.resize(MAX_BODY_BYTES, b' ');
    assert_eq!(parse(&body, RECEIVED).unwrap().alerts.len(), 1);
    body.push(b' ');
    let error = error(&body);
    assert_eq!(error, EnvelopeError::TooLarge { bytes: MAX_BODY_BYTES + 1 });
    assert_eq!(error.status(), 413);
}

#[test]
fn nesting_that_would_overflow_a_stack_is_told_clearly() {
    let body = format!(r#"{{"alerts":{}"#, "[".repeat(1_000_000));
    assert!(matches!(error(body.as_bytes()), EnvelopeError::TooDeep { .. }));
    let ignored = format!(r#"{{"alerts":[],"x":{}{}}}"#, "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    assert!(matches!(error(ignored.as_bytes()), EnvelopeError::TooDeep { .. }));
}

#[test]
fn more_alerts_than_the_bound_are_an_error_that_counts_them() {
    let body = |count: usize| format!(r#"{{"alerts":[{}{{"labels":{{}}}}]}}"#, "0,".repeat(count - 1));
    let at_bound = message(&body(MAX_ALERTS));
    assert_eq!((at_bound.alerts.len(), at_bound.refused.len()), (1, MAX_ALERTS - 1));
    assert_eq!(
        error(body(MAX_ALERTS + 2).as_bytes()),
        EnvelopeError::TooManyAlerts { count: MAX_ALERTS + 2 }
    );
}

#[test]
fn an_envelope_that_is_too_large_for_so_many_alerts_is_not_kept_with_each() {
    let body = |what: &str, size: usize, alerts: usize| {
        let alerts = vec![r#"{"labels":{}}"#; alerts].join(",");
        format!(r#"{{"{what}":{{"a":"{}"}},"alerts":[{alerts}]}}"#, "x".repeat(size))
    };
    let kept = message(&body("commonAnnotations", 1_000_000, 60));
    assert_eq!(kept.envelope.common_annotations.len(), 1);
    let dropped = message(&body("commonAnnotations", 1_000_000, 70));
    assert_eq!((dropped.alerts.len(), dropped.envelope.common_annotations.len()), (70, 0));
    assert_eq!(message(&body("groupLabels", 1_000_000, 60)).envelope.group_labels.len(), 1);
    let refused = error(body("groupLabels", 1_000_000, 70).as_bytes()).to_string();
    assert_eq!(refused, "`groupLabels` has 1000001 bytes, which is too much for 70 alerts");
}

#[test]
fn a_broken_alert_is_refused_with_its_path_and_its_neighbours_go_on() {
    let table = [
        ("7", "alerts[1]", "is a number; an object would be right"),
        ("null", "alerts[1]", "is null; an object would be right"),
        ("{}", "alerts[1].labels", "is missing; an object of texts would be right"),
        (r#"{"labels": null}"#, "alerts[1].labels", "is missing; an object of texts would be right"),
        (r#"{"labels": ["a"]}"#, "alerts[1].labels", "is an array; an object would be right"),
        (r#"{"labels": {"a b": {}}}"#, r#"alerts[1].labels["a b"]"#, "is an object; a text would be right"),
        (r#"{"labels": {"a": "\ud800"}}"#, "alerts[1].labels.a", "is no text (unexpected end of hex escape)"),
        (
            r#"{"labels": {"": "x"}}"#,
            r#"alerts[1].labels[""]"#,
            "has no name; a label without its name says nothing: leave it out",
        ),
        (
            r#"{"labels": {"\ud800": "x"}}"#,
            "alerts[1].labels",
            "has a key that is no text (unexpected end of hex escape)",
        ),
        (
            r#"{"labels": {}, "status": "pending"}"#,
            "alerts[1].status",
            r#"is "pending"; `firing` or `resolved` would be right"#,
        ),
        (r#"{"labels": {}, "status": {}}"#, "alerts[1].status", "is an object; a text would be right"),
        (
            r#"{"labels": {}, "startsAt": "yesterday"}"#,
            "alerts[1].startsAt",
            r#"is "yesterday"; a time like `2026-11-20T09:14:32Z` (RFC 3339) would be right"#,
        ),
        (
            r#"{"labels": {}, "startsAt": 1795176000}"#,
            "alerts[1].startsAt",
            r#"is "1795176000"; a time like `2026-11-20T09:14:32Z` (RFC 3339) would be right"#,
        ),
    ];
    for (alert, path, reason) in table {
        let body = format!(r#"{{"alerts":[{{"labels":{{"n":"0"}}}},{alert},{{"labels":{{"n":"2"}}}}]}}"#);
        let message = message(&body);
        let names: Vec<_> = message.alerts.iter().map(|a| a.labels["n"].as_str()).collect();
        assert_eq!(names, ["0", "2"], "{alert}");
        assert_eq!(message.refused.len(), 1, "{alert}");
        assert_eq!((message.refused[0].path.as_str(), message.refused[0].reason.as_str()), (path, reason));
    }
}

#[test]
fn annotations_of_any_shape_are_texts() {
    for (sent, read) in [
        (r#"{"a":1,"b":null,"c":true,"d":1.50e400}"#, r#"{"a":"1","c":"true","d":"1.50e400"}"#),
        (r#"{"a":{"b": [1, null]},"":"x"}"#, r#"{"":"x","a":"{\"b\": [1, null]}"}"#),
        (r#"{"a":"cut \ud83d","\ud83d":"\ud83d\ude00"}"#, r#"{"a":"cut \ufffd","\ufffd":"\ud83d\ude00"}"#),
        (r#""a text""#, r#"{"annotations":"a text"}"#),
        (r#"["a"]"#, r#"{"annotations":"[\"a\"]"}"#),
        ("7", r#"{"annotations":"7"}"#),
        ("[ ]", "{}"),
        (r#""""#, "{}"),
        ("null", "{}"),
    ] {
        let message = message(&format!(r#"{{"alerts":[{{"labels":[],"annotations":{sent}}}]}}"#));
        let read: serde_json::Value = serde_json::from_str(read).unwrap();
        assert_eq!(serde_json::to_value(&message.alerts[0].annotations).unwrap(), read, "{sent}");
    }
}

#[test]
fn what_only_informs_refuses_nothing() {
    let read = message(
        r#"{"\ud800":1,"receiver":"a\udc00","groupLabels":[],"commonLabels":7,"commonAnnotations":{"a":{}},
            "truncatedAlerts":{},"externalURL":[],
            "alerts":[{"labels":{"a":"b"},"\udbff":{},"values":[1],"generatorURL":{},"fingerprint":"\ud800"}]}"#,
    );
    assert_eq!((read.envelope.receiver.as_str(), read.envelope.truncated_alerts), ("a\u{fffd}", 0));
    assert_eq!(read.envelope.common_annotations["a"], "{}");
    assert_eq!(read.alerts[0].fingerprint.as_deref(), Some("\u{fffd}"));
    assert_eq!(read.alerts[0].generator_url, None);
}

#[test]
fn an_unreadable_time_refuses_only_a_firing_alert_and_only_its_start() {
    let alert =
        |fields: &str| message(&format!(r#"{{"alerts":[{{"labels":{{}}}},{{"labels":{{}},{fields}}}]}}"#));
    for end in ["\"0000-00-00T00:00:00\"", "7", "{}", "\"\\ud800\""] {
        let firing = alert(&format!(r#""endsAt":{end}"#));
        assert_eq!(firing.alerts[1].ends_at, None, "{end}");
        let resolved = alert(&format!(r#""status":"resolved","startsAt":{end},"endsAt":{end}"#));
        let resolved = &resolved.alerts[1];
        assert_eq!((resolved.starts_at, resolved.ends_at), (None, Some(RECEIVED)), "{end}");
        assert!(resolved.ends_at_is_receipt);
        assert_eq!(alert(&format!(r#""startsAt":{end}"#)).refused[0].path, "alerts[1].startsAt", "{end}");
    }
}

#[test]
fn times_are_read_as_templates_print_them_and_to_the_end_of_9999() {
    for (sent, read) in [
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999Z"),
        ("2026-11-20 10:00:00.25 +0000 UTC", "2026-11-20T10:00:00.25Z"),
        ("2026-11-20 12:00:00 +0200 CEST", "2026-11-20T10:00:00Z"),
        ("2026-11-20T10:00:00.123456789+0000", "2026-11-20T10:00:00.123Z"),
    ] {
        let message = message(&format!(r#"{{"alerts":[{{"labels":{{}},"startsAt":"{sent}"}}]}}"#));
        assert_eq!(message.alerts[0].starts_at.unwrap().to_string(), read, "{sent}");
    }
    let zero = message(r#"{"alerts":[{"labels":{},"startsAt":"0001-01-01 00:00:00 +0000 UTC"}]}"#);
    assert_eq!(zero.alerts[0].starts_at, None);
}

#[test]
fn an_unreadable_beginning_in_version_1_is_refused_where_it_stands() {
    let message = message(
        r#"{"version":"1","alert":[{"labels":{}},{"labels":{},"payload":{"activeSince":"long ago"}}]}"#,
    );
    assert_eq!(message.refused[0].path, "alert[1].payload.activeSince");
}

#[test]
fn an_unknown_status_of_the_notification_only_concerns_alerts_that_rely_on_it() {
    let message = message(r#"{"status":"odd","alerts":[{"labels":{},"status":"firing"},{"labels":{}}]}"#);
    assert_eq!(message.alerts.len(), 1);
    assert_eq!(message.refused[0].path, "alerts[1].status");
    assert_eq!(
        message.refused[0].reason,
        r#"is missing, and the notification's `status` is "odd"; `firing` or `resolved` would be right"#
    );
}

#[test]
fn a_status_is_the_alerts_else_the_notifications_else_firing() {
    let status = |notification: &str, alert: &str| {
        message(&format!(r#"{{{notification}"alerts":[{{{alert}"labels":{{}}}}]}}"#)).alerts[0].status
    };
    assert_eq!(status("", ""), AlertStatus::Firing);
    assert_eq!(status(r#""status":"resolved","#, ""), AlertStatus::Resolved);
    assert_eq!(status(r#""status":"resolved","#, r#""status":"firing","#), AlertStatus::Firing);
    assert_eq!(status(r#""status":"firing","#, r#""status":"RESOLVED","#), AlertStatus::Resolved);
    assert_eq!(status(r#""status":"resolved","#, r#""status":null,"#), AlertStatus::Resolved);
    assert_eq!(status(r#""status":"","#, r#""status":"","#), AlertStatus::Firing);
}

#[test]
fn a_resolved_alert_without_an_end_ended_at_receipt_and_says_so() {
    for end in
        ["", r#""endsAt":null,"#, r#""endsAt":"","#, r#""endsAt":0,"#, r#""endsAt":"0001-01-01T00:00:00Z","#]
    {
        let resolved = message(&format!(r#"{{"alerts":[{{"status":"resolved",{end}"labels":{{}}}}]}}"#));
        assert_eq!(resolved.alerts[0].ends_at, Some(RECEIVED), "{end}");
        assert!(resolved.alerts[0].ends_at_is_receipt, "{end}");
        let firing = message(&format!(r#"{{"alerts":[{{"status":"firing",{end}"labels":{{}}}}]}}"#));
        assert_eq!((firing.alerts[0].ends_at, firing.alerts[0].ends_at_is_receipt), (None, false), "{end}");
    }
    let told =
        message(r#"{"alerts":[{"status":"resolved","endsAt":"1970-01-01T00:00:01+00:00","labels":{}}]}"#);
    assert_eq!((told.alerts[0].ends_at, told.alerts[0].ends_at_is_receipt), (Some(UnixMs::new(1000)), false));
}

#[test]
fn a_zero_start_is_unknown_in_every_zone() {
    for start in ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00-14:00", ""] {
        let message = message(&format!(r#"{{"alerts":[{{"startsAt":"{start}","labels":{{}}}}]}}"#));
        assert_eq!(message.alerts[0].starts_at, None, "{start}");
    }
}

#[test]
fn a_byte_order_mark_and_doubled_keys_are_read_as_other_receivers_do() {
    let message = message("\u{feff}{\"alerts\":[1],\"alerts\":[{\"labels\":{\"a\":\"1\",\"a\":\"2\"}}]}");
    assert_eq!(message.alerts[0].labels["a"], "2");
}

#[test]
fn a_label_value_is_kept_whole_however_long() {
    let value = "x".repeat(1_000_000);
    let message = message(&format!(r#"{{"alerts":[{{"labels":{{"a":"{value}"}}}}]}}"#));
    assert_eq!(message.alerts[0].labels["a"], value);
}

#[test]
fn a_message_shows_only_the_beginning_of_what_was_sent() {
    let status = "x".repeat(1_000_000);
    let refused =
        message(&format!(r#"{{"alerts":[{{"labels":{{}}}},{{"labels":{{}},"status":"{status}"}}]}}"#));
    assert!(refused.refused[0].reason.len() < 200);
    let body = format!(r#"{{"{status}": {{"{status}": ?}}}}"#);
    assert!(error(body.as_bytes()).to_string().len() < 300);
}
