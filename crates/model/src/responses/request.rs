//! A turn as the API's `CreateResponse`.

use sentinel_investigation::ports::{Item, TurnRequest};
use serde_json::{Map, Value, json};

use super::ResponsesSettings;

/// The request's body. Only what the API is known to take from this model is in it.
pub(super) fn body(settings: &ResponsesSettings, request: &TurnRequest) -> Value {
    let reasons = is_reasoning(&request.model);
    let mut body = Map::new();
    let mut set = |key: &str, value: Value| {
        body.insert(key.to_owned(), value);
    };
    set("model", json!(request.model));
    set("instructions", json!(request.instructions));
    set("input", Value::Array(input(&request.input)));
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            // `strict` would hold a server's schema to a subset of JSON Schema that few keep to.
            json!({
                "type": "function", "name": tool.name, "description": tool.description,
                "parameters": tool.parameters, "strict": false,
            })
        });
        set("tools", tools.collect());
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

fn input(items: &[Item]) -> Vec<Value> {
    let mut input = Vec::new();
    for item in items {
        match item {
            Item::User { text } => input.push(json!({"type": "message", "role": "user", "content": text})),
            Item::Response { items } => input.extend(resendable(items)),
            Item::CallOutput { call_id, output } => {
                input.push(json!({"type": "function_call_output", "call_id": call_id, "output": output}));
            }
        }
    }
    input
}

/// The items of a response that may stand in an input, as they were received. An item of a kind that was never asked
/// for is left out, and so is reasoning that nothing is left to follow: the API refuses it alone.
fn resendable(items: &[Value]) -> Vec<Value> {
    let kind = |item: &Value| item.get("type").and_then(Value::as_str).map(str::to_owned);
    let mut sent: Vec<Value> = Vec::new();
    let drop_open_reasoning = |sent: &mut Vec<Value>| {
        while sent.last().and_then(kind).as_deref() == Some("reasoning") {
            sent.pop();
        }
    };
    for item in items {
        match kind(item).as_deref() {
            Some(
                "message"
                | "function_call"
                | "reasoning"
                | "mcp_list_tools"
                | "mcp_call"
                | "mcp_approval_request",
            ) => sent.push(item.clone()),
            _ => drop_open_reasoning(&mut sent),
        }
    }
    drop_open_reasoning(&mut sent);
    sent
}

/// Whether the model reasons: then it takes an effort and refuses a temperature. By OpenAI's names: the o series and
/// gpt-5, but for its chat models; a vendor's prefix (`openai/…`) does not matter.
fn is_reasoning(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let o_series = name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    o_series || (name.starts_with("gpt-5") && !name.contains("-chat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_reason_are_told_by_their_names() {
        for model in
            ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5-mini", "gpt-5.2", "openai/gpt-5-nano"]
        {
            assert!(is_reasoning(model), "{model}");
        }
        for model in
            ["gpt-4.1-mini", "gpt-4o", "gpt-5-chat-latest", "gpt-5.2-chat-latest", "omni", "llama-3", ""]
        {
            assert!(!is_reasoning(model), "{model}");
        }
    }

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
}
