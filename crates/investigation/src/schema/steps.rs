//! What a schema costs over a value, counted before the validator runs: it has no bound of its own, and a few kilobytes of
//! combinations that double on each level would keep it busy for ever.
//!
//! The count is never too small. It assumes that nothing ends early, and sees each pair of a schema and a part of the value
//! once, so that it takes no more than what it counts.

use std::collections::HashMap;

use regex_automata::nfa::thompson::NFA;
use regex_automata::util::syntax;
use serde_json::{Map, Value};

use super::{DEEPEST, MOST_STEPS};
use crate::fence::clip;

/// The most that all patterns of a schema may take when compiled, in bytes.
pub(super) const LARGEST_PATTERNS: usize = 1 << 20;
/// The most schemas that combinations and references may apply to one value, without its parts.
const MOST_AT_ONCE: u64 = 10_000;
/// The same where the schema asks what nothing else has looked at: the validator takes all ways apart.
const MOST_UNEVALUATED: u64 = 200;
/// How many bytes of a text are one step.
const TEXT: u64 = 64;

/// One schema, as places in the plan.
#[derive(Debug, Default)]
struct Node {
    /// Its keywords, and the values that are written in them.
    own: u64,
    /// The states of its `pattern`, and of the patterns of its `patternProperties`.
    pattern: u64,
    keys: u64,
    is_unique: bool,
    has_unevaluated: bool,
    /// Applied to the value itself.
    here: Vec<usize>,
    /// Applied to each property's name.
    names: Vec<usize>,
    properties: HashMap<String, usize>,
    other_properties: Vec<usize>,
    every_property: Vec<usize>,
    items: Vec<usize>,
    every_item: Vec<usize>,
}

/// What a value takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Steps {
    pub(super) steps: u64,
    /// How many schemas are applied inside of each other.
    pub(super) height: u32,
}

/// A schema's parts that can be reached, the whole first.
#[derive(Debug)]
pub(super) struct Plan {
    nodes: Vec<Node>,
}

impl Plan {
    /// Reads a schema.
    ///
    /// # Errors
    /// Why its steps cannot be counted, or may be too many for any value.
    pub(super) fn of(schema: &Value) -> Result<Self, String> {
        let mut anchors = HashMap::new();
        find_anchors(schema, &mut anchors);
        let mut reader = Reader {
            root: schema,
            anchors,
            places: HashMap::new(),
            found: Vec::new(),
            patterns_left: LARGEST_PATTERNS,
        };
        reader.place(schema);
        let mut nodes = Vec::new();
        while let Some(schema) = reader.found.get(nodes.len()).copied() {
            nodes.push(reader.read(schema)?);
        }
        let plan = Self { nodes };
        let mut sizes = vec![Size::Unknown; plan.nodes.len()];
        for at in 0..plan.nodes.len() {
            let size = plan.at_once(at, &mut sizes, 0)?;
            let has_unevaluated = plan.nodes.get(at).is_some_and(|node| node.has_unevaluated);
            if size > MOST_AT_ONCE || (has_unevaluated && size > MOST_UNEVALUATED) {
                return Err("its combinations come to too many schemas for one value".to_owned());
            }
        }
        Ok(plan)
    }

    /// How many schemas a place applies to one value. References that come back to where they began without going into
    /// a part of the value would never end.
    fn at_once(&self, at: usize, sizes: &mut [Size], level: u32) -> Result<u64, String> {
        match sizes.get(at) {
            Some(Size::Known(size)) => return Ok(*size),
            Some(Size::Open) => return Err("its references go in a circle".to_owned()),
            _ if level >= DEEPEST => {
                return Err(format!("its references and combinations are more than {DEEPEST} deep"));
            }
            _ => {}
        }
        if let Some(place) = sizes.get_mut(at) {
            *place = Size::Open;
        }
        let mut all = 1u64;
        for &inner in self.nodes.get(at).map_or(&[][..], |node| &node.here) {
            all = all.saturating_add(self.at_once(inner, sizes, level + 1)?);
        }
        if let Some(place) = sizes.get_mut(at) {
            *place = Size::Known(all);
        }
        Ok(all)
    }

    /// The most that a value takes; `None`: too much, or too deep.
    pub(super) fn steps(&self, value: &Value) -> Option<Steps> {
        Count { nodes: &self.nodes, known: HashMap::new(), worked: 0 }.visit(0, value, 0)
    }
}

#[derive(Clone, Copy)]
enum Size {
    Unknown,
    Open,
    Known(u64),
}

