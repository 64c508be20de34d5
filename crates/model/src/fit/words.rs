//! What has no keyword is said in words.

use sentinel_investigation::schema::brief;
use serde_json::{Value, json};

use super::LONGEST_WORDS;

/// How much of one value is told, in characters.
const LONGEST_VALUE: usize = 200;

/// `keyword: value`, a text without its quotes, the beginning of a long one.
pub(super) fn in_words(keyword: &str, value: &Value) -> String {
    let told = match value {
        Value::String(text) => brief(text, LONGEST_VALUE),
        value => brief(value, LONGEST_VALUE),
    };
    join(keyword, &told, ": ")
}

/// The first `most` characters, the last of which is an ellipsis where there are more.
pub(super) fn clip(text: &str, most: usize) -> String {
    if text.char_indices().nth(most).is_none() {
        return text.to_owned();
    }
    let end = text.char_indices().nth(most.saturating_sub(1)).map_or(text.len(), |(at, _)| at);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// Both, or the one that says something.
pub(super) fn join(one: &str, other: &str, between: &str) -> String {
    match (one.is_empty(), other.is_empty()) {
        (false, false) => format!("{one}{between}{other}"),
        _ => format!("{one}{other}"),
    }
}

/// The schema with a description, after which stands what else has to be said; one of several alternatives has it with
/// the first, since some services take nothing beside `anyOf`.
pub(super) fn describe(mut schema: Value, description: &str, words: &[String]) -> Value {
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
    let words = words.join("; ");
    let words = if description.is_empty() || words.is_empty() { words } else { format!("({words})") };
    let said = join(description, &words, " ");
    if said.trim().is_empty() {
        return schema;
    }
    let place =
        if schema.get("anyOf").is_some() { schema.pointer_mut("/anyOf/0") } else { Some(&mut schema) };
    if let Some(fields) = place.and_then(Value::as_object_mut) {
        let before = fields.get("description").and_then(Value::as_str).unwrap_or_default();
        let told = if words.is_empty() || !description.is_empty() {
            join(&said, before, "\n")
        } else if before.is_empty() {
            said
        } else {
            format!("{before} ({said})")
        };
        fields.insert("description".to_owned(), json!(clip(told.trim(), LONGEST_WORDS)));
    }
    schema
}
