//! Chat Completions (`POST /chat/completions`): for services that speak nothing else. It hosts no MCP servers.
//!
//! What a run keeps of an answer is the assistant's message, raw but for two things that services get wrong: calls
//! without an id of their own get one, and arguments that are an object become the text that they should have been.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sentinel_http::HttpClient;
use sentinel_investigation::ports::{FunctionCall, Item, Model, ModelError, TurnRequest, TurnResponse};
use serde_json::Value;

pub(crate) mod answer;
pub(crate) mod request;

use crate::service::{Api, ModelSettings, Service};

/// A model behind Chat Completions.
#[derive(Debug)]
pub struct Chat {
    service: Service,
}

impl Chat {
    /// A model as `settings` describe it, called through `http`. Fails where the base URL may not be called or the key
    /// cannot be a header. Nothing is loaded or called yet.
    pub fn new(settings: ModelSettings, http: Arc<HttpClient>) -> Result<Self, ModelError> {
        Ok(Self { service: Service::new(settings, Vec::new(), http)? })
    }
}

#[async_trait]
impl Model for Chat {
    async fn respond(&self, request: &TurnRequest, within: Duration) -> Result<TurnResponse, ModelError> {
        let body = request::body(&self.service.settings, request);
        let (used, turn) = used_ids(&request.input);
        let read = |answer| answer::read(&answer, &used, turn);
        let asked = self.service.ask(Api::Chat, &request.model, &body, within, read);
        asked.await.map_err(|failed| failed.failure.into_model_error(failed.tries, failed.billed))
    }
}

/// The call ids that the conversation holds, and how many responses.
fn used_ids(input: &[Item]) -> (HashSet<String>, usize) {
    let ids = input.iter().filter_map(|item| match item {
        Item::CallOutput { call_id, .. } => Some(call_id.clone()),
        Item::User { .. } | Item::Response { .. } | Item::Approval(_) => None,
    });
    (ids.collect(), input.iter().filter(|item| matches!(item, Item::Response { .. })).count())
}

/// Whether a stored item is an assistant's message of this interface: it has a role and no type.
pub(crate) fn is_message(item: &Value) -> bool {
    item.get("type").is_none() && item.get("role").and_then(Value::as_str) == Some("assistant")
}

/// What a message says: its content, in one text or in parts, and its refusal.
pub(crate) fn text_of(message: &Value) -> String {
    let mut texts: Vec<&str> = Vec::new();
    match message.get("content") {
        Some(Value::String(text)) => texts.push(text),
        Some(Value::Array(parts)) => {
            let text = |part: &'_ Value| part.get("text").or_else(|| part.get("refusal")).is_some();
            for part in parts.iter().filter(|part| text(part)) {
                texts.extend(part.get("text").or_else(|| part.get("refusal")).and_then(Value::as_str));
            }
        }
        _ => {}
    }
    texts.extend(message.get("refusal").and_then(Value::as_str));
    texts.retain(|text| !text.is_empty());
    texts.join("\n")
}

/// The function calls of a message that [`answer::read`] has put right.
pub(crate) fn calls_of(message: &Value) -> impl Iterator<Item = FunctionCall> + '_ {
    let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    calls.map(|call| {
        let text = |path: &str| call.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        FunctionCall {
            call_id: text("/id"),
            name: text("/function/name"),
            arguments: text("/function/arguments"),
        }
    })
}
