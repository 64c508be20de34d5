//! An open session with one server.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
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
use sentinel_investigation::ports::{Remark, ToolDefinition, ToolOutput};
use sentinel_investigation::schema::Schema;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::client::Client;
use crate::fault::After;
use crate::oauth::Tokens;
use crate::reading::Noted;
use crate::spec::{Endpoint, Reach};
use crate::{fault, output, program};

/// The most pages of one `tools/list`, and the most tools.
const MAX_PAGES: usize = 50;
const MAX_TOOLS: usize = 1000;
/// The most that all of it may have, in bytes of JSON.
const MAX_LIST: usize = 4 << 20;
/// Why a tool is left out of a list that says by `x-mcp-header` what has to be a header of its calls.
const BAD_HEADER: &str = "the x-mcp-header annotations in its input schema are not as the protocol has them";
/// The longest that a list of tools is believed. A server may say that its own is good for less (`ttlMs`, 2026-07-28).
const LIST_AGE: Duration = Duration::from_mins(5);
/// Requests at once on one session: every investigation of a process may have sixteen. rmcp's own default, 16, would
/// make them wait for each other.
const CONCURRENT: usize = 2048;

/// What is told of a server that speaks HTTP+SSE.
const HTTP_SSE: &str = "it speaks HTTP+SSE, MCP's transport of 2024, which this client does not: configure its address \
                        for streamable HTTP, which often ends in /mcp";
/// How long a look may take whether a server speaks HTTP+SSE.
const LOOK: Duration = Duration::from_secs(2);

/// Why a request on a session gave nothing.
pub(crate) struct Fault {
    /// What happened, after the server's name.
    pub(crate) told: String,
    pub(crate) after: After,
}

impl Fault {
    /// Something in an answer, which says nothing about the session.
    fn answered(told: impl Into<String>) -> Self {
        Self { told: told.into(), after: After::Whole }
    }

    /// The same, of a request that had to be made before another one.
    fn before(self) -> Self {
        match self.after {
            After::Broken => Self { after: After::NeverRan, ..self },
            _ => self,
        }
    }
}

impl From<&ServiceError> for Fault {
    fn from(error: &ServiceError) -> Self {
        Self { told: fault::of_request(error), after: fault::after(error) }
    }
}

/// Why there is no session.
pub(crate) struct Closed {
    /// What happened, after the server's name.
    pub(crate) told: String,
    /// Whether there may be one in a moment.
    pub(crate) is_away: bool,
}

impl From<String> for Closed {
    fn from(told: String) -> Self {
        Self { told, is_away: false }
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
    program: Option<program::Running>,
}

/// A handshake that failed: why, and its program.
type Failed = (ClientInitializeError, Option<program::Running>);

impl Session {
    /// Connects and shakes hands: asks by `server/discover` (2026-07-28), and where the server does not know that, by
    /// `initialize` (2025-11-25 and before). No time-out of its own.
    pub(crate) async fn open(
        name: &str,
        reach: &Reach,
        http: &HttpClient,
        tokens: Option<&Arc<Tokens>>,
    ) -> Result<Self, Closed> {
        let (error, program) = match Self::shake(name, reach, http, tokens, newest()).await? {
            Ok(session) => return Ok(session),
            // What a server answers to a question that is newer than itself is not always an error of the protocol.
            Err((error, program)) if fault::may_be_older(&error) => {
                drop(program);
                tracing::debug!(server = name, "the MCP server does not answer server/discover");
                match Self::shake(name, reach, http, tokens, ClientLifecycleMode::Initialize).await? {
                    Ok(session) => return Ok(session),
                    Err(failed) => failed,
                }
            }
            Err(failed) => failed,
        };
        let mut told = fault::of_connect(&error);
        if let Some(program) = program {
            told = program.ended().await.unwrap_or(told);
        }
        if let Reach::Http(endpoint) = reach
            && fault::may_be_http_sse(&error)
            && let Ok((client, headers)) = client(endpoint, http, tokens)
            && timeout(LOOK, client.speaks_http_sse(&endpoint.url, headers)).await == Ok(true)
        {
            told = String::from(HTTP_SSE);
        }
        Err(Closed { told, is_away: fault::is_away(&error) })
    }

