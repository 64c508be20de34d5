//! A turn as the API's `CreateResponse`.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use sentinel_investigation::ports::{HostedServer, Item, TurnRequest};
use serde_json::{Map, Value, json};

use super::{HostedPlace, HostedSpec};
use crate::chat;
use crate::service::{ModelSettings, is_reasoning};

/// The request's body. Only what the API is known to take from this model is in it.
pub(crate) fn body(
    settings: &ModelSettings,
    hosted: &BTreeMap<String, HostedSpec>,
    request: &TurnRequest,
) -> Value {
    let reasons = is_reasoning(&request.model);
    let mut body = Map::new();
    let mut set = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    set("model", json!(request.model));
    set("instructions", json!(request.instructions));
    set("input", Value::Array(input(request)));
    let functions = request.tools.iter().map(|tool| {
        // `strict` would hold a server's schema to a subset of JSON Schema that few keep to.
        json!({
            "type": "function", "name": tool.name, "description": tool.description,
            "parameters": tool.parameters, "strict": false,
        })
    });
    let servers: Vec<Value> =
        request.hosted.iter().filter_map(|h| Some(server(h, hosted.get(&h.server)?))).collect();
    if !servers.is_empty() {
        set("max_tool_calls", json!(request.max_hosted_calls));
    }
    let tools: Vec<Value> = functions.chain(servers).collect();
    if !tools.is_empty() {
        set("tools", Value::Array(tools));
        let choice = request.force.as_ref().map(|name| json!({"type": "function", "name": name}));
        set("tool_choice", choice.unwrap_or_else(|| json!("auto")));
        set("parallel_tool_calls", json!(true));
    }
    // Nothing is kept over there; so the reasoning has to come back here to be sent again.
    set("store", json!(false));
    if reasons {
        set("include", json!(["reasoning.encrypted_content"]));
        if let Some(effort) = &settings.reasoning_effort {
            set("reasoning", json!({"effort": effort}));
        }
    } else if let Some(temperature) = settings.temperature {
        set("temperature", json!(temperature));
    }
    set("prompt_cache_key", json!(request.cache_key));
    if let Some(tokens) = settings.max_output_tokens {
        set("max_output_tokens", json!(tokens));
    }
    if let Some(tier) = &settings.service_tier {
        set("service_tier", json!(tier));
    }
    Value::Object(body)
}

/// A hosted server as the API's `MCPTool`. Every call asks first, whatever the configuration says of people: the tool
/// policy answers.
fn server(offered: &HostedServer, spec: &HostedSpec) -> Value {
    let mut tool = Map::from_iter([
        ("type".to_owned(), json!("mcp")),
        ("server_label".to_owned(), json!(offered.label)),
        ("allowed_tools".to_owned(), json!(offered.tools)),
        ("require_approval".to_owned(), json!("always")),
    ]);
    let (key, place) = match &spec.place {
        HostedPlace::Url(url) => ("server_url", url),
        HostedPlace::Connector(id) => ("connector_id", id),
        HostedPlace::Tunnel(id) => ("tunnel_id", id),
    };
    tool.insert(key.to_owned(), json!(place));
    if let Some(description) = &spec.description {
        tool.insert("server_description".to_owned(), json!(description));
    }
    let mut headers: Map<String, Value> =
        spec.headers.iter().map(|(name, value)| (name.clone(), json!(value.expose_secret()))).collect();
    if let Some(written) = &spec.authorization {
        match token(written.expose_secret()) {
            Ok(token) => {
                tool.insert("authorization".to_owned(), json!(token));
            }
            Err(whole) => {
                headers.insert("Authorization".to_owned(), json!(whole));
            }
        }
    }
    if !headers.is_empty() {
        tool.insert("headers".to_owned(), Value::Object(headers));
    }
    Value::Object(tool)
}

/// A bearer token without its scheme, as the API takes it. `Err`: the value is of another scheme, and goes as a header.
fn token(written: &str) -> Result<&str, &str> {
    let written = written.trim();
    match written.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        Some(_) => Err(written),
        None => Ok(written),
    }
}

