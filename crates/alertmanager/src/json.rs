//! JSON read one level at a time, so that what is broken in one alert stays there.
//!
//! A level is an object or array of unparsed values ([`RawValue`]): the grammar of the whole body is checked once, and
//! a number out of range or half a surrogate pair only concerns the field that it stands in.
//!
//! What says who an alert is ([`labels`], [`text`]) is read strictly, what only informs ([`texts`], [`note`]) as far as it
//! can be: half a surrogate pair is U+FFFD there, as in browsers and in Go.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use sentinel_core::alert::Labels;
use sentinel_core::notification::Refusal;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::error::EnvelopeError;
use crate::{MAX_ALERTS, MAX_BODY_BYTES, MAX_DEPTH};

/// How much of a sender's text stands in a message, in characters.
const SHOWN: usize = 64;
/// How many steps of a path stand in a message.
const SHOWN_STEPS: usize = 8;

/// An object whose values are not parsed yet. Of two keys alike the last wins, as in Go.
pub(crate) type Object<'a> = BTreeMap<String, &'a RawValue>;

/// An [`Object`] whose keys may hold half a surrogate pair.
struct Loose<'a>(Object<'a>);

impl<'de> Deserialize<'de> for Loose<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Loose<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut object = Object::new();
                while let Some((Decoded(key), value)) = map.next_entry()? {
                    object.insert(key, value);
                }
                Ok(Loose(object))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A JSON text, U+FFFD for each half of a surrogate pair.
struct Decoded(String);

impl<'de> Deserialize<'de> for Decoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Decoded;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            /// As bytes the parser gives each half as the three that its number would have in UTF-8, which begin with 0xED.
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Decoded, E> {
                let mut text = String::with_capacity(bytes.len());
                for chunk in bytes.utf8_chunks() {
                    text.push_str(chunk.valid());
                    if chunk.invalid().starts_with(&[0xed]) {
                        text.push('\u{fffd}');
                    }
                }
                Ok(Decoded(text))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// The body as an object.
pub(crate) fn document(body: &[u8]) -> Result<Object<'_>, EnvelopeError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(EnvelopeError::TooLarge { bytes: body.len() });
    }
    let text = str::from_utf8(body).map_err(|e| EnvelopeError::NotUtf8 { offset: e.valid_up_to() })?;
    // A parser may ignore a byte order mark (RFC 8259, section 8.1); PowerShell sends one.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Place::TooDeep(path) = place(text, text.len()) {
        return Err(EnvelopeError::TooDeep { path });
    }
    serde_json::from_str(text).map(|Loose(object)| object).map_err(|error| match error.classify() {
        Category::Data => EnvelopeError::NotAnObject { found: kind_of(text.trim_start()) },
        Category::Syntax | Category::Eof | Category::Io => not_json(text, &error),
    })
}

fn not_json(text: &str, error: &serde_json::Error) -> EnvelopeError {
    let (line, column) = (error.line(), error.column());
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let (Place::In(path) | Place::TooDeep(path)) = place(text, start + column.saturating_sub(1));
    EnvelopeError::NotJson { line, column, path, reason: without_place(error) }
}

/// What the parser says, without its line and column, which count from the beginning of what it was given.
fn without_place(error: &serde_json::Error) -> String {
    let full = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    full.strip_suffix(&place).unwrap_or(&full).to_owned()
}

/// What lies around a byte of a body.
enum Place {
    /// The path of the innermost value around it.
    In(String),
    /// Before it more than [`MAX_DEPTH`] values lie within each other, here.
    TooDeep(String),
}

