//! The schemas that hold for one value, references followed.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::words::{clip, in_words};
use super::{DEEPEST, Kind, MOST_VALUES_IN_ALL};

/// The most schemas that are looked at for one tool: references can make a small text a large tree.
const MOST_SCHEMAS: usize = 2000;
/// The most schemas inside of each other: the stack grows with them.
const DEEPEST_SCHEMAS: usize = 6 * DEEPEST;

/// Keywords that some service refuses, and what they are called in words.
const WORDED: [&str; 27] = [
    "default",
    "example",
    "examples",
    "format",
    "pattern",
    "multipleOf",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "additionalProperties",
    "unevaluatedProperties",
    "patternProperties",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "not",
    "if",
    "then",
    "else",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "minContains",
    "maxContains",
    "contentMediaType",
];

/// What stands where an object would contain itself.
static FREE_OBJECT: LazyLock<Map<String, Value>> =
    LazyLock::new(|| Map::from_iter([("type".to_owned(), json!("object"))]));

/// Schemas that all hold for the same value: one, what it refers to, and what is composed with `allOf`.
#[derive(Default)]
pub(super) struct Parts<'a> {
    pub(super) all: Vec<&'a Map<String, Value>>,
    /// Schemas of which one holds too, where there are several. Null is none of them.
    pub(super) alternatives: Option<Vec<&'a Value>>,
    /// Whether null is taken.
    pub(super) nullable: bool,
    /// Said of the value that has no keyword here.
    words: Vec<String>,
    /// Lists of alternatives that are not looked at yet.
    lists: Vec<&'a Vec<Value>>,
    /// How many references were followed: they are closed again when the value is done.
    opened: usize,
}

impl<'a> Parts<'a> {
    pub(super) fn values(&self, keyword: &'static str) -> impl Iterator<Item = &'a Value> + use<'a, '_> {
        self.all.iter().filter_map(move |part| part.get(keyword))
    }

    pub(super) fn description(&self) -> String {
        let mut said: Vec<&str> = Vec::new();
        for text in self.values("description").filter_map(Value::as_str).map(str::trim) {
            if !text.is_empty() && !said.contains(&text) {
                said.push(text);
            }
        }
        said.join("\n")
    }

    /// What has to be said in words.
    pub(super) fn said(&mut self) -> Vec<String> {
        let mut words = std::mem::take(&mut self.words);
        for keyword in WORDED {
            let says = |value: &&Value| match value {
                Value::Null => false,
                Value::Bool(_) => !keyword.starts_with("additional") && !keyword.starts_with("unevaluated"),
                Value::Object(schema) => !schema.is_empty(),
                Value::Array(values) => !values.is_empty(),
                Value::Number(_) | Value::String(_) => true,
            };
            words.extend(self.values(keyword).filter(says).map(|value| in_words(keyword, value)));
        }
        // A tuple, as drafts before 2020-12 have it.
        words.extend(
            self.values("items").filter(|items| items.is_array()).map(|items| in_words("items", items)),
        );
        words
    }

    /// The kinds that all parts allow, apart from null. `None`: none is named.
    pub(super) fn kinds(&self) -> Option<Vec<Kind>> {
        let mut kinds: Option<Vec<Kind>> = None;
        for named in self.values("type") {
            let mut these: Vec<Kind> = Vec::new();
            for kind in names(named).filter_map(Kind::of) {
                if !these.contains(&kind) {
                    these.push(kind);
                }
            }
            let both = |before: &[Kind]| before.iter().copied().filter(|kind| these.contains(kind)).collect();
            let left: Vec<Kind> = kinds.as_deref().map_or_else(|| these.clone(), both);
            if !left.is_empty() {
                kinds = Some(left);
            }
        }
        kinds
    }

    /// The kinds that the rest of it is about, where no type is named.
    pub(super) fn inferred(&self, listed: Option<&[&Value]>) -> Option<Vec<Kind>> {
        if let Some(listed) = listed {
            let taken = |kind: &Kind| listed.iter().any(|value| kind.takes(value));
            return Some(Kind::ALL.into_iter().filter(taken).collect::<Vec<_>>())
                .filter(|kinds| !kinds.is_empty());
        }
        let has =
            |keywords: &[&'static str]| keywords.iter().any(|keyword| self.values(keyword).next().is_some());
        [
            (Kind::Object, &["properties", "required", "patternProperties"][..]),
            (Kind::Array, &["items", "prefixItems", "minItems", "maxItems"]),
            (Kind::String, &["pattern", "minLength", "maxLength"]),
            (Kind::Number, &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
        ]
        .into_iter()
        .find(|(_, keywords)| has(keywords))
        .map(|(kind, _)| vec![kind])
    }

    /// The only values, where they are listed.
    pub(super) fn listed(&mut self) -> Option<Vec<&'a Value>> {
        let mut listed: Option<Vec<&Value>> = None;
        let of = |part: &'a Map<String, Value>| {
            let list = part.get("enum").and_then(Value::as_array).map(|values| values.iter().collect());
            list.or_else(|| part.get("const").map(|value| vec![value]))
        };
        // Alternatives that only name a value each are a list.
        let consts = self.alternatives.take_if(|found| {
            found.iter().all(|schema| {
                schema.as_object().is_some_and(|part| of(part).is_some() && !part.contains_key("properties"))
            })
        });
        let mut lists: Vec<Vec<&Value>> = self.all.iter().filter_map(|part| of(part)).collect();
        if let Some(found) = consts {
            for schema in &found {
                let text = |key: &str| schema.get(key).and_then(Value::as_str);
                if let (Some(value), Some(told)) =
                    (schema.get("const"), text("description").or_else(|| text("title")))
                {
                    self.words.push(in_words(&in_words("", value), &Value::String(told.to_owned())));
                }
            }
            lists.push(found.into_iter().filter_map(Value::as_object).filter_map(of).flatten().collect());
        }
        for list in lists {
            listed = Some(match listed {
                Some(before) => before.into_iter().filter(|value| list.contains(value)).collect(),
                None => list,
            });
        }
        self.nullable |= listed.as_ref().is_some_and(|values| values.iter().any(|value| value.is_null()));
        listed.filter(|values| !values.is_empty())
    }

    /// What is needed, in order.
    pub(super) fn required(&self) -> Vec<String> {
        let mut required: Vec<String> = Vec::new();
        let listed = self.values("required").filter_map(Value::as_array).flatten().filter_map(Value::as_str);
        // As draft 3 has it.
        let marked = self.values("properties").filter_map(Value::as_object).flatten();
        let marked = marked.filter(|(_, schema)| schema.get("required") == Some(&Value::Bool(true)));
        for name in listed.chain(marked.map(|(name, _)| name.as_str())) {
            if !required.iter().any(|before| before == name) {
                required.push(name.to_owned());
            }
        }
        required
    }
}

fn names(named: &Value) -> impl Iterator<Item = &str> {
    let list = named.as_array().map(Vec::as_slice).unwrap_or_default();
    named.as_str().into_iter().chain(list.iter().filter_map(Value::as_str))
}

/// What is known of the whole schema while its parts are made to fit.
pub(super) struct Fitter<'a> {
    pub(super) root: &'a Value,
    /// How many values may still be listed.
    pub(super) values: usize,
    /// The references that are being followed: one of them again would never end.
    open: Vec<&'a str>,
    /// How many schemas may still be looked at.
    left: usize,
    /// How many are inside of each other now.
    inside: usize,
}

