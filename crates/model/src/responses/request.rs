//! A turn as the API's `CreateResponse`.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::ExposeSecret;
use sentinel_investigation::ports::{
    Api, CallStatus, FunctionCall, HostedCall, HostedList, HostedRequest, HostedServer, Item, Output, Said,
    ToolSpec, TurnRequest,
};
use serde_json::{Map, Value, json};

use crate::adapt::{Adapted, ForcedTurn};
use crate::hosted::{HostedPlace, HostedSpec};
use crate::service::ServiceSettings;

/// The request's body, with all that helps and that the model is not known to refuse.
pub(crate) fn body(
    settings: &ServiceSettings,
    hosted: &BTreeMap<String, HostedSpec>,
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
    set("model", json!(request.model.name));
    set("instructions", json!(request.instructions));
    set("input", Value::Array(input(request)));
    let functions = tools.iter().map(|tool| {
        // `strict` would hold a server's schema to a subset of JSON Schema that few keep to.
        let ToolSpec { name, description, parameters } = tool.as_ref();
        json!({
            "type": "function", "name": name, "description": description, "parameters": parameters,
            "strict": false,
        })
    });
    let servers: Vec<Value> =
        request.hosted.iter().filter_map(|h| Some(server(h, hosted.get(&h.server)?))).collect();
    if !servers.is_empty() {
        set("max_tool_calls", json!(request.max_hosted_calls));
    }
    let offered: Vec<Value> = functions.chain(servers).collect();
    if !offered.is_empty() {
        set("tools", Value::Array(offered));
        let choice = match (&request.force, adapted.choice()) {
            (_, None) => None,
            (Some(name), Some(ForcedTurn::Named)) => Some(json!({"type": "function", "name": name})),
            (Some(_), Some(ForcedTurn::Required)) => Some(json!("required")),
            (Some(_), Some(ForcedTurn::Auto | ForcedTurn::Alone)) | (None, Some(_)) => Some(json!("auto")),
        };
        if let Some(choice) = choice {
            set("tool_choice", choice);
        }
        set("parallel_tool_calls", json!(true));
    }
    // Nothing is kept over there; so the reasoning has to come back here to be sent again.
    set("store", json!(false));
    set("include", json!(["reasoning.encrypted_content"]));
    if let Some(effort) = &settings.reasoning_effort {
        set("reasoning", json!({"effort": effort}));
    }
    if let Some(temperature) = settings.temperature {
        set("temperature", json!(temperature));
    }
    set("prompt_cache_key", json!(request.cache_key));
    set("max_output_tokens", json!(adapted.output_tokens(request.max_output_tokens)));
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
            Item::Response { asked, api, outputs } => {
                let own = *api == Api::Responses && *asked == request.model;
                input.extend(response(outputs, own));
            }
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
        let asks = |item: &Value| item.get("type").and_then(Value::as_str) == Some("mcp_approval_request");
        input.retain(|item| !asks(item));
    }
    input
}

/// A response's items. `own`: this very model's, which go back as they came; another's are said anew, for its sealed
/// reasoning means nothing here, and an item's id would ask for the reasoning that stood before it.
fn response(outputs: &[Output], own: bool) -> Vec<Value> {
    let sealed = |output: &Output| output.raw.get("encrypted_content").is_some_and(Value::is_string);
    let is_reasoning = |output: &Output| matches!(output.said, Said::Reasoning { .. });
    // Reasoning that did not come sealed is not kept over there either: asking for it by its id would find nothing.
    let own = own && outputs.iter().filter(|output| is_reasoning(output)).all(sealed);
    let mut sent: Vec<Value> = Vec::new();
    // The API refuses reasoning that nothing follows.
    let drop_open_reasoning = |sent: &mut Vec<Value>| {
        while sent.last().and_then(|item| item.get("type")).and_then(Value::as_str) == Some("reasoning") {
            sent.pop();
        }
    };
    for output in outputs {
        let hosted =
            matches!(output.said, Said::HostedRequest(_) | Said::HostedCall(_) | Said::HostedList(_));
        let mut item = if own || hosted { output.raw.clone() } else { Map::new() };
        match &output.said {
            Said::Text { text } => said(
                &mut sent,
                item,
                json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []}),
            ),
            Said::Refusal { text } => said(&mut sent, item, json!({"type": "refusal", "refusal": text})),
            Said::Call(FunctionCall { call_id, name, arguments }) => {
                set(
                    &mut item,
                    &[
                        ("type", "function_call"),
                        ("call_id", call_id),
                        ("name", name),
                        ("arguments", arguments),
                    ],
                );
                sent.push(Value::Object(item));
            }
            Said::HostedRequest(HostedRequest { id, label, tool, arguments }) => {
                let kind = "mcp_approval_request";
                set(
                    &mut item,
                    &[
                        ("type", kind),
                        ("id", id),
                        ("server_label", label),
                        ("name", tool),
                        ("arguments", arguments),
                    ],
                );
                sent.push(Value::Object(item));
            }
            Said::HostedCall(call) => sent.push(Value::Object(hosted_call(item, call))),
            Said::HostedList(HostedList { label, tools, error }) => {
                set(&mut item, &[("type", "mcp_list_tools"), ("server_label", label)]);
                item.insert(
                    "tools".to_owned(),
                    tools.iter().map(|tool| tool.written("input_schema")).collect(),
                );
                if let Some(error) = error {
                    item.insert("error".to_owned(), json!(error));
                }
                sent.push(Value::Object(item));
            }
            Said::Reasoning { .. } if own => sent.push(Value::Object(item)),
            Said::Reasoning { .. } => {}
            Said::Other => drop_open_reasoning(&mut sent),
        }
    }
    drop_open_reasoning(&mut sent);
    sent
}

