//! An open session with one server.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rmcp::handler::client::ClientHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig,
    Implementation, PaginatedRequestParams, ProtocolVersion, Tool,
};
use rmcp::service::{
    ClientCacheConfig, ClientInitializeError, ClientLifecycleMode, ClientServiceExt, NotificationContext,
    RoleClient, RunningService, ServiceError,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use sentinel_http::{HttpClient, Url};
use sentinel_investigation::aside;
use sentinel_investigation::ports::{ToolDefinition, ToolOutput};
use sentinel_investigation::schema::Schema;
use serde_json::{Map, Value};
use tokio::process::Child;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::client::Client;
use crate::oauth::Tokens;
use crate::spec::{Endpoint, Reach};
use crate::{fault, output, program};

/// The most pages of one `tools/list`, and the most tools.
const MAX_PAGES: usize = 50;
const MAX_TOOLS: usize = 1000;
/// The most that all of it may have, in bytes of JSON.
const MAX_LIST: usize = 4 << 20;
/// The longest that a list of tools is believed. A server may say that its own is good for less (`ttlMs`, 2026-07-28).
const LIST_AGE: Duration = Duration::from_mins(5);
/// Requests at once on one session: every investigation of a process may have sixteen. rmcp's own default, 16, would
/// make them wait for each other.
const CONCURRENT: usize = 2048;

/// Why a request on a session gave nothing.
pub(crate) struct Fault {
    /// What happened, after the server's name.
    pub(crate) told: String,
    /// Whether the session may be unusable.
    pub(crate) ends_session: bool,
    /// Whether the server did nothing, because it does not know the session (any more).
    pub(crate) has_expired: bool,
}

impl Fault {
    /// Something in an answer, which says nothing about the session.
    fn answered(told: impl Into<String>) -> Self {
        Self { told: told.into(), ends_session: false, has_expired: false }
    }
}

impl From<&ServiceError> for Fault {
    fn from(error: &ServiceError) -> Self {
        Self {
            told: fault::of_request(error),
            ends_session: fault::ends_session(error),
            has_expired: fault::has_expired(error),
        }
    }
}

/// What a server may ask of its client: nothing. It hears that the list of tools changed.
#[derive(Debug)]
struct Listener {
    info: ClientConfig,
    has_changed: Arc<AtomicBool>,
}

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        self.info.clone()
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.has_changed.store(true, Ordering::Release);
    }
}

type Service = RunningService<RoleClient, Listener>;

/// A server's tools, as it listed them.
#[derive(Debug)]
struct Tools {
    /// Until when they are believed.
    until: Instant,
    definitions: Vec<ToolDefinition>,
    /// What each tool promises to answer, where it promises something.
    promised: HashMap<String, Promise>,
}

/// An output schema, compiled when an answer is held against it first; `Err`: it cannot be used.
#[derive(Debug)]
pub(crate) struct Promise {
    schema: Value,
    compiled: OnceLock<Result<Schema, String>>,
}

impl Promise {
    pub(crate) fn new(schema: Value) -> Self {
        Self { schema, compiled: OnceLock::new() }
    }
}

impl Tools {
    fn definition(&self, tool: &str) -> Option<&ToolDefinition> {
        self.definitions.iter().find(|d| d.tool == tool)
    }
}

/// An open session: rmcp carries any number of requests at once over it. One that the server no longer knows is over:
/// the next one has a list of tools of its own.
#[derive(Debug)]
pub(crate) struct Session {
    service: Service,
    tools: Mutex<Option<Arc<Tools>>>,
    has_changed: Arc<AtomicBool>,
    /// Ends with the session.
    _program: Option<Child>,
}

impl Session {
    /// Connects and shakes hands: asks by `server/discover` (2026-07-28), and where the server does not know that, by
    /// `initialize` (2025-11-25 and before). No time-out of its own.
    pub(crate) async fn open(
        name: &str,
        reach: &Reach,
        http: &HttpClient,
        tokens: Option<&Arc<Tokens>>,
    ) -> Result<Self, String> {
        match Self::shake(name, reach, http, tokens, newest()).await? {
            Ok(session) => Ok(session),
            // What a server answers to a question that is newer than itself is not always an error of the protocol.
            Err(error) if fault::may_be_older(&error) => {
                tracing::debug!(server = name, "the MCP server does not answer server/discover");
                Self::shake(name, reach, http, tokens, ClientLifecycleMode::Initialize)
                    .await?
                    .map_err(|e| fault::of_connect(&e))
            }
            Err(error) => Err(fault::of_connect(&error)),
        }
    }

