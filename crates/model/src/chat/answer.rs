//! The API's `CreateChatCompletionResponse`, read leniently.

use std::collections::HashSet;

use sentinel_investigation::ports::{TurnResponse, TurnUsage};
use serde_json::{Map, Value, json};

use super::{calls_of, text_of};
use crate::failure::{Failure, check_number, error_of};

/// Reads an answer. `used` are the call ids that the conversation holds, `turn` how many responses it holds: what a
/// call without an id is named by.
pub(crate) fn read(answer: &Value, used: &HashSet<String>, turn: usize) -> Result<TurnResponse, Failure> {
    if let Some(failure) = error_of(answer) {
        return Err(failure);
    }
    let Some(choice) = answer.pointer("/choices/0") else {
        return Err(Failure::Unreadable("the answer has no `choices`".to_owned()));
    };
    let Some(message) = choice.get("message").and_then(Value::as_object) else {
        return Err(Failure::Unreadable("choices[0] has no `message`".to_owned()));
    };
    check_number(message.get("tool_calls").and_then(Value::as_array).map_or(0, Vec::len))?;
    let message = kept(message, used, turn)?;
    let calls: Vec<_> = calls_of(&message).collect();
    let text = text_of(&message);
    let incomplete = match choice.get("finish_reason").and_then(Value::as_str) {
        Some("length") => Some("max_output_tokens".to_owned()),
        Some("content_filter") => Some("content_filter".to_owned()),
        _ => None,
    };
    let tokens = |paths: &[&str]| {
        paths.iter().find_map(|path| answer.pointer(path).and_then(Value::as_u64)).unwrap_or_default()
    };
    Ok(TurnResponse {
        model: answer.get("model").and_then(Value::as_str).unwrap_or("unknown").to_owned(),
        items: if calls.is_empty() && text.is_empty() { vec![] } else { vec![message] },
        calls,
        text,
        incomplete,
        usage: TurnUsage {
            input_tokens: tokens(&["/usage/prompt_tokens"]),
            cached_tokens: tokens(&[
                "/usage/prompt_tokens_details/cached_tokens",
                "/usage/prompt_cache_hit_tokens",
            ]),
            output_tokens: tokens(&["/usage/completion_tokens"]),
        },
    })
}

