//! Lambda's side of a function: the Runtime API, and the events that API Gateway and SQS make.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::server::{Running, raw};

/// What a function made of an event.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// Its answer.
    Response(Value),
    /// Its error: what `/error` was posted with.
    Error(Value),
    /// The process ended before it answered.
    Gone,
}

/// A real function's binary under a simulated Lambda. Dropping it kills the process.
#[derive(Debug)]
pub struct Function {
    state: Arc<Api>,
    _server: Running,
    child: tokio::sync::Mutex<Child>,
    pid: rustix::process::Pid,
    output: Arc<Mutex<String>>,
}

#[derive(Debug, Default)]
struct Api {
    waiting: Mutex<VecDeque<Waiting>>,
    arrived: Notify,
    answers: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
    polled: Notify,
    count: Mutex<usize>,
}

#[derive(Debug)]
struct Waiting {
    id: String,
    event: Value,
    deadline_ms: u128,
}

impl Function {
    /// Starts `program` in `folder` with nothing in its environment but what Lambda sets and `env`.
    pub async fn start(program: &Path, folder: &Path, env: &[(&str, &str)]) -> Self {
        let state = Arc::new(Api::default());
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(respond))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(fail))
            .with_state(Arc::clone(&state));
        let server = Running::start(router, CancellationToken::new()).await;
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", server.address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "function")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .envs(env.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the function's binary starts");
        let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        let pid = pid.expect("a process that runs has an id");
        let output = Arc::new(Mutex::new(String::new()));
        keep(child.stdout.take().expect("a pipe"), Arc::clone(&output));
        keep(child.stderr.take().expect("a pipe"), Arc::clone(&output));
        Self { state, _server: server, child: tokio::sync::Mutex::new(child), pid, output }
    }

    /// Hands it an event, with so much time left, and waits for what it makes of it.
    pub async fn invoke(&self, event: Value, left: Duration) -> Outcome {
        let (done, outcome) = oneshot::channel();
        let id = {
            let mut count = self.state.count.lock().unwrap_or_else(PoisonError::into_inner);
            *count += 1;
            format!("request-{count}")
        };
        self.state.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), done);
        #[expect(clippy::disallowed_methods, reason = "the function's clock is the machine's")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
        let waiting = Waiting { id, event, deadline_ms: (now + left).as_millis() };
        self.state.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(waiting);
        self.state.arrived.notify_one();
        let ended = async { self.child.lock().await.wait().await };
        tokio::select! {
            outcome = outcome => outcome.expect("the simulator keeps the sender"),
            _ = ended => Outcome::Gone,
            () = tokio::time::sleep(crate::PATIENCE) => panic!("no answer; its output:\n{}", self.output()),
        }
    }

    /// Waits until it asks for its first event: its start has gone well.
    pub async fn ready(&self) {
        tokio::time::timeout(crate::PATIENCE, self.state.polled.notified())
            .await
            .unwrap_or_else(|_| panic!("it never asked for an event; its output:\n{}", self.output()));
    }

    /// Waits until the process has ended; gives its exit code and everything that it wrote.
    pub async fn ended(&self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(crate::PATIENCE, async { self.child.lock().await.wait().await })
            .await
            .unwrap_or_else(|_| panic!("it does not end; its output:\n{}", self.output()));
        // The pipes are read by tasks of their own.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        (status.expect("its status").code(), self.output())
    }

    /// What it has written to standard output and error up to now.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it as a machine that fails does.
    pub fn kill(&self) {
        rustix::process::kill_process(self.pid, rustix::process::Signal::KILL).expect("it can be killed");
    }
}

fn keep(mut pipe: impl AsyncRead + Unpin + Send + 'static, output: Arc<Mutex<String>>) {
    tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = pipe.read(&mut bytes).await {
            let text = String::from_utf8_lossy(bytes.get(..n).unwrap_or_default()).into_owned();
            output.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
        }
    });
}

async fn next(State(api): State<Arc<Api>>) -> Response {
    api.polled.notify_one();
    loop {
        let waiting = api.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(Waiting { id, event, deadline_ms }) = waiting {
            return Response::builder()
                .header("lambda-runtime-aws-request-id", id)
                .header("lambda-runtime-deadline-ms", deadline_ms.to_string())
                .header(
                    "lambda-runtime-invoked-function-arn",
                    "arn:aws:lambda:us-east-1:000000000000:function:f",
                )
                .header(
                    "lambda-runtime-trace-id",
                    "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
                )
                .body(Body::from(event.to_string()))
                .expect("headers that are text");
        }
        api.arrived.notified().await;
    }
}

async fn respond(State(api): State<Arc<Api>>, UrlPath(id): UrlPath<String>, body: Bytes) -> Response {
    api.answer(&id, Outcome::Response(parsed(&body)))
}

async fn fail(State(api): State<Arc<Api>>, UrlPath(id): UrlPath<String>, body: Bytes) -> Response {
    api.answer(&id, Outcome::Error(parsed(&body)))
}

fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

impl Api {
    fn answer(&self, id: &str, outcome: Outcome) -> Response {
        if let Some(waiting) = self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
            // Whoever asked may have stopped waiting.
            let _ = waiting.send(outcome);
        }
        raw(StatusCode::ACCEPTED, "application/json", r#"{"status":"OK"}"#)
    }
}

/// An HTTP API's event, payload version 2, of a stage (`$default` for none in the path).
pub fn http_event(stage: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Value {
    let raw_path = if stage == "$default" { path.to_owned() } else { format!("/{stage}{path}") };
    let mut all = serde_json::Map::new();
    all.insert("host".into(), "abc.execute-api.us-east-1.amazonaws.com".into());
    for (name, value) in headers {
        all.insert((*name).to_owned(), (*value).into());
    }
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": raw_path, "rawQueryString": "", "headers": all,
        "requestContext": {
            "accountId": "000000000000", "apiId": "abc", "domainName": "abc.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "abc", "requestId": "r", "routeKey": "$default", "stage": stage,
            "time": "22/Nov/2026:12:00:00 +0000", "timeEpoch": 1_795_348_800_000_i64,
            "http": {"method": method, "path": raw_path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "Alertmanager"}
        },
        "body": body, "isBase64Encoded": false
    })
}

/// An SQS batch with these bodies; the messages are named `message-0`, `message-1`, …
pub fn sqs_event(bodies: &[&str]) -> Value {
    let records: Vec<Value> = bodies
        .iter()
        .enumerate()
        .map(|(n, body)| {
            json!({
                "messageId": format!("message-{n}"), "receiptHandle": "handle", "body": body,
                "attributes": {"ApproximateReceiveCount": "1"}, "messageAttributes": {}, "md5OfBody": "d",
                "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:jobs", "awsRegion": "us-east-1"
            })
        })
        .collect();
    json!({ "Records": records })
}
