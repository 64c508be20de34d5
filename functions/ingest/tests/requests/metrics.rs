//! What a request counts.

use sentinel_core::ports::StoreError;
use sentinel_ingest::{Authenticator, Credentials};
use sentinel_testkit::builders::card;
use serde_json::json;

use crate::support::Bench;

fn bench() -> Bench {
    let auth = Authenticator::new(Credentials { bearer: vec!["right".into()], ..Credentials::default() });
    Bench::new(vec![card("pods").matching("alertname", "PodDown").build()], auth)
}

async fn send(bench: &Bench, method: &str, path: &str, token: &str, body: &str) -> u16 {
    let token = format!("Bearer {token}");
    bench.send(method, path, &[("authorization", &token)], body.to_owned()).await.status().as_u16()
}

#[tokio::test]
async fn a_webhook_counts_its_alerts_and_what_became_of_them() {
    let bench = bench();
    let body = r#"{"alerts":[
        {"labels":{"alertname":"PodDown"}},{"labels":{"alertname":"PodDown"}},
        {"labels":{"alertname":"Other"}},{"labels":7}]}"#;
    for (accepted, duplicates) in [(2, 0), (0, 2)] {
        assert_eq!(send(&bench, "POST", "/webhook/alertmanager", "right", body).await, 200);
        assert_eq!(
            bench.lines.taken(),
            [json!({
                "AlertsReceived": 4,
                "AlertsAccepted": accepted,
                "Duplicates": duplicates,
                "Unmatched": 1,
                "Refused": 1,
                "Webhooks": 1,
            })]
        );
    }
}

#[tokio::test]
async fn whatever_is_refused_as_a_whole_counts_once() {
    let bench = bench();
    let alert = r#"{"alerts":[{"labels":{"alertname":"PodDown"}}]}"#;
    for (method, path, token, body, status) in [
        ("POST", "/webhook/alertmanager", "wrong", alert, 401),
        ("POST", "/webhook/alertmanager", "right", "{", 400),
        ("GET", "/webhook/alertmanager", "right", "", 405),
        ("POST", "/else", "right", alert, 404),
    ] {
        assert_eq!(send(&bench, method, path, token, body).await, status);
        let by_status = json!({"RefusedWebhooks": 1, "Status": status.to_string()});
        assert_eq!(bench.lines.taken(), [json!({"Refused": 1}), by_status], "{method} {path}");
    }
}

#[tokio::test]
async fn what_is_put_off_counts_once_whatever_is_in_it_and_what_is_no_webhook_counts_nothing() {
    let bench = bench();
    assert_eq!(send(&bench, "GET", "/healthz", "wrong", "").await, 200);
    *bench.store.fails.lock().unwrap() = Some(|| StoreError::Unavailable("time-out".into()));
    let alert = r#"{"alerts":[{"labels":{"alertname":"PodDown"}}]}"#;
    assert_eq!(send(&bench, "POST", "/webhook/alertmanager", "right", alert).await, 503);
    assert_eq!(bench.lines.taken(), [json!({"WebhooksPutOff": 1})]);
}
