//! Answers of a model, on the contract.

use serde_json::{Value, json};

/// The model's name in every answer.
const MODEL: &str = "scripted-model";

/// A `Response` that says `text`.
pub fn message(text: &str) -> Value {
    response(vec![message_item(text)])
}

/// A `Response` that calls one function; `arguments` are what the model would have written as JSON.
pub fn function_call(name: &str, arguments: &Value, call_id: &str) -> Value {
    response(vec![function_call_item(name, &arguments.to_string(), call_id)])
}

/// A `Response` that calls several functions, each `(name, arguments, call id)`, at once.
pub fn function_calls(calls: &[(&str, Value, &str)]) -> Value {
    response(
        calls
            .iter()
            .map(|(name, arguments, id)| function_call_item(name, &arguments.to_string(), id))
            .collect(),
    )
}

/// An output item that says `text`.
pub fn message_item(text: &str) -> Value {
    json!({
        "type": "message", "id": "msg_scripted", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
    })
}

/// An output item that calls a function with `arguments` as they are: they need not be JSON.
pub fn function_call_item(name: &str, arguments: &str, call_id: &str) -> Value {
    json!({
        "type": "function_call", "id": format!("fc_{call_id}"), "call_id": call_id, "name": name,
        "arguments": arguments, "status": "completed",
    })
}

/// An output item by which a hosted server `label` shows its tools, each `(name, annotations)`; all take any object.
pub fn mcp_list_item(label: &str, tools: &[(&str, Value)]) -> Value {
    let tool = |(name, annotations): &(&str, Value)| {
        json!({
            "name": name, "description": format!("{name} of {label}"), "input_schema": {"type": "object"},
            "annotations": annotations,
        })
    };
    let tools: Vec<Value> = tools.iter().map(tool).collect();
    json!({"type": "mcp_list_tools", "id": format!("mcpl_{label}"), "server_label": label, "tools": tools})
}

/// An output item by which a call of a hosted tool asks to be made.
pub fn mcp_approval_request_item(label: &str, tool: &str, arguments: &Value, id: &str) -> Value {
    json!({
        "type": "mcp_approval_request", "id": id, "server_label": label, "name": tool,
        "arguments": arguments.to_string(),
    })
}

/// An output item that tells of a call which was made after the request `approved` was; `Err` is its error's JSON.
pub fn mcp_call_item(
    label: &str,
    tool: &str,
    arguments: &Value,
    approved: &str,
    gave: Result<&str, Value>,
) -> Value {
    let (output, error, status) = match gave {
        Ok(output) => (json!(output), Value::Null, "completed"),
        Err(error) => (Value::Null, error, "failed"),
    };
    json!({
        "type": "mcp_call", "id": format!("mcp_{approved}"), "server_label": label, "name": tool,
        "arguments": arguments.to_string(), "approval_request_id": approved, "output": output, "error": error,
        "status": status,
    })
}

/// A `Response` with these output items; none is an empty answer. Its usage is 100 tokens in, none of them cached,
/// and 10 out: see [`with_usage`].
#[expect(clippy::needless_pass_by_value, reason = "a list written in place reads better without a borrow")]
pub fn response(output: Vec<Value>) -> Value {
    let response = json!({
        "id": "resp_scripted", "object": "response", "created_at": 1_790_000_000, "status": "completed",
        "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "model": MODEL,
        "output": output, "parallel_tool_calls": true, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto",
        "tools": [],
    });
    with_usage(response, 100, 0, 10)
}

/// The `Response` with this usage in tokens; `cached` is a part of `input`.
pub fn with_usage(mut response: Value, input: u64, cached: u64, output: u64) -> Value {
    let usage = json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input + output,
    });
    response.as_object_mut().expect("a response is an object").insert("usage".to_owned(), usage);
    response
}

/// The `Response`, cut off by the model's own limit of output tokens.
pub fn cut_off(mut response: Value) -> Value {
    let fields = response.as_object_mut().expect("a response is an object");
    fields.insert("status".to_owned(), json!("incomplete"));
    fields.insert("incomplete_details".to_owned(), json!({"reason": "max_output_tokens"}));
    response
}

/// An error's body as OpenAI writes it, for [`super::Scripted::Status`].
pub fn error_body(kind: &str, message: &str) -> String {
    json!({"error": {"message": message, "type": kind, "param": null, "code": null}}).to_string()
}

/// A `CreateChatCompletionResponse` that says `text`.
pub fn chat_message(text: &str) -> Value {
    chat_answer(&json!({"role": "assistant", "content": text, "refusal": null}), "stop")
}

/// A `CreateChatCompletionResponse` that calls functions, each `(name, arguments, call id)`.
pub fn chat_function_calls(calls: &[(&str, Value, &str)]) -> Value {
    let calls: Vec<Value> = calls
        .iter()
        .map(|(name, arguments, id)| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments.to_string()}})
        })
        .collect();
    chat_answer(
        &json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": calls}),
        "tool_calls",
    )
}

/// A `CreateChatCompletionResponse` with this message of the assistant, which ended for this reason.
pub fn chat_answer(message: &Value, finish_reason: &str) -> Value {
    json!({
        "id": "chatcmpl_scripted", "object": "chat.completion", "created": 1_790_000_000, "model": MODEL,
        "choices": [{"index": 0, "finish_reason": finish_reason, "logprobs": null, "message": message}],
        "usage": {
            "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn every_builder_is_on_the_contract() {
        let calls = [("a", json!({}), "c1"), ("b", json!({"x": [1]}), "c2")];
        for answer in [
            message("hello"),
            function_call("prom__query", &json!({"query": "up"}), "c1"),
            function_calls(&calls),
            response(vec![]),
            response(vec![message_item("x"), function_call_item("a", "no JSON", "c1")]),
            with_usage(message("x"), 5, 3, 1),
            response(vec![
                mcp_list_item("k8s", &[("get", json!({"readOnlyHint": true})), ("log", json!(null))]),
                mcp_approval_request_item("k8s", "get", &json!({"a": 1}), "mcpr_1"),
                mcp_call_item("k8s", "get", &json!({"a": 1}), "mcpr_1", Ok("fine")),
                mcp_call_item(
                    "k8s",
                    "get",
                    &json!({}),
                    "mcpr_2",
                    Err(json!({"type": "http_error", "code": 502, "message": "bad gateway"})),
                ),
            ]),
            cut_off(message("x")),
        ] {
            assert_eq!(contract::response(&answer), Ok(()), "{answer:#}");
        }
        for answer in [chat_message("hello"), chat_function_calls(&calls)] {
            assert_eq!(contract::create_chat_completion_response(&answer), Ok(()), "{answer:#}");
        }
    }
}
