//! What the readers of all interfaces take out of JSON that others wrote.

use sentinel_investigation::ports::Api;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// Takes a text; empty where there is none.
pub(crate) fn text(raw: &mut Map<String, Value>, key: &str) -> String {
    match raw.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

/// Takes a call's arguments: a text, or the value itself, as some services write it. Anything: the caller says to the
/// model what is wrong with it.
pub(crate) fn arguments(raw: &mut Map<String, Value>, key: &str) -> String {
    match raw.remove(key) {
        Some(Value::String(written)) => written,
        None | Some(Value::Null) => "{}".to_owned(),
        Some(value) => value.to_string(),
    }
}

/// More tokens than any context holds.
const TOO_MANY: u64 = 1_000_000_000;

/// The number of tokens at the first of these paths that has one. What is missing, negative, no whole number, or more than
/// any context holds, is none.
pub(crate) fn tokens(answer: &Value, paths: &[&str]) -> u64 {
    let found = paths.iter().find_map(|path| answer.pointer(path).and_then(Value::as_u64));
    found.filter(|tokens| *tokens < TOO_MANY).unwrap_or_default()
}

/// That an answer does not hold what every answer of its interface, `own`, holds; where it is one of another, which.
pub(crate) fn missing(answer: &Value, own: Api, what: &str) -> Failure {
    let others = [
        (Api::Chat, "choices", "Chat Completions: set `api: chat`"),
        (Api::Responses, "output", "the Responses API: set `api: responses`"),
        (Api::Messages, "content", "the Messages API: set `api: messages`"),
    ];
    let has = |key: &str| answer.get(key).is_some_and(Value::is_array);
    let other = others.iter().find(|(api, key, _)| *api != own && has(key));
    let hint = other.map_or_else(String::new, |(_, _, hint)| format!("; it is an answer of {hint}"));
    Failure::Unreadable(format!("{what}{hint}"))
}
