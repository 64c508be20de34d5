//! Anthropic's Messages API: answers on the contract, what a schema cannot say of a request, and its prompt cache.
//! [`crate::openai::ScriptedOpenAi`] serves it at `/v1/messages`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

mod cache;

pub use cache::Cache;

/// The model's name in every answer.
const MODEL: &str = "scripted-model";

/// A `Message` that says `text`.
pub fn text(text: &str) -> Value {
    message(vec![json!({"type": "text", "text": text})], "end_turn")
}

/// A `Message` that calls tools, each `(name, input, id)`.
pub fn tool_uses(calls: &[(&str, Value, &str)]) -> Value {
    message(calls.iter().map(|(name, input, id)| tool_use(name, input, id)).collect(), "tool_use")
}

/// A block that calls a tool.
pub fn tool_use(name: &str, input: &Value, id: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": name, "input": input})
}

/// A block of what the model thought; its signature holds for these words only.
pub fn thinking(thought: &str) -> Value {
    json!({"type": "thinking", "thinking": thought, "signature": signature(thought)})
}

/// A block of what the model thought that may not be read.
pub fn redacted_thinking(data: &str) -> Value {
    json!({"type": "redacted_thinking", "data": data})
}

/// A `Message` with these blocks, which ended for this reason. Its usage is 100 tokens in, none of them cached, and 10
/// out: see [`with_usage`].
#[expect(clippy::needless_pass_by_value, reason = "a list written in place reads better without a borrow")]
pub fn message(content: Vec<Value>, stop_reason: &str) -> Value {
    let message = json!({
        "id": "msg_scripted", "type": "message", "role": "assistant", "model": MODEL, "content": content,
        "stop_reason": stop_reason, "stop_sequence": null,
    });
    with_usage(message, 100, 0, 0, 10)
}

/// The `Message` of a classifier that stopped the model, with its explanation.
pub fn refusal(explanation: &str) -> Value {
    let mut message = message(vec![], "refusal");
    let details = json!({"type": "refusal", "category": "cyber", "explanation": explanation});
    message.as_object_mut().expect("a message is an object").insert("stop_details".to_owned(), details);
    message
}

/// The `Message` with this usage in tokens: of `input` in all, `read` came from the cache and `written` went into it.
pub fn with_usage(mut message: Value, input: u64, read: u64, written: u64, output: u64) -> Value {
    let usage = json!({
        "input_tokens": input - read - written, "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written, "output_tokens": output,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
    });
    message.as_object_mut().expect("a message is an object").insert("usage".to_owned(), usage);
    message
}

/// An error's body as Anthropic writes it.
pub fn error_body(kind: &str, message: &str) -> String {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_scripted"})
        .to_string()
}

fn signature(thought: &str) -> String {
    format!("signed-{}-{}", thought.chars().count(), thought.bytes().map(u64::from).sum::<u64>())
}

/// What is wrong with a request that a schema cannot say.
pub(crate) fn faults(request: &Value) -> Vec<String> {
    let mut faults = pairs(request);
    let marks = count(request, "cache_control");
    if marks > 4 {
        faults.push(format!("/: a maximum of 4 blocks with cache_control may be provided, found {marks}"));
    }
    let text = |path: &str| request.pointer(path).and_then(Value::as_str);
    let thinks = matches!(text("/thinking/type"), Some("adaptive" | "enabled"));
    if thinks && matches!(text("/tool_choice/type"), Some("any" | "tool")) {
        faults.push("/tool_choice: thinking may not be enabled when tool_choice forces tool use".to_owned());
    }
    if thinks && request.get("temperature").is_some_and(|t| t != 1) {
        faults.push("/temperature: may only be set to 1 when thinking is enabled".to_owned());
    }
    let budget = request.pointer("/thinking/budget_tokens").and_then(Value::as_u64);
    if budget.is_some() && budget >= request.get("max_tokens").and_then(Value::as_u64) {
        faults.push("/max_tokens: must be greater than thinking.budget_tokens".to_owned());
    }
    if request.get("tool_choice").is_some() && request.get("tools").is_none() {
        faults.push("/tool_choice: may only be specified while providing tools".to_owned());
    }
    let names: Vec<&str> =
        items(request, "tools").filter_map(|(_, tool)| tool.get("name")?.as_str()).collect();
    if let Some(twice) = names.iter().find(|name| names.iter().filter(|other| other == name).count() > 1) {
        faults.push(format!("/tools: tool names must be unique: {twice}"));
    }
    if text("/tool_choice/name").is_some_and(|name| !names.contains(&name)) {
        faults.push("/tool_choice: the tool is not in the list".to_owned());
    }
    for (n, message) in items(request, "messages") {
        for (k, block) in items(message, "content") {
            let field = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default();
            if field("type") == "thinking" && field("signature") != signature(field("thinking")) {
                faults.push(format!("/messages/{n}/content/{k}: invalid signature in thinking block"));
            }
        }
    }
    if request
        .pointer("/messages")
        .and_then(Value::as_array)
        .and_then(|m| m.last())
        .is_some_and(|m| role(m) == "assistant")
    {
        faults.push("/messages: the conversation must end with a user message".to_owned());
    }
    faults
}

