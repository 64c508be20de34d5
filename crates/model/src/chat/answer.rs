//! The API's `CreateChatCompletionResponse`, read leniently into items of ours.

use std::collections::HashSet;

use sentinel_investigation::ports::{Api, FunctionCall, Incomplete, Output, Said, TurnResponse, TurnUsage};
use serde_json::{Map, Value};

use crate::failure::{Failure, check_number, error_of};
use crate::json::{arguments, missing, text, tokens};

/// Reads an answer. `used` are the call ids that the conversation holds, `turn` how many responses it holds: what a
/// call without an id is named by.
pub(crate) fn read(mut answer: Value, used: &HashSet<String>, turn: usize) -> Result<TurnResponse, Failure> {
    if let Some(failure) = error_of(&answer) {
        return Err(failure);
    }
    let incomplete = match answer.pointer("/choices/0/finish_reason").and_then(Value::as_str) {
        Some("length") => Some(Incomplete::NoRoom),
        Some("content_filter") => Some(Incomplete::Filter),
        _ => None,
    };
    if answer.pointer("/choices/0").is_none() {
        return Err(missing(&answer, Api::Chat, "the answer has no `choices`"));
    }
    let choice = answer.pointer_mut("/choices/0");
    let Some(Value::Object(message)) = choice.and_then(|c| c.get_mut("message")).map(Value::take) else {
        return Err(Failure::Unreadable("choices[0] has no `message`".to_owned()));
    };
    check_number(message.get("tool_calls").and_then(Value::as_array).map_or(0, Vec::len))?;
    Ok(TurnResponse {
        model: answer.get("model").and_then(Value::as_str).unwrap_or("unknown").to_owned(),
        api: Api::Chat,
        outputs: read_message(message, used, turn)?,
        incomplete,
        usage: TurnUsage {
            input_tokens: tokens(&answer, &["/usage/prompt_tokens"]),
            cached_tokens: tokens(
                &answer,
                &["/usage/prompt_tokens_details/cached_tokens", "/usage/prompt_cache_hit_tokens"],
            ),
            cache_write_tokens: tokens(
                &answer,
                &["/usage/prompt_tokens_details/cache_write_tokens", "/usage/cache_write_tokens"],
            ),
            output_tokens: tokens(&answer, &["/usage/completion_tokens"]),
        },
        left_out: Vec::new(),
    })
}

/// Whether a key of a message is one by which services pass on what a model thought, and want it back. The rest
/// (annotations, audio, a service's own fields) may not stand in a request.
fn is_reasoning(key: &str) -> bool {
    ["reasoning", "thinking", "thought", "signature", "extra_content"].iter().any(|part| key.contains(part))
}

fn read_message(
    mut message: Map<String, Value>,
    used: &HashSet<String>,
    turn: usize,
) -> Result<Vec<Output>, Failure> {
    let mut outputs = Vec::new();
    let (content, refusal) = (message.remove("content"), text(&mut message, "refusal"));
    let calls = match message.remove("tool_calls") {
        Some(Value::Array(calls)) => calls,
        _ => Vec::new(),
    };
    let mut raw: Map<String, Value> =
        message.into_iter().filter(|(key, value)| is_reasoning(key) && !value.is_null()).collect();
    if !raw.is_empty() {
        let text = text(&mut raw, "reasoning_content");
        outputs.push(Output { said: Said::Reasoning { text }, raw });
    }
    match content {
        Some(Value::String(text)) if !text.is_empty() => outputs.push(Output::plain(Said::Text { text })),
        Some(Value::Array(parts)) => outputs.extend(parts.into_iter().filter_map(|part| {
            let Value::Object(mut part) = part else { return None };
            let said = if part.contains_key("text") {
                Said::Text { text: text(&mut part, "text") }
            } else {
                let words = text(&mut part, "refusal");
                (!words.is_empty()).then_some(Said::Refusal { text: words })?
            };
            Some(Output::plain(said))
        })),
        _ => {}
    }
    if !refusal.is_empty() {
        outputs.push(Output::plain(Said::Refusal { text: refusal }));
    }
    check_number(outputs.len())?;
    let mut taken = used.clone();
    for (n, call) in calls.into_iter().enumerate() {
        outputs.push(read_call(call, n, turn, &mut taken)?);
    }
    Ok(outputs)
}

/// A call with an id that no other call of the conversation has, and arguments that are a text.
fn read_call(call: Value, n: usize, turn: usize, taken: &mut HashSet<String>) -> Result<Output, Failure> {
    let unreadable = |what: &str| Failure::Unreadable(format!("tool_calls[{n}] {what}"));
    let Value::Object(mut raw) = call else { return Err(unreadable("is no object")) };
    // Streamed answers carry it; a request may not.
    raw.remove("index");
    raw.remove("type");
    let Some(Value::Object(mut function)) = raw.remove("function") else {
        return Err(unreadable("has no `function`"));
    };
    let name = text(&mut function, "name");
    if name.is_empty() {
        return Err(unreadable("has no name"));
    }
    let own = text(&mut raw, "id");
    let call_id =
        if own.is_empty() || taken.contains(&own) { format!("call_{}_{}", turn + 1, n + 1) } else { own };
    taken.insert(call_id.clone());
    let call = FunctionCall { call_id, name, arguments: arguments(&mut function, "arguments") };
    Ok(Output { said: Said::Call(call), raw })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answered(message: &Value) -> Result<TurnResponse, Failure> {
        let answer = json!({"model": "m", "choices": [{"message": message}]});
        read(answer, &HashSet::from(["used".to_owned()]), 1)
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
            turn.calls().map(|c| (c.call_id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
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
        assert!(turn.outputs[0].raw.is_empty());
        assert_eq!(turn.outputs[3].raw["extra"], 7);
    }

    #[test]
    fn content_in_parts_a_refusal_and_nothing_at_all_are_read() {
        let turn = answered(&json!({"content": [{"type": "text", "text": "a"}], "refusal": "b"})).unwrap();
        assert_eq!(turn.text(), "a\nb");
        let nothing = answered(&json!({"content": null})).unwrap();
        assert!(nothing.outputs.is_empty());
    }

    #[test]
    fn why_an_answer_ended_early_and_what_it_took_are_read_in_every_dialect() {
        let answer = |reason: &str, usage: Value| {
            let choice = json!({"message": {"content": "x"}, "finish_reason": reason});
            read(json!({"choices": [choice], "usage": usage}), &HashSet::new(), 0).unwrap()
        };
        assert_eq!(answer("length", json!(null)).incomplete, Some(Incomplete::NoRoom));
        assert_eq!(answer("content_filter", json!(null)).incomplete, Some(Incomplete::Filter));
        let usage = json!({"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4});
        let read = answer("stop", usage);
        assert_eq!(read.incomplete, None);
        assert_eq!(
            read.usage,
            TurnUsage { input_tokens: 9, cached_tokens: 4, cache_write_tokens: 0, output_tokens: 2 }
        );
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
            assert_eq!(read(answer, &HashSet::new(), 0).unwrap_err().to_string(), told);
        }
    }
}