impl<'a> Fitter<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        Self { root, values: MOST_VALUES_IN_ALL, open: Vec::new(), left: MOST_SCHEMAS, inside: 0 }
    }

    /// The schemas and all that holds with them; has to be closed.
    pub(super) fn gathered(&mut self, schemas: &[&'a Value]) -> Parts<'a> {
        let mut parts = Parts::default();
        for schema in schemas {
            self.gather(schema, &mut parts);
        }
        while let Some(list) = parts.lists.pop() {
            let is_null = |schema: &&Value| {
                schema.get("type").is_some_and(|kind| kind == "null")
                    || schema.get("const").is_some_and(Value::is_null)
            };
            let rest: Vec<&Value> = list.iter().filter(|schema| !is_null(schema)).collect();
            parts.nullable |= rest.len() < list.len();
            match (rest.as_slice(), &parts.alternatives) {
                ([], _) => {}
                // Nothing to choose: it holds with the rest.
                ([only], _) => self.gather(only, &mut parts),
                (_, None) => parts.alternatives = Some(rest),
                (_, Some(_)) => parts.words.extend(list.iter().map(|schema| in_words("or", schema))),
            }
        }
        let is_null = parts.values("type").any(|named| names(named).any(|name| name == "null"));
        let is_marked = parts.values("nullable").any(|nullable| nullable == true);
        parts.nullable |= is_null || is_marked;
        self.inside += 1;
        parts
    }

    fn gather(&mut self, schema: &'a Value, into: &mut Parts<'a>) {
        let Value::Object(part) = schema else {
            if schema == false {
                into.words.push("no value is taken".to_owned());
            }
            return;
        };
        if self.left == 0 || self.inside > DEEPEST_SCHEMAS {
            into.words.push(in_words("like", schema));
            return;
        }
        self.left -= 1;
        self.inside += 1;
        into.all.push(part);
        into.lists.extend(["oneOf", "anyOf"].iter().filter_map(|list| part.get(*list)?.as_array()));
        for to in ["$ref", "$dynamicRef"].iter().filter_map(|key| part.get(*key)?.as_str()) {
            match to.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) {
                Some(target) if !self.open.contains(&to) => {
                    self.open.push(to);
                    into.opened += 1;
                    self.gather(target, into);
                }
                target => {
                    into.words.push(format!("like {}", clip(to, 100)));
                    let is_object = |of: &Value| of.get("type").is_some_and(|kind| kind == "object");
                    into.all.extend(target.filter(|of| is_object(of)).map(|_| &*FREE_OBJECT));
                }
            }
        }
        for all in part.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.gather(all, into);
        }
        self.inside -= 1;
    }

    pub(super) fn close(&mut self, parts: &Parts<'_>) {
        self.open.truncate(self.open.len().saturating_sub(parts.opened));
        self.inside = self.inside.saturating_sub(1);
    }
}