/// Walks the brackets of `text` up to the byte `until`. It assumes JSON: where there is none, the parser, which runs
/// next, says so, and the path is the best that can be told.
fn place(text: &str, until: usize) -> Place {
    enum Level {
        Array(usize),
        Object(Range<usize>),
    }
    let path = |levels: &[Level]| {
        let mut path = String::new();
        for level in levels.iter().take(SHOWN_STEPS) {
            path = match level {
                Level::Array(index) => element(&path, *index),
                Level::Object(key) if key.is_empty() => path,
                Level::Object(key) => member(&path, text.get(key.clone()).unwrap_or_default()),
            };
        }
        if levels.len() > SHOWN_STEPS {
            path.push('…');
        }
        path
    };
    let mut levels: Vec<Level> = Vec::new();
    let mut string_from = None;
    let mut last_string = 0..0;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().take(until) {
        if let Some(from) = string_from {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    last_string = from..at;
                    string_from = None;
                }
                _ => {}
            }
            continue;
        }
        if matches!(byte, b'{' | b'[') && levels.len() == MAX_DEPTH {
            return Place::TooDeep(path(&levels));
        }
        match (byte, levels.last_mut()) {
            (b'"', _) => string_from = Some(at + 1),
            (b'{', _) => levels.push(Level::Object(0..0)),
            (b'[', _) => levels.push(Level::Array(0)),
            (b'}' | b']', _) => drop(levels.pop()),
            (b':', Some(Level::Object(key))) => *key = last_string.clone(),
            (b',', Some(Level::Object(key))) => *key = 0..0,
            (b',', Some(Level::Array(index))) => *index += 1,
            _ => {}
        }
    }
    Place::In(path(&levels))
}

/// The elements of the array `raw`, at most [`MAX_ALERTS`] of them, which must be an array.
pub(crate) fn alerts(raw: Option<&RawValue>) -> Result<Vec<&RawValue>, EnvelopeError> {
    let Some(raw) = raw else { return Err(EnvelopeError::NoAlerts { found: "missing" }) };
    let no_array = |_| EnvelopeError::NoAlerts { found: kind(raw) };
    let elements: Elements<'_> = serde_json::from_str(raw.get()).map_err(no_array)?;
    if elements.count > MAX_ALERTS {
        return Err(EnvelopeError::TooManyAlerts { count: elements.count });
    }
    Ok(elements.kept)
}

/// An array of which no more than [`MAX_ALERTS`] elements take memory.
struct Elements<'a> {
    kept: Vec<&'a RawValue>,
    count: usize,
}

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < MAX_ALERTS
                    && let Some(raw) = seq.next_element()?
                {
                    kept.push(raw);
                }
                let mut count = kept.len();
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Elements { kept, count })
            }
        }
        deserializer.deserialize_seq(Collect)
    }
}

/// The field `name`; `null` is like missing.
pub(crate) fn field<'a>(object: &Object<'a>, name: &str) -> Option<&'a RawValue> {
    object.get(name).copied().filter(|raw| raw.get() != "null")
}

/// The object `raw`, if it is one, whatever its keys hold.
pub(crate) fn object<'a>(raw: &'a RawValue, path: &str) -> Result<Object<'a>, Refusal> {
    let Loose(object) = serde_json::from_str(raw.get()).map_err(|_| no_object(raw, path))?;
    Ok(object)
}

fn no_object(raw: &RawValue, path: &str) -> Refusal {
    refusal(path, format!("is {}; an object would be right", kind(raw)))
}

/// `raw` as a text. A number or a truth value is the text that stands in the body.
pub(crate) fn text(raw: &RawValue, path: &str) -> Result<String, Refusal> {
    match raw.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw.get())
            .map_err(|error| refusal(path, format!("is no text ({})", without_place(&error)))),
        Some(b'{' | b'[') => Err(refusal(path, format!("is {}; a text would be right", kind(raw)))),
        _ => Ok(raw.get().to_owned()),
    }
}

/// `raw` as a text whatever it is: an array or object as the JSON that stands in the body.
fn any_text(raw: &RawValue) -> String {
    serde_json::from_str(raw.get()).map_or_else(|_| raw.get().to_owned(), |Decoded(text)| text)
}

/// A field that only informs: what is there and not empty, as a text.
pub(crate) fn note(object: &Object<'_>, name: &str) -> Option<String> {
    let raw = field(object, name).filter(|raw| !raw.get().starts_with(['{', '[']))?;
    Some(any_text(raw)).filter(|text| !text.is_empty())
}

/// Whether `raw` is an array without elements: the empty map of senders whose language has one kind for both.
fn is_empty_array(raw: &RawValue) -> bool {
    let inner = raw.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.trim().is_empty())
}

