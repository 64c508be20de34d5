//! Requests and their answers, and what they leave in the store and the queue.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Bench, shown};
use bytes::Bytes;
use http::Response;
use insta::assert_snapshot;
use sentinel_alertmanager::MAX_BODY_BYTES;
use sentinel_aws::{Aws, CallLimits, Credentials as Keys, Secrets};
use sentinel_config::Source;
use sentinel_core::card::Card;
use sentinel_core::ports::{QueueError, StoreError};
use sentinel_ingest::{Authenticator, Credentials, Door, Rotating};
use sentinel_testkit::aws::{FakeAws, Trouble};
use sentinel_testkit::builders::card;
use sentinel_testkit::clock::ManualClock;

fn open() -> Authenticator {
    Authenticator::new(Credentials { allow_anonymous: true, ..Credentials::default() })
}

fn cards() -> Vec<Card> {
    vec![
        card("pods").matching("alertname", "PodDown").wait(Duration::from_mins(1)).build(),
        card("nodes").matching("alertname", "NodeDown").build(),
    ]
}

fn bench() -> Bench {
    Bench::new(cards(), open())
}

/// A webhook with alerts given as (name, status, endsAt).
fn webhook(alerts: &[(&str, &str)]) -> String {
    let alerts: Vec<String> = alerts
        .iter()
        .map(|(name, status)| {
            let ends = if *status == "resolved" { "2026-11-22T12:05:00Z" } else { "0001-01-01T00:00:00Z" };
            format!(
                r#"{{"status":"{status}","labels":{{"alertname":"{name}"}},"annotations":{{}},"startsAt":"2026-11-22T12:00:00Z","endsAt":"{ends}"}}"#
            )
        })
        .collect();
    format!(
        r#"{{"version":"4","status":"firing","receiver":"sentinel","groupLabels":{{}},"commonLabels":{{}},"commonAnnotations":{{}},"alerts":[{}]}}"#,
        alerts.join(",")
    )
}

fn status(response: &Response<Bytes>) -> u16 {
    response.status().as_u16()
}

