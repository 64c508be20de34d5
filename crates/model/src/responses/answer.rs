//! The API's `Response`, read leniently into items of ours: what is not known is kept and passed over.

use sentinel_investigation::ports::{
    Api, CallStatus, FunctionCall, HostedCall, HostedList, HostedRequest, Incomplete, Output, Said,
    ToolDefinition, TurnResponse, TurnUsage,
};
use serde_json::{Map, Value};

use crate::failure::{Failure, check_number, error_of};
use crate::json::{arguments, missing, text, tokens};

/// Reads a response's JSON.
pub(crate) fn read(mut answer: Value) -> Result<TurnResponse, Failure> {
    if let Some(failure) = error_of(&answer) {
        return Err(failure);
    }
    let status = answer.get("status").and_then(Value::as_str);
    let incomplete = match status {
        Some("completed") | None => None,
        Some("incomplete") => {
            let reason = answer.pointer("/incomplete_details/reason").and_then(Value::as_str);
            Some(Incomplete::from(reason.unwrap_or("no reason given").to_owned()))
        }
        Some(status) => {
            return Err(Failure::Unreadable(format!(
                "the response is {status:?}, neither completed nor incomplete"
            )));
        }
    };
    let Some(Value::Array(items)) = answer.get_mut("output").map(Value::take) else {
        return Err(missing(&answer, Api::Responses, "the response has no list `output`"));
    };
    check_number(items.len())?;
    let mut outputs = Vec::new();
    for (n, item) in items.into_iter().enumerate() {
        read_item(item, n, &mut outputs)?;
    }
    check_number(outputs.len())?;
    let input_tokens = tokens(&answer, &["/usage/input_tokens"]);
    Ok(TurnResponse {
        model: answer.get("model").and_then(Value::as_str).unwrap_or("unknown").to_owned(),
        api: Api::Responses,
        outputs,
        incomplete,
        usage: TurnUsage {
            input_tokens,
            cached_tokens: tokens(&answer, &["/usage/input_tokens_details/cached_tokens"]),
            cache_write_tokens: tokens(
                &answer,
                &["/usage/input_tokens_details/cache_write_tokens", "/usage/cache_write_tokens"],
            ),
            output_tokens: tokens(&answer, &["/usage/output_tokens"]),
        },
        left_out: Vec::new(),
    })
}

fn read_item(item: Value, n: usize, outputs: &mut Vec<Output>) -> Result<(), Failure> {
    let Value::Object(mut raw) = item else { return Ok(()) };
    let kind = raw.get("type").and_then(Value::as_str).map(str::to_owned);
    let said = match kind.as_deref() {
        Some("message") => {
            message(raw, outputs);
            return Ok(());
        }
        Some("function_call") => {
            let mut field = |key: &str| {
                let value = text(&mut raw, key);
                let missing =
                    || Failure::Unreadable(format!("output[{n}] is a function call without `{key}`"));
                if value.is_empty() { Err(missing()) } else { Ok(value) }
            };
            let (call_id, name) = (field("call_id")?, field("name")?);
            Said::Call(FunctionCall { call_id, name, arguments: arguments(&mut raw, "arguments") })
        }
        Some("mcp_approval_request") => Said::HostedRequest(HostedRequest {
            id: text(&mut raw, "id"),
            label: text(&mut raw, "server_label"),
            tool: text(&mut raw, "name"),
            arguments: arguments(&mut raw, "arguments"),
        }),
        Some("mcp_list_tools") => {
            let tools = match raw.remove("tools") {
                Some(Value::Array(tools)) => tools.into_iter().map(ToolDefinition::read).collect(),
                _ => Vec::new(),
            };
            let error = raw.remove("error").filter(|e| !e.is_null());
            let error = error.map(|e| e.as_str().map_or_else(|| e.to_string(), str::to_owned));
            Said::HostedList(HostedList { label: text(&mut raw, "server_label"), tools, error })
        }
        Some("mcp_call") => Said::HostedCall(hosted_call(&mut raw)),
        Some("reasoning") => Said::Reasoning { text: String::new() },
        _ => Said::Other,
    };
    outputs.push(Output { said, raw });
    Ok(())
}

/// One item for each part of a message; the first one has the rest of the message.
fn message(mut raw: Map<String, Value>, outputs: &mut Vec<Output>) {
    let parts = match raw.remove("content") {
        Some(Value::Array(parts)) => parts,
        Some(Value::String(text)) => vec![serde_json::json!({"text": text})],
        _ => Vec::new(),
    };
    for part in parts {
        let Value::Object(mut part) = part else { continue };
        let said = if part.contains_key("text") {
            Said::Text { text: text(&mut part, "text") }
        } else if part.contains_key("refusal") {
            Said::Refusal { text: text(&mut part, "refusal") }
        } else {
            continue;
        };
        outputs.push(Output { said, raw: std::mem::take(&mut raw) });
    }
}

