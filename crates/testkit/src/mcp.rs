//! A small real MCP server over streamable HTTP, with tools that a test scripts.
//!
//! It speaks revisions 2025-03-26 to 2025-11-25: `initialize` opens a session, whose id every later request carries;
//! `tools/list` (in pages, if asked), `tools/call`, `ping`. As [`Builder::modern`] it speaks 2026-07-28 and nothing
//! else: `server/discover`, no sessions, and each request says which revision it is of, in its headers and in itself.
//! It is as strict as a real one: a request that does not accept both content types, that names no session, or one that
//! has expired, is refused. There is no server-sent stream of its own (`GET` is 405), as the protocol allows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::server::{Log, Running, broken, header_map, raw};

/// The revisions that it speaks, the newest last.
const REVISIONS: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

/// The revision without `initialize` and without sessions.
const MODERN: &str = "2026-07-28";

/// How the server answers a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A tool's result with one text.
    Text(String),
    /// A tool's result that says it failed (`isError`), with one text.
    Error(String),
    /// This as the JSON-RPC result.
    Result(Value),
    /// A JSON-RPC error: its code and its message.
    RpcError(i64, String),
    /// This HTTP status and body.
    Status(u16, String),
    /// A redirect to this address.
    Redirect(String),
    /// `200`, `application/json`, and this body, whatever it is.
    Garbage(Vec<u8>),
    /// `200`, `text/event-stream`, and this body, whatever it is.
    Events(Vec<u8>),
    /// No answer, until the client gives up or the server stops.
    Hang,
    /// The connection breaks before the answer is whole.
    Close,
    /// Once the gate is open, the rest.
    After(Gate, Box<Answer>),
    /// The rest, this much later: for the client's own time-outs, never to synchronise a test.
    Late(Duration, Box<Answer>),
}

impl Answer {
    /// [`Answer::Text`].
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// [`Answer::Error`].
    pub fn error(text: impl Into<String>) -> Self {
        Self::Error(text.into())
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// `POST`, or `DELETE` at a session's end.
    pub http_method: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    /// The JSON-RPC message; `null` where there was none.
    pub body: Value,
}

impl Request {
    /// The JSON-RPC method, or nothing.
    pub fn method(&self) -> &str {
        self.body.get("method").and_then(Value::as_str).unwrap_or_default()
    }
}

/// A `tools/call` as it arrived, whether or not there is such a tool.
#[derive(Clone, Debug)]
pub struct Call {
    /// The tool's name.
    pub tool: String,
    /// Its arguments; `null` where there were none.
    pub arguments: Value,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
}

type Handler = Box<dyn Fn(&Value) -> Answer + Send + Sync>;

/// What the server will be.
#[derive(Default)]
pub struct Builder {
    tools: Vec<(Value, Handler)>,
    overrides: HashMap<String, Answer>,
    before_session: HashMap<String, Answer>,
    required: Vec<(String, String)>,
    page_size: Option<usize>,
    event_stream: bool,
    modern: bool,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("tools", &self.tools.len()).finish_non_exhaustive()
    }
}