#[tokio::test]
async fn two_cards_one_webhook_and_an_alert_that_nobody_takes() {
    let bench = bench();
    let answer = bench
        .post(webhook(&[
            ("PodDown", "firing"),
            ("NodeDown", "firing"),
            ("PodDown", "firing"),
            ("Disk", "firing"),
        ]))
        .await;
    assert_snapshot!(shown(&answer), @r#"
    200
    {"accepted":3,"duplicates":0,"joined":0,"resolved":0,"suppressed":0,"unmatched":1,"refused":0,"incidents":[{"id":"…","card":"nodes","outcome":"accepted"},{"id":"…","card":"pods","outcome":"accepted"}]}
    "#);
    let mut delays: Vec<_> = bench.queue.jobs.lock().unwrap().iter().map(|(_, delay)| *delay).collect();
    delays.sort();
    assert_eq!(delays, [Duration::ZERO, Duration::from_mins(1)], "a card's wait is the job's delay");
}

#[tokio::test]
async fn the_same_again_is_a_duplicate_and_its_end_before_the_wait_is_over_suppresses_it() {
    let bench = bench();
    assert_eq!(status(&bench.post(webhook(&[("PodDown", "firing")])).await), 200);
    let again = bench.post(webhook(&[("PodDown", "firing")])).await;
    assert_snapshot!(shown(&again), @r#"
    200
    {"accepted":0,"duplicates":1,"joined":0,"resolved":0,"suppressed":0,"unmatched":0,"refused":0,"incidents":[{"id":"…","card":"pods","outcome":"duplicate"}]}
    "#);
    bench.clock.advance(Duration::from_secs(30));
    let end = bench.post(webhook(&[("PodDown", "resolved")])).await;
    assert_snapshot!(shown(&end), @r#"
    200
    {"accepted":0,"duplicates":0,"joined":0,"resolved":0,"suppressed":1,"unmatched":0,"refused":0,"incidents":[{"id":"…","card":"pods","outcome":"suppressed"}]}
    "#);
}

#[tokio::test]
async fn one_broken_alert_is_refused_with_its_path_and_its_neighbour_goes_on() {
    let bench = bench();
    let answer = bench.post(r#"{"alerts":[{"labels":{"alertname":"PodDown"}},{"labels":7}]}"#).await;
    assert_snapshot!(shown(&answer), @r#"
    200
    {"accepted":1,"duplicates":0,"joined":0,"resolved":0,"suppressed":0,"unmatched":0,"refused":1,"incidents":[{"id":"…","card":"pods","outcome":"accepted"}],"refusals":[{"path":"alerts[1].labels","reason":"is a number; an object would be right"}]}
    "#);
    assert_eq!(bench.queue.jobs.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_broken_body_is_400_with_what_and_where_and_nothing_is_written() {
    let bench = bench();
    let mut answers = String::new();
    for body in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"alerts":{}}"#,
        r#"{"alerts":[{"labels":{"alertname":"PodDown"}}],"groupLabels":7}"#,
        r#"{"alerts":[7,{"labels":7}]}"#,
    ] {
        let answer = bench.post(body).await;
        assert_eq!(status(&answer), 400, "{body}");
        let _ = write!(answers, "body {body}\n{}\n\n", shown(&answer));
    }
    assert_snapshot!(answers.trim_end(), @r#"
    body 
    400
    {"error":"the body is not JSON: line 1, column 0: EOF while parsing a value"}

    body {
    400
    {"error":"the body is not JSON: line 1, column 1: EOF while parsing an object"}

    body []
    400
    {"error":"the body is an array; an object with an array `alerts` would be right"}

    body {}
    400
    {"error":"`alerts` is missing; an array of alerts would be right","path":"alerts"}

    body {"alerts":{}}
    400
    {"error":"`alerts` is an object; an array of alerts would be right","path":"alerts"}

    body {"alerts":[{"labels":{"alertname":"PodDown"}}],"groupLabels":7}
    400
    {"error":"`groupLabels` is a number; an object would be right","path":"groupLabels"}

    body {"alerts":[7,{"labels":7}]}
    400
    {"error":"none of the 2 alerts can be read; the first: `alerts[0]` is a number; an object would be right","path":"alerts","refusals":[{"path":"alerts[0]","reason":"is a number; an object would be right"},{"path":"alerts[1].labels","reason":"is a number; an object would be right"}]}
    "#);
    assert_eq!(status(&bench.post(&b"\xff"[..]).await), 400);
    assert!(bench.is_untouched());
}

#[tokio::test]
async fn an_answer_lists_a_bounded_number_of_refusals() {
    let bench = bench();
    let broken = vec!["7"; 5_000].join(",");
    let none_readable = bench.post(format!(r#"{{"alerts":[{broken}]}}"#)).await;
    assert_eq!(status(&none_readable), 400);
    assert!(none_readable.body().len() < 50_000, "{} bytes", none_readable.body().len());
    let one_readable =
        bench.post(format!(r#"{{"alerts":[{{"labels":{{"alertname":"X"}}}},{broken}]}}"#)).await;
    assert_eq!(status(&one_readable), 200);
    assert!(one_readable.body().len() < 50_000, "{} bytes", one_readable.body().len());
    assert!(std::str::from_utf8(one_readable.body()).unwrap().contains(r#""refused":5000"#));
}

#[tokio::test]
async fn the_last_byte_that_is_read_is_the_6_291_456th() {
    let bench = bench();
    let mut body = webhook(&[("PodDown", "firing")]);
    body.push_str(&" ".repeat(MAX_BODY_BYTES - body.len()));
    assert_eq!(status(&bench.post(body.clone()).await), 200);
    body.push(' ');
    let answer = bench.post(body).await;
    assert_snapshot!(shown(&answer), @r#"
    413
    {"error":"the body has 6291457 bytes; at most 6291456 are read (lower `max_alerts`, or group by more labels)"}
    "#);
}

#[tokio::test]
async fn addresses_and_methods() {
    let bench = bench();
    let mut answers = String::new();
    for (method, path) in [
        ("GET", "/healthz"),
        ("HEAD", "/healthz"),
        ("POST", "/healthz"),
        ("GET", "/webhook/alertmanager"),
        ("BREW", "/webhook/alertmanager"),
        ("GET", "/webhook/alertmanager/"),
        ("POST", "/webhook/alertmanager//"),
        ("POST", "/webhook/other"),
        ("GET", "/"),
    ] {
        let answer = bench.send(method, path, &[], "").await;
        let _ = write!(answers, "{method} {path}: {}\n\n", shown(&answer));
    }
    assert_snapshot!(answers.trim_end(), @r#"
    GET /healthz: 200
    {"status":"ok"}

    HEAD /healthz: 200
    {"status":"ok"}

    POST /healthz: 405 allow: GET, HEAD
    {"error":"this address takes another method: GET, HEAD"}

    GET /webhook/alertmanager: 405 allow: POST
    {"error":"this address takes another method: POST"}

    BREW /webhook/alertmanager: 405 allow: POST
    {"error":"this address takes another method: POST"}

    GET /webhook/alertmanager/: 405 allow: POST
    {"error":"this address takes another method: POST"}

    POST /webhook/alertmanager//: 404
    {"error":"nothing is here; webhooks go to POST /webhook/alertmanager"}

    POST /webhook/other: 404
    {"error":"nothing is here; webhooks go to POST /webhook/alertmanager"}

    GET /: 404
    {"error":"nothing is here; webhooks go to POST /webhook/alertmanager"}
    "#);
    assert!(bench.is_untouched());
    let with_query = bench.send("POST", "/webhook/alertmanager?x=1", &[], webhook(&[])).await;
    assert_eq!(status(&with_query), 200, "a query changes nothing");
    for path in ["/webhook/alertmanager/", "/webhook/alertmanager/?x=1"] {
        assert_eq!(status(&bench.send("POST", path, &[], webhook(&[])).await), 200, "{path}");
    }
    assert_eq!(status(&bench.send("GET", "/healthz/", &[], "").await), 200);
}

#[tokio::test]
async fn a_body_of_any_type_but_a_form_or_an_archive_is_tried_as_json() {
    let bench = bench();
    for (name, value, want) in [
        ("content-type", "application/json", 200),
        ("Content-Type", "Application/JSON; charset=utf-8", 200),
        ("content-type", "application/vnd.custom+json", 200),
        ("content-type", "text/plain", 200),
        ("x-other", "y", 200),
        ("content-type", "multipart/form-data; boundary=x", 415),
        ("content-type", "Application/X-WWW-Form-Urlencoded", 415),
        ("content-encoding", "identity", 200),
        ("content-encoding", "", 200),
        ("Content-Encoding", "gzip", 415),
        ("content-encoding", "identity, br", 415),
    ] {
        let answer = bench.send("POST", "/webhook/alertmanager", &[(name, value)], webhook(&[])).await;
        assert_eq!(status(&answer), want, "{name}: {value}");
    }
    let answer = bench.send("POST", "/webhook/alertmanager", &[("content-encoding", "gzip")], "").await;
    assert_snapshot!(shown(&answer), @r#"
    415 accept-encoding: identity
    {"error":"a compressed body is not read; send it without Content-Encoding"}
    "#);
    let answer =
        bench.send("POST", "/webhook/alertmanager", &[("content-type", "multipart/mixed")], "").await;
    assert_snapshot!(shown(&answer), @r#"
    415
    {"error":"a form is not read; send JSON with Content-Type: application/json"}
    "#);
    assert!(bench.is_untouched());
}

#[tokio::test]
async fn whatever_fails_in_the_store_is_503_so_that_the_sender_comes_again() {
    let errors: [fn() -> StoreError; 3] = [
        || StoreError::Unavailable("time-out".into()),
        || StoreError::Refused { action: "PutItem on sentinel".into(), reason: "no such table".into() },
        || StoreError::Unreadable { item: "I#1".into(), reason: "written by a newer version".into() },
    ];
    let mut answers = std::collections::BTreeSet::new();
    for error in errors {
        let bench = bench();
        *bench.store.fails.lock().unwrap() = Some(error);
        let answer = bench.post(webhook(&[("PodDown", "firing"), ("NodeDown", "firing")])).await;
        answers.insert(shown(&answer));
        *bench.store.fails.lock().unwrap() = None;
        let again = bench.post(webhook(&[("PodDown", "firing"), ("NodeDown", "firing")])).await;
        assert_eq!(status(&again), 200);
        assert_eq!(bench.store.heads.lock().unwrap().len(), 2);
    }
    let answers: Vec<String> = answers.into_iter().collect();
    assert_snapshot!(answers.join("\n\n"), @r#"
    503 retry-after: 5
    {"error":"not everything could be stored; send the same again, what is stored is not opened twice"}
    "#);
}

#[tokio::test]
async fn a_queue_that_does_not_take_the_job_is_503_and_the_retry_sends_it() {
    let errors: [fn() -> QueueError; 2] = [
        || QueueError::Unavailable("time-out".into()),
        || QueueError::Refused { action: "SendMessage to jobs".into(), reason: "no such queue".into() },
    ];
    for error in errors {
        let bench = bench();
        *bench.queue.fails.lock().unwrap() = Some(error);
        let answer = bench.post(webhook(&[("PodDown", "firing")])).await;
        assert_eq!((status(&answer), &answer.headers()["retry-after"]), (503, &"5".parse().unwrap()));
        *bench.queue.fails.lock().unwrap() = None;
        let again = bench.post(webhook(&[("PodDown", "firing")])).await;
        assert_eq!(status(&again), 200);
        assert_eq!(bench.queue.jobs.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn without_credentials_a_webhook_is_401_whatever_it_holds_and_nothing_is_written() {
    let auth = Authenticator::new(Credentials { bearer: vec!["token-1".into()], ..Credentials::default() });
    let bench = Bench::new(cards(), auth);
    let answer = bench.post(webhook(&[("PodDown", "firing")])).await;
    assert_snapshot!(shown(&answer), @r#"
    401 www-authenticate: Bearer realm="sentinel"
    {"error":"valid credentials are needed"}
    "#);
    assert_eq!(status(&bench.post("{").await), 401, "a stranger learns nothing about the body");
    assert_eq!(status(&bench.post(vec![b' '; MAX_BODY_BYTES + 1]).await), 401);
    assert!(bench.is_untouched());
    assert_eq!(status(&bench.send("GET", "/healthz", &[], "").await), 200, "liveness needs none");
    let headers = [("AUTHORIZATION", "bearer token-1")];
    let answer =
        bench.send("POST", "/webhook/alertmanager", &headers, webhook(&[("PodDown", "firing")])).await;
    assert_eq!(status(&answer), 200);
}

#[tokio::test]
async fn where_nobody_needs_credentials_a_web_page_is_turned_away() {
    let bench = bench();
    let page = [("origin", "https://evil.example")];
    let body = webhook(&[("PodDown", "firing")]);
    let answer = bench.send("POST", "/webhook/alertmanager", &page, body.clone()).await;
    assert_snapshot!(shown(&answer), @r#"
    403
    {"error":"webhooks without credentials are for programs, not for web pages"}
    "#);
    assert!(bench.is_untouched());

    let auth = Authenticator::new(Credentials { bearer: vec!["token-1".into()], ..Credentials::default() });
    let bench = Bench::new(cards(), auth);
    let known = [("origin", "https://am.example"), ("authorization", "Bearer token-1")];
    let answer = bench.send("POST", "/webhook/alertmanager", &known, body).await;
    assert_eq!(status(&answer), 200, "who shows a credential may be anybody");
}

#[tokio::test]
async fn a_secret_store_that_is_down_is_503_and_never_401() {
    let aws = FakeAws::start().await;
    aws.always(Some(Trouble::Error { status: 500, code: "InternalServiceError" }));
    let keys = Keys::new("k", "s", None, None, "test");
    let limits = CallLimits { attempts: 1, ..CallLimits::EMBEDDED };
    let client = Aws::at_endpoint(&aws.url(), "us-east-1", keys, limits).secrets();
    let secrets = Secrets::new(client, Arc::new(ManualClock::default()), ["token".to_owned()].into());
    let text = "ingest: {bearer: ['${secret:token}']}".to_owned();
    let source = Source { name: "config.yaml".into(), text, base_dir: None };
    let door = Door::Rotating(Arc::new(Rotating::new(source, BTreeMap::new(), secrets, false)));
    let bench = Bench::new(cards(), door);
    let answer = bench.post(webhook(&[("PodDown", "firing")])).await;
    assert_snapshot!(shown(&answer), @r#"
    503 retry-after: 5
    {"error":"credentials cannot be checked now; send the same again"}
    "#);
    assert!(bench.is_untouched());
    assert_eq!(status(&bench.send("GET", "/healthz", &[], "").await), 200);
}

#[tokio::test]
async fn a_credential_of_the_secret_store_that_stands_in_an_alert_is_not_stored() {
    let aws = FakeAws::start().await;
    aws.put_secret("token", "correct horse battery");
    let keys = Keys::new("k", "s", None, None, "test");
    let client = Aws::at_endpoint(&aws.url(), "us-east-1", keys, CallLimits::EMBEDDED).secrets();
    let clock = Arc::new(ManualClock::default());
    let secrets = Secrets::new(client, clock.clone(), ["token".to_owned()].into());
    let text = "ingest: {bearer: ['${secret:token}']}".to_owned();
    let source = Source { name: "config.yaml".into(), text, base_dir: None };
    let door = Door::Rotating(Arc::new(Rotating::new(source, BTreeMap::new(), secrets, false)));
    let bench = Bench::new(cards(), door);
    // Rotated between two webhooks: each is redacted with what was read for it.
    for (token, pod) in [("correct horse battery", "one"), ("staple of the day", "two")] {
        aws.put_secret("token", token);
        clock.advance(Duration::from_mins(6));
        let body = format!(
            r#"{{"alerts": [{{"labels": {{"alertname": "PodDown", "pod": "{pod}"}}, "status": "firing",
                "annotations": {{"summary": "posted with {token} by cron"}}}}]}}"#
        );
        let shown = [("authorization", &*format!("Bearer {token}"))];
        assert_eq!(status(&bench.send("POST", "/webhook/alertmanager", &shown, body).await), 200);
        let stored = format!("{:?}", bench.store.children.lock().unwrap());
        assert!(stored.contains("by cron") && !stored.contains(token), "{stored}");
    }
    // Secrets that are used on because their store is silent are counted, for the alarm.
    let stale = |lines: Vec<serde_json::Value>| lines.contains(&serde_json::json!({"SecretsStale": 1}));
    assert!(!stale(bench.lines.taken()));
    aws.always(Some(Trouble::Error { status: 500, code: "InternalServiceError" }));
    clock.advance(Duration::from_mins(6));
    let shown = [("authorization", "Bearer staple of the day")];
    assert_eq!(status(&bench.send("POST", "/webhook/alertmanager", &shown, webhook(&[])).await), 200);
    assert!(stale(bench.lines.taken()));
}

#[tokio::test]
async fn the_answer_can_be_awaited_on_any_thread() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let bench = bench();
    assert_eq!(status(&is_send(bench.post(webhook(&[]))).await), 200);
}
