//! A turn as the API's `CreateMessage`.

use std::borrow::Cow;
use std::sync::Arc;

use sentinel_investigation::ports::{Api, FunctionCall, Item, Output, Said, ToolSpec, TurnRequest};
use serde_json::{Map, Value, json};

use super::{WORDS, digest};
use crate::adapt::{Adapted, CACHE_CONTROL, ForcedTurn, closing_line};
use crate::hosted::{NOT_MADE_HERE, ends_with_the_model, in_words};
use crate::service::ServiceSettings;

/// How many of the last messages of the user are marked for the cache, besides the system prompt. The service looks at most
/// 20 blocks before a mark for what it has: the last but one is marked again, so that a turn of many calls is found.
const MARKED: usize = 2;

/// The request's body, with all that helps and that the model is not known to refuse.
pub(crate) fn body(
    settings: &ServiceSettings,
    request: &TurnRequest,
    tools: &[Arc<ToolSpec>],
    adapted: &Adapted,
) -> Value {
    let mut body = Map::new();
    let mut set = |key: &str, value: Value| {
        if adapted.takes(key) {
            body.insert(key.to_owned(), value);
        }
    };
    let effort = settings.reasoning_effort.as_deref().filter(|effort| *effort != "none");
    let thinks = effort.is_some() && adapted.takes("thinking");
    let mut messages = messages(request);
    set("model", json!(request.model.name));
    set("max_tokens", json!(adapted.output_tokens(request.max_output_tokens)));
    if !tools.is_empty() {
        let tools = tools.iter().map(|tool| {
            let ToolSpec { name, description, parameters } = tool.as_ref();
            json!({"name": name, "description": description, "input_schema": parameters})
        });
        set("tools", tools.collect());
        let choice = match (&request.force, adapted.choice()) {
            (_, None) => None,
            // What thinks may not be forced.
            (Some(name), Some(ForcedTurn::Named)) if thinks => {
                add(&mut messages, "user", [text_block(&closing_line(name))]);
                Some(json!({"type": "auto"}))
            }
            (Some(name), Some(ForcedTurn::Named)) => Some(json!({"type": "tool", "name": name})),
            (Some(_), Some(ForcedTurn::Required)) if !thinks => Some(json!({"type": "any"})),
            (_, Some(_)) => Some(json!({"type": "auto"})),
        };
        if let Some(choice) = choice {
            set("tool_choice", choice);
        }
    }
    let mut system = text_block(&request.instructions);
    if adapted.takes(CACHE_CONTROL) {
        mark(&mut system);
        let of_user = |message: &&mut Value| message.get("role").is_some_and(|role| role == "user");
        for message in messages.iter_mut().rev().filter(of_user).take(MARKED) {
            let blocks = message.get_mut("content").and_then(Value::as_array_mut);
            blocks.and_then(|blocks| blocks.last_mut()).map(mark);
        }
    }
    if !request.instructions.trim().is_empty() {
        set("system", json!([system]));
    }
    set("messages", Value::Array(messages));
    if let Some(effort) = effort {
        // How much it thinks is told by the effort; a budget in tokens is what the newest models refuse.
        set("thinking", json!({"type": "adaptive"}));
        let effort = if effort == "minimal" { "low" } else { effort };
        set("output_config", json!({"effort": effort}));
    }
    if let Some(temperature) = settings.temperature.filter(|_| !thinks) {
        set("temperature", json!(temperature));
    }
    if let Some(tier) = &settings.service_tier {
        set("service_tier", json!(tier));
    }
    Value::Object(body)
}

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn mark(block: &mut Value) {
    if let Some(fields) = block.as_object_mut() {
        fields.insert(CACHE_CONTROL.to_owned(), json!({"type": "ephemeral"}));
    }
}