/// An object of texts that says who an alert is; an entry that is `null` is left out, and `[]` is an empty object.
pub(crate) fn labels(raw: &RawValue, path: &str) -> Result<Labels, Refusal> {
    if is_empty_array(raw) {
        return Ok(Labels::new());
    }
    let object: Object<'_> = serde_json::from_str(raw.get()).map_err(|error| match error.classify() {
        Category::Data => no_object(raw, path),
        _ => refusal(path, format!("has a key that is no text ({})", without_place(&error))),
    })?;
    object
        .into_iter()
        .filter(|(_, value)| value.get() != "null")
        .map(|(name, value)| {
            let at = member(path, &name);
            if name.is_empty() {
                return Err(refusal(&at, "has no name; a label without its name says nothing: leave it out"));
            }
            Ok((name, text(value, &at)?))
        })
        .collect()
}

/// What informs under `name`: an object as texts by name, whatever its values are, and anything else as one text of that
/// name. What is `null` or empty is left out.
pub(crate) fn texts(raw: &RawValue, name: &str) -> Labels {
    match object(raw, name) {
        Ok(object) => {
            let said = object.into_iter().filter(|(_, value)| value.get() != "null");
            said.map(|(name, value)| (name, any_text(value))).collect()
        }
        Err(_) if is_empty_array(raw) => Labels::new(),
        Err(_) => {
            [(name.to_owned(), any_text(raw))].into_iter().filter(|(_, text)| !text.is_empty()).collect()
        }
    }
}

/// What `raw` is, in words.
pub(crate) fn kind(raw: &RawValue) -> &'static str {
    kind_of(raw.get())
}

fn kind_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// A refusal at `path`; the reason reads on from the path.
pub(crate) fn refusal(path: &str, reason: impl Into<String>) -> Refusal {
    Refusal { path: path.to_owned(), reason: reason.into() }
}

/// The path of the member `key` of the object at `path`.
pub(crate) fn member(path: &str, key: &str) -> String {
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return format!("{path}[{:?}]", shown(key));
    }
    let dot = if path.is_empty() { "" } else { "." };
    format!("{path}{dot}{}", shown(key))
}

/// The path of element `index` of the array at `path`.
pub(crate) fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// The beginning of a sender's text, for a message.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_at(text: &str, marker: &str) -> String {
        match place(text, text.find(marker).unwrap()) {
            Place::In(path) => path,
            Place::TooDeep(path) => panic!("too deep in {path}"),
        }
    }

    #[test]
    fn a_place_is_named_by_keys_and_indices() {
        let text = r#"{"a": 1, "alerts": [{"labels": {"x": "{[,:\"", "y.z": HERE }}, THERE], "k": TAIL}"#;
        assert_eq!(path_at(text, "HERE"), r#"alerts[0].labels["y.z"]"#);
        assert_eq!(path_at(text, "THERE"), "alerts[1]");
        assert_eq!(path_at(text, "TAIL"), "k");
    }

    #[test]
    fn brackets_in_a_text_do_not_nest() {
        let text = format!(r#"{{"a": "{}"}}"#, "[".repeat(MAX_DEPTH * 2));
        assert!(document(text.as_bytes()).is_ok());
    }

    #[test]
    fn the_last_permitted_level_is_read_and_the_next_is_not() {
        let nest = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(document(nest(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(
            document(nest(MAX_DEPTH + 1).as_bytes()).unwrap_err(),
            EnvelopeError::TooDeep { path: "a[0][0][0][0][0][0][0]…".to_owned() }
        );
    }

    #[test]
    fn a_number_becomes_the_text_that_stands_in_the_body() {
        let raw: Box<RawValue> = serde_json::from_str("1.50e400").unwrap();
        assert_eq!(text(&raw, "x").unwrap(), "1.50e400");
    }

    #[test]
    fn a_long_text_is_cut_in_a_message_and_a_short_one_is_not() {
        assert_eq!(shown(&"é".repeat(SHOWN)), "é".repeat(SHOWN));
        assert_eq!(shown(&"é".repeat(SHOWN + 1)), format!("{}…", "é".repeat(SHOWN)));
    }
}
