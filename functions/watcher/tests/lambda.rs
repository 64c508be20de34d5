//! The real binary under a simulated Lambda, with a `DynamoDB` in memory and a fake SQS: what it told in one invocation it
//! knows in the next, of another process too.
#![expect(clippy::unwrap_used, reason = "a test part that cannot do its work fails the test")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use sentinel_aws::{Aws, CallLimits, Credentials, DynamoStore, create_table};
use sentinel_core::ports::IncidentStore as _;
use sentinel_testkit::aws::{FakeAws, dynamo};
use sentinel_testkit::lambda::{Function, Outcome};
use serde_json::{Value, json};

const LEFT: Duration = Duration::from_mins(1);

/// The alerts of the fake Prometheus; `None`: it fails.
type Alerts = Arc<Mutex<Option<Value>>>;

async fn answer(State(alerts): State<Alerts>, uri: Uri) -> Response {
    let alerts = alerts.lock().unwrap().clone();
    match alerts {
        Some(alerts) if uri.path().ends_with("/alerts") => {
            Json(json!({"status": "success", "data": {"alerts": alerts}})).into_response()
        }
        Some(_) => StatusCode::NOT_FOUND.into_response(),
        None => StatusCode::BAD_GATEWAY.into_response(),
    }
}

#[tokio::test]
async fn each_invocation_polls_and_knows_what_the_one_before_told_even_after_a_cold_start() {
    let alerts: Alerts = Arc::new(Mutex::new(Some(json!([
        {"labels": {"alertname": "PodDown"}, "state": "firing", "activeAt": "2026-11-22T12:00:00Z", "value": "1"},
        {"labels": {"alertname": "Waits"}, "state": "pending"},
    ]))));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::clone(&alerts));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let (aws, dynamo) = (FakeAws::start().await, dynamo().await);
    let keys = Credentials::new("test", "test", None, None, "test");
    let client = Aws::at_endpoint(&dynamo, "us-east-1", keys, CallLimits::EMBEDDED).dynamo();
    create_table(&client, "incidents").await.unwrap();
    let store = DynamoStore::new(client, "incidents");

    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "network: {{allow-insecure-hosts: [127.0.0.1], allow-private-hosts: [127.0.0.1]}}\n\
         incident-cards: [{{name: pods, resource: PodDown, prompt: look, wait: 10m}}]\n\
         watchers: [{{endpoint: '{endpoint}'}}]\n"
    );
    std::fs::create_dir(folder.path().join("infra")).unwrap();
    std::fs::write(folder.path().join("infra/aws.yaml"), config).unwrap();
    let (url, queue_url) = (aws.url(), aws.queue_url());
    let env = [
        ("SENTINEL_TABLE", "incidents"),
        ("SENTINEL_QUEUE_URL", &*queue_url),
        ("AWS_ENDPOINT_URL", &*url),
        ("AWS_ENDPOINT_URL_DYNAMODB", &*dynamo),
    ];
    let program = Path::new(env!("CARGO_BIN_EXE_sentinel-watcher"));
    let function = Function::start(program, folder.path(), &env).await;
    let state = async || -> Vec<String> {
        store.recent(10).await.unwrap().iter().map(|head| head.state.to_string()).collect()
    };

    assert_eq!(
        function.invoke(json!({}), LEFT).await,
        Outcome::Response(Value::Null),
        "{}",
        function.output()
    );
    assert_eq!(state().await, ["pending"]);
    assert_eq!(aws.messages().len(), 1);
    let output = function.output();
    assert!(output.contains(r#""AlertsAccepted":1"#), "{output}");
    assert!(
        output.lines().any(|l| l.contains("alerts taken") && l.contains(r#""request_id":"request-1""#)),
        "{output}"
    );

    *alerts.lock().unwrap() = None;
    let failed = function.invoke(json!({}), LEFT).await;
    let Outcome::Error(error) = failed else { panic!("{failed:?}") };
    assert!(error.to_string().contains("the server answers with status 502"), "{error}");
    assert_eq!(state().await, ["pending"], "a poll that fails resolves nothing");

    // A cold start: another process, which knows only what the store does.
    drop(function);
    let function = Function::start(program, folder.path(), &env).await;
    *alerts.lock().unwrap() = Some(json!([]));
    assert_eq!(
        function.invoke(json!({}), LEFT).await,
        Outcome::Response(Value::Null),
        "{}",
        function.output()
    );
    assert_eq!(state().await, ["suppressed"], "it was over before anything was spent");
}
