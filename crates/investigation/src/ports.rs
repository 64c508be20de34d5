//! What an investigation needs of the outside: a model to ask and tools to call.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::card::{ModelId, ToolId};
use sentinel_core::redact::Redactor;
use sentinel_core::tools_lock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

pub use crate::evidence::CallStatus;
use crate::fence::clip;
use crate::refusal::{Refusal, RefusalReason, Unfit};
pub use crate::turn::{
    Api, FunctionCall, HostedCall, HostedList, HostedRequest, Incomplete, Item, LeftOut, Output, Said,
    TurnResponse, TurnUsage,
};

/// A function that the model may call.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ToolSpec {
    /// `server__tool`, at most 64 characters of letters, digits, `_`, `-`.
    pub name: String,
    /// What it does, for the model. Untrusted text where a server wrote it.
    pub description: String,
    /// JSON Schema of its arguments, an object.
    pub parameters: Value,
}

/// The answer to a [`HostedRequest`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Approval {
    /// Which request.
    pub request_id: String,
    /// Whether the call may be made.
    pub approve: bool,
    /// Why not, for the model and the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same as a label; `None` where it may be made, and in records that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalReason>,
}

impl Approval {
    /// The same, denied.
    pub(crate) fn denied(self, refusal: &Refusal) -> Self {
        let (reason, label) = (Some(refusal.to_string()), Some(refusal.reason()));
        Self { approve: false, reason, refusal: label, ..self }
    }
}

/// A server whose tools the model's own service calls. Its address and credentials are the model port's business and
/// are never stored with a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostedServer {
    /// How cards name it.
    pub server: String,
    /// How the service names it.
    pub label: String,
    /// The only tools that the service may offer to the model, sorted.
    pub tools: Vec<String>,
}

/// What the model is asked in one turn.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TurnRequest {
    /// The model.
    pub model: ModelId,
    /// The system prompt.
    pub instructions: String,
    /// The conversation. Each request's is the one before it and what followed.
    pub input: Vec<Item>,
    /// The functions. The same in every request of a run, so that the prefix stays identical.
    pub tools: Vec<ToolSpec>,
    /// The servers that the model's service calls. The same in every request of a run, unless one is out.
    pub hosted: Vec<HostedServer>,
    /// The most hosted calls of one response.
    pub max_hosted_calls: u32,
    /// The function that has to be called now; `None`: the model chooses.
    pub force: Option<String>,
    /// The most tokens of the answer, reasoning included.
    pub max_output_tokens: u32,
    /// The same for all requests of one incident: helps the model's cache.
    pub cache_key: String,
}

/// The models that can be asked, of all services.
#[async_trait]
pub trait Model: Send + Sync + fmt::Debug {
    /// Asks once. `within` is the longest that the answer may take, retries included; the caller cuts the call off
    /// when it is over.
    async fn respond(&self, request: &TurnRequest, within: Duration) -> Result<TurnResponse, ModelError>;

    /// The label under which the service of `model` calls this server itself; `None`: it does not.
    fn hosts(&self, model: &ModelId, server: &str) -> Option<String> {
        let _ = (model, server);
        None
    }

    /// Whether the turns come from a file: the report says so.
    fn is_recorded(&self) -> bool {
        false
    }

    /// The models that were asked, and of each whether it is left alone for a while because it failed again and again.
    fn left_alone(&self) -> Vec<(ModelId, bool)> {
        Vec::new()
    }
}

/// What can go wrong with a model.
#[derive(Clone, Debug, Error)]
pub enum ModelError {
    /// Out of reach, overloaded, rate limited or too slow, after retries within the time given: later it may work.
    #[error("the model did not answer: {reason}")]
    Unavailable {
        /// What happened last.
        reason: String,
        /// The server's `Retry-After`, where it gave one.
        retry_after: Option<Duration>,
        /// Whether a try may have been answered, and be billed, although nothing of it came back.
        billed: bool,
    },
    /// It will refuse every time: a bad key (401), no permission (403), nothing left on the account (402), no such model
    /// (404), a request that it does not understand. Another model or service may answer.
    #[error("the model refused the request: {0}")]
    Refused(String),
    /// The conversation does not fit into the model's context.
    #[error("the model refused the request: {reason}")]
    TooLong {
        /// What the service said.
        reason: String,
        /// How much of it would fit, in hundredths, where the service said that.
        fits: Option<u32>,
    },
    /// The model's service could not reach hosted servers, and therefore did not ask the model at all.
    #[error("hosted servers are out: {reason}")]
    ServersOut {
        /// Their labels, of those in the request. Never empty.
        labels: Vec<String>,
        /// What the service said.
        reason: String,
    },
    /// It answered something that is not a response.
    #[error("the model's answer cannot be read: {0}")]
    Unreadable(String),
}

impl ModelError {
    /// Whether the same request may work later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Unreadable(_))
    }

    /// Whether it may have cost something all the same.
    pub fn may_be_billed(&self) -> bool {
        match self {
            Self::Unavailable { billed, .. } => *billed,
            Self::Unreadable(_) => true,
            Self::Refused(_) | Self::TooLong { .. } | Self::ServersOut { .. } => false,
        }
    }
}

