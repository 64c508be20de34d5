//! The API's `Response`, read leniently: what is not known is kept and passed over.

use sentinel_investigation::ports::{FunctionCall, TurnResponse, TurnUsage};
use serde_json::Value;

use crate::failure::{Failure, check_number, error_of};

/// Reads a response's JSON.
pub(crate) fn read(mut answer: Value) -> Result<TurnResponse, Failure> {
    if let Some(failure) = error_of(&answer) {
        return Err(failure);
    }
    let incomplete = match text_at(&answer, "status") {
        Some("completed") | None => None,
        Some("incomplete") => {
            let details = answer.get("incomplete_details").and_then(|d| text_at(d, "reason"));
            Some(details.unwrap_or("no reason given").to_owned())
        }
        Some(status) => {
            return Err(Failure::Unreadable(format!(
                "the response is {status:?}, neither completed nor incomplete"
            )));
        }
    };
    let Some(Value::Array(items)) = answer.get_mut("output").map(Value::take) else {
        return Err(Failure::Unreadable("the response has no list `output`".to_owned()));
    };
    check_number(items.len())?;
    let (mut calls, mut texts) = (Vec::new(), Vec::new());
    for (n, item) in items.iter().enumerate() {
        match text_at(item, "type") {
            Some("function_call") => calls.push(call(item, n)?),
            Some("message") => {
                let parts = item.get("content").and_then(Value::as_array).into_iter().flatten();
                texts.extend(
                    parts.filter_map(|part| text_at(part, "text").or_else(|| text_at(part, "refusal"))),
                );
            }
            _ => {}
        }
    }
    let tokens = |path: &str| answer.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    Ok(TurnResponse {
        model: text_at(&answer, "model").unwrap_or("unknown").to_owned(),
        calls,
        text: texts.join("\n"),
        incomplete,
        usage: TurnUsage {
            input_tokens: tokens("/usage/input_tokens"),
            cached_tokens: tokens("/usage/input_tokens_details/cached_tokens"),
            output_tokens: tokens("/usage/output_tokens"),
        },
        items,
    })
}

fn call(item: &Value, n: usize) -> Result<FunctionCall, Failure> {
    let field = |key: &str| {
        text_at(item, key)
            .filter(|v| !v.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| Failure::Unreadable(format!("output[{n}] is a function call without `{key}`")))
    };
    Ok(FunctionCall {
        call_id: field("call_id")?,
        name: field("name")?,
        // Anything: the caller says to the model what is wrong with it.
        arguments: text_at(item, "arguments").unwrap_or_default().to_owned(),
    })
}

fn text_at<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    of.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_item_is_kept_and_passed_over() {
        let output = json!([
            {"type": "hologram_call", "beam": 7},
            {"type": "message", "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"},
        ]);
        let turn = read(json!({"model": "m", "status": "completed", "output": output})).unwrap();
        assert_eq!(Value::Array(turn.items), output);
        assert_eq!(turn.text, "a\nb");
        assert_eq!(
            turn.calls,
            [FunctionCall { call_id: "c".into(), name: "f".into(), arguments: "{".into() }]
        );
        assert_eq!(turn.usage, TurnUsage::default());
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
        assert!(crate::chat::answer::read(&chat, &std::collections::HashSet::new(), 1).is_err());
    }
}
