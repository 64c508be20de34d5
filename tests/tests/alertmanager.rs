//! Real Alertmanagers post to the real program.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use reqwest::{Client, StatusCode};
use sentinel_testkit::process::{Service, alertmanager};
use sentinel_tests::{Home, Sentinel, client, eventually};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const TOKEN: &str = "a-token-of-one-alertmanager";

const CONFIG: &str = r#"
ingest: {bearer: ["${SENTINEL_TOKEN}"]}
resources: [{name: pods, filters: {alertname: PodDown}}]
incident-cards:
  - {name: pods, resource: pods, prompt: "Find out why.", dedupe-by: group}
"#;

/// One webhook and its answer.
#[derive(Clone, Debug)]
struct Exchange {
    request: Value,
    status: u16,
    answer: Value,
}

/// Stands between an Alertmanager and Sentinel, hands everything on and keeps it.
struct Recorder {
    url: String,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Passing {
    to: String,
    client: Client,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl Recorder {
    async fn before(up: &Sentinel) -> Self {
        let exchanges = Arc::new(Mutex::new(Vec::new()));
        let passing = Passing { to: up.webhook(), client: client(), exchanges: Arc::clone(&exchanges) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new().fallback(pass).with_state(passing);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, exchanges, server }
    }

    fn all(&self) -> Vec<Exchange> {
        self.exchanges.lock().unwrap().clone()
    }

    /// The first exchange from place `from` on that is `good`.
    async fn wait_for(&self, what: &str, from: usize, good: impl Fn(&Exchange) -> bool) -> Exchange {
        eventually(what, async || {
            let all = self.all();
            all.iter().skip(from).find(|e| good(e)).cloned().ok_or_else(|| format!("{all:#?}"))
        })
        .await
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(State(passing): State<Passing>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let mut request = passing.client.post(&passing.to).body(body.clone());
    for name in ["content-type", "authorization"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let response = request.send().await.expect("Sentinel answers");
    let status = response.status();
    let answer = response.bytes().await.expect("a whole answer");
    passing.exchanges.lock().unwrap().push(Exchange {
        request: serde_json::from_slice(&body).unwrap_or_default(),
        status: status.as_u16(),
        answer: serde_json::from_slice(&answer).unwrap_or_default(),
    });
    Response::builder().status(status).header("content-type", "application/json").body(answer.into()).unwrap()
}

/// An Alertmanager that groups by name and namespace and repeats what it has said each second.
async fn sender(to: &Recorder, token: &str) -> Service {
    alertmanager(&format!(
        "route: {{receiver: sentinel, group_by: [alertname, namespace], group_wait: 2s, group_interval: 1s, \
         repeat_interval: 1s}}\n\
         receivers:\n\
         - name: sentinel\n\
         \x20 webhook_configs:\n\
         \x20 - {{url: '{}', send_resolved: true, http_config: {{authorization: {{credentials: {token}}}}}}}\n",
        to.url
    ))
    .await
}

/// The machine's time, as Prometheus would write it.
#[expect(clippy::disallowed_methods, reason = "a real Alertmanager lives by the machine's clock")]
fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// Two pods of one namespace; with `ends_at` they have resolved.
async fn fire(at: &Service, starts_at: &str, ends_at: Option<&str>) {
    let pod = |name: &str| {
        let mut alert = json!({
            "labels": {"alertname": "PodDown", "namespace": "web", "pod": name},
            "annotations": {"summary": "A pod is down."},
            "startsAt": starts_at,
        });
        if let Some(at) = ends_at {
            alert["endsAt"] = json!(at);
        }
        alert
    };
    let request = client().post(at.url("/api/v2/alerts")).json(&[pod("web-1"), pod("web-2")]);
    let response = request.send().await.unwrap();
    assert!(response.status().is_success(), "{}", response.text().await.unwrap());
}

/// Every alert is in exactly one count.
fn counts_are_whole(exchange: &Exchange) {
    let counts = ["accepted", "joined", "duplicates", "resolved", "suppressed", "unmatched", "refused"];
    let sum: u64 = counts.iter().map(|name| exchange.answer[name].as_u64().unwrap()).sum();
    assert_eq!(sum, exchange.request["alerts"].as_array().unwrap().len() as u64, "{exchange:#?}");
}

#[tokio::test]
async fn a_group_of_two_alertmanagers_is_one_incident_and_its_resolve_is_recorded() {
    let home = Home::with(CONFIG).env("SENTINEL_TOKEN", TOKEN);
    let mut up = home.up().await;
    let (first, second) = (Recorder::before(&up).await, Recorder::before(&up).await);
    let (one, two) = (sender(&first, TOKEN).await, sender(&second, TOKEN).await);

    // Both tell the group. One of them opens an incident with both alerts; the other's copy is a duplicate.
    let starts_at = now();
    fire(&one, &starts_at, None).await;
    fire(&two, &starts_at, None).await;
    let told =
        [first.wait_for("the group", 0, |_| true).await, second.wait_for("its copy", 0, |_| true).await];
    assert!(
        told.iter().all(|e| e.status == 200 && e.request["alerts"].as_array().unwrap().len() == 2),
        "{told:#?}"
    );
    assert_ne!(told[0].request["externalURL"], told[1].request["externalURL"]);
    let mut became =
        told.each_ref().map(|e| (e.answer["accepted"].as_u64(), e.answer["duplicates"].as_u64()));
    became.sort_unstable();
    assert_eq!(became, [(Some(0), Some(2)), (Some(2), Some(0))], "{told:#?}");
    let id = told[0].answer["incidents"][0]["id"].as_str().unwrap().to_owned();
    let done = up.ended(&id).await;
    assert_eq!((&done["state"], &done["card"]), (&json!("done"), &json!("pods")), "{done:#}");
    assert_eq!(Sentinel::told(&done), ["findings to log: sent"]);
    assert_eq!(done["labels"], json!({"alertname": "PodDown", "namespace": "web"}));

    // They repeat themselves.
    for recorder in [&first, &second] {
        let repeated = recorder.wait_for("a repeat", 1, |_| true).await;
        assert_eq!((repeated.status, &repeated.answer["duplicates"]), (200, &json!(2)), "{repeated:#?}");
        assert_eq!(repeated.answer["incidents"][0]["id"], id.as_str());
    }

    // Both see it resolve, one after the other.
    let ends_at = now();
    for (sender, recorder) in [(&one, &first), (&two, &second)] {
        fire(sender, &starts_at, Some(&ends_at)).await;
        let resolved = recorder.wait_for("the resolve", 0, |e| e.request["status"] == "resolved").await;
        assert_eq!(resolved.status, 200, "{resolved:#?}");
    }
    drop((one, two));
    let resolved = up.incident(&id).await;
    // The incident knows milliseconds.
    assert_eq!(resolved["resolved_at"].as_str().unwrap()[..19], ends_at[..19], "{resolved:#}");

    // What is still to be told survives a restart, which looks for it at once and not at the next minute.
    up.child.terminate();
    assert!(up.child.wait_for_exit().await.success());
    let up = home.up().await;
    let told = up.ended(&id).await;
    // Where the second one said once more that it fires, after the first one's resolve, that was told, too.
    let ends: Vec<_> =
        Sentinel::told(&told).into_iter().filter(|told| !told.starts_with("updated")).collect();
    assert_eq!(ends, ["findings to log: sent", "resolved to log: sent"]);
    assert_eq!((&told["gen"], &told["attempts"]), (&done["gen"], &json!(1)), "{told:#}");

    assert_eq!(up.incidents().await.len(), 1);
    let all: Vec<Exchange> = [first.all(), second.all()].concat();
    assert!(all.iter().any(|e| e.answer["resolved"] == 2), "{all:#?}");
    assert_eq!(all.iter().filter(|e| e.answer["accepted"] != 0).count(), 1, "{all:#?}");
    all.iter().for_each(counts_are_whole);
}

#[tokio::test]
async fn an_alertmanager_with_a_wrong_token_stores_nothing() {
    let home = Home::with(CONFIG).env("SENTINEL_TOKEN", TOKEN);
    let up = home.up().await;
    let recorder = Recorder::before(&up).await;
    let stranger = sender(&recorder, "another-token").await;
    fire(&stranger, &now(), None).await;
    let refused = recorder.wait_for("the webhook", 0, |_| true).await;
    assert_eq!(refused.status, 401, "{refused:#?}");
    let (status, answer) = up.post(&refused.request).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "no token at all: {answer}");
    assert_eq!(up.incidents().await, Vec::<Value>::new());
}
