//! A small real MCP server over streamable HTTP, with tools that a test scripts.
//!
//! It speaks revisions 2025-03-26 to 2025-11-25: `initialize` opens a session, whose id every later request carries;
//! `tools/list` (in pages, if asked), `tools/call`, `ping`. As [`Builder::modern`] it speaks 2026-07-28 and nothing
//! else: `server/discover`, no sessions, and each request says which revision it is of, in its headers and in itself.
//! It is as strict as a real one: a request that does not accept both content types, that names no session, or one that
//! has expired, is refused. There is no server-sent stream of its own (`GET` is 405), as the protocol allows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::any;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::server::{Log, Running};

mod serve;

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
    /// This status, these headers, and this body, in which `$id` is the id of the request.
    Raw(u16, Vec<(&'static str, String)>, String),
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
    /// Its path: `/mcp`, where nobody was sent elsewhere.
    pub path: String,
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
type First = Box<dyn Fn(&Request) -> Option<Answer> + Send + Sync>;

/// What the server will be.
#[derive(Default)]
pub struct Builder {
    tools: Vec<(Value, Handler)>,
    overrides: HashMap<String, Answer>,
    before_session: HashMap<String, Answer>,
    first: Option<First>,
    path: Option<&'static str>,
    required: Vec<(String, String)>,
    page_size: Option<usize>,
    event_stream: bool,
    modern: bool,
    ttl_ms: Option<u64>,
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

    /// Is asked of every request before anything else, `GET` included; what it does not answer the server does.
    #[must_use]
    pub fn first(mut self, first: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Self {
        self.first = Some(Box::new(first));
        self
    }

    /// Is there at this path alone, and answers 404 at every other.
    #[must_use]
    pub fn at(mut self, path: &'static str) -> Self {
        self.path = Some(path);
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

    /// As [`Self::modern`], says that its list of tools is good for this long; five minutes, where nobody says so.
    #[must_use]
    pub fn ttl_ms(mut self, ttl_ms: u64) -> Self {
        self.ttl_ms = Some(ttl_ms);
        self
    }

    /// Starts the server on a free port of the loopback.
    pub async fn start(self) -> FakeMcp {
        let shared = Arc::new(Shared {
            script: self,
            requests: Log::default(),
            sessions: Mutex::default(),
            replaced: Mutex::default(),
            stop: Mutex::default(),
        });
        let running = Running::start(shared.router(), shared.stop()).await;
        FakeMcp { address: running.address, running: Mutex::new(Some(running)), shared }
    }
}

struct Shared {
    script: Builder,
    requests: Log<Request>,
    sessions: Mutex<Sessions>,
    /// Definitions that the list holds instead of the script's, from the time that a test says.
    replaced: Mutex<HashMap<String, Value>>,
    /// Of the server that runs now.
    stop: Mutex<CancellationToken>,
}

#[derive(Default)]
struct Sessions {
    opened: usize,
    live: HashSet<String>,
}

impl Shared {
    fn router(self: &Arc<Self>) -> Router {
        let router = Router::new().fallback(any(serve::serve)).layer(DefaultBodyLimit::disable());
        router.with_state(Arc::clone(self))
    }

    fn stop(&self) -> CancellationToken {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with_sessions<T>(&self, act: impl FnOnce(&mut Sessions) -> T) -> T {
        act(&mut self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A running MCP server. Dropping it stops it.
pub struct FakeMcp {
    address: SocketAddr,
    running: Mutex<Option<Running>>,
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
        format!("http://{}{}", self.address, self.shared.script.path.unwrap_or("/mcp"))
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

    /// Ends as a program ends: its sessions are forgotten, its connections broken, and nobody listens any more.
    pub async fn go_away(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            running.end().await;
        }
        self.expire_sessions();
    }

    /// Is there again, at the same address.
    pub async fn come_back(&self) {
        let stop = CancellationToken::new();
        *self.shared.stop.lock().unwrap_or_else(PoisonError::into_inner) = stop.clone();
        let running = Running::at(self.address, self.shared.router(), stop).await;
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }

    /// Forgets all sessions: their next request is answered 404, and the client has to begin anew.
    pub fn expire_sessions(&self) {
        self.shared.with_sessions(|sessions| sessions.live.clear());
    }
}