    async fn shake(
        name: &str,
        reach: &Reach,
        http: &HttpClient,
        tokens: Option<&Arc<Tokens>>,
        how: ClientLifecycleMode,
    ) -> Result<Result<Self, ClientInitializeError>, String> {
        let has_changed = Arc::new(AtomicBool::new(false));
        let who = Implementation::new("sentinel", env!("CARGO_PKG_VERSION"));
        let info = ClientConfig::new(ClientCapabilities::default(), who);
        let listener = Listener { info, has_changed: Arc::clone(&has_changed) };
        let (service, program) = match reach {
            Reach::Http(endpoint) => {
                let transport = transport(endpoint, http, tokens)?;
                (listener.serve_with_lifecycle(transport, how).await, None)
            }
            Reach::Program(program) => {
                let (child, output, input) = program::start(name, program)?;
                (listener.serve_with_lifecycle((output, input), how).await, Some(child))
            }
        };
        if let Ok(service) = &service {
            // rmcp's own cache would believe a list for a day, and give an old one where the server gives none.
            service.peer().set_response_cache_config(ClientCacheConfig::disabled()).await;
        }
        Ok(service.map(|service| Self { service, tools: Mutex::default(), has_changed, _program: program }))
    }

    /// Whether nothing can be sent any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.service.is_closed() || self.service.peer().is_transport_closed()
    }

    /// The tools: asked for once they are older than the server and [`LIST_AGE`] allow, and when the server says that
    /// they changed.
    pub(crate) async fn tools(&self) -> Result<Vec<ToolDefinition>, Fault> {
        let tools = self.listed(|tools| Instant::now() < tools.until).await?;
        Ok(aside(|| tools.definitions.clone()).await)
    }

    /// The list that is known, where the server has not said that it changed and it is `good`; else a new one.
    async fn listed(&self, good: impl Fn(&Tools) -> bool) -> Result<Arc<Tools>, Fault> {
        let mut known = self.tools.lock().await;
        let has_changed = self.has_changed.swap(false, Ordering::AcqRel);
        if let Some(tools) = known.as_ref().filter(|tools| !has_changed && good(tools)) {
            return Ok(Arc::clone(tools));
        }
        // Until they are listed anew, nothing is known of them.
        *known = None;
        let tools = Arc::new(self.ask_for_tools().await?);
        *known = Some(Arc::clone(&tools));
        Ok(tools)
    }

    async fn ask_for_tools(&self) -> Result<Tools, Fault> {
        let mut tools: Vec<Tool> = Vec::new();
        let asked = Instant::now();
        let (mut cursor, mut good_for) = (None, LIST_AGE);
        let mut size = 0;
        for _ in 0..MAX_PAGES {
            let params = PaginatedRequestParams::default().with_cursor(cursor);
            let page = self.service.peer().list_tools(Some(params)).await.map_err(|e| Fault::from(&e))?;
            good_for = page.ttl_ms.map_or(good_for, |ms| good_for.min(Duration::from_millis(ms)));
            size += aside(|| serde_json::to_vec(&page.tools).map_or(usize::MAX, |list| list.len())).await;
            if size > MAX_LIST {
                return Err(Fault::answered(format!(
                    "its list of tools is larger than {} MB",
                    MAX_LIST >> 20
                )));
            }
            tools.extend(page.tools);
            cursor = page.next_cursor;
            if cursor.is_none() || tools.len() > MAX_TOOLS {
                break;
            }
        }
        if cursor.is_some() || tools.len() > MAX_TOOLS {
            return Err(Fault::answered(format!(
                "it lists more than {MAX_TOOLS} tools or {MAX_PAGES} pages of them"
            )));
        }
        let promised = tools.iter().filter_map(|tool| {
            let schema = Value::Object((**tool.output_schema.as_ref()?).clone());
            Some((tool.name.to_string(), Promise::new(schema)))
        });
        Ok(Tools {
            until: asked + good_for,
            promised: promised.collect(),
            definitions: tools.into_iter().map(definition).collect(),
        })
    }

    /// What the server said of a tool when it last listed them; `None`: nothing.
    pub(crate) async fn known(&self, tool: &str) -> Option<ToolDefinition> {
        self.tools.lock().await.as_ref()?.definition(tool).cloned()
    }

    /// Calls a tool, if it is still what an earlier session `expected` of it. Where this future is dropped before it
    /// ends, the server is told that the call is cancelled.
    pub(crate) async fn call(
        &self,
        tool: &str,
        arguments: &Map<String, Value>,
        expected: Option<&ToolDefinition>,
    ) -> Result<ToolOutput, Fault> {
        // What the tool promises to answer. Who calls has looked at the list a moment ago, however short it is good for.
        let tools = self.listed(|_| true).await?;
        if expected.is_some_and(|expected| tools.definition(tool) != Some(expected)) {
            return Err(Fault::answered("its session expired, and it describes the tool differently now"));
        }
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments.clone());
        match self.service.peer().call_tool_once(params).await {
            Ok(CallToolResponse::Complete(result)) => {
                let kept = || tools.promised.get(tool).map_or(Ok(()), |promised| keeps(promised, &result));
                aside(|| kept().and_then(|()| output::render(&result))).await.map_err(Fault::answered)
            }
            Ok(CallToolResponse::InputRequired(_)) => {
                Err(Fault::answered("it asks for a person's input, and there is none"))
            }
            Ok(_) => Err(Fault::answered("it answers later, as a task, which this client does not wait for")),
            Err(error) => Err(Fault::from(&error)),
        }
    }

    /// Ends the session on the server; what is under way on it is cut off.
    pub(crate) fn end(&self) {
        self.service.cancellation_token().cancel();
    }
}

