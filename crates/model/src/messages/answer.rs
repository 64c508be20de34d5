//! The API's `Message`, read leniently into items of ours.

use std::collections::HashSet;

use sentinel_investigation::ports::{Api, FunctionCall, Incomplete, Output, Said, TurnResponse, TurnUsage};
use serde_json::{Map, Value, json};

use super::{WORDS, digest};
use crate::failure::{Failure, check_number, error_of};
use crate::json::{arguments, missing, text, tokens};

/// What is told where the service says only that it refuses.
const REFUSED: &str = "The model's service stopped the answer: its classifiers took the request for one that it does not answer.";

/// Reads an answer. `used` are the call ids that the conversation holds, `turn` how many responses it holds: what a
/// call without an id is named by.
pub(crate) fn read(mut answer: Value, used: &HashSet<String>, turn: usize) -> Result<TurnResponse, Failure> {
    if let Some(failure) = error_of(&answer) {
        return Err(failure);
    }
    let Some(Value::Array(blocks)) = answer.get_mut("content").map(Value::take) else {
        return Err(missing(&answer, Api::Messages, "the answer has no list `content`"));
    };
    check_number(blocks.len())?;
    let (mut outputs, mut taken) = (Vec::new(), used.clone());
    for (n, block) in blocks.into_iter().enumerate() {
        outputs.extend(read_block(block, n, turn, &mut taken)?);
    }
    let incomplete = match answer.get("stop_reason").and_then(Value::as_str) {
        Some("max_tokens" | "model_context_window_exceeded") => Some(Incomplete::NoRoom),
        Some("refusal") => {
            let told = answer.pointer("/stop_details/explanation").and_then(Value::as_str);
            let text = told.filter(|told| !told.trim().is_empty()).unwrap_or(REFUSED).to_owned();
            outputs.push(Output::plain(Said::Refusal { text }));
            Some(Incomplete::Filter)
        }
        _ => None,
    };
    // What was read from the cache or written to it is no part of `input_tokens`.
    let cached_tokens = tokens(&answer, &["/usage/cache_read_input_tokens"]);
    let cache_write_tokens = tokens(&answer, &["/usage/cache_creation_input_tokens"]);
    let input_tokens = tokens(&answer, &["/usage/input_tokens"]) + cached_tokens + cache_write_tokens;
    let output_tokens = tokens(&answer, &["/usage/output_tokens"]);
    Ok(TurnResponse {
        model: answer.get("model").and_then(Value::as_str).unwrap_or("unknown").to_owned(),
        api: Api::Messages,
        outputs,
        incomplete,
        usage: TurnUsage { input_tokens, cached_tokens, cache_write_tokens, output_tokens },
        left_out: Vec::new(),
    })
}

fn read_block(
    block: Value,
    n: usize,
    turn: usize,
    taken: &mut HashSet<String>,
) -> Result<Option<Output>, Failure> {
    let Value::Object(mut raw) = block else { return Ok(None) };
    let kind = raw.get("type").and_then(Value::as_str).map(str::to_owned);
    let output = match kind.as_deref() {
        Some("text") => {
            let text = text(&mut raw, "text");
            if text.trim().is_empty() {
                return Ok(None);
            }
            Output::plain(Said::Text { text })
        }
        Some("tool_use") => {
            raw.remove("type");
            let (own, name) = (text(&mut raw, "id"), text(&mut raw, "name"));
            if name.is_empty() {
                return Err(Failure::Unreadable(format!("content[{n}] is a tool_use without `name`")));
            }
            let is_new = !own.is_empty() && !taken.contains(&own);
            let call_id = if is_new { own } else { format!("call_{}_{}", turn + 1, n + 1) };
            taken.insert(call_id.clone());
            let arguments = arguments(&mut raw, "input");
            Output { said: Said::Call(FunctionCall { call_id, name, arguments }), raw: kept(raw) }
        }
        Some("thinking") => {
            let text = text(&mut raw, "thinking");
            raw.insert(WORDS.to_owned(), json!(digest(&text)));
            Output { said: Said::Reasoning { text }, raw }
        }
        Some("redacted_thinking") => Output { said: Said::Reasoning { text: String::new() }, raw },
        _ => Output { said: Said::Other, raw },
    };
    Ok(Some(output))
}

