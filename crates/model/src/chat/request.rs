//! A turn as the API's `CreateChatCompletionRequest`.

use sentinel_http::Url;
use sentinel_investigation::ports::{Item, TurnRequest};
use serde_json::{Map, Value, json};

use super::{calls_of, is_message, text_of};
use crate::responses::request::message_text;
use crate::service::{ModelSettings, is_reasoning};

/// The request's body. Services other than OpenAI refuse fields that they do not know: what only OpenAI knows is sent
/// to OpenAI only.
pub(crate) fn body(settings: &ModelSettings, request: &TurnRequest) -> Value {
    let mut body = Map::new();
    let mut set = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    set("model", json!(request.model));
    set("messages", Value::Array(messages(request)));
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            let function =
                json!({"name": tool.name, "description": tool.description, "parameters": tool.parameters});
            json!({"type": "function", "function": function})
        });
        set("tools", tools.collect());
        let choice =
            request.force.as_ref().map(|name| json!({"type": "function", "function": {"name": name}}));
        set("tool_choice", choice.unwrap_or_else(|| json!("auto")));
    }
    let reasons = is_reasoning(&request.model);
    if let Some(tokens) = settings.max_output_tokens {
        // OpenAI's models that reason take only the newer name, most other services only the older one.
        set(if reasons { "max_completion_tokens" } else { "max_tokens" }, json!(tokens));
    }
    if reasons {
        if let Some(effort) = &settings.reasoning_effort {
            set("reasoning_effort", json!(effort));
        }
    } else if let Some(temperature) = settings.temperature {
        set("temperature", json!(temperature));
    }
    // `auto` is what a service does that is told nothing.
    if let Some(tier) = settings.service_tier.as_ref().filter(|tier| *tier != "auto") {
        set("service_tier", json!(tier));
    }
    if is_openai(&settings.base_url) {
        set("prompt_cache_key", json!(request.cache_key));
        set("store", json!(false));
    }
    Value::Object(body)
}

fn is_openai(base_url: &str) -> bool {
    let host = Url::parse(base_url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| host == "openai.com" || host.ends_with(".openai.com"))
}

fn messages(request: &TurnRequest) -> Vec<Value> {
    let mut messages = vec![json!({"role": "system", "content": request.instructions})];
    for item in &request.input {
        match item {
            Item::User { text } => messages.push(json!({"role": "user", "content": text})),
            Item::Response { items, .. } => messages.extend(response(items)),
            Item::CallOutput { call_id, output } => {
                messages.push(json!({"role": "tool", "tool_call_id": call_id, "content": output}));
            }
            // Hosted calls belong to the other interface: the requests that they answer are not sent either.
            Item::Approval(_) => {}
        }
    }
    messages
}

/// A response as messages: one of this interface as it was kept; items of the Responses API, from a part of the run
/// that was asked there, as the message that says the same, after what hosted calls gave.
fn response(items: &[Value]) -> Vec<Value> {
    let (mut sent, mut texts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for item in items {
        match item.get("type").and_then(Value::as_str) {
            None if is_message(item) && (calls_of(item).next().is_some() || !text_of(item).is_empty()) => {
                sent.push(item.clone());
            }
            Some("message") => texts.extend(message_text(item)),
            Some("function_call") => {
                let field = |key: &str| item.get(key).cloned().unwrap_or_default();
                let function = json!({"name": field("name"), "arguments": field("arguments")});
                calls.push(json!({"id": field("call_id"), "type": "function", "function": function}));
            }
            Some("mcp_call") => {
                let output = item.get("output").and_then(Value::as_str).filter(|o| !o.is_empty());
                let output = output.map_or_else(|| "The call failed.".to_owned(), str::to_owned);
                sent.push(json!({"role": "user", "content": output}));
            }
            _ => {}
        }
    }
    if !texts.is_empty() || !calls.is_empty() {
        let mut message = Map::from_iter([("role".to_owned(), json!("assistant"))]);
        if !texts.is_empty() {
            message.insert("content".to_owned(), json!(texts.join("\n")));
        }
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        sent.push(Value::Object(message));
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_openai_itself_gets_what_only_openai_knows() {
        assert!(is_openai("https://api.openai.com/v1") && is_openai("https://eu.api.openai.com/v1/"));
        assert!(!is_openai("https://openai.com.example/v1") && !is_openai("http://127.0.0.1:8080/v1"));
    }
}
