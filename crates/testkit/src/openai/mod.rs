//! A service of models that answers by a script and holds every request against the contract: OpenAI's two interfaces, and
//! Anthropic's Messages API.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

mod answers;
mod cache;
mod pairs;

pub use cache::Cache;

pub use answers::{
    chat_answer, chat_function_calls, chat_message, cut_off, error_body, function_call, function_call_item,
    function_calls, mcp_approval_request_item, mcp_call_item, mcp_list_item, message, message_item, response,
    with_usage,
};

use crate::gate::Gate;
use crate::server::{Log, Running, broken, header_map, raw};
use crate::tool_schema::refused_by_openai;
use crate::{anthropic, contract};

/// How the server treats one request.
#[derive(Clone, Debug)]
pub enum Scripted {
    /// `200` with this answer, which has to be on the contract.
    Json(Value),
    /// This status with these headers and this body, e.g. `429` with `retry-after`.
    Status(u16, Vec<(&'static str, String)>, String),
    /// `200`, `application/json`, and this body, whatever it is.
    Garbage(Vec<u8>),
    /// No answer, until the client gives up or the server stops.
    Hang,
    /// The connection breaks before the answer is whole.
    Close,
    /// Once the gate is open, the rest.
    After(Gate, Box<Scripted>),
}

impl From<Value> for Scripted {
    fn from(answer: Value) -> Self {
        Self::Json(answer)
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// `/v1/responses`, `/v1/chat/completions` or `/v1/messages`.
    pub path: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    /// The body; `null` where it was no JSON (which is a violation).
    pub body: Value,
    /// The same, byte by byte.
    pub bytes: Bytes,
}

type Script = Box<dyn FnMut(&Value, usize) -> Option<Scripted> + Send>;

struct Shared {
    script: Mutex<Script>,
    requests: Log<Request>,
    violations: Mutex<Vec<String>>,
    stop: CancellationToken,
}

impl Shared {
    fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, n: usize, what: &str, faults: &[String]) {
        let mut violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        violations.extend(faults.iter().map(|fault| format!("{what} {n} {fault}")));
    }
}

/// A server on the loopback that speaks `POST /v1/responses`, `POST /v1/chat/completions` and `POST /v1/messages`.
///
/// Every request is held against the contract, its tool calls and outputs have to come in pairs, and its functions have
/// to be such as OpenAI takes; every scripted answer is held against the contract. A violation is answered `400`, kept, and fails the test at [`Self::finish`],
/// [`Self::assert_on_contract`] or, at the latest, when the server is dropped. Dropping it stops it.
pub struct ScriptedOpenAi {
    running: Running,
    shared: Arc<Shared>,
}

impl fmt::Debug for ScriptedOpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedOpenAi").field("base_url", &self.base_url()).finish_non_exhaustive()
    }
}

impl ScriptedOpenAi {
    /// Answers request `n` (from 0) with answer `n`. A request beyond the last is a violation.
    pub async fn answering<S: Into<Scripted>>(answers: impl IntoIterator<Item = S>) -> Self {
        let mut answers: VecDeque<Scripted> = answers.into_iter().map(Into::into).collect();
        Self::start(Box::new(move |_, _| answers.pop_front())).await
    }

    /// Answers by what was asked: the request's body and its number, from 0.
    pub async fn with(mut script: impl FnMut(&Value, usize) -> Scripted + Send + 'static) -> Self {
        Self::start(Box::new(move |request, n| Some(script(request, n)))).await
    }

    async fn start(script: Script) -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            requests: Log::default(),
            violations: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let router = Router::new()
            .route("/v1/responses", post(responses))
            .route("/v1/chat/completions", post(chat))
            .route("/v1/messages", post(messages))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        // Where Amazon Bedrock has them.
        let router = router.clone().nest("/openai", router.clone()).nest("/anthropic", router);
        let running = Running::start(router, shared.stop.clone()).await;
        Self { running, shared }
    }

    /// What a client takes as `base-url`: `http://127.0.0.1:<port>/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.running.address)
    }

    /// The requests so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.all()
    }

    /// Waits until at least `n` requests have arrived (answered or not); panics after [`crate::PATIENCE`].
    pub async fn wait_for_requests(&self, n: usize) {
        self.shared.requests.wait_for(n, "requests to the model").await;
    }

    /// Panics with the violations of the contract so far, if there are any.
    pub fn assert_on_contract(&self) {
        let violations = self.shared.violations();
        assert!(violations.is_empty(), "{}", listed(&violations));
    }

    /// Stops the server, panics if the contract was violated, and gives the requests.
    pub fn finish(self) -> Vec<Request> {
        self.assert_on_contract();
        self.requests()
    }

    /// Gives the violations so far and forgets them: for tests that mean to violate.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.violations.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for ScriptedOpenAi {
    fn drop(&mut self) {
        let violations = self.shared.violations();
        // A second panic would abort the test run and hide the first.
        assert!(violations.is_empty() || std::thread::panicking(), "{}", listed(&violations));
    }
}

