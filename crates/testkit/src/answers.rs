//! What a model says in a turn, as each interface has it, on its contract.

use sentinel_investigation::ports::Api;
use serde_json::{Value, json};

use crate::{anthropic, openai};

/// It says `text`.
pub fn text(api: Api, text: &str) -> Value {
    match api {
        Api::Responses => openai::message(text),
        Api::Chat => openai::chat_message(text),
        Api::Messages => anthropic::text(text),
    }
}

/// It calls functions, each `(name, arguments, call id)`, after this thought; nothing on Chat's contract holds one.
pub fn calls(api: Api, thought: Option<&str>, calls: &[(&str, Value, &str)]) -> Value {
    match api {
        Api::Responses => {
            let ids: String = calls.iter().map(|(_, _, id)| *id).collect();
            let sealed = json!({
                "type": "reasoning", "id": format!("rs_{ids}"), "summary": [], "encrypted_content": "sealed",
            });
            let calls =
                calls.iter().map(|(name, a, id)| openai::function_call_item(name, &a.to_string(), id));
            openai::response(thought.map(|_| sealed).into_iter().chain(calls).collect())
        }
        Api::Chat => openai::chat_function_calls(calls),
        Api::Messages => {
            let calls = calls.iter().map(|(name, a, id)| anthropic::tool_use(name, a, id));
            anthropic::message(
                thought.map(anthropic::thinking).into_iter().chain(calls).collect(),
                "tool_use",
            )
        }
    }
}

/// It says `text`, and is cut off by the limit of its tokens.
pub fn cut_off(api: Api, text: &str) -> Value {
    match api {
        Api::Responses => openai::cut_off(openai::message(text)),
        Api::Chat => {
            openai::chat_answer(&json!({"role": "assistant", "content": text, "refusal": null}), "length")
        }
        Api::Messages => anthropic::message(vec![json!({"type": "text", "text": text})], "max_tokens"),
    }
}

/// It refuses, in these words.
pub fn refusal(api: Api, text: &str) -> Value {
    match api {
        Api::Responses => openai::response(vec![json!({
            "type": "message", "id": "msg_scripted", "role": "assistant", "status": "completed",
            "content": [{"type": "refusal", "refusal": text}],
        })]),
        Api::Chat => {
            openai::chat_answer(&json!({"role": "assistant", "content": null, "refusal": text}), "stop")
        }
        Api::Messages => anthropic::refusal(text),
    }
}
