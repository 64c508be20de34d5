//! An OpenAI-compatible service that answers by a script and holds every request against the contract.

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
mod pairs;

pub use answers::{
    chat_answer, chat_function_calls, chat_message, cut_off, error_body, function_call, function_call_item,
    function_calls, mcp_approval_request_item, mcp_call_item, mcp_list_item, message, message_item, response,
    with_usage,
};

use crate::contract;
use crate::gate::Gate;
use crate::server::{Log, Running, broken, header_map, raw};

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
    /// `/v1/responses` or `/v1/chat/completions`.
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

/// A server on the loopback that speaks `POST /v1/responses` and `POST /v1/chat/completions`.
///
/// Every request is held against the contract, and its tool calls and outputs have to come in pairs; so does every
/// scripted answer. A violation is answered `400`, kept, and fails the test at [`Self::finish`],
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
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
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
    format!("off the OpenAI contract:\n  {}", violations.join("\n  "))
}

async fn responses(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let api = Api {
        path: "/v1/responses",
        check: contract::create_response,
        pairs: pairs::in_responses,
        check_answer: contract::response,
    };
    answer(&shared, &api, &headers, body).await
}

async fn chat(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let api = Api {
        path: "/v1/chat/completions",
        check: contract::create_chat_completion_request,
        pairs: pairs::in_chat,
        check_answer: contract::create_chat_completion_response,
    };
    answer(&shared, &api, &headers, body).await
}

/// One of the two interfaces, and what it is held against.
struct Api {
    path: &'static str,
    check: fn(&Value) -> Result<(), Vec<String>>,
    pairs: fn(&Value) -> Vec<String>,
    check_answer: fn(&Value) -> Result<(), Vec<String>>,
}

async fn answer(shared: &Shared, api: &Api, headers: &HeaderMap, bytes: Bytes) -> Response {
    let (body, mut faults) = match serde_json::from_slice::<Value>(&bytes) {
        Ok(body) => {
            let mut faults = (api.check)(&body).err().unwrap_or_default();
            faults.extend((api.pairs)(&body));
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
            error_body("invalid_request_error", &faults.join("; ")),
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
                    let body = error_body("scripted_answer", &faults.join("; "));
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
