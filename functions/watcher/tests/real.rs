//! A real Prometheus and a real Alertmanager, polled.
#![expect(clippy::unwrap_used, reason = "a test part that cannot do its work fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sentinel_config::{Watcher as Settings, WatcherKind};
use sentinel_core::UnixMs;
use sentinel_core::card::DedupeBy;
use sentinel_core::incident::State;
use sentinel_core::intake::Receipt;
use sentinel_core::ports::{Clock, IncidentStore, Ports};
use sentinel_core::redact::Redactor;
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_local::{Backend, LocalQueue};
use sentinel_testkit::PATIENCE;
use sentinel_testkit::builders::card;
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::process::{Service, alertmanager, prometheus};
use sentinel_watcher::Watcher;
use serde_json::json;

/// Far after whatever start a real server reports: it has long settled.
fn tomorrow() -> UnixMs {
    UnixMs::parse_rfc3339("2100-01-01T00:00:00Z").unwrap()
}

async fn watcher(kind: WatcherKind, endpoint: &str) -> (Watcher, Arc<dyn IncidentStore>) {
    let clock = Arc::new(ManualClock::at(tomorrow()));
    let (queue, _receiver) = LocalQueue::new(Arc::<ManualClock>::clone(&clock));
    let store = Backend::memory().await.unwrap().store();
    let fresh = AtomicUsize::new(0);
    let ports = Ports {
        store: Arc::clone(&store),
        queue: Arc::new(queue),
        clock: clock as Arc<dyn Clock>,
        fresh: Arc::new(move || format!("writer-{}", fresh.fetch_add(1, Ordering::SeqCst))),
        signing_key: None,
    };
    let settings = Settings {
        name: "real".into(),
        kind,
        endpoint: endpoint.parse().unwrap(),
        poll_interval: Duration::from_secs(15),
        timeout: Duration::from_secs(30),
        resources: vec![],
    };
    let http = Arc::new(HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"])));
    let pods = card("pods").matching("team", "web").dedupe_by(DedupeBy::Alert).wait(Duration::from_mins(1));
    (Watcher::new(settings, http, ports, [pods.build()].into(), Redactor::default()), store)
}

/// Polls until a poll brings what is waited for.
async fn poll_until(watcher: &mut Watcher, brings: impl Fn(&Receipt) -> bool) {
    let poll = async {
        while !brings(&watcher.poll().await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap();
}

async fn send(service: &Service, path: &str, body: &serde_json::Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.post(service.url(path)).json(body).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

#[tokio::test]
async fn a_rule_of_a_real_prometheus_fires_is_taken_once_and_ends() {
    // The first rule fires four seconds of every eight; the second is pending all the while.
    let rules = "groups: [{name: test, rules: [\
        {alert: Fires, expr: 'vector(time() % 8) < 4', labels: {team: web}, annotations: {value: '{{ $value }}'}},\
        {alert: Waits, expr: vector(1), for: 1h, labels: {team: web}},\
        {alert: Others, expr: vector(1), labels: {team: db}}]}]\n";
    let config = "global: {evaluation_interval: 200ms}\nrule_files: [rules.yml]\n";
    let prometheus = prometheus(config, rules).await;
    let (mut watcher, store) = watcher(WatcherKind::Prometheus, &prometheus.url("/api/v1")).await;

    poll_until(&mut watcher, |receipt| receipt.accepted == 1).await;
    let heads = store.recent(10).await.unwrap();
    assert_eq!(heads.len(), 1, "neither a pending alert nor another team's: {heads:?}");
    assert_eq!(heads[0].labels["alertname"], "Fires");
    assert!(heads[0].began.is_some(), "activeAt was read");

    poll_until(&mut watcher, |receipt| receipt.suppressed == 1).await;
    let head = store.load(&heads[0].id).await.unwrap().unwrap();
    assert_eq!((head.state, head.resolved_at), (State::Suppressed, Some(tomorrow())));
}

#[tokio::test]
async fn of_a_real_alertmanager_a_silenced_alert_is_left_alone() {
    let config = "route: {receiver: none}\nreceivers: [{name: none}]\n";
    let alertmanager = alertmanager(config).await;
    let matcher = json!([{"name": "pod", "value": "b", "isRegex": false, "isEqual": true}]);
    let silence = json!({
        "matchers": matcher, "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
        "createdBy": "test", "comment": "test",
    });
    send(&alertmanager, "/api/v2/silences", &silence).await;
    let alert = |pod: &str| json!({"labels": {"alertname": "PodDown", "team": "web", "pod": pod}});
    send(&alertmanager, "/api/v2/alerts", &json!([alert("a"), alert("b")])).await;

    let (mut watcher, store) = watcher(WatcherKind::Alertmanager, &alertmanager.base).await;
    poll_until(&mut watcher, |receipt| receipt.accepted == 1).await;
    let heads = store.recent(10).await.unwrap();
    assert_eq!(heads.iter().map(|head| head.labels["pod"].as_str()).collect::<Vec<_>>(), ["a"]);

    let mut over = alert("a");
    over["endsAt"] = "2020-01-01T00:00:01Z".into();
    over["startsAt"] = "2020-01-01T00:00:00Z".into();
    send(&alertmanager, "/api/v2/alerts", &json!([over])).await;
    poll_until(&mut watcher, |receipt| receipt.suppressed == 1).await;
}