/// The newest handshake that is known, and the one before it for a server that refuses it.
fn newest() -> ClientLifecycleMode {
    ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::V_2025_11_25),
    }
}

fn transport(
    endpoint: &Endpoint,
    http: &HttpClient,
    tokens: Option<&Arc<Tokens>>,
) -> Result<StreamableHttpClientTransport<Client>, String> {
    let url = Url::parse(&endpoint.url).map_err(|e| format!("its URL cannot be read: {e}"))?;
    http.check_url(&url).map_err(|e| e.to_string())?;
    let client =
        Client { http: http.client().map_err(|e| e.to_string())?.clone(), tokens: tokens.map(Arc::clone) };
    let headers = endpoint.header_map().map_err(|name| format!("its header {name} cannot be sent"))?;
    // The credential goes among the headers, marked as sensitive: the configuration's Debug prints `auth_header`.
    let config = StreamableHttpClientTransportConfig::with_uri(endpoint.url.as_str())
        .custom_headers(headers)
        .max_concurrent_requests(CONCURRENT)
        .reinit_on_expired_session(false);
    Ok(StreamableHttpClientTransport::with_client(client, config))
}

/// Whether a result keeps what its tool promised (MCP: a tool with an output schema answers with structured content
/// that keeps it, unless it failed).
pub(crate) fn keeps(promised: &Promise, result: &CallToolResult) -> Result<(), String> {
    if result.is_error.unwrap_or(false) {
        return Ok(());
    }
    let compiled = promised.compiled.get_or_init(|| Schema::new(&promised.schema));
    let schema = compiled.as_ref().map_err(|e| format!("its output schema cannot be used: {e}"))?;
    let Some(structured) = &result.structured_content else {
        return Err("it gave no structured content, although its output schema promises it".to_owned());
    };
    let problems = schema.problems(structured, "the content");
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!("its structured content breaks its own output schema: {}", problems.join("; ")))
}

pub(crate) fn definition(tool: Tool) -> ToolDefinition {
    // What rmcp has read it writes again as the protocol has it.
    ToolDefinition::read(serde_json::to_value(tool).unwrap_or_default())
}
