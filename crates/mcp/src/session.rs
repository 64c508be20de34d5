//! An open session with one server.

use std::time::Duration;

use rmcp::ServiceExt;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, Implementation,
    PaginatedRequestParams, Tool,
};
use rmcp::service::{RoleClient, RunningService, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use sentinel_http::{HttpClient, Url};
use sentinel_investigation::ports::{ToolDefinition, ToolOutput};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::{ServerSpec, fault, output};

/// The most pages of one `tools/list`, and the most tools.
const MAX_PAGES: usize = 50;
const MAX_TOOLS: usize = 1000;
/// How long a list of tools is believed. A server's deployment may change it under a session that rmcp renewed.
const LIST_AGE: Duration = Duration::from_mins(5);

/// Why a request on a session gave nothing.
pub(crate) struct Fault {
    /// What happened, after the server's name.
    pub(crate) told: String,
    /// Whether the session may be unusable.
    pub(crate) ends_session: bool,
}

impl From<&ServiceError> for Fault {
    fn from(error: &ServiceError) -> Self {
        Self { told: fault::of_request(error), ends_session: fault::ends_session(error) }
    }
}

/// An open session: rmcp carries any number of requests at once over it, and opens it anew where the server answers
/// that it has expired (HTTP 404), sending again only what the server so refused.
#[derive(Debug)]
pub(crate) struct Session {
    service: RunningService<RoleClient, ClientConfig>,
    tools: Mutex<Option<(Instant, Vec<ToolDefinition>)>>,
}

impl Session {
    /// Connects and shakes hands. No time-out of its own.
    pub(crate) async fn open(spec: &ServerSpec, http: &HttpClient) -> Result<Self, String> {
        let url = Url::parse(&spec.url).map_err(|e| format!("its URL cannot be read: {e}"))?;
        http.check_url(&url).map_err(|e| e.to_string())?;
        let client = http.client().map_err(|e| e.to_string())?.clone();
        let headers = spec.header_map().map_err(|name| format!("its header {name} cannot be sent"))?;
        // The credential goes among the headers, marked as sensitive: the configuration's Debug prints `auth_header`.
        let config = StreamableHttpClientTransportConfig::with_uri(spec.url.as_str()).custom_headers(headers);
        let transport = StreamableHttpClientTransport::with_client(client, config);
        let who = Implementation::new("sentinel", env!("CARGO_PKG_VERSION"));
        let service = ClientConfig::new(ClientCapabilities::default(), who)
            .serve(transport)
            .await
            .map_err(|e| fault::of_connect(&e))?;
        Ok(Self { service, tools: Mutex::default() })
    }

    /// Whether nothing can be sent any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.service.is_closed() || self.service.peer().is_transport_closed()
    }

    /// The tools, asked for at most every five minutes.
    pub(crate) async fn tools(&self) -> Result<Vec<ToolDefinition>, Fault> {
        let mut known = self.tools.lock().await;
        if let Some((since, tools)) = known.as_ref().filter(|(since, _)| since.elapsed() < LIST_AGE) {
            tracing::trace!(age_ms = since.elapsed().as_millis(), "the list of tools is known");
            return Ok(tools.clone());
        }
        let tools = self.ask_for_tools().await?;
        *known = Some((Instant::now(), tools.clone()));
        Ok(tools)
    }

    async fn ask_for_tools(&self) -> Result<Vec<ToolDefinition>, Fault> {
        let mut tools = Vec::new();
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let params = PaginatedRequestParams::default().with_cursor(cursor);
            let page = self.service.peer().list_tools(Some(params)).await.map_err(|e| Fault::from(&e))?;
            tools.extend(page.tools.into_iter().map(definition));
            cursor = page.next_cursor;
            if cursor.is_none() || tools.len() > MAX_TOOLS {
                break;
            }
        }
        if cursor.is_some() || tools.len() > MAX_TOOLS {
            let told = format!("it lists more than {MAX_TOOLS} tools or {MAX_PAGES} pages of them");
            return Err(Fault { told, ends_session: false });
        }
        Ok(tools)
    }

    /// Calls a tool. Where this future is dropped before it ends, the server is told that the call is cancelled.
    pub(crate) async fn call(&self, tool: &str, arguments: &Map<String, Value>) -> Result<ToolOutput, Fault> {
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments.clone());
        let told = |told: String| Fault { told, ends_session: false };
        match self.service.peer().call_tool_once(params).await {
            Ok(CallToolResponse::Complete(result)) => output::render(&result).map_err(told),
            Ok(CallToolResponse::InputRequired(_)) => {
                Err(told("it asks for a person's input, and there is none".to_owned()))
            }
            Ok(_) => Err(told("it answers later, as a task, which this client does not wait for".to_owned())),
            Err(error) => Err(Fault::from(&error)),
        }
    }

    /// Ends the session on the server; what is under way on it is cut off.
    pub(crate) fn end(&self) {
        self.service.cancellation_token().cancel();
    }
}

fn definition(tool: Tool) -> ToolDefinition {
    let (read_only_hint, destructive_hint) =
        tool.annotations.map_or((None, None), |hints| (hints.read_only_hint, hints.destructive_hint));
    ToolDefinition {
        tool: tool.name.into_owned(),
        description: tool.description.map(std::borrow::Cow::into_owned).unwrap_or_default(),
        input_schema: Value::Object((*tool.input_schema).clone()),
        read_only_hint,
        destructive_hint,
    }
}
