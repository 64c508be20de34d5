//! A turn as the API's `CreateChatCompletionRequest`.

use std::sync::Arc;

use sentinel_http::Url;
use sentinel_investigation::ports::{Api, FunctionCall, Item, Output, Said, ToolSpec, TurnRequest};
use serde_json::{Map, Value, json};

use crate::adapt::{Adapted, BESIDE, ForcedTurn};
use crate::hosted::{NOT_MADE_HERE, ends_with_the_model, in_words};
use crate::service::ServiceSettings;

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
    set("model", json!(request.model.name));
    set("messages", Value::Array(messages(request, adapted.takes(BESIDE))));
    if !tools.is_empty() {
        let tools = tools.iter().map(|tool| {
            let ToolSpec { name, description, parameters } = tool.as_ref();
            let function = json!({"name": name, "description": description, "parameters": parameters});
            json!({"type": "function", "function": function})
        });
        set("tools", tools.collect());
        let choice = match (&request.force, adapted.choice()) {
            (_, None) => None,
            (Some(name), Some(ForcedTurn::Named)) => {
                Some(json!({"type": "function", "function": {"name": name}}))
            }
            (Some(_), Some(ForcedTurn::Required)) => Some(json!("required")),
            (Some(_), Some(ForcedTurn::Auto | ForcedTurn::Alone)) | (None, Some(_)) => Some(json!("auto")),
        };
        if let Some(choice) = choice {
            set("tool_choice", choice);
        }
        set("parallel_tool_calls", json!(true));
    }
    // OpenAI takes the newer name only where its models reason, most other services the older one only.
    let first = if is_openai(&settings.base_url) { "max_completion_tokens" } else { "max_tokens" };
    if let Some(bound) = adapted.bound(first) {
        set(bound, json!(adapted.output_tokens(request.max_output_tokens)));
    }
    if let Some(effort) = &settings.reasoning_effort {
        set("reasoning_effort", json!(effort));
    }
    if let Some(temperature) = settings.temperature {
        set("temperature", json!(temperature));
    }
    // `auto` is what a service does that is told nothing.
    if let Some(tier) = settings.service_tier.as_ref().filter(|tier| *tier != "auto") {
        set("service_tier", json!(tier));
    }
    set("prompt_cache_key", json!(request.cache_key));
    set("store", json!(false));
    set("stream", json!(false));
    Value::Object(body)
}

fn is_openai(base_url: &str) -> bool {
    let host = Url::parse(base_url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| host == "openai.com" || host.ends_with(".openai.com"))
}

fn messages(request: &TurnRequest, beside: bool) -> Vec<Value> {
    let mut messages = vec![json!({"role": "system", "content": request.instructions})];
    for item in &request.input {
        match item {
            Item::User { text } => messages.push(json!({"role": "user", "content": text})),
            Item::Response { asked, api, outputs } => {
                messages.extend(response(outputs, *api == Api::Chat, beside && *asked == request.model));
            }
            Item::CallOutput { call_id, output } => {
                messages.push(json!({"role": "tool", "tool_call_id": call_id, "content": output}));
            }
            // The requests that they answer belong to another interface and are not sent. The user has the last word.
            Item::Approval(_) if ends_with_the_model(&messages) => {
                messages.push(json!({"role": "user", "content": NOT_MADE_HERE}));
            }
            Item::Approval(_) => {}
        }
    }
    messages
}

/// A response as messages: the assistant's, after what hosted calls gave, which another service made. `own`: the raw values
/// are this interface's; `beside`: this very model's reasoning goes back to it.
fn response(outputs: &[Output], own: bool, beside: bool) -> Vec<Value> {
    let (mut sent, mut texts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    let mut message = Map::from_iter([("role".to_owned(), json!("assistant"))]);
    for Output { said, raw } in outputs {
        match said {
            Said::Refusal { text } if own => {
                message.insert("refusal".to_owned(), json!(text));
            }
            Said::Text { text } | Said::Refusal { text } => texts.push(text.as_str()),
            Said::Call(FunctionCall { call_id, name, arguments }) => {
                let mut call = if own { raw.clone() } else { Map::new() };
                let function = json!({"name": name, "arguments": arguments});
                call.extend([
                    ("id".to_owned(), json!(call_id)),
                    ("type".to_owned(), json!("function")),
                    ("function".to_owned(), function),
                ]);
                calls.push(Value::Object(call));
            }
            Said::HostedCall(call) => sent.push(json!({"role": "user", "content": in_words(call)})),
            // Where its words were changed for the secrets in them, it is not what it was.
            Said::Reasoning { text } if own && beside => {
                message.extend(raw.clone());
                if !text.is_empty() {
                    message.insert("reasoning_content".to_owned(), json!(text));
                }
            }
            Said::Reasoning { .. } | Said::HostedList(_) | Said::HostedRequest(_) | Said::Other => {}
        }
    }
    texts.retain(|text| !text.is_empty());
    if texts.is_empty() && calls.is_empty() && !message.contains_key("refusal") {
        return sent;
    }
    if !texts.is_empty() {
        message.insert("content".to_owned(), json!(texts.join("\n")));
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    sent.push(Value::Object(message));
    sent
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_a_service_sent_beside_the_content_goes_back_to_it_and_to_no_other_model() {
        let message = json!({
            "role": "assistant", "content": "hm", "reasoning_content": "first the pod", "annotations": [],
            "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}],
        });
        let answer = json!({"choices": [{"message": message, "finish_reason": "stop"}]});
        let outputs = crate::chat::answer::read(answer, &HashSet::new(), 0).unwrap().outputs;
        let said = json!({"role": "assistant", "content": "hm"});
        let mut whole = said.clone();
        whole["reasoning_content"] = json!("first the pod");
        whole["reasoning_details"] = message["reasoning_details"].clone();
        assert_eq!(response(&outputs, true, true), [whole]);
        assert_eq!(response(&outputs, true, false), std::slice::from_ref(&said));
        assert_eq!(response(&outputs, false, true), [said]);
    }

    #[test]
    fn only_openai_itself_gets_what_only_openai_knows() {
        assert!(is_openai("https://api.openai.com/v1") && is_openai("https://eu.api.openai.com/v1/"));
        assert!(!is_openai("https://openai.com.example/v1") && !is_openai("http://127.0.0.1:8080/v1"));
    }
}