/// What of a call goes back with it.
fn kept(raw: Map<String, Value>) -> Map<String, Value> {
    raw.into_iter().filter(|(key, value)| key == "caller" && !value.is_null()).collect()
}

#[cfg(test)]
mod tests {
    use sentinel_testkit::anthropic::{
        message, redacted_thinking, refusal, text, thinking, tool_use, with_usage,
    };

    use super::*;

    fn answered(answer: Value) -> Result<TurnResponse, Failure> {
        read(answer, &HashSet::from(["used".to_owned()]), 1)
    }

    #[test]
    fn text_calls_and_thoughts_are_read_in_order() {
        let blocks = vec![
            thinking("hm"),
            redacted_thinking("sealed"),
            json!({"type": "text", "text": "Looking."}),
            json!({"type": "text", "text": "  "}),
            tool_use("look", &json!({"n": 1}), "toolu_1"),
            json!({"type": "tool_use", "name": "look"}),
            json!({"type": "tool_use", "id": "used", "name": "look", "input": "{"}),
            json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
            json!("no block"),
        ];
        let turn = answered(message(blocks, "tool_use")).unwrap();
        let calls: Vec<_> =
            turn.calls().map(|c| (c.call_id.as_str(), c.name.as_str(), c.arguments.as_str())).collect();
        assert_eq!(
            calls,
            [("toolu_1", "look", r#"{"n":1}"#), ("call_2_6", "look", "{}"), ("call_2_7", "look", "{")]
        );
        assert_eq!(turn.text(), "Looking.");
        assert_eq!(turn.outputs[0].said, Said::Reasoning { text: "hm".to_owned() });
        assert_eq!(turn.outputs[1].raw["data"], "sealed");
        assert_eq!(turn.outputs.last().unwrap().said, Said::Other);
        assert_eq!(turn.incomplete, None);
    }

    #[test]
    fn all_of_the_input_is_counted_whether_it_was_cached_or_not() {
        let turn = answered(with_usage(text("x"), 1000, 700, 200, 5)).unwrap();
        let usage =
            TurnUsage { input_tokens: 1000, cached_tokens: 700, cache_write_tokens: 200, output_tokens: 5 };
        assert_eq!(turn.usage, usage);
        for usage in [
            json!(null),
            json!({}),
            json!({"input_tokens": -5, "cache_read_input_tokens": "9", "output_tokens": 1e300}),
        ] {
            let turn = answered(json!({"content": [], "usage": usage})).unwrap();
            assert_eq!(turn.usage, TurnUsage::default());
        }
    }

    #[test]
    fn why_an_answer_ended_early_is_read() {
        for (reason, incomplete) in [
            ("end_turn", None),
            ("tool_use", None),
            ("pause_turn", None),
            ("a reason of tomorrow", None),
            ("max_tokens", Some(Incomplete::NoRoom)),
            ("model_context_window_exceeded", Some(Incomplete::NoRoom)),
        ] {
            assert_eq!(answered(message(vec![], reason)).unwrap().incomplete, incomplete, "{reason}");
        }
        let refused = answered(refusal("It could enable harm.")).unwrap();
        assert_eq!(refused.incomplete, Some(Incomplete::Filter));
        assert_eq!(refused.text(), "It could enable harm.");
        assert_eq!(answered(refusal(" ")).unwrap().text(), REFUSED);
    }

    #[test]
    fn what_is_no_answer_cannot_be_read() {
        for (answer, told) in [
            (json!({}), "the answer has no list `content`"),
            (json!([1]), "the answer has no list `content`"),
            (json!({"content": "x"}), "the answer has no list `content`"),
            (
                json!({"content": [{"type": "tool_use", "id": "a"}]}),
                "content[0] is a tool_use without `name`",
            ),
            (
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
                "the response failed: Overloaded (overloaded_error)",
            ),
        ] {
            assert_eq!(answered(answer).unwrap_err().to_string(), told);
        }
        let many = json!({"content": vec![json!({"type": "text", "text": "x"}); 4097]});
        assert_eq!(
            answered(many).unwrap_err().to_string(),
            "the answer has 4097 items, and 4096 at most are read"
        );
    }
}