fn address<T>(value: &T) -> usize {
    std::ptr::from_ref(value).addr()
}

fn find_anchors<'s>(value: &'s Value, anchors: &mut HashMap<&'s str, &'s Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| find_anchors(item, anchors)),
        Value::Object(map) => {
            if let Some(name) = map.get("$anchor").and_then(Value::as_str) {
                anchors.insert(name, value);
            }
            map.values().for_each(|item| find_anchors(item, anchors));
        }
        _ => {}
    }
}

struct Reader<'s> {
    root: &'s Value,
    anchors: HashMap<&'s str, &'s Value>,
    /// Each schema's place, by its address.
    places: HashMap<usize, usize>,
    found: Vec<&'s Value>,
    patterns_left: usize,
}

impl<'s> Reader<'s> {
    fn place(&mut self, schema: &'s Value) -> usize {
        let next = self.found.len();
        let place = *self.places.entry(address(schema)).or_insert(next);
        if place == next {
            self.found.push(schema);
        }
        place
    }

    fn read(&mut self, schema: &'s Value) -> Result<Node, String> {
        let mut node = Node { own: 1, ..Node::default() };
        let Value::Object(map) = schema else { return Ok(node) };
        let is_whole = address(schema) == address(self.root);
        for (keyword, value) in map {
            node.own = node.own.saturating_add(1);
            match keyword.as_str() {
                "$ref" => node.here.push(self.follow(value.as_str().unwrap_or_default())?),
                "$dynamicRef" | "$recursiveRef" => return Err(format!("it uses {keyword}")),
                "$id" | "id" if !is_whole && value.is_string() => {
                    return Err(format!("a part of it has an {keyword} of its own"));
                }
                "allOf" | "anyOf" | "oneOf" | "dependentSchemas" | "dependencies" => {
                    self.each(value, &mut node.here);
                }
                "not" | "if" | "then" | "else" => node.here.push(self.place(value)),
                "properties" => {
                    for (name, schema) in value.as_object().into_iter().flatten() {
                        let place = self.place(schema);
                        node.properties.insert(name.clone(), place);
                    }
                }
                "patternProperties" => {
                    for (pattern, schema) in value.as_object().into_iter().flatten() {
                        node.keys = node.keys.saturating_add(self.states(pattern)?);
                        node.every_property.push(self.place(schema));
                    }
                }
                "additionalProperties" => node.other_properties.push(self.place(value)),
                "unevaluatedProperties" => {
                    node.has_unevaluated = true;
                    node.every_property.push(self.place(value));
                }
                "propertyNames" => node.names.push(self.place(value)),
                "items" | "prefixItems" if value.is_array() => self.each(value, &mut node.items),
                "items" | "additionalItems" | "contains" => node.every_item.push(self.place(value)),
                "unevaluatedItems" => {
                    node.has_unevaluated = true;
                    node.every_item.push(self.place(value));
                }
                "enum" | "const" | "required" | "dependentRequired" => {
                    node.own = node.own.saturating_add(weight(value));
                }
                "pattern" => node.pattern = self.states(value.as_str().unwrap_or_default())?,
                "uniqueItems" => node.is_unique = true,
                _ => {}
            }
        }
        Ok(node)
    }

    /// The places of the schemas in a list or a map.
    fn each(&mut self, schemas: &'s Value, places: &mut Vec<usize>) {
        match schemas {
            Value::Array(items) => places.extend(items.iter().map(|item| self.place(item))),
            Value::Object(map) => places.extend(map.values().map(|item| self.place(item))),
            _ => {}
        }
    }

    fn follow(&mut self, reference: &str) -> Result<usize, String> {
        let whole = self.root.get("$id").and_then(Value::as_str).unwrap_or_default();
        let inside = reference.strip_prefix(whole.trim_end_matches('#')).unwrap_or(reference);
        let target = match inside.strip_prefix('#') {
            None if inside.is_empty() => Some(self.root),
            None => None,
            Some("") => Some(self.root),
            Some(pointer) if pointer.starts_with('/') => self.root.pointer(&decoded(pointer)),
            Some(anchor) => self.anchors.get(anchor).copied(),
        };
        match target {
            Some(target) => Ok(self.place(target)),
            None => Err(format!("its reference {:?} leads to nothing in it", clip(reference, 100))),
        }
    }