/// Adds blocks to the conversation. Messages of one role after another are one; results stand before words.
fn add(messages: &mut Vec<Value>, role: &str, blocks: impl IntoIterator<Item = Value>) {
    for block in blocks {
        let is_result = |block: &Value| block.get("type").is_some_and(|kind| kind == "tool_result");
        let last = messages.last_mut().filter(|last| last.get("role").is_some_and(|of| of == role));
        match last.and_then(|last| last.get_mut("content")).and_then(Value::as_array_mut) {
            Some(content) if is_result(&block) => {
                let words = content.iter().position(|block| !is_result(block)).unwrap_or(content.len());
                content.insert(words, block);
            }
            Some(content) => content.push(block),
            None => messages.push(json!({"role": role, "content": [block]})),
        }
    }
}

fn messages(request: &TurnRequest) -> Vec<Value> {
    let mut messages = Vec::new();
    for item in &request.input {
        match item {
            Item::User { text } if text.trim().is_empty() => {}
            Item::User { text } => add(&mut messages, "user", [text_block(text)]),
            Item::Response { asked, api, outputs } => {
                let own = *api == Api::Messages && *asked == request.model;
                add(&mut messages, "user", outputs.iter().filter_map(made_elsewhere));
                add(&mut messages, "assistant", outputs.iter().filter_map(|output| block(output, own)));
            }
            Item::CallOutput { call_id, output } => {
                let result = json!({"type": "tool_result", "tool_use_id": name(call_id), "content": output});
                add(&mut messages, "user", [result]);
            }
            // The requests that they answer belong to another interface and are not sent. The user has the last word.
            Item::Approval(_) if ends_with_the_model(&messages) => {
                add(&mut messages, "user", [text_block(NOT_MADE_HERE)]);
            }
            Item::Approval(_) => {}
        }
    }
    messages
}

/// A call that another service made, as words.
fn made_elsewhere(output: &Output) -> Option<Value> {
    match &output.said {
        Said::HostedCall(call) => Some(text_block(&in_words(call))),
        _ => None,
    }
}

/// What the assistant said. `own`: this very model's thoughts go back to it as they were; another's mean nothing here.
fn block(Output { said, raw }: &Output, own: bool) -> Option<Value> {
    match said {
        Said::Text { text } | Said::Refusal { text } => {
            (!text.trim().is_empty()).then(|| text_block(text.trim_end()))
        }
        Said::Call(FunctionCall { call_id, name: function, arguments }) => {
            let input = match serde_json::from_str(arguments) {
                Ok(Value::Object(input)) => Value::Object(input),
                // The service takes an object only, whatever was written.
                _ => json!({"arguments": arguments}),
            };
            let mut call = if own { raw.clone() } else { Map::new() };
            call.extend([
                ("type".to_owned(), json!("tool_use")),
                ("id".to_owned(), json!(name(call_id))),
                ("name".to_owned(), json!(name(function))),
                ("input".to_owned(), input),
            ]);
            Some(Value::Object(call))
        }
        Said::Reasoning { text } if own => thought(text, raw),
        Said::Reasoning { .. }
        | Said::HostedCall(_)
        | Said::HostedList(_)
        | Said::HostedRequest(_)
        | Said::Other => None,
    }
}

/// A thinking block as it came; `None`: its words were changed since, or it has no signature.
fn thought(text: &str, raw: &Map<String, Value>) -> Option<Value> {
    let mut block = raw.clone();
    match block.remove(WORDS) {
        None => block.get("data")?.as_str().map(|_| ())?,
        Some(words) => {
            block.get("signature")?.as_str().filter(|signature| !signature.is_empty())?;
            if words != digest(text) {
                return None;
            }
            block.insert("thinking".to_owned(), json!(text));
        }
    }
    Some(Value::Object(block))
}

/// An id or a name in the characters that the service takes: letters, digits, `_`, `-`.
fn name(id: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !id.is_empty() && id.chars().all(fits) {
        return Cow::Borrowed(id);
    }
    let put = |c: char| if fits(c) { c.to_string() } else { format!("_{:x}_", u32::from(c)) };
    Cow::Owned(id.chars().map(put).collect::<String>() + if id.is_empty() { "_" } else { "" })
}