/// How a hosted call ended, and its words. An error that the tool itself reports is the tool's; any other is the
/// service's. (OpenAI's API description 2.3.0: `MCPToolCall`.)
fn hosted_call(raw: &mut Map<String, Value>) -> HostedCall {
    let error = raw.remove("error").filter(|e| !e.is_null());
    let output = match raw.remove("output") {
        Some(Value::String(output)) => Some(output),
        _ => None,
    };
    let failed = matches!(raw.get("status").and_then(Value::as_str), Some("failed" | "incomplete"));
    let kind = |error: &Value| error.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (status, error) = match (error, &output) {
        (None, Some(_)) if failed => (CallStatus::ToolError, None),
        (None, Some(_)) => (CallStatus::Answered, None),
        (None, None) => (CallStatus::NoAnswer, None),
        (Some(error), output) if kind(&error) == "mcp_tool_execution_error" => {
            let words = error.get("content").map(words).filter(|w| !w.is_empty());
            let words = words.or_else(|| output.clone()).unwrap_or_else(|| error.to_string());
            (CallStatus::ToolError, Some(words))
        }
        (Some(error), _) => {
            let message = error.as_str().or_else(|| error.get("message").and_then(Value::as_str));
            let code = error.get("code").map(|c| format!(" ({} {c})", kind(&error))).unwrap_or_default();
            let message = message.map_or_else(|| error.to_string(), str::to_owned);
            let words = format!("the server did not answer the model's service: {message}{code}");
            (CallStatus::NoAnswer, Some(words))
        }
    };
    HostedCall {
        id: text(raw, "id"),
        label: text(raw, "server_label"),
        tool: text(raw, "name"),
        arguments: arguments(raw, "arguments"),
        request: raw.remove("approval_request_id").and_then(|id| id.as_str().map(str::to_owned)),
        status,
        output,
        error,
    }
}

/// The words of an MCP result's content: its text blocks.
fn words(content: &Value) -> String {
    match content {
        Value::String(words) => words.clone(),
        Value::Array(blocks) => {
            let text =
                |block: &Value| block.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
            blocks.iter().map(text).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_item_is_kept_and_passed_over() {
        let output = json!([
            {"type": "hologram_call", "beam": 7},
            {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"},
            {"type": "function_call", "call_id": "d", "name": "f", "arguments": {"n": 1}},
        ]);
        let turn = read(json!({"model": "m", "status": "completed", "output": output})).unwrap();
        assert_eq!((&turn.outputs[0].said, turn.outputs[0].raw["beam"].as_u64()), (&Said::Other, Some(7)));
        assert_eq!(turn.text(), "a\nb");
        let calls: Vec<_> = turn.calls().map(|c| (c.call_id.as_str(), c.arguments.as_str())).collect();
        assert_eq!(calls, [("c", "{"), ("d", r#"{"n":1}"#)]);
        assert_eq!(turn.usage, TurnUsage::default());
    }

    #[test]
    fn every_way_in_which_a_hosted_call_can_end_is_told_apart() {
        let ends = |fields: Value| -> (CallStatus, String) {
            let mut item = json!({
                "type": "mcp_call", "id": "mcp_1", "server_label": "k8s", "name": "pods_get", "arguments": "{}",
            });
            item.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let turn = read(json!({"output": [item]})).unwrap();
            match &turn.outputs[0].said {
                Said::HostedCall(call) => {
                    (call.status, call.error.clone().or(call.output.clone()).unwrap_or_default())
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(ends(json!({"output": "fine"})), (CallStatus::Answered, "fine".into()));
        assert_eq!(ends(json!({"output": "", "error": null})), (CallStatus::Answered, String::new()));
        assert_eq!(ends(json!({"output": "no", "status": "failed"})), (CallStatus::ToolError, "no".into()));
        let content = json!([{"type": "text", "text": "no such pod"}, {"type": "text", "text": "web-1"}]);
        let failed =
            json!({"output": null, "error": {"type": "mcp_tool_execution_error", "content": content}});
        assert_eq!(ends(failed), (CallStatus::ToolError, "no such pod\nweb-1".into()));
        let down = json!({"error": {"type": "http_error", "code": 502, "message": "bad gateway"}});
        let told = "the server did not answer the model's service: bad gateway (http_error 502)";
        assert_eq!(ends(down), (CallStatus::NoAnswer, told.into()));
        assert_eq!(ends(json!({})).0, CallStatus::NoAnswer);
        assert_eq!(ends(json!({"error": "odd"})).0, CallStatus::NoAnswer);
    }

    #[test]
    fn a_failed_response_says_why_and_a_passing_fault_is_worth_a_retry() {
        let failed = |code: &str| {
            read(json!({"status": "failed", "error": {"code": code, "message": "m"}})).unwrap_err()
        };
        assert!(failed("server_error").is_retryable());
        assert!(failed("rate_limit_exceeded").is_retryable());
        assert!(!failed("invalid_prompt").is_retryable());
        assert_eq!(failed("invalid_prompt").to_string(), "the response failed: m (invalid_prompt)");
    }

    #[test]
    fn what_is_no_response_cannot_be_read() {
        for (answer, told) in [
            (json!({}), "the response has no list `output`"),
            (json!([1]), "the response has no list `output`"),
            (json!({"output": "x"}), "the response has no list `output`"),
            (
                json!({"status": "queued", "output": []}),
                "the response is \"queued\", neither completed nor incomplete",
            ),
            (
                json!({"output": [{"type": "function_call", "name": "f"}]}),
                "output[0] is a function call without `call_id`",
            ),
        ] {
            assert_eq!(read(answer).unwrap_err().to_string(), told);
        }
    }

    #[test]
    fn an_answer_of_too_many_items_is_not_read() {
        let answer = |n: usize| read(json!({"output": vec![json!({"type": "message"}); n]}));
        assert!(answer(4096).is_ok());
        let told = answer(4097).unwrap_err().to_string();
        assert_eq!(told, "the answer has 4097 items, and 4096 at most are read");
        let call = json!({"id": "c", "function": {"name": "f", "arguments": "{}"}});
        let chat = json!({"choices": [{"message": {"tool_calls": vec![call; 4097]}}]});
        assert!(crate::chat::answer::read(chat, &std::collections::HashSet::new(), 1).is_err());
    }
}
