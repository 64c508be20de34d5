//! The real programs that `tests/setup.sh` installs, each doing the least that the end-to-end tests need of it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that cannot do its work fails the test"
)]

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use sentinel_testkit::PATIENCE;
use sentinel_testkit::process::{Service, alertmanager, mcp_everything, prometheus, prometheus_mcp};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

type Webhooks = mpsc::UnboundedSender<(HeaderMap, Value)>;

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A receiver of webhooks: its URL, and what it receives.
async fn receiver() -> (String, mpsc::UnboundedReceiver<(HeaderMap, Value)>) {
    async fn receive(State(to): State<Webhooks>, headers: HeaderMap, Json(body): Json<Value>) {
        to.send((headers, body)).unwrap();
    }
    let (sender, received) = mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", post(receive)).with_state(sender);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, received)
}

fn alertmanager_config(hook: &str) -> String {
    format!(
        "route: {{receiver: sentinel, group_by: [alertname], group_wait: 100ms, group_interval: 1s}}\n\
         receivers:\n\
         - name: sentinel\n  \
           webhook_configs:\n  \
           - {{url: '{hook}', http_config: {{authorization: {{credentials: secret-token}}}}}}\n"
    )
}

#[tokio::test]
async fn alertmanager_posts_a_grouped_alert_with_its_bearer_token() {
    let (hook, mut received) = receiver().await;
    let alertmanager = alertmanager(&alertmanager_config(&hook)).await;
    let alerts = json!([{"labels": {"alertname": "PodDown", "pod": "a"}}, {"labels": {"alertname": "PodDown", "pod": "b"}}]);
    let answer = client().post(alertmanager.url("/api/v2/alerts")).json(&alerts).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    let (headers, webhook) = timeout(PATIENCE, received.recv()).await.unwrap().unwrap();
    assert_eq!(headers["authorization"], "Bearer secret-token");
    assert_eq!(webhook["version"], "4");
    assert_eq!(webhook["groupLabels"], json!({"alertname": "PodDown"}));
    assert_eq!(webhook["alerts"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_prometheus_rule_fires_through_alertmanager() {
    let (hook, mut received) = receiver().await;
    let alertmanager = alertmanager(&alertmanager_config(&hook)).await;
    let config = format!(
        "global: {{evaluation_interval: 200ms}}\nrule_files: [rules.yml]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}\n",
        alertmanager.base.strip_prefix("http://").unwrap()
    );
    let rules = "groups: [{name: test, rules: [{alert: AlwaysOn, expr: vector(1), labels: {team: web}}]}]\n";
    let _prometheus = prometheus(&config, rules).await;
    let (_, webhook) = timeout(PATIENCE, received.recv()).await.unwrap().unwrap();
    assert_eq!(webhook["alerts"][0]["labels"]["alertname"], "AlwaysOn");
    assert_eq!(webhook["alerts"][0]["labels"]["team"], "web");
}

/// Initializes a session and makes one request in it.
async fn ask(mcp: &Service, method: &str, params: Value) -> Value {
    let send = async |session: Option<&str>, body: Value| {
        let mut request = client()
            .post(mcp.url("/mcp"))
            .header("accept", "application/json, text/event-stream")
            .json(&body);
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        request.send().await.unwrap().error_for_status().unwrap()
    };
    let hello = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"},
        },
    });
    let greeting = send(None, hello).await;
    let session = greeting.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    send(Some(&session), json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    let answer = json!({"jsonrpc": "2.0", "id": 2, "method": method, "params": params});
    // The answer to request 2 may be one event of several.
    let text = send(Some(&session), answer).await.text().await.unwrap();
    let messages = text
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l.strip_prefix("data: ").unwrap_or(l)).ok());
    messages.into_iter().find(|m| m["id"] == 2).unwrap_or_else(|| panic!("no answer in {text}"))
}

fn names(list: &Value) -> Vec<&str> {
    list["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn prometheus_mcp_server_asks_a_real_prometheus() {
    let prometheus = prometheus("{}", "").await;
    let mcp = prometheus_mcp(&prometheus.base).await;
    let list = ask(&mcp, "tools/list", json!({})).await;
    assert!(names(&list).contains(&"execute_query"), "{list}");
    let call = json!({"name": "execute_query", "arguments": {"query": "vector(42)"}});
    let answer = ask(&mcp, "tools/call", call).await;
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    assert!(answer["result"]["content"][0]["text"].as_str().unwrap().contains("42"), "{answer}");
}

#[tokio::test]
async fn server_everything_answers_on_the_loopback_only_and_shows_no_environment() {
    let mcp = mcp_everything().await;
    let list = ask(&mcp, "tools/list", json!({})).await;
    assert!(names(&list).contains(&"echo"), "{list}");
    let answer = ask(&mcp, "tools/call", json!({"name": "echo", "arguments": {"message": "hello"}})).await;
    assert_eq!(answer["result"]["content"][0]["text"], "Echo: hello");

    let port: u16 = mcp.base.rsplit(':').next().unwrap().parse().unwrap();
    // /proc/net/tcp* name each listening address in hexadecimal; state 0A is LISTEN.
    let sockets =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|f| std::fs::read_to_string(f).unwrap_or_default()).concat();
    let port = format!(":{port:04X}");
    let listening: Vec<&str> = sockets
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
            (state == "0A" && local.ends_with(&port)).then_some(local)
        })
        .collect();
    assert_eq!(listening, [format!("0100007F{port}")]);

    let environment = ask(&mcp, "tools/call", json!({"name": "get-env", "arguments": {}})).await;
    let environment: Value =
        serde_json::from_str(environment["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
    let mut shown: Vec<&str> = environment.as_object().unwrap().keys().map(String::as_str).collect();
    shown.sort_unstable();
    assert_eq!(shown, ["HOME", "PATH", "PORT"]);
}