    async fn shake(
        name: &str,
        reach: &Reach,
        http: &HttpClient,
        tokens: Option<&Arc<Tokens>>,
        how: ClientLifecycleMode,
    ) -> Result<Result<Self, Failed>, String> {
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
                let (program, output, input) = program::start(name, program)?;
                let both = (program::input(input), program::messages(output));
                (listener.serve_with_lifecycle(both, how).await, Some(program))
            }
        };
        match service {
            Ok(service) => {
                // rmcp's own cache would believe a list for a day, and give an old one where the server gives none.
                service.peer().set_response_cache_config(ClientCacheConfig::disabled()).await;
                Ok(Ok(Self { service, tools: Mutex::default(), has_changed, program }))
            }
            Err(error) => Ok(Err((error, program))),
        }
    }

    /// What a failed request means, in the words of its program's end where that is why.
    async fn fault(&self, error: &ServiceError) -> Fault {
        let fault = Fault::from(error);
        match &self.program {
            Some(program) if fault.after == After::Broken => {
                let told = program.ended().await.unwrap_or(fault.told);
                Fault { told, ..fault }
            }
            _ => fault,
        }
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
        let (mut seen, mut is_circle) = (HashSet::new(), false);
        let mut unusable = Vec::new();
        for _ in 0..MAX_PAGES {
            let params = PaginatedRequestParams::default().with_cursor(cursor.clone());
            let mut page = match self.service.peer().list_tools(Some(params)).await {
                Ok(page) => page,
                Err(error) => return Err(self.fault(&error).await),
            };
            good_for = page.ttl_ms.map_or(good_for, |ms| good_for.min(Duration::from_millis(ms)));
            let noted = Noted::take(page.meta.as_mut());
            size += aside(|| serde_json::to_vec(&page.tools).map_or(usize::MAX, |list| list.len())).await;
            if size > MAX_LIST {
                return Err(Fault::answered(format!(
                    "its list of tools is larger than {} MB",
                    MAX_LIST >> 20
                )));
            }
            unusable.extend(noted.unusable);
            // What rmcp leaves out of a list of 2026-07-28: it could not send the headers that the tool asks for.
            let is_left_out = |name: &String| page.tools.iter().all(|tool| tool.name != *name);
            unusable.extend(
                noted.names.into_iter().filter(is_left_out).map(|name| (name, BAD_HEADER.to_owned())),
            );
            tools.extend(page.tools);
            cursor = page.next_cursor;
            // An empty one is one like any other, since 2026-07-28.
            is_circle = cursor.as_ref().is_some_and(|cursor| !seen.insert(cursor.clone()));
            if is_circle {
                cursor = None;
            }
            if cursor.is_none() || tools.len() + unusable.len() > MAX_TOOLS {
                break;
            }
        }
        if cursor.is_some() || tools.len() + unusable.len() > MAX_TOOLS {
            return Err(Fault::answered(format!(
                "it lists more than {MAX_TOOLS} tools or {MAX_PAGES} pages of them"
            )));
        }
        let promised = tools.iter().filter_map(|tool| {
            let schema = Value::Object((**tool.output_schema.as_ref()?).clone());
            Some((tool.name.to_string(), Promise::new(schema)))
        });
        let promised = promised.collect();
        let mut definitions: Vec<ToolDefinition> = tools.into_iter().map(definition).collect();
        definitions.extend(unusable.into_iter().map(|(name, why)| ToolDefinition::unusable(name, why)));
        if is_circle {
            // A page that came twice lists nothing twice.
            let mut kept: Vec<ToolDefinition> = Vec::new();
            for definition in definitions {
                if !kept.contains(&definition) {
                    kept.push(definition);
                }
            }
            definitions = kept;
        }
        Ok(Tools { until: asked + good_for, promised, definitions })
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
        let tools = self.listed(|_| true).await.map_err(Fault::before)?;
        if expected.is_some_and(|expected| tools.definition(tool) != Some(expected)) {
            return Err(Fault::answered("its session expired, and it describes the tool differently now"));
        }
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments.clone());
        match self.service.peer().call_tool_once(params).await {
            Ok(CallToolResponse::Complete(mut result)) => {
                let mut remarks = Noted::take(result.meta.as_mut()).remarks;
                aside(|| {
                    let broken = tools.promised.get(tool).and_then(|promised| keeps(promised, &result).err());
                    remarks.extend(broken.map(Remark::Noted));
                    output::render(&result, remarks)
                })
                .await
                .map_err(Fault::answered)
            }
            Ok(CallToolResponse::InputRequired(_)) => {
                Err(Fault::answered("it asks for a person's input, and there is none"))
            }
            Ok(_) => Err(Fault::answered("it answers later, as a task, which this client does not wait for")),
            Err(error) => Err(self.fault(&error).await),
        }
    }

    /// Whether the server says of a tool that it only reads: then a call that may have been carried out may be made again.
    pub(crate) async fn only_reads(&self, tool: &str) -> bool {
        self.known(tool).await.is_some_and(|tool| tool.read_only_hint == Some(true))
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

/// The client of a server, and the headers of each of its requests.
fn client(
    endpoint: &Endpoint,
    http: &HttpClient,
    tokens: Option<&Arc<Tokens>>,
) -> Result<(Client, HashMap<HeaderName, HeaderValue>), String> {
    let url = Url::parse(&endpoint.url).map_err(|e| format!("its URL cannot be read: {e}"))?;
    http.check_url(&url).map_err(|e| e.to_string())?;
    let client = http.client().map_err(|e| e.to_string())?.clone();
    let headers = endpoint.header_map().map_err(|name| format!("its header {name} cannot be sent"))?;
    Ok((Client::new(client, tokens.map(Arc::clone)), headers))
}

fn transport(
    endpoint: &Endpoint,
    http: &HttpClient,
    tokens: Option<&Arc<Tokens>>,
) -> Result<StreamableHttpClientTransport<Client>, String> {
    let (client, headers) = client(endpoint, http, tokens)?;
    // The credential goes among the headers, marked as sensitive: the configuration's Debug prints `auth_header`.
    let config = StreamableHttpClientTransportConfig::with_uri(endpoint.url.as_str())
        .custom_headers(headers)
        .max_concurrent_requests(CONCURRENT)
        .reinit_on_expired_session(false);
    Ok(StreamableHttpClientTransport::with_client(client, config))
}

/// Whether a result keeps what its tool promised (MCP: a tool with an output schema answers with structured content
/// that keeps it, unless it failed). `Err`: how it does not. Its text is what counts, all the same.
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
