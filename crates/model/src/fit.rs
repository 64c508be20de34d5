//! Tool schemas, made to fit the strictest of the services. One subset of JSON Schema is sent to all of them, so that
//! the prefix of a conversation does not depend on who is asked; what has no place in it is said in words, in the
//! description. A schema that fits takes all that the original takes, so nothing is lost but what the service would
//! have told the model: arguments are held against the original.
//!
//! The subset: an object with `properties`, an array with `items`, one `type` each, `enum` of texts, `anyOf` alone and
//! below the top, plain bounds, `description`, `required`. OpenAI refuses an object without `properties`, an array
//! without `items`, a top that is composed, and patterns with lookaround; Anthropic refuses a composed top, `$ref`, and
//! other names of properties; Gemini refuses `const`, lists of types, `oneOf`, `exclusiveMinimum`, most formats, enums of
//! anything but texts, and every keyword that it does not know.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use sentinel_investigation::ports::ToolSpec;
use serde_json::{Map, Value, json};

mod parts;
mod words;

use parts::{Fitter, Parts};
use words::{clip, describe, join};

/// The longest description of a function that OpenAI takes, in characters. What is over goes to the schema's own.
const LONGEST_DESCRIPTION: usize = 1024;
/// The longest description inside a schema, in characters.
const LONGEST_WORDS: usize = 4000;
/// How deep objects and arrays may be nested (OpenAI's limit for schemas that are held to strictly).
const DEEPEST: usize = 10;
/// The most values of one `enum` (OpenAI counts the characters of longer ones), and of all of a tool's together.
const MOST_VALUES: usize = 250;
const MOST_VALUES_IN_ALL: usize = 1000;
/// What stands in an array that does not say it.
const ANY: [Kind; 4] = [Kind::String, Kind::Number, Kind::Boolean, Kind::Object];
/// The most alternatives of one `anyOf`.
const MOST_ALTERNATIVES: usize = 50;

/// The most tools that are remembered; then all are forgotten.
const MOST_REMEMBERED: usize = 1024;

/// The tools that a service was offered, as it takes them. Each is made to fit once: a run offers its tools anew in every
/// turn.
#[derive(Default)]
pub(crate) struct Tools(Mutex<HashMap<ToolSpec, Arc<ToolSpec>>>);

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tools")
    }
}

impl Tools {
    /// The tool with a description and a schema of its arguments that every service takes.
    pub(crate) fn fitted(&self, of: &ToolSpec) -> Arc<ToolSpec> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fitted) = known().get(of) {
            return fitted.clone();
        }
        let fitted = Arc::new(tool(of));
        let mut known = known();
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(of.clone(), fitted.clone());
        fitted
    }
}

/// A tool with a description and a schema of its arguments that every service takes.
fn tool(tool: &ToolSpec) -> ToolSpec {
    let mut parameters = parameters(&tool.parameters);
    let told = |description: &str, parameters| ToolSpec {
        name: tool.name.clone(),
        description: description.to_owned(),
        parameters,
    };
    let Some((at, _)) = tool.description.char_indices().nth(LONGEST_DESCRIPTION) else {
        return told(&tool.description, parameters);
    };
    let at =
        tool.description.get(..at).and_then(|head| head.rfind('\n').filter(|cut| *cut > 0)).unwrap_or(at);
    let (head, rest) = tool.description.split_at_checked(at).unwrap_or((&tool.description, ""));
    let own = parameters.get("description").and_then(Value::as_str).unwrap_or_default();
    let words = clip(&join(rest.trim(), own, "\n"), LONGEST_WORDS);
    if let Some(fields) = parameters.as_object_mut() {
        fields.insert("description".to_owned(), json!(words));
    }
    told(head, parameters)
}

/// The schema of a function's arguments, as every service takes it.
fn parameters(parameters: &Value) -> Value {
    Fitter::new(parameters).top()
}