fn input(request: &TurnRequest) -> Vec<Value> {
    let mut input = Vec::new();
    for item in &request.input {
        match item {
            Item::User { text } => input.push(json!({"type": "message", "role": "user", "content": text})),
            Item::Response { asked, items } if asked.is_empty() || *asked == request.model => {
                input.extend(resendable(items));
            }
            Item::Response { items, .. } => input.extend(anothers(&resendable(items))),
            Item::CallOutput { call_id, output } => {
                input.push(json!({"type": "function_call_output", "call_id": call_id, "output": output}));
            }
            // Where no server is hosted any more, there is nothing that could be approved.
            Item::Approval(_) if request.hosted.is_empty() => {}
            Item::Approval(approval) => {
                let mut answer = json!({
                    "type": "mcp_approval_response", "approval_request_id": approval.request_id,
                    "approve": approval.approve,
                });
                if let (Some(fields), Some(reason)) = (answer.as_object_mut(), &approval.reason) {
                    fields.insert("reason".to_owned(), json!(reason));
                }
                input.push(answer);
            }
        }
    }
    if request.hosted.is_empty() {
        input.retain(|item| kind(item) != Some("mcp_approval_request"));
    }
    input
}

fn kind(item: &Value) -> Option<&str> {
    item.get("type").and_then(Value::as_str)
}

/// The items of a response that may stand in an input, as they were received. An item of a kind that was never asked
/// for is left out, and so is reasoning that nothing is left to follow: the API refuses it alone. A message of Chat
/// Completions, from a part of the run that was asked there, becomes the items that say the same.
fn resendable(items: &[Value]) -> Vec<Value> {
    let mut sent: Vec<Value> = Vec::new();
    let drop_open_reasoning = |sent: &mut Vec<Value>| {
        while sent.last().and_then(kind) == Some("reasoning") {
            sent.pop();
        }
    };
    for item in items {
        match kind(item) {
            Some(
                "message"
                | "function_call"
                | "reasoning"
                | "mcp_list_tools"
                | "mcp_call"
                | "mcp_approval_request",
            ) => sent.push(item.clone()),
            None if chat::is_message(item) => sent.extend(of_chat(item)),
            _ => drop_open_reasoning(&mut sent),
        }
    }
    drop_open_reasoning(&mut sent);
    sent
}

/// What another model answered: its encrypted reasoning means nothing to this one, and an item's id would ask for the
/// reasoning that stood before it.
fn anothers(items: &[Value]) -> Vec<Value> {
    let translated = items.iter().filter_map(|item| match kind(item) {
        Some("reasoning") => None,
        Some("message") => Some(said(&message_text(item)?)),
        Some("function_call") => {
            let field = |key: &str| item.get(key).cloned().unwrap_or_default();
            Some(called(field("call_id"), field("name"), field("arguments")))
        }
        _ => Some(item.clone()),
    });
    translated.collect()
}

fn said(text: &str) -> Value {
    json!({"type": "message", "role": "assistant", "content": text})
}

fn called(call_id: Value, name: Value, arguments: Value) -> Value {
    let fields =
        [("type", json!("function_call")), ("call_id", call_id), ("name", name), ("arguments", arguments)];
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>().into()
}

/// The text of a `message` item; `None`: it has none.
pub(crate) fn message_text(item: &Value) -> Option<String> {
    let text = match item.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let text = |part: &Value| {
                let text = part.get("text").or_else(|| part.get("refusal"))?;
                text.as_str().map(str::to_owned)
            };
            parts.iter().filter_map(text).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    };
    (!text.is_empty()).then_some(text)
}

fn of_chat(message: &Value) -> Vec<Value> {
    let text = chat::text_of(message);
    let calls = chat::calls_of(message);
    let calls = calls.map(|call| called(json!(call.call_id), json!(call.name), json!(call.arguments)));
    Some(said(&text)).filter(|_| !text.is_empty()).into_iter().chain(calls).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_an_unknown_kind_stay_here_with_the_reasoning_that_led_to_them() {
        let item = |kind: &str, id: u32| json!({"type": kind, "id": id});
        let sent = resendable(&[
            item("reasoning", 1),
            item("function_call", 2),
            item("reasoning", 3),
            item("hologram_call", 4),
            item("message", 5),
            json!("no object"),
            item("reasoning", 6),
        ]);
        assert_eq!(sent, [item("reasoning", 1), item("function_call", 2), item("message", 5)]);
    }

    #[test]
    fn what_another_model_said_is_told_without_its_reasoning_and_its_ids() {
        let sent = anothers(&[
            json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}),
            json!({"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "hm"}]}),
            json!({"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"}),
        ]);
        assert_eq!(
            sent,
            [
                json!({"type": "message", "role": "assistant", "content": "hm"}),
                json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
            ]
        );
    }

    #[test]
    fn a_token_loses_its_scheme_and_another_scheme_becomes_a_header() {
        assert_eq!(token("abc"), Ok("abc"));
        assert_eq!(token("Bearer  abc "), Ok("abc"));
        assert_eq!(token("Basic dXNlcg=="), Err("Basic dXNlcg=="));
    }
}