impl Builder {
    /// Adds a tool: its name, the JSON Schema of its arguments, what it says of itself, and what it does with its
    /// arguments.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a schema written in place reads better without a borrow"
    )]
    #[must_use]
    pub fn tool(
        self,
        name: &str,
        input_schema: Value,
        description: &str,
        handler: impl Fn(&Value) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let definition = json!({"name": name, "description": description, "inputSchema": input_schema});
        self.tool_defined(definition, handler)
    }

    /// Adds a tool whose whole definition is given, for annotations and for definitions that are wrong.
    #[must_use]
    pub fn tool_defined(
        mut self,
        definition: Value,
        handler: impl Fn(&Value) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.tools.push((definition, Box::new(handler)));
        self
    }

    /// Answers a JSON-RPC method (`initialize`, `tools/list`, …) with this instead.
    #[must_use]
    pub fn on(mut self, method: &str, answer: Answer) -> Self {
        self.overrides.insert(method.to_owned(), answer);
        self
    }

    /// Answers a JSON-RPC method with this before it looks at the session.
    #[must_use]
    pub fn before_session(mut self, method: &str, answer: Answer) -> Self {
        self.before_session.insert(method.to_owned(), answer);
        self
    }

    /// Answers 401 to whatever does not carry this header.
    #[must_use]
    pub fn require_header(mut self, name: &str, value: &str) -> Self {
        self.required.push((name.to_lowercase(), value.to_owned()));
        self
    }

    /// Lists at most `n` tools at once; the client has to follow the cursor.
    #[must_use]
    pub fn page_size(mut self, n: usize) -> Self {
        assert!(n > 0, "a page holds at least one tool");
        self.page_size = Some(n);
        self
    }

    /// Answers with `text/event-stream` instead of `application/json`.
    #[must_use]
    pub fn event_stream(mut self) -> Self {
        self.event_stream = true;
        self
    }

    /// Speaks 2026-07-28, and no older revision.
    #[must_use]
    pub fn modern(mut self) -> Self {
        self.modern = true;
        self
    }

    /// Starts the server on a free port of the loopback.
    pub async fn start(self) -> FakeMcp {
        let shared = Arc::new(Shared {
            script: self,
            requests: Log::default(),
            sessions: Mutex::default(),
            replaced: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let router = Router::new()
            .route("/mcp", any(serve))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let running = Running::start(router, shared.stop.clone()).await;
        FakeMcp { running, shared }
    }
}

struct Shared {
    script: Builder,
    requests: Log<Request>,
    sessions: Mutex<Sessions>,
    /// Definitions that the list holds instead of the script's, from the time that a test says.
    replaced: Mutex<HashMap<String, Value>>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Sessions {
    opened: usize,
    live: HashSet<String>,
}

impl Shared {
    fn with_sessions<T>(&self, act: impl FnOnce(&mut Sessions) -> T) -> T {
        act(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A running MCP server. Dropping it stops it.
pub struct FakeMcp {
    running: Running,
    shared: Arc<Shared>,
}

impl fmt::Debug for FakeMcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeMcp").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl FakeMcp {
    /// Says what the server will be.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// What a client takes as `server-url`: `http://127.0.0.1:<port>/mcp`.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.running.address)
    }

    /// All requests so far, in order, refused ones too.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.all()
    }

    /// The `tools/call` requests among them.
    pub fn calls(&self) -> Vec<Call> {
        let calls = self.requests().into_iter().filter(|request| request.method() == "tools/call");
        calls
            .map(|request| {
                let of = |name: &str| {
                    request.body.pointer(&format!("/params/{name}")).cloned().unwrap_or_default()
                };
                let tool = of("name").as_str().unwrap_or_default().to_owned();
                Call { tool, arguments: of("arguments"), headers: request.headers }
            })
            .collect()
    }

    /// Waits until at least `n` requests of any kind have arrived (answered or not); panics after
    /// [`crate::PATIENCE`].
    pub async fn wait_for_requests(&self, n: usize) {
        self.shared.requests.wait_for(n, "requests to the MCP server").await;
    }

    /// Waits until at least `n` tool calls have arrived (answered or not); panics after [`crate::PATIENCE`].
    pub async fn wait_for_calls(&self, n: usize) {
        self.wait_for("tools/call", n).await;
    }

    /// Waits until at least `n` messages with this JSON-RPC method have arrived; panics after [`crate::PATIENCE`].
    pub async fn wait_for(&self, method: &str, n: usize) {
        self.wait_until(|all| all.iter().filter(|request| request.method() == method).count() >= n).await;
    }

    /// Waits until what has arrived is as it should be; panics after [`crate::PATIENCE`] without another request.
    pub async fn wait_until(&self, good: impl Fn(&[Request]) -> bool) {
        loop {
            let seen = self.requests();
            if good(&seen) {
                return;
            }
            self.wait_for_requests(seen.len() + 1).await;
        }
    }

    /// Lists the tool of this definition's name so from now on, as if the server's program had been replaced.
    pub fn redefine(&self, definition: Value) {
        let name = definition.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.shared.replaced.lock().unwrap_or_else(PoisonError::into_inner).insert(name, definition);
    }

    /// Forgets all sessions: their next request is answered 404, and the client has to begin anew.
    pub fn expire_sessions(&self) {
        self.shared.with_sessions(|sessions| sessions.live.clear());
    }
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method == Method::GET {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let headers = header_map(&headers);
    shared.requests.push(Request {
        http_method: method.to_string(),
        headers: headers.clone(),
        body: message.clone(),
    });
    tokio::select! {
        () = shared.stop.cancelled() => broken(),
        response = answer(&shared, &method, &headers, &message) => response,
    }
}

async fn answer(
    shared: &Shared,
    method: &Method,
    headers: &BTreeMap<String, String>,
    message: &Value,
) -> Response {
    let script = &shared.script;
    if script.required.iter().any(|(name, value)| headers.get(name) != Some(value)) {
        let mut response = raw(StatusCode::UNAUTHORIZED, "text/plain", "unauthorized");
        response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
        return response;
    }
    let rpc_method = message.get("method").and_then(Value::as_str).unwrap_or_default();
    let session = headers.get("mcp-session-id");
    if let Some(answer) = script.before_session.get(rpc_method) {
        return script.play(answer.clone(), message.get("id").unwrap_or(&Value::Null)).await;
    }
    if script.modern {
        if let Err(wrong) = check_modern(headers, message, rpc_method) {
            return raw(StatusCode::BAD_REQUEST, "text/plain", format!("wrong {wrong}"));
        }
    } else if rpc_method != "initialize" {
        match session {
            None => return raw(StatusCode::BAD_REQUEST, "text/plain", "no Mcp-Session-Id"),
            Some(id) if !shared.with_sessions(|sessions| sessions.live.contains(id)) => {
                return raw(StatusCode::NOT_FOUND, "text/plain", "no such session");
            }
            Some(_) => {}
        }
    }
    if method == Method::DELETE {
        shared.with_sessions(|sessions| session.is_some_and(|id| sessions.live.remove(id)));
        return StatusCode::OK.into_response();
    }
    let accept = headers.get("accept").map_or("", String::as_str);
    if !(accept.contains("application/json") && accept.contains("text/event-stream")) {
        return raw(
            StatusCode::NOT_ACCEPTABLE,
            "text/plain",
            "accept application/json and text/event-stream",
        );
    }
    let Some(id) = message.get("id").filter(|_| !rpc_method.is_empty()) else {
        // A notification, or an answer to a question that this server never asks.
        let status = if message.is_object() { StatusCode::ACCEPTED } else { StatusCode::BAD_REQUEST };
        return status.into_response();
    };
    let params = message.get("params").unwrap_or(&Value::Null);
    let answer =
        script.overrides.get(rpc_method).cloned().unwrap_or_else(|| shared.answer(rpc_method, params));
    let mut response = script.play(answer, id).await;
    if rpc_method == "initialize" && !script.modern && response.status() == StatusCode::OK {
        let id = shared.with_sessions(|sessions| {
            sessions.opened += 1;
            let id = format!("session-{}", sessions.opened);
            sessions.live.insert(id.clone());
            id
        });
        response.headers_mut().insert("mcp-session-id", id.parse().expect("a header value"));
    }
    response
}

/// A request of the modern revision says so itself, in its headers, and names its method there too.
fn check_modern(
    headers: &BTreeMap<String, String>,
    message: &Value,
    method: &str,
) -> Result<(), &'static str> {
    let header = |name: &str| headers.get(name).map_or("", String::as_str);
    let of = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    // A notification of a cancelled request carries no more than the request's id.
    let is_request = message.get("id").is_some();
    let revision = of("/params/_meta/io.modelcontextprotocol~1protocolVersion");
    let wrong = if header("mcp-protocol-version") != MODERN {
        "MCP-Protocol-Version"
    } else if header("mcp-method") != method {
        "Mcp-Method"
    } else if method == "tools/call" && header("mcp-name") != of("/params/name") {
        "Mcp-Name"
    } else if is_request && revision != MODERN {
        "_meta"
    } else if headers.contains_key("mcp-session-id") {
        "Mcp-Session-Id"
    } else {
        return Ok(());
    };
    Err(wrong)
}

impl Shared {
    /// What an untouched method answers.
    fn answer(&self, method: &str, params: &Value) -> Answer {
        let script = &self.script;
        match method {
            "server/discover" if script.modern => Answer::Result(json!({
                "resultType": "complete",
                "supportedVersions": [MODERN],
                "capabilities": {"tools": {}},
                "ttlMs": 0,
                "cacheScope": "private",
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "fake-mcp", "version": "1.0.0"}},
            })),
            "initialize" if !script.modern => {
                let asked = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
                let revision = REVISIONS.into_iter().find(|r| *r == asked).unwrap_or("2025-11-25");
                Answer::Result(json!({
                    "protocolVersion": revision,
                    "capabilities": {"tools": {"listChanged": false}},
                    "serverInfo": {"name": "fake-mcp", "version": "1.0.0"},
                }))
            }
            "ping" if !script.modern => Answer::Result(json!({})),
            "tools/list" => self.list(params),
            "tools/call" => {
                let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
                let tool =
                    script.tools.iter().find(|(t, _)| t.get("name").and_then(Value::as_str) == Some(name));
                match tool {
                    Some((_, handler)) => handler(params.get("arguments").unwrap_or(&Value::Null)),
                    None => Answer::RpcError(-32602, format!("Unknown tool: {name}")),
                }
            }
            _ => Answer::RpcError(-32601, format!("Method not found: {method}")),
        }
    }

    /// One page of tools; the cursor is the number of the page's first tool.
    fn list(&self, params: &Value) -> Answer {
        let first = match params.get("cursor").and_then(Value::as_str).map(str::parse::<usize>) {
            None => 0,
            Some(Ok(first)) => first,
            Some(Err(_)) => return Answer::RpcError(-32602, "Invalid cursor".to_owned()),
        };
        let script = &self.script;
        let replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        let now = |tool: &Value| {
            let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
            replaced.get(name).unwrap_or(tool).clone()
        };
        let size = script.page_size.unwrap_or(usize::MAX);
        let page: Vec<Value> =
            script.tools.iter().skip(first).take(size).map(|(tool, _)| now(tool)).collect();
        let next = first + page.len();
        let mut result = json!({"tools": page});
        let fields = result.as_object_mut().expect("an object");
        if next < script.tools.len() {
            fields.insert("nextCursor".to_owned(), json!(next.to_string()));
        }
        if script.modern {
            fields.extend([("ttlMs".to_owned(), json!(0)), ("cacheScope".to_owned(), json!("private"))]);
        }
        Answer::Result(result)
    }
}