    /// The states of a pattern's automaton.
    fn states(&mut self, pattern: &str) -> Result<u64, String> {
        let cannot = |why: &str| format!("its pattern {:?} cannot be used: {why}", clip(pattern, 80));
        let translated = jsonschema_regex::to_rust_regex(pattern).map_err(|()| cannot("it is not linear"))?;
        let nfa = NFA::compiler()
            .syntax(syntax::Config::new().utf8(false))
            .configure(NFA::config().nfa_size_limit(Some(self.patterns_left)))
            .build(&translated)
            .map_err(|e| {
                cannot(if e.size_limit().is_some() {
                    "its patterns are too large"
                } else {
                    "it is no expression"
                })
            })?;
        self.patterns_left = self.patterns_left.saturating_sub(nfa.memory_usage());
        Ok(nfa.states().len() as u64)
    }
}

/// `%3C` is `<`: a pointer stands in a URL. What is not well-formed stays as it is.
fn decoded(pointer: &str) -> String {
    let mut out = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.unwrap_or(first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What it takes to compare a value with another.
fn weight(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => of_text(text),
        Value::Array(items) => items.iter().map(weight).fold(1, u64::saturating_add),
        Value::Object(map) => {
            map.iter().map(|(k, v)| of_text(k).saturating_add(weight(v))).fold(1, u64::saturating_add)
        }
    }
}

fn of_text(text: &str) -> u64 {
    1 + text.len() as u64 / TEXT
}

/// A search of an expression with so many states in a text: each byte may meet each state.
fn of_search(states: u64, text: &str) -> u64 {
    if states == 0 { 0 } else { 1 + states.saturating_mul(text.len() as u64 + 1) / TEXT }
}

struct Count<'p> {
    nodes: &'p [Node],
    /// What lists and maps take, by place and address.
    known: HashMap<(usize, usize), Steps>,
    worked: u64,
}

impl Count<'_> {
    fn visit(&mut self, at: usize, value: &Value, level: u32) -> Option<Steps> {
        let key = (value.is_array() || value.is_object()).then(|| (at, address(value)));
        if let Some(known) = key.and_then(|key| self.known.get(&key)) {
            return (level + known.height <= DEEPEST).then_some(*known);
        }
        let node = self.nodes.get(at).filter(|_| level < DEEPEST)?;
        let own = own_steps(node, value);
        self.worked = self.worked.saturating_add(own);
        let mut sum = Sum { steps: own, height: 0 };
        for &place in &node.here {
            sum.add(self.visit(place, value, level + 1)?);
        }
        if node.has_unevaluated {
            // Each part that is left asks again what the others look at.
            let parts =
                value.as_object().map_or(0, Map::len).max(value.as_array().map_or(0, Vec::len)) as u64;
            sum.steps = sum.steps.saturating_mul(2 + parts).saturating_mul(1 + u64::from(sum.height));
        }
        match value {
            Value::Object(map) => {
                for (name, part) in map {
                    self.property(node, name, part, level + 1, &mut sum)?;
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    for &place in node.items.get(index).into_iter().chain(&node.every_item) {
                        sum.add(self.visit(place, item, level + 1)?);
                    }
                }
            }
            _ => {}
        }
        if sum.steps > MOST_STEPS || self.worked > MOST_STEPS {
            return None;
        }
        let found = Steps { steps: sum.steps, height: sum.height + 1 };
        if let Some(key) = key {
            self.known.insert(key, found);
        }
        Some(found)
    }

    fn property(&mut self, node: &Node, name: &str, part: &Value, level: u32, sum: &mut Sum) -> Option<()> {
        for &place in &node.names {
            sum.add(self.visit(place, &Value::String(name.to_owned()), level)?);
        }
        let named = node.properties.get(name);
        let others: &[usize] = if named.is_some() { &[] } else { &node.other_properties };
        for &place in named.into_iter().chain(others).chain(&node.every_property) {
            sum.add(self.visit(place, part, level)?);
        }
        Some(())
    }
}

struct Sum {
    steps: u64,
    height: u32,
}

impl Sum {
    fn add(&mut self, part: Steps) {
        self.steps = self.steps.saturating_add(part.steps);
        self.height = self.height.max(part.height);
    }
}

/// What a node looks at itself.
fn own_steps(node: &Node, value: &Value) -> u64 {
    let more = match value {
        Value::String(text) => of_text(text).saturating_add(of_search(node.pattern, text)),
        Value::Object(map) => map
            .keys()
            .map(|key| of_text(key).saturating_add(of_search(node.keys, key)))
            .fold(0, u64::saturating_add),
        // A short list is compared item by item.
        Value::Array(_) if node.is_unique => weight(value).saturating_mul(16),
        _ => 0,
    };
    node.own.saturating_add(more)
}
