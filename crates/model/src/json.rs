//! What the readers of all interfaces take out of JSON that others wrote.

use serde_json::{Map, Value};

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

/// The number of tokens at the first of these paths that has one. What is missing, negative or no number is none; more than
/// any context holds is a mistake, and none either.
pub(crate) fn tokens(answer: &Value, paths: &[&str]) -> u64 {
    /// No model has a context a tenth as large.
    const MOST: f64 = 1e9;
    let number = |value: &Value| value.as_u64().map(|n| n as f64).or_else(|| value.as_f64());
    let found = paths.iter().find_map(|path| answer.pointer(path).and_then(number));
    found.filter(|n| (0.0..MOST).contains(n)).map_or(0, |n| n as u64)
}