/// Each call is answered by a result at the beginning of the next message, and each result answers one.
fn pairs(request: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut open: BTreeMap<String, String> = BTreeMap::new();
    let mut before = "";
    for (n, message) in items(request, "messages") {
        let now = role(message);
        if now == before {
            faults.push(format!("/messages/{n}: two messages of the {now} in a row"));
        }
        before = now;
        let mut others = false;
        let calls = std::mem::take(&mut open);
        let mut answered: Vec<&str> = Vec::new();
        for (k, block) in items(message, "content") {
            let field = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default();
            match field("type") {
                "tool_use" => {
                    open.insert(field("id").to_owned(), format!("/messages/{n}/content/{k}"));
                }
                "tool_result" => {
                    let id = field("tool_use_id");
                    if others || !calls.contains_key(id) || answered.contains(&id) {
                        faults.push(format!(
                            "/messages/{n}/content/{k}: unexpected tool_use_id {id:?}: each tool_result block must have a \
                             tool_use block in the previous message, and stand before any text"
                        ));
                    }
                    answered.push(id);
                }
                _ => others = true,
            }
        }
        for (id, path) in calls.iter().filter(|(id, _)| !answered.contains(&id.as_str())) {
            faults.push(format!(
                "{path}: tool_use id {id:?} was found without a tool_result block immediately after"
            ));
        }
    }
    faults
        .extend(open.into_iter().map(|(id, path)| format!("{path}: tool_use id {id:?} has no tool_result")));
    faults
}

fn role(message: &Value) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(of: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    of.get(field).and_then(Value::as_array).into_iter().flatten().enumerate()
}

/// How often a key stands anywhere in it, the schemas of tools left aside.
fn count(value: &Value, key: &str) -> usize {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "input_schema" && *name != "input")
            .map(|(name, inner)| usize::from(name == key) + count(inner, key))
            .sum(),
        Value::Array(inner) => inner.iter().map(|inner| count(inner, key)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    fn request(messages: &Value) -> Value {
        json!({"model": "m", "max_tokens": 10, "messages": messages})
    }

    #[test]
    fn every_builder_is_on_the_contract() {
        for answer in [
            text("hello"),
            tool_uses(&[("a", json!({}), "t1"), ("b", json!({"x": 1}), "t2")]),
            message(
                vec![thinking("hm"), redacted_thinking("x"), tool_use("a", &json!({}), "t1")],
                "tool_use",
            ),
            refusal("no"),
            message(vec![], "max_tokens"),
        ] {
            assert_eq!(contract::message(&answer), Ok(()), "{answer:#}");
        }
        let error: Value = serde_json::from_str(&error_body("overloaded_error", "Overloaded")).unwrap();
        assert_eq!(contract::message_error(&error), Ok(()));
        let other = json!({"error": {"message": "m", "type": "invalid_request_error"}});
        assert!(contract::message_error(&other).is_err());
    }

    #[test]
    fn a_conversation_with_tools_and_thinking_is_in_order() {
        let messages = json!([
            {"role": "user", "content": "why?"},
            {"role": "assistant", "content": [thinking("hm"), tool_use("a", &json!({}), "t1"), tool_use("b", &json!({}), "t2")]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t2", "content": "2"},
                {"type": "tool_result", "tool_use_id": "t1", "content": "1"}, {"type": "text", "text": "go on"},
            ]},
        ]);
        let mut request = request(&messages);
        request["thinking"] = json!({"type": "adaptive"});
        assert_eq!(contract::create_message(&request), Ok(()));
        assert_eq!(faults(&request), Vec::<String>::new());
    }

    #[test]
    fn what_the_service_refuses_is_refused() {
        let user = json!({"role": "user", "content": "x"});
        let call = json!({"role": "assistant", "content": [tool_use("a", &json!({}), "t1")]});
        let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "x"});
        let words = json!({"type": "text", "text": "x"});
        for messages in [
            json!([user, user]),
            json!([user, call]),
            json!([user, call, {"role": "user", "content": [words]}]),
            json!([user, call, {"role": "user", "content": [words, result("t1")]}]),
            json!([user, call, {"role": "user", "content": [result("t1"), result("t2")]}]),
            json!([user, {"role": "assistant", "content": [{"type": "thinking", "thinking": "changed", "signature": "x"}]}, user]),
        ] {
            assert!(!faults(&request(&messages)).is_empty(), "{messages}");
        }
        let tool = json!({"name": "a", "input_schema": {"type": "object"}});
        let mut forced = request(&json!([user]));
        forced["tools"] = json!([tool]);
        forced["tool_choice"] = json!({"type": "tool", "name": "a"});
        assert!(faults(&forced).is_empty());
        forced["thinking"] = json!({"type": "adaptive"});
        assert_eq!(faults(&forced).len(), 1);
        let marked = json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}});
        let mut many = request(&json!([user]));
        many["system"] = json!([marked, marked, marked, marked, marked]);
        assert_eq!(faults(&many).len(), 1);
        for (key, value) in [
            ("input", json!("x")),
            ("max_output_tokens", json!(1)),
            ("system", json!([{"type": "text", "text": " "}])),
            ("tools", json!([{"name": "a.b", "input_schema": {"type": "object"}}])),
            ("tools", json!([{"name": "a", "input_schema": {"type": "object", "anyOf": []}}])),
            ("tool_choice", json!("auto")),
            ("thinking", json!({"type": "enabled", "budget_tokens": 5})),
        ] {
            let mut request = request(&json!([user]));
            request[key] = value;
            assert!(contract::create_message(&request).is_err(), "{request}");
        }
        assert!(contract::create_message(&request(&json!([{"role": "assistant", "content": "x"}]))).is_err());
        assert!(contract::create_message(&json!({"model": "m", "messages": [user]})).is_err());
    }
}
