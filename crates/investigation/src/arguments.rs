//! Arguments of calls as the model wrote them, read once: what is judged, sent and recorded is this one value.

use std::fmt;

use sentinel_core::redact::Redactor;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::refusal::Refusal;

/// A JSON text, read.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Read {
    /// Of a key that stands twice, the last value.
    pub(crate) value: Value,
    /// The first key that stands twice in an object, at any depth: RFC 8259 leaves open what it means, so nobody knows
    /// which of the two a server takes.
    pub(crate) duplicate: Option<String>,
}

/// Reads a JSON text; each string in it, keys and what a later key hides included, is shown to `seen`.
pub(crate) fn read(text: &str, seen: &mut dyn FnMut(&str)) -> serde_json::Result<Read> {
    let mut state = State { duplicate: None, seen };
    let mut json = serde_json::Deserializer::from_str(text);
    let value = Node(&mut state).deserialize(&mut json)?;
    json.end()?;
    Ok(Read { value, duplicate: state.duplicate })
}

/// The arguments of a call, an object in which no key stands twice.
pub(crate) fn object(name: &str, written: &str) -> Result<Map<String, Value>, Refusal> {
    // A model that has nothing to say about arguments often says nothing.
    let written = if written.trim().is_empty() { "{}" } else { written };
    let read = read(written, &mut |_| {})
        .map_err(|e| Refusal::NotJson { name: name.to_owned(), why: e.to_string() })?;
    if let Some(key) = read.duplicate {
        return Err(Refusal::DuplicateKey { name: name.to_owned(), key: crate::fence::clip(&key, 80) });
    }
    match read.value {
        Value::Object(map) => Ok(map),
        _ => Err(Refusal::NoObject(name.to_owned())),
    }
}

/// The kind of the first credential that stands in arguments beyond doubt; `None`: there is none. The model is shown
/// none, so what merely looks like one (`"password: incorrect"` in a query) is what it says.
pub(crate) fn credential(written: &str, redactor: &Redactor) -> Option<String> {
    let mut found = redactor.is_unmistakable(written);
    // An escape may hide one from a look at the text.
    let _ = read(written, &mut |text| {
        if found.is_none() {
            found = redactor.is_unmistakable(text);
        }
    });
    found
}

/// Arguments that hold a credential, as they are stored: the parsed value is redacted and written again. What is no
/// JSON is redacted as the text that it is.
pub(crate) fn without_credentials(written: &str, redactor: &Redactor) -> String {
    match read(written, &mut |_| {}) {
        Ok(Read { mut value, .. }) => {
            redactor.redact_json(&mut value);
            value.to_string()
        }
        Err(_) => redactor.redact(written).into_owned(),
    }
}

struct State<'s> {
    duplicate: Option<String>,
    seen: &'s mut dyn FnMut(&str),
}

struct Node<'s, 'f>(&'s mut State<'f>);

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        (self.0.seen)(value);
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(Node(self.0))? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            (self.0.seen)(&key);
            let value = fields.next_value_seed(Node(self.0))?;
            if all.contains_key(&key) && self.0.duplicate.is_none() {
                self.0.duplicate = Some(key.clone());
            }
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn kind(refused: Result<Map<String, Value>, Refusal>) -> &'static str {
        refused.map_or_else(|refusal| refusal.reason().as_str(), |_| "read")
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_at_any_depth_however_it_is_written() {
        for (written, want) in [
            (r#"{"a":1,"b":1}"#, "read"),
            (r#"{"a":{"a":1},"b":{"a":2}}"#, "read"),
            ("", "read"),
            (r#"{"a":1,"a":1}"#, "duplicate_keys"),
            (r#"{"x":[{"y":{"a":1,"a":2}}]}"#, "duplicate_keys"),
            (r#"{"a":1,"\u0061":2}"#, "duplicate_keys"),
            (r#"{"a":1} {"a":2}"#, "arguments"),
            ("[1]", "arguments"),
            ("{", "arguments"),
        ] {
            assert_eq!(kind(object("t", written)), want, "{written}");
        }
        let deep = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
        assert_eq!(kind(object("t", &deep)), "arguments");
    }

    #[test]
    fn only_a_credential_beyond_doubt_counts_and_it_is_found_behind_escapes_and_hidden_keys() {
        let redactor = Redactor::new(["swordfish-9".to_owned()]);
        for (written, holds) in [
            (r#"{"secret":"db-credentials","q":"{app=\"x\"} |= \"password: incorrect\""}"#, false),
            (r#"{"q":"[redacted: aws-key a1f3]"}"#, false),
            (r#"{"q":"swordfish-9"}"#, true),
            (r#"{"q":"\u0073wordfish-9"}"#, true),
            (r#"{"q":"\u0073wordfish-9","q":"x"}"#, true),
            (r#"{"swordfish-9":1}"#, true),
            ("swordfish-9 {", true),
        ] {
            assert_eq!(credential(written, &redactor).is_some(), holds, "{written}");
            let stored = without_credentials(written, &redactor);
            assert!(!holds || credential(&stored, &redactor).is_none(), "{stored}");
        }
    }

    proptest! {
        #[test]
        fn what_has_no_doubled_key_is_read_as_everywhere(text in r#"[\[\]{}:,"a-c0-9.e\\ -]{0,24}"#) {
            let ours = read(&text, &mut |_| {}).map(|r| r.value).ok();
            let theirs = serde_json::from_str::<Value>(&text).ok();
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn a_value_that_is_written_is_read_again(keys in prop::collection::btree_map("[a-z\"\\\\é]{0,4}", "\\PC{0,8}", 0..6)) {
            let value = json!({"all": keys});
            let read = read(&value.to_string(), &mut |_| {}).unwrap();
            prop_assert_eq!(read, Read { value, duplicate: None });
        }
    }
}