/// Adds a part to the message that it belongs to: only a message's first part has the rest of the message.
fn said(sent: &mut Vec<Value>, message: Map<String, Value>, part: Value) {
    let begins = message.contains_key("role") || message.contains_key("id");
    if !begins
        && let Some(last) =
            sent.last_mut().filter(|last| last.get("role").and_then(Value::as_str) == Some("assistant"))
        && let Some(parts) = last.get_mut("content").and_then(Value::as_array_mut)
    {
        parts.push(part);
        return;
    }
    let mut message = message;
    set(&mut message, &[("type", "message"), ("role", "assistant")]);
    let content = if begins {
        json!([part])
    } else {
        // Said by somebody else: without an id it can only be text.
        let words = part.get("text").or_else(|| part.get("refusal")).cloned();
        words.unwrap_or_default()
    };
    message.insert("content".to_owned(), content);
    sent.push(Value::Object(message));
}

fn hosted_call(mut item: Map<String, Value>, call: &HostedCall) -> Map<String, Value> {
    let HostedCall { id, label, tool, arguments, request, status, output, error } = call;
    set(
        &mut item,
        &[
            ("type", "mcp_call"),
            ("id", id),
            ("server_label", label),
            ("name", tool),
            ("arguments", arguments),
        ],
    );
    if let Some(request) = request {
        item.insert("approval_request_id".to_owned(), json!(request));
    }
    if let Some(output) = output {
        item.insert("output".to_owned(), json!(output));
    }
    let error = error.as_ref().map(|words| match status {
        CallStatus::ToolError => {
            json!({"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": words}]})
        }
        _ => json!({"type": "http_error", "code": 502, "message": words}),
    });
    if let Some(error) = error {
        item.insert("error".to_owned(), error);
    }
    item
}

fn set(item: &mut Map<String, Value>, fields: &[(&str, &str)]) {
    for (key, value) in fields {
        item.insert((*key).to_owned(), json!(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(said: Said, raw: Value) -> Output {
        let Value::Object(raw) = raw else { panic!("an item is an object") };
        Output { said, raw }
    }

    fn reasoning(id: &str, sealed: Option<&str>) -> Output {
        let raw = json!({"type": "reasoning", "id": id, "summary": [], "encrypted_content": sealed});
        item(Said::Reasoning { text: String::new() }, raw)
    }

    fn call(id: &str) -> Output {
        let call = FunctionCall { call_id: "c".into(), name: "f".into(), arguments: "{}".into() };
        item(Said::Call(call), json!({"type": "function_call", "id": id, "status": "completed"}))
    }

    fn text(id: &str) -> Output {
        let raw = json!({"type": "message", "id": id, "role": "assistant", "status": "completed"});
        item(Said::Text { text: "hm".into() }, raw)
    }

    fn ids(sent: &[Value]) -> Vec<Option<&str>> {
        sent.iter().map(|item| item.get("id").and_then(Value::as_str)).collect()
    }

    #[test]
    fn items_of_an_unknown_kind_stay_here_with_the_reasoning_that_led_to_them() {
        let unknown = item(Said::Other, json!({"type": "hologram_call"}));
        let outputs = [
            reasoning("r1", Some("x")),
            call("f2"),
            reasoning("r3", Some("x")),
            unknown,
            text("m5"),
            reasoning("r6", Some("x")),
        ];
        assert_eq!(ids(&response(&outputs, true)), [Some("r1"), Some("f2"), Some("m5")]);
    }

    #[test]
    fn reasoning_that_did_not_come_sealed_is_not_asked_for_by_its_id() {
        let sent = response(&[reasoning("r1", None), call("f2"), text("m3")], true);
        assert_eq!(ids(&sent), [None, None]);
    }

    #[test]
    fn what_another_model_said_is_told_without_its_reasoning_and_its_ids() {
        let sent = response(&[reasoning("rs_1", Some("x")), text("m"), call("fc_1")], false);
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
