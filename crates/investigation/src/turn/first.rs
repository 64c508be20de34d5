//! Turns as the first version stored them: the items as Responses or Chat Completions wrote them. They are read as long as
//! such records can be there; nothing writes them any more.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Api, FunctionCall, HostedCall, HostedList, HostedRequest, Incomplete, LeftOut, Output, Said,
    TurnResponse, TurnUsage,
};
use crate::evidence::CallStatus;
use crate::ports::ToolDefinition;

/// A turn's answer, of either version: only today's says which interface its raw values are of.
#[derive(Deserialize)]
pub(super) struct Stored {
    model: String,
    api: Option<Api>,
    #[serde(default)]
    outputs: Vec<Output>,
    #[serde(default)]
    items: Vec<Value>,
    incomplete: Option<Incomplete>,
    usage: TurnUsage,
    #[serde(default)]
    left_out: Vec<LeftOut>,
}

impl From<Stored> for TurnResponse {
    fn from(stored: Stored) -> Self {
        let Stored { model, api, mut outputs, items, incomplete, usage, left_out } = stored;
        let of_chat = |item: &Value| item.get("type").is_none() && item.get("role").is_some();
        let api = api.unwrap_or_else(|| {
            let api = if items.iter().any(of_chat) { Api::Chat } else { Api::Responses };
            outputs = items.into_iter().flat_map(read).collect();
            api
        });
        Self { model, api, outputs, incomplete, usage, left_out }
    }
}

fn read(item: Value) -> Vec<Output> {
    let Value::Object(mut raw) = item else { return Vec::new() };
    let kind = raw.get("type").and_then(Value::as_str).map(str::to_owned);
    let said = match kind.as_deref() {
        None => return message_of_chat(raw),
        Some("message") => return message(raw),
        Some("function_call") => Said::Call(FunctionCall {
            call_id: text(&mut raw, "call_id"),
            name: text(&mut raw, "name"),
            arguments: written(&mut raw),
        }),
        Some("mcp_approval_request") => Said::HostedRequest(HostedRequest {
            id: text(&mut raw, "id"),
            label: text(&mut raw, "server_label"),
            tool: text(&mut raw, "name"),
            arguments: written(&mut raw),
        }),
        Some("mcp_call") => hosted_call(&mut raw),
        Some("mcp_list_tools") => {
            let tools = match raw.remove("tools") {
                Some(Value::Array(tools)) => tools.into_iter().map(ToolDefinition::read).collect(),
                _ => Vec::new(),
            };
            let error = raw.remove("error").filter(|e| !e.is_null());
            let error = error.map(|e| e.as_str().map_or_else(|| e.to_string(), str::to_owned));
            Said::HostedList(HostedList { label: text(&mut raw, "server_label"), tools, error })
        }
        Some("reasoning") => Said::Reasoning { text: String::new() },
        Some(_) => Said::Other,
    };
    vec![Output { said, raw }]
}

/// The output was taken out of the item before it was stored: it is evidence.
fn hosted_call(raw: &mut Map<String, Value>) -> Said {
    let error = raw.remove("error").filter(|e| !e.is_null());
    let output = match raw.remove("output") {
        Some(Value::String(output)) => Some(output),
        _ => None,
    };
    let status = match (&error, &output) {
        (Some(error), _) if error.get("type").and_then(Value::as_str) == Some("mcp_tool_execution_error") => {
            CallStatus::ToolError
        }
        (Some(_), _) | (None, None) => CallStatus::NoAnswer,
        (None, Some(_)) => CallStatus::Answered,
    };
    Said::HostedCall(HostedCall {
        id: text(raw, "id"),
        label: text(raw, "server_label"),
        tool: text(raw, "name"),
        arguments: written(raw),
        request: raw.remove("approval_request_id").and_then(|id| id.as_str().map(str::to_owned)),
        status,
        output,
        error: error.as_ref().map(words),
    })
}

/// What an error says: the tool's own words, or those of whoever did not reach it.
fn words(error: &Value) -> String {
    if let Some(blocks) = error.get("content").and_then(Value::as_array) {
        let texts = blocks.iter().filter_map(|block| block.get("text").and_then(Value::as_str));
        return texts.collect::<Vec<_>>().join("\n");
    }
    let message = error.get("message").and_then(Value::as_str).or(error.as_str());
    let message = message.map_or_else(|| error.to_string(), str::to_owned);
    let kind = error.get("type").and_then(Value::as_str).unwrap_or_default();
    let code = error.get("code").map(|code| format!(" ({kind} {code})")).unwrap_or_default();
    format!("the server did not answer the model's service: {message}{code}")
}

fn message(mut raw: Map<String, Value>) -> Vec<Output> {
    let said = texts(raw.remove("content"));
    said.into_iter().map(|said| Output { said, raw: std::mem::take(&mut raw) }).collect()
}

fn message_of_chat(mut raw: Map<String, Value>) -> Vec<Output> {
    let mut outputs: Vec<Output> = texts(raw.remove("content")).into_iter().map(Output::plain).collect();
    let refusal = text(&mut raw, "refusal");
    if !refusal.is_empty() {
        outputs.push(Output::plain(Said::Refusal { text: refusal }));
    }
    let calls = match raw.remove("tool_calls") {
        Some(Value::Array(calls)) => calls,
        _ => Vec::new(),
    };
    outputs.extend(calls.into_iter().filter_map(|call| {
        let Value::Object(mut raw) = call else { return None };
        let Some(Value::Object(mut function)) = raw.remove("function") else { return None };
        let call_id = text(&mut raw, "id");
        raw.remove("type");
        let name = text(&mut function, "name");
        Some(Output {
            said: Said::Call(FunctionCall { call_id, name, arguments: written(&mut function) }),
            raw,
        })
    }));
    outputs
}

/// A message's content: one text or parts.
fn texts(content: Option<Value>) -> Vec<Said> {
    match content {
        Some(Value::String(text)) => vec![Said::Text { text }],
        Some(Value::Array(parts)) => {
            let said = parts.into_iter().filter_map(|mut part| {
                let part = part.as_object_mut()?;
                if part.contains_key("refusal") {
                    return Some(Said::Refusal { text: text(part, "refusal") });
                }
                part.contains_key("text").then(|| Said::Text { text: text(part, "text") })
            });
            said.collect()
        }
        _ => Vec::new(),
    }
}

fn text(raw: &mut Map<String, Value>, key: &str) -> String {
    match raw.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

/// Arguments: a text, which some services wrote as the value itself.
fn written(raw: &mut Map<String, Value>) -> String {
    match raw.remove("arguments") {
        Some(Value::String(written)) => written,
        None | Some(Value::Null) => String::new(),
        Some(value) => value.to_string(),
    }
}