/// What of the message may be sent back, put right. The rest (annotations, audio, a service's own fields) may not
/// stand in a request.
fn kept(message: &Map<String, Value>, used: &HashSet<String>, turn: usize) -> Result<Value, Failure> {
    let mut kept = Map::from_iter([("role".to_owned(), json!("assistant"))]);
    for key in ["content", "refusal"] {
        if let Some(value) = message.get(key).filter(|value| !value.is_null()) {
            kept.insert(key.to_owned(), value.clone());
        }
    }
    let mut taken = used.clone();
    let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    let calls: Vec<Value> =
        calls.enumerate().map(|(n, call)| put_right(call, n, turn, &mut taken)).collect::<Result<_, _>>()?;
    if !calls.is_empty() {
        kept.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    Ok(Value::Object(kept))
}

/// A call with an id that no other call of the conversation has, and arguments that are a text.
fn put_right(call: &Value, n: usize, turn: usize, taken: &mut HashSet<String>) -> Result<Value, Failure> {
    let unreadable = |what: &str| Failure::Unreadable(format!("tool_calls[{n}] {what}"));
    let mut call = call.as_object().cloned().ok_or_else(|| unreadable("is no object"))?;
    // Streamed answers carry it; a request may not.
    call.remove("index");
    let Some(Value::Object(mut function)) = call.remove("function") else {
        return Err(unreadable("has no `function`"));
    };
    if function.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(unreadable("has no name"));
    }
    let arguments = match function.remove("arguments") {
        // Anything: the caller says to the model what is wrong with it.
        Some(Value::String(written)) => written,
        None | Some(Value::Null) => "{}".to_owned(),
        Some(value) => value.to_string(),
    };
    function.insert("arguments".to_owned(), json!(arguments));
    call.insert("function".to_owned(), Value::Object(function));
    call.insert("type".to_owned(), json!("function"));
    let own = call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty() && !taken.contains(*id));
    let id = own.map_or_else(|| format!("call_{}_{}", turn + 1, n + 1), str::to_owned);
    taken.insert(id.clone());
    call.insert("id".to_owned(), json!(id));
    Ok(Value::Object(call))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(message: &Value) -> Result<TurnResponse, Failure> {
        let answer = json!({"model": "m", "choices": [{"message": message}]});
        read(&answer, &HashSet::from(["used".to_owned()]), 1)
    }

    #[test]
    fn calls_that_a_service_got_wrong_are_put_right() {
        let turn = answered(&json!({"role": "assistant", "tool_calls": [
            {"index": 0, "function": {"name": "a", "arguments": {"n": 1}}},
            {"id": "", "type": "function", "function": {"name": "b"}},
            {"id": "used", "type": "function", "function": {"name": "c", "arguments": "{"}},
            {"id": "mine", "type": "function", "function": {"name": "d", "arguments": "{}"}, "extra": 7},
            {"id": "mine", "type": "function", "function": {"name": "e", "arguments": "{}"}},
        ]}))
        .unwrap();
        let calls: Vec<_> =
            turn.calls.iter().map(|c| (c.call_id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
        assert_eq!(
            calls,
            [
                ("call_2_1", "a", r#"{"n":1}"#),
                ("call_2_2", "b", "{}"),
                ("call_2_3", "c", "{"),
                ("mine", "d", "{}"),
                ("call_2_5", "e", "{}"),
            ]
        );
        assert!(turn.items[0]["tool_calls"][0].get("index").is_none());
        assert_eq!(turn.items[0]["tool_calls"][3]["extra"], 7);
    }

    #[test]
    fn content_in_parts_a_refusal_and_nothing_at_all_are_read() {
        let turn = answered(&json!({"content": [{"type": "text", "text": "a"}], "refusal": "b"})).unwrap();
        assert_eq!(turn.text, "a\nb");
        let nothing = answered(&json!({"content": null})).unwrap();
        assert!(nothing.items.is_empty() && nothing.text.is_empty());
    }

    #[test]
    fn why_an_answer_ended_early_and_what_it_took_are_read_in_every_dialect() {
        let answer = |reason: &str, usage: Value| {
            let choice = json!({"message": {"content": "x"}, "finish_reason": reason});
            read(&json!({"choices": [choice], "usage": usage}), &HashSet::new(), 0).unwrap()
        };
        assert_eq!(answer("length", json!(null)).incomplete.as_deref(), Some("max_output_tokens"));
        assert_eq!(answer("content_filter", json!(null)).incomplete.as_deref(), Some("content_filter"));
        let usage = json!({"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4});
        let read = answer("stop", usage);
        assert_eq!(read.incomplete, None);
        assert_eq!(read.usage, TurnUsage { input_tokens: 9, cached_tokens: 4, output_tokens: 2 });
    }

    #[test]
    fn what_is_no_answer_cannot_be_read() {
        for (answer, told) in [
            (json!({}), "the answer has no `choices`"),
            (json!({"choices": []}), "the answer has no `choices`"),
            (json!({"choices": [{}]}), "choices[0] has no `message`"),
            (json!({"choices": [{"message": {"tool_calls": [1]}}]}), "tool_calls[0] is no object"),
            (json!({"choices": [{"message": {"tool_calls": [{}]}}]}), "tool_calls[0] has no `function`"),
            (
                json!({"choices": [{"message": {"tool_calls": [{"function": {}}]}}]}),
                "tool_calls[0] has no name",
            ),
            (json!({"error": {"message": "m", "code": 400}}), "HTTP 400: m"),
            (json!({"error": "overloaded"}), "the response failed: overloaded (no code)"),
        ] {
            assert_eq!(read(&answer, &HashSet::new(), 0).unwrap_err().to_string(), told);
        }
    }
}
