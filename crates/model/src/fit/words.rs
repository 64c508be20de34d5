//! What has no keyword is said in words.

use std::fmt::{self, Write};

use serde_json::{Value, json};

use super::LONGEST_WORDS;

/// How much of one value is told, in characters.
const LONGEST_VALUE: usize = 200;

/// `keyword: value`, a text without its quotes, the beginning of a long one.
pub(super) fn in_words(keyword: &str, value: &Value) -> String {
    let mut brief = Brief { text: String::new(), left: LONGEST_VALUE };
    let whole = match value {
        Value::String(text) => brief.write_str(text),
        value => write!(brief, "{value}"),
    };
    let dots = if whole.is_err() { "…" } else { "" };
    format!("{}{dots}", join(keyword, &brief.text, ": "))
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

/// A text that is not written any further than `left` characters.
struct Brief {
    text: String,
    left: usize,
}

impl Write for Brief {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let fits =
            more.char_indices().nth(self.left).map_or(more, |(at, _)| more.get(..at).unwrap_or_default());
        self.text.push_str(fits);
        self.left -= fits.chars().count();
        if fits.len() < more.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
