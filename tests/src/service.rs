//! A running `sentinel up`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use sentinel_testkit::process::Child;
use serde_json::Value;

use crate::eventually;

/// A client for the loopback, with a limit for answers that never come.
pub fn client() -> Client {
    // A proxy of the environment has nothing to say about the loopback.
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build();
    client.expect("a plain HTTP client")
}

/// A running `sentinel up`. Dropping it kills it.
#[derive(Debug)]
pub struct Sentinel {
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    /// The process.
    pub child: Child,
    client: Client,
    /// The token that it wrote into its data folder for its own command line.
    token: String,
}

impl Sentinel {
    /// Starts an `up --json` and waits until it says where it listens.
    pub async fn start(command: Command) -> Self {
        let data = command.get_current_dir().unwrap_or(Path::new(".")).join(".sentinel");
        let mut child = Child::start("sentinel up", command);
        let line = child.wait_for_line(r#"{"listening":"#).await;
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?} is not JSON: {e}"));
        let url = said["listening"].as_str().expect("an address").to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        // Where it keeps its data elsewhere, nobody asks for the token.
        let token = fs::read_to_string(data.join("api-token")).unwrap_or_default();
        Self { url, child, client: client(), token }
    }

    /// Where webhooks go.
    pub fn webhook(&self) -> String {
        format!("{}/webhook/alertmanager", self.url)
    }

    /// Posts a webhook and gives the status and the answer.
    pub async fn post(&self, body: &Value) -> (StatusCode, Value) {
        self.post_bytes(body.to_string().into_bytes()).await
    }

    /// The same for a body that need not be JSON.
    pub async fn post_bytes(&self, body: Vec<u8>) -> (StatusCode, Value) {
        let request = self.client.post(self.webhook()).header("content-type", "application/json").body(body);
        let response = request.send().await.expect("an answer to the webhook");
        (response.status(), response.json().await.expect("an answer in JSON"))
    }

    /// Posts a webhook that opens one incident, and gives its id.
    pub async fn open(&self, body: &Value) -> String {
        let (status, answer) = self.post(body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["incidents"][0]["outcome"], "accepted", "{answer}");
        answer["incidents"][0]["id"].as_str().expect("an id").to_owned()
    }

    /// `GET` of a path of the API, as JSON.
    pub async fn get(&self, path: &str) -> Value {
        let text = self.text(path).await;
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path} is not JSON: {e}\n{text}"))
    }

    /// `GET` of a path of the API, as text.
    pub async fn text(&self, path: &str) -> String {
        let url = format!("{}{path}", self.url);
        let request = self.client.get(&url).bearer_auth(&self.token);
        let response = request.send().await.expect("an answer of the API");
        assert!(response.status().is_success(), "{url}: {}", response.status());
        response.text().await.expect("an answer in text")
    }

    /// All incidents, the newest first.
    pub async fn incidents(&self) -> Vec<Value> {
        match self.get("/api/incidents").await {
            Value::Array(incidents) => incidents,
            other => panic!("not a list of incidents: {other}"),
        }
    }

    /// One incident.
    pub async fn incident(&self, id: &str) -> Value {
        self.get(&format!("/api/incidents/{id}")).await
    }

    /// Waits until an incident is as `good` wants it, and gives it.
    pub async fn wait_for(&self, id: &str, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            let incident = self.incident(id).await;
            if good(&incident) { Ok(incident) } else { Err(format!("{incident:#}")) }
        })
        .await
    }

    /// Waits until an incident has ended and everybody has been told, and gives it.
    pub async fn ended(&self, id: &str) -> Value {
        self.wait_for(id, "an end", |incident| {
            let state = incident["state"].as_str().unwrap_or_default();
            let told = incident["deliveries"].as_array().is_some_and(|deliveries| {
                deliveries.iter().all(|d| d["state"] == "sent" || d["state"] == "failed")
            });
            matches!(state, "done" | "failed" | "suppressed" | "aborted") && told
        })
        .await
    }

    /// The events that were told and to whom, as `event to sink: state`, in order.
    pub fn told(incident: &Value) -> Vec<String> {
        let mut told: Vec<String> = incident["deliveries"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|d| format!("{} to {}: {}", text(&d["event"]), text(&d["sink"]), text(&d["state"])))
            .collect();
        told.sort();
        told
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