fn listed(violations: &[String]) -> String {
    format!("off the contract:\n  {}", violations.join("\n  "))
}

async fn responses(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let api = Api {
        path: "/v1/responses",
        check: contract::create_response,
        faults: |request| [pairs::in_responses(request), refused_functions(request)].concat(),
        check_answer: contract::response,
        error_body,
    };
    answer(&shared, &api, &headers, body).await
}

async fn chat(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let api = Api {
        path: "/v1/chat/completions",
        check: contract::create_chat_completion_request,
        faults: |request| [pairs::in_chat(request), refused_functions(request)].concat(),
        check_answer: contract::create_chat_completion_response,
        error_body,
    };
    answer(&shared, &api, &headers, body).await
}

async fn messages(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let api = Api {
        path: "/v1/messages",
        check: contract::create_message,
        faults: anthropic::faults,
        check_answer: contract::message,
        error_body: anthropic::error_body,
    };
    if headers.get("anthropic-version").is_none_or(|version| version != "2023-06-01") {
        shared.add(
            shared.requests.all().len(),
            "request",
            &["/: anthropic-version: header is required".to_owned()],
        );
    }
    answer(&shared, &api, &headers, body).await
}

/// What OpenAI refuses of the functions of a request of either of its interfaces.
fn refused_functions(body: &Value) -> Vec<String> {
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let functions = tools.filter(|tool| tool.get("type").is_some_and(|kind| kind == "function"));
    let refused = functions.flat_map(|tool| {
        let function = tool.get("function").unwrap_or(tool);
        let text = |key: &str| function.get(key).and_then(Value::as_str).unwrap_or_default();
        refused_by_openai(
            text("name"),
            text("description"),
            function.get("parameters").unwrap_or(&Value::Null),
        )
    });
    refused.collect()
}

/// One of the interfaces, what it is held against, and how it writes an error.
struct Api {
    path: &'static str,
    check: fn(&Value) -> Result<(), Vec<String>>,
    faults: fn(&Value) -> Vec<String>,
    check_answer: fn(&Value) -> Result<(), Vec<String>>,
    error_body: fn(&str, &str) -> String,
}

async fn answer(shared: &Shared, api: &Api, headers: &HeaderMap, bytes: Bytes) -> Response {
    let (body, mut faults) = match serde_json::from_slice::<Value>(&bytes) {
        Ok(body) => {
            let mut faults = (api.check)(&body).err().unwrap_or_default();
            faults.extend((api.faults)(&body));
            (body, faults)
        }
        Err(e) => (Value::Null, vec![format!("/: no JSON: {e}")]),
    };
    // The lock spans both, so that the number of a request is its place in the record and in the script.
    let (n, scripted) = {
        let mut script = shared.script.lock().unwrap_or_else(PoisonError::into_inner);
        let (path, headers) = (api.path.to_owned(), header_map(headers));
        let n = shared.requests.push(Request { path, headers, body: body.clone(), bytes });
        (n, if faults.is_empty() { script(&body, n) } else { None })
    };
    if faults.is_empty() && scripted.is_none() {
        faults.push("/: the script has no answer left".to_owned());
    }
    let Some(scripted) = scripted else {
        shared.add(n, "request", &faults);
        return raw(
            StatusCode::BAD_REQUEST,
            "application/json",
            (api.error_body)("invalid_request_error", &faults.join("; ")),
        );
    };
    tokio::select! {
        () = shared.stop.cancelled() => broken(),
        response = play(scripted, shared, api, n) => response,
    }
}

async fn play(mut scripted: Scripted, shared: &Shared, api: &Api, n: usize) -> Response {
    loop {
        return match scripted {
            Scripted::Json(answer) => match (api.check_answer)(&answer) {
                Ok(()) => raw(StatusCode::OK, "application/json", answer.to_string()),
                Err(faults) => {
                    shared.add(n, "answer", &faults);
                    let body = (api.error_body)("scripted_answer", &faults.join("; "));
                    raw(StatusCode::BAD_REQUEST, "application/json", body)
                }
            },
            Scripted::Status(status, headers, body) => {
                let status = StatusCode::from_u16(status).expect("a status that exists");
                let mut response = raw(status, "application/json", body);
                for (name, value) in headers {
                    response.headers_mut().insert(name, value.parse().expect("a header value"));
                }
                response
            }
            Scripted::Garbage(bytes) => raw(StatusCode::OK, "application/json", bytes),
            Scripted::Hang => pending().await,
            Scripted::Close => broken(),
            Scripted::After(gate, rest) => {
                gate.passed().await;
                scripted = *rest;
                continue;
            }
        };
    }
}