impl Builder {
    async fn play(&self, mut answer: Answer, id: &Value) -> Response {
        let text = |text: String| json!([{"type": "text", "text": text}]);
        loop {
            let result = match answer {
                Answer::Text(said) => json!({"content": text(said), "isError": false}),
                Answer::Error(said) => json!({"content": text(said), "isError": true}),
                Answer::Result(result) => result,
                Answer::RpcError(code, message) => {
                    let error = json!({"code": code, "message": message});
                    return self.send(&json!({"jsonrpc": "2.0", "id": id, "error": error}));
                }
                Answer::Status(status, body) => {
                    return raw(
                        StatusCode::from_u16(status).expect("a status that exists"),
                        "text/plain",
                        body,
                    );
                }
                Answer::Redirect(target) => {
                    let mut response = raw(StatusCode::TEMPORARY_REDIRECT, "text/plain", "");
                    response.headers_mut().insert("location", target.parse().expect("a header value"));
                    return response;
                }
                Answer::Garbage(bytes) => return raw(StatusCode::OK, "application/json", bytes),
                Answer::Events(bytes) => return raw(StatusCode::OK, "text/event-stream", bytes),
                Answer::Hang => pending().await,
                Answer::Close => return broken(),
                Answer::After(gate, rest) => {
                    gate.passed().await;
                    answer = *rest;
                    continue;
                }
                Answer::Late(by, rest) => {
                    tokio::time::sleep(by).await;
                    answer = *rest;
                    continue;
                }
            };
            return self.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
        }
    }

    fn send(&self, message: &Value) -> Response {
        let mut message = message.clone();
        if self.modern
            && let Some(result) = message.get_mut("result").and_then(Value::as_object_mut)
        {
            result.entry("resultType").or_insert_with(|| json!("complete"));
        }
        if self.event_stream {
            raw(StatusCode::OK, "text/event-stream", format!("event: message\ndata: {message}\n\n"))
        } else {
            raw(StatusCode::OK, "application/json", message.to_string())
        }
    }
}
