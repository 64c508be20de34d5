//! `watchers`: polled by `up`, shown by `validate`.

#![expect(clippy::unwrap_used, reason = "a failing test panics")]

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::Uri;
use axum::routing::get;
use axum::{Json, Router};
use sentinel_tests::{Home, eventually};
use serde_json::{Value, json};

type Alerts = Arc<Mutex<Vec<Value>>>;

/// A Prometheus whose firing alerts are these.
async fn prometheus(alerts: &Alerts) -> String {
    async fn answer(State(alerts): State<Alerts>, uri: Uri) -> Json<Value> {
        if uri.path().ends_with("/alerts") {
            let alerts = alerts.lock().unwrap().clone();
            Json(json!({"status": "success", "data": {"alerts": alerts}}))
        } else {
            Json(json!({"status": "success", "data": {"startTime": "2020-01-01T00:00:00Z"}}))
        }
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/api/v1", listener.local_addr().unwrap());
    let router = Router::new().route("/api/v1/{*path}", get(answer)).with_state(Arc::clone(alerts));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn config(endpoint: &str) -> String {
    format!(
        "network: {{allow-insecure-hosts: [127.0.0.1], allow-private-hosts: [127.0.0.1]}}\n\
         resources: [{{name: pods, filters: {{alertname: PodDown}}}}]\n\
         incident-cards: [{{name: pods, resource: pods, prompt: look}}]\n\
         watchers: [{{type: prometheus, name: main, endpoint: '{endpoint}', poll-interval: 200ms, resources: [pods]}}]\n"
    )
}

#[tokio::test]
async fn up_polls_a_watcher_investigates_what_fires_and_tells_its_end() {
    let firing = json!({
        "labels": {"alertname": "PodDown", "pod": "a"}, "annotations": {}, "state": "firing",
        "activeAt": "2026-11-22T12:00:00Z", "value": "1e+00",
    });
    let pending = json!({"labels": {"alertname": "PodDown", "pod": "b"}, "state": "pending"});
    let alerts: Alerts = Arc::new(Mutex::new(vec![firing, pending]));
    let home = Home::with(&config(&prometheus(&alerts).await));
    let up = home.up().await;

    let id = eventually("an incident of the polled alert", async || {
        let incidents = up.incidents().await;
        incidents.first().map(|i| i["id"].as_str().unwrap().to_owned()).ok_or_else(|| "none".to_owned())
    })
    .await;
    let incident = up.ended(&id).await;
    assert_eq!((&incident["state"], &incident["card"]), (&json!("done"), &json!("pods")), "{incident:#}");
    assert_eq!(up.incidents().await.len(), 1, "later polls are duplicates");

    alerts.lock().unwrap().remove(0);
    up.wait_for(&id, "the end of the alert told", |incident| {
        let deliveries = incident["deliveries"].as_array().unwrap();
        deliveries.iter().any(|d| d["event"] == "resolved" && d["state"] == "sent")
    })
    .await;
}

#[test]
fn validate_says_how_often_a_watcher_polls_here_and_on_lambda() {
    let home = Home::with(&config("http://127.0.0.1:9090/api/v1"));
    let validated = home.run(&["validate", "--json"], 0).json();
    assert_eq!(
        validated["watchers"],
        json!([{
            "name": "main", "type": "prometheus", "host": "127.0.0.1:9090", "resources": ["pods"],
            "poll_interval_seconds": 0.2, "poll_interval_seconds_on_lambda": 60.0,
        }])
    );
    let shown = home.run(&["validate"], 0).stdout;
    assert!(shown.contains("on Lambda   every 60 s"), "{shown}");
}