/// A tool as its server describes it. Untrusted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ToolDefinition {
    /// Which tool.
    pub tool: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub input_schema: Value,
    /// The server's hint that it only reads. Widens nothing.
    pub read_only_hint: Option<bool>,
    /// The server's hint that it destroys. Always refuses.
    pub destructive_hint: Option<bool>,
    /// Whatever else the server says of it, by the protocol's names: `title`, `outputSchema`, `annotations`, `_meta`, ….
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub more: Map<String, Value>,
    /// Why nobody could call it, where its server lists it in a way that cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
}

impl ToolDefinition {
    /// A definition as the protocol's JSON has it; the schema of a hosted one is called `input_schema`.
    pub fn read(tool: Value) -> Self {
        let Value::Object(mut more) = tool else { return Self::read(Value::Object(Map::new())) };
        let mut text = |key: &str| match more.remove(key) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (tool, description) = (text("name"), text("description"));
        let input_schema = more.remove("inputSchema").or_else(|| more.remove("input_schema"));
        more.retain(|_, said| !said.is_null());
        let hint = |key: &str| more.get("annotations").and_then(|a| a.get(key)).and_then(Value::as_bool);
        Self {
            tool,
            description,
            input_schema: input_schema.unwrap_or_default(),
            read_only_hint: hint("readOnlyHint"),
            destructive_hint: hint("destructiveHint"),
            more,
            unusable: None,
        }
    }

    /// A tool that its server lists in a way that cannot be read, so that whoever wants it is told why it is not there.
    pub fn unusable(tool: String, why: String) -> Self {
        Self { tool, unusable: Some(why), ..Self::read(Value::Null) }
    }

    /// The definition as the protocol's JSON has it, its schema under `schema_key`.
    pub fn written(&self, schema_key: &str) -> Value {
        let mut tool = self.more.clone();
        tool.insert("name".to_owned(), Value::String(self.tool.clone()));
        if !self.description.is_empty() {
            tool.insert("description".to_owned(), Value::String(self.description.clone()));
        }
        tool.insert(schema_key.to_owned(), self.input_schema.clone());
        Value::Object(tool)
    }

    /// All that is pinned of it.
    pub fn said(&self) -> tools_lock::Said<'_> {
        tools_lock::Said {
            description: &self.description,
            input_schema: &self.input_schema,
            more: &self.more,
        }
    }

    /// Whether its server says of it what a tool may say that is called. `accepted`: the card takes it although it does
    /// not only read.
    ///
    /// # Errors
    /// Why not.
    pub fn may_be_called(&self, accepted: bool) -> Result<(), Unfit> {
        if let Some(why) = &self.unusable {
            return Err(Unfit::Unreadable(why.clone()));
        }
        if self.input_schema.is_null() {
            return Err(Unfit::Unreadable("its server lists it without an input schema".to_owned()));
        }
        match (self.read_only_hint, self.destructive_hint) {
            (_, Some(true)) => Err(Unfit::Destructive),
            (Some(false), None) if !accepted => Err(Unfit::NotReadOnly),
            _ => Ok(()),
        }
    }
}

/// What a tool gave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ToolOutput {
    /// Its text, whole: text blocks joined by newlines, other blocks as a described placeholder.
    pub text: String,
    /// Whether the tool itself says that it failed (`isError`).
    pub is_error: bool,
    /// What a reader should know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Remark>,
}

/// What a reader should know of an output, besides its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remark {
    /// Something of it is not there: a gap.
    Lost(String),
    /// It is whole, and odd.
    Noted(String),
}

impl Remark {
    /// The same without secrets, and not longer than a line.
    pub(crate) fn redacted(self, redactor: &Redactor) -> Self {
        let of = |text: String| clip(&redactor.redact(&text), 300);
        match self {
            Self::Lost(text) => Self::Lost(of(text)),
            Self::Noted(text) => Self::Noted(of(text)),
        }
    }
}

/// Tools on servers.
#[async_trait]
pub trait ToolBox: Send + Sync + fmt::Debug {
    /// The tools of one server, at most `within` long.
    async fn list(&self, server: &str, within: Duration) -> Result<Vec<ToolDefinition>, ToolError>;

    /// Calls one tool, at most `within` and the server's own time-out long. The caller has checked that it may be
    /// called.
    async fn call(
        &self,
        tool: &ToolId,
        arguments: &Map<String, Value>,
        within: Duration,
    ) -> Result<ToolOutput, ToolError>;

    /// The servers, and of each whether it is left alone for a while because it failed.
    fn left_alone(&self) -> Vec<(String, bool)> {
        Vec::new()
    }
}

/// What can go wrong with a tool.
#[derive(Debug, Error)]
pub enum ToolError {
    /// The model is told and goes on: the server is down, slow, answers garbage, or refuses the arguments.
    #[error("{0}")]
    RespondToModel(String),
    /// The investigation cannot go on.
    #[error("{0}")]
    Fatal(String),
}

impl ToolError {
    /// Whether the same call may work later. A fatal one never does; the model decides about the others.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::RespondToModel(_))
    }
}
