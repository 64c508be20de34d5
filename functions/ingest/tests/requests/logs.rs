//! What a webhook leaves in the log, and what never gets there.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use crate::support::Bench;
use sentinel_core::ports::StoreError;
use sentinel_ingest::{Authenticator, Credentials};
use sentinel_telemetry::{LogSettings, RedactingWriter};
use sentinel_testkit::builders::card;

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs of this thread: the lines without their times.
struct Logs {
    kept: Kept,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Logs {
    fn keep() -> Self {
        let kept = Kept::default();
        let out = kept.clone();
        let writer = RedactingWriter::new(move || out.clone(), Arc::new(|line| Cow::Borrowed(line)));
        let subscriber = sentinel_telemetry::subscriber(&LogSettings::default(), writer).unwrap();
        Self { kept, _guard: tracing::subscriber::set_default(subscriber) }
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.kept.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.trim_start().to_owned()).collect()
    }
}

fn bench() -> Bench {
    let auth =
        Authenticator::new(Credentials { bearer: vec!["right-token".into()], ..Credentials::default() });
    Bench::new(vec![card("pods").matching("alertname", "PodDown").build()], auth)
}

async fn post(bench: &Bench, token: &str, body: &str) -> u16 {
    let headers = [("authorization", token)];
    bench.send("POST", "/webhook/alertmanager", &headers, body.to_owned()).await.status().as_u16()
}

#[tokio::test]
async fn alerts_that_nobody_takes_and_refused_ones_are_named_without_their_values() {
    let (bench, logs) = (bench(), Logs::keep());
    let body = r#"{"alerts":[
        {"labels":{"alertname":"Disk\nFull","customer":"value-1"},"annotations":{"summary":"value-2"}},
        {"labels":{"alertname":"Disk\nFull","customer":"value-3"}},
        {"labels":{"team":"value-4"}},
        {"labels":{"alertname":"PodDown","pod":"value-5"}},
        {"labels":{"alertname":"PodDown"},"startsAt":"value-6"}]}"#;
    assert_eq!(post(&bench, "Bearer right-token", body).await, 200);
    let (advanced, told): (Vec<String>, Vec<String>) =
        logs.lines().into_iter().partition(|line| line.contains("record advanced"));
    assert_eq!(advanced.len(), 1, "the record's hash is told for the one incident: {advanced:?}");
    insta::assert_snapshot!(told.join("\n"), @r#"
    WARN sentinel_ingest::unmatched: alerts that no incident card takes alertname="Disk\nFull" labels="alertname,customer" count=2
    WARN sentinel_ingest::unmatched: alerts that no incident card takes alertname="" labels="team" count=1
    WARN sentinel_ingest: alert that cannot be read path="alerts[4].startsAt"
    INFO sentinel_ingest: webhook taken accepted=1 duplicates=0 joined=0 resolved=0 suppressed=0 unmatched=3 refused=1 incidents=1
    "#);
}

#[tokio::test]
async fn a_flood_of_strange_alerts_is_a_few_lines() {
    let (bench, logs) = (bench(), Logs::keep());
    let alerts: Vec<String> =
        (0..500).map(|n| format!(r#"{{"labels":{{"alertname":"A{n}"}}}},{n}"#)).collect();
    assert_eq!(
        post(&bench, "Bearer right-token", &format!(r#"{{"alerts":[{}]}}"#, alerts.join(","))).await,
        200
    );
    assert_eq!(logs.lines().len(), 21, "ten of each kind, and the counts");
}

#[tokio::test]
async fn a_path_or_method_that_is_not_there_is_logged_with_its_path_once_a_minute() {
    let (bench, logs) = (bench(), Logs::keep());
    let ask = async |method: &str, path: &str| {
        bench.send(method, path, &[], "").await;
    };
    ask("POST", "/alertmanager?token=value-1").await;
    ask("POST", "/api/v2/alerts").await;
    for n in 0..20 {
        ask("POST", &format!("/webhook/{n:02}{}", "x".repeat(500))).await;
        ask("PUT", "/webhook/alertmanager/").await;
    }
    assert_eq!(logs.lines().len(), 2, "{:?}", logs.lines());
    bench.clock.advance(std::time::Duration::from_mins(1));
    ask("POST", "/last").await;
    let told: Vec<String> =
        logs.lines().into_iter().map(|line| line.replace(&"x".repeat(109), "…")).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    WARN sentinel_ingest::refusals: requests were refused: nothing is at their paths; webhooks go to POST /webhook/alertmanager kind="not-found" count=1 total=1 what="/alertmanager"
    WARN sentinel_ingest::refusals: requests were refused: their paths take another method kind="wrong-method" count=1 total=1 what="/webhook/alertmanager/"
    WARN sentinel_ingest::refusals: requests were refused: nothing is at their paths; webhooks go to POST /webhook/alertmanager kind="not-found" count=22 total=23 what="/api/v2/alerts, /webhook/00…, /webhook/01…, /webhook/02…, /webhook/03…"
    "#);
}

#[tokio::test]
async fn neither_bodies_nor_credentials_are_logged() {
    let (bench, logs) = (bench(), Logs::keep());
    assert_eq!(post(&bench, "Bearer wrong-token", r#"{"alerts":["value-1"]}"#).await, 401);
    assert_eq!(post(&bench, "Bearer right-token", r#"{"alerts":["value-2"]}"#).await, 400);
    assert_eq!(post(&bench, "Bearer right-token", r#"{"alerts":[{"labels":value-3"#).await, 400);
    *bench.store.fails.lock().unwrap() = Some(|| StoreError::Unavailable("time-out".into()));
    assert_eq!(
        post(&bench, "Bearer right-token", r#"{"alerts":[{"labels":{"alertname":"PodDown"}}]}"#).await,
        503
    );
    *bench.store.fails.lock().unwrap() =
        Some(|| StoreError::Refused { action: "PutItem on sentinel".into(), reason: "no such table".into() });
    assert_eq!(
        post(&bench, "Bearer right-token", r#"{"alerts":[{"labels":{"alertname":"PodDown"}}]}"#).await,
        503
    );
    insta::assert_snapshot!(logs.lines().join("\n"), @r#"
    WARN sentinel_ingest::refusals: requests without valid credentials were refused kind="unauthorized" count=1 total=1
    WARN sentinel_ingest: webhook that cannot be read status=400 bytes=22 limit=6291456 path="alerts"
    WARN sentinel_ingest: webhook that cannot be read status=400 bytes=28 limit=6291456 path="alerts[0].labels"
    WARN sentinel_ingest: webhook put off error=the store did not answer: time-out
    ERROR sentinel_ingest: webhook put off until the store or the queue is mended error=the store refused PutItem on sentinel: no such table
    "#);
}