/// What a value may be, apart from null.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    const ALL: [Self; 5] = [Self::String, Self::Number, Self::Boolean, Self::Object, Self::Array];

    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    fn takes(self, value: &Value) -> bool {
        match self {
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
        }
    }
}

/// A schema that fits, and whether null is taken too: only what is required has to say so.
struct Fitted {
    schema: Value,
    nullable: bool,
}

impl<'a> Fitter<'a> {
    fn top(mut self) -> Value {
        let mut parts = self.gathered(&[self.root]);
        let mut words = Vec::new();
        let object = self.object(&mut parts, 1, &mut words);
        words.splice(0..0, parts.said());
        describe(object, &parts.description(), &words)
    }

    /// A value below the top.
    fn value(&mut self, schemas: &[&'a Value], depth: usize) -> Fitted {
        let mut parts = self.gathered(schemas);
        let mut words = Vec::new();
        let schema = self.of_kinds(&mut parts, depth, &mut words);
        words.splice(0..0, parts.said());
        let fitted =
            Fitted { schema: describe(schema, &parts.description(), &words), nullable: parts.nullable };
        self.close(&parts);
        fitted
    }

    fn of_kinds(&mut self, parts: &mut Parts<'a>, depth: usize, words: &mut Vec<String>) -> Value {
        let listed = parts.listed();
        let named = parts.kinds();
        let Some(kinds) = named.or_else(|| parts.inferred(listed.as_deref())) else {
            return match parts.alternatives.take() {
                Some(found) => self.any_of(&found, parts, depth, words),
                None => of_any(&Kind::ALL),
            };
        };
        if let Some(found) = parts.alternatives.take_if(|_| kinds != [Kind::Object]) {
            words.extend(found.iter().map(|schema| words::in_words("or", schema)));
        }
        let mut fitted = Vec::new();
        for kind in kinds {
            fitted.push(match kind {
                Kind::Object => self.object(parts, depth, words),
                Kind::Array => self.array(parts, depth),
                Kind::String => self.text(parts, listed.as_deref(), words),
                Kind::Integer | Kind::Number => number(kind, parts, words),
                Kind::Boolean => json!({"type": "boolean"}),
            });
        }
        if listed
            .as_ref()
            .is_some_and(|values| !values.iter().all(|value| value.is_string() || value.is_null()))
        {
            words.extend(listed.map(|values| words::in_words("one of", &json!(values))));
        }
        together(fitted)
    }

    /// One of several schemas, which may be of any kind.
    fn any_of(
        &mut self,
        found: &[&'a Value],
        parts: &mut Parts<'a>,
        depth: usize,
        words: &mut Vec<String>,
    ) -> Value {
        let mut fitted = Vec::new();
        for schema in found.iter().take(MOST_ALTERNATIVES) {
            let one = self.value(&[schema], depth);
            parts.nullable |= one.nullable;
            let title = schema
                .get("title")
                .and_then(Value::as_str)
                .filter(|_| one.schema.get("description").is_none());
            fitted.push(describe(one.schema, title.unwrap_or_default(), &[]));
        }
        words.extend(
            found
                .get(MOST_ALTERNATIVES..)
                .filter(|rest| !rest.is_empty())
                .map(|rest| format!("or one of {} more", rest.len())),
        );
        if fitted.is_empty() { of_any(&Kind::ALL) } else { together(fitted) }
    }

    /// An object; alternatives are folded in: each property that one of them has, and what all of them need.
    fn object(&mut self, parts: &mut Parts<'a>, depth: usize, words: &mut Vec<String>) -> Value {
        if depth > DEEPEST {
            words.extend(parts.values("properties").map(|value| words::in_words("properties", value)));
            return json!({"type": "object", "properties": {}});
        }
        let mut named: BTreeMap<&str, Vec<&'a Value>> = BTreeMap::new();
        for (name, schema) in parts.values("properties").filter_map(Value::as_object).flatten() {
            named.entry(name).or_default().push(schema);
        }
        let mut required = parts.required();
        let mut properties = Map::new();
        for (name, schemas) in named {
            let needed = required.iter().any(|needed| needed == name);
            if schemas.iter().any(|schema| *schema == false) {
                words.push(format!("{name} is not taken"));
            } else if !is_name(name) {
                let also = if needed { "also needs" } else { "also takes" };
                words.extend(
                    schemas
                        .first()
                        .map(|schema| words::in_words(&format!("{also} {}", clip(name, 100)), schema)),
                );
            } else {
                let Fitted { schema, nullable } = self.value(&schemas, depth + 1);
                let or_null = if needed && nullable { "or null" } else { "" };
                properties.insert(name.to_owned(), describe(schema, "", &[or_null.to_owned()]));
            }
        }
        if let Some(found) = parts.alternatives.take() {
            self.fold(&found, depth, &mut properties, &mut required, words);
        }
        required.retain(|name| properties.contains_key(name));
        let mut object = Map::from_iter([("type".to_owned(), json!("object"))]);
        object.insert("properties".to_owned(), Value::Object(properties));
        if !required.is_empty() {
            object.insert("required".to_owned(), json!(required));
        }
        Value::Object(object)
    }

    fn fold(
        &mut self,
        found: &[&'a Value],
        depth: usize,
        properties: &mut Map<String, Value>,
        required: &mut Vec<String>,
        words: &mut Vec<String>,
    ) {
        let mut needed_by_all: Option<Vec<String>> = None;
        for schema in found.iter().take(MOST_ALTERNATIVES) {
            let mut parts = self.gathered(&[schema]);
            let needed = parts.required();
            let title = schema.get("title").and_then(Value::as_str);
            let name = title.map_or_else(|| parts.description(), str::to_owned);
            let mut said = parts.said();
            let object = self.object(&mut parts, depth, &mut said);
            self.close(&parts);
            let needs =
                if needed.is_empty() { String::new() } else { format!("needs {}", needed.join(", ")) };
            let told = join(&join(&clip(&name, 200), &needs, ": "), &said.join(", "), "; ");
            words.push(format!("or {}", if told.is_empty() { words::in_words("", schema) } else { told }));
            let own = object.get("properties").and_then(Value::as_object).into_iter().flatten();
            for (name, schema) in own {
                let merged = match properties.remove(name) {
                    Some(before) => either(before, schema.clone()),
                    None => schema.clone(),
                };
                properties.insert(name.clone(), merged);
            }
            needed_by_all = Some(match needed_by_all {
                Some(before) => before.into_iter().filter(|name| needed.contains(name)).collect(),
                None => needed,
            });
        }
        if found.len() <= MOST_ALTERNATIVES {
            for name in needed_by_all.into_iter().flatten() {
                if !required.contains(&name) {
                    required.push(name);
                }
            }
        }
    }

    fn array(&mut self, parts: &Parts<'a>, depth: usize) -> Value {
        let mut array = Map::from_iter([("type".to_owned(), json!("array"))]);
        let items: Vec<&Value> = parts.values("items").filter(|items| items.is_object()).collect();
        let items = if items.is_empty() || depth >= DEEPEST {
            of_any(&ANY)
        } else {
            self.value(&items, depth + 1).schema
        };
        array.insert("items".to_owned(), items);
        bounds(&mut array, parts, "minItems", "maxItems");
        Value::Object(array)
    }

    fn text(&mut self, parts: &Parts<'a>, listed: Option<&[&Value]>, words: &mut Vec<String>) -> Value {
        let mut text = Map::from_iter([("type".to_owned(), json!("string"))]);
        bounds(&mut text, parts, "minLength", "maxLength");
        let Some(listed) = listed else { return Value::Object(text) };
        let mut texts: Vec<&str> = Vec::new();
        for value in listed.iter().filter_map(|value| value.as_str()) {
            if !texts.contains(&value) {
                texts.push(value);
            }
        }
        let of_others = listed.iter().any(|value| !value.is_string() && !value.is_null());
        if of_others || texts.is_empty() {
            return Value::Object(text);
        }
        if texts.len() > MOST_VALUES || texts.len() > self.values || texts.contains(&"") {
            words.push(words::in_words("one of", &json!(texts)));
        } else {
            self.values -= texts.len();
            text.insert("enum".to_owned(), json!(texts));
        }
        Value::Object(text)
    }
}

/// A number with its bounds; those that exclude their value are said in words, unless the next integer says it.
fn number(kind: Kind, parts: &Parts<'_>, words: &mut Vec<String>) -> Value {
    let mut number = Map::from_iter([("type".to_owned(), json!(kind.name()))]);
    for (bound, excluding, step, told) in
        [("minimum", "exclusiveMinimum", 1, "more than"), ("maximum", "exclusiveMaximum", -1, "less than")]
    {
        for part in &parts.all {
            let inclusive = part.get(bound).filter(|value| value.is_number());
            let excluded = match part.get(excluding) {
                // As draft 4 has it.
                Some(Value::Bool(true)) => inclusive,
                Some(value) if value.is_number() => Some(value),
                _ => None,
            };
            let next = || {
                excluded
                    .and_then(Value::as_i64)
                    .and_then(|n| n.checked_add(step))
                    .filter(|_| kind == Kind::Integer)
            };
            match (excluded, next()) {
                (Some(_), Some(next)) => {
                    number.insert(bound.to_owned(), json!(next));
                }
                (Some(value), None) => words.push(words::in_words(told, value)),
                (None, _) => {
                    inclusive.map(|value| number.insert(bound.to_owned(), value.clone()));
                }
            }
        }
    }
    Value::Object(number)
}

fn bounds(of: &mut Map<String, Value>, parts: &Parts<'_>, least: &'static str, most: &'static str) {
    let numbers = |keyword| parts.values(keyword).filter_map(Value::as_u64);
    for (keyword, bound) in [(least, numbers(least).max()), (most, numbers(most).min())] {
        if let Some(bound) = bound {
            of.insert(keyword.to_owned(), json!(bound));
        }
    }
}

/// Whether Anthropic takes it as the name of a property.
fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A value of any of these kinds: the services that refuse a schema without a type take this.
fn of_any(kinds: &[Kind]) -> Value {
    let kind = |kind: &Kind| match kind {
        Kind::Object => json!({"type": "object", "properties": {}}),
        Kind::Array => json!({"type": "array", "items": {"type": "string"}}),
        kind => json!({"type": kind.name()}),
    };
    json!({"anyOf": kinds.iter().map(kind).collect::<Vec<_>>()})
}

/// One schema or the other; two lists of texts become one.
fn either(one: Value, other: Value) -> Value {
    let texts = |schema: &Value| schema.get("enum").and_then(Value::as_array).cloned();
    if let (Some(mut before), Some(more)) = (texts(&one), texts(&other)) {
        before.extend(more.into_iter().filter(|value| !before.contains(value)).collect::<Vec<_>>());
        let said =
            |schema: &Value| schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
        let told =
            if said(&one) == said(&other) { said(&one) } else { join(&said(&one), &said(&other), "\n") };
        return describe(json!({"type": "string", "enum": before}), &told, &[]);
    }
    together(vec![one, other])
}

/// Alternatives as one schema, without those that say the same and without one inside of another.
fn together(schemas: Vec<Value>) -> Value {
    let mut flat: Vec<Value> = Vec::new();
    for mut schema in schemas {
        let inner = match schema.get_mut("anyOf").map(Value::take) {
            Some(Value::Array(inner)) => inner,
            _ => vec![schema],
        };
        for schema in inner {
            if !flat.contains(&schema) {
                flat.push(schema);
            }
        }
    }
    if flat.len() == 1 { flat.remove(0) } else { json!({"anyOf": flat}) }
}

#[cfg(test)]
mod tests;
