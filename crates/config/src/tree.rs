//! YAML text to a small tree in which every value and every key knows its place.
//!
//! The tree is bounded (depth, and what aliases may expand to), so that no text can exhaust the memory or the stack.

use std::collections::{BTreeSet, HashMap};

use granit_parser::{Event, Parser, ScalarStyle, Tag};

/// How deep values may be nested, aliases followed.
const MAX_DEPTH: usize = 64;
/// How much a file may hold, aliases expanded: bytes of text plus a fixed part for each value.
const MAX_WEIGHT: usize = 4 << 20;
/// The fixed part of a value's weight.
const NODE_WEIGHT: usize = 64;

/// A place in the text: line and column in characters, both from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: Position,
    depth: usize,
    weight: usize,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Text as written, escapes resolved; `plain` when neither quoted nor a block, so that it may be a number.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// Key, the key's place, value; in the order of the file, no key twice.
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Position,
    pub(crate) node: Node,
}

/// Why the text is no tree.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) at: Position,
    pub(crate) message: String,
    pub(crate) help: String,
}

impl Node {
    fn new(value: Value, at: Position) -> Self {
        let children: Vec<&Self> = match &value {
            Value::Scalar { .. } => vec![],
            Value::List(items) => items.iter().collect(),
            Value::Map(entries) => entries.iter().map(|e| &e.node).collect(),
        };
        let depth = 1 + children.iter().map(|n| n.depth).max().unwrap_or(0);
        let own = match &value {
            Value::Scalar { text, .. } => text.len(),
            Value::List(_) => 0,
            Value::Map(entries) => entries.iter().map(|e| e.key.len()).sum(),
        };
        let weight = children.iter().map(|n| n.weight).fold(NODE_WEIGHT + own, usize::saturating_add);
        Self { value, at, depth, weight }
    }

    /// The value of a key, where this is a map that has it; `-` and `_` are the same in a key.
    fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|e| e.key.replace('_', "-") == key).map(|e| &e.node)
    }

    /// The text under a key.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The list under a key.
    pub(crate) fn list_mut(&mut self, key: &str) -> Option<&mut [Self]> {
        let Value::Map(entries) = &mut self.value else { return None };
        let entry = entries.iter_mut().find(|e| e.key.replace('_', "-") == key)?;
        match &mut entry.node.value {
            Value::List(items) => Some(items),
            Value::Scalar { .. } | Value::Map(_) => None,
        }
    }

    /// Whether it is `null`, `~` or nothing at all: a key without a value is as good as no key.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if is_null(text))
    }
}

/// YAML 1.2's spellings of null.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// A collection that is being read.
enum Open {
    List {
        items: Vec<Node>,
        at: Position,
        anchor: usize,
    },
    Map {
        entries: Vec<Entry>,
        merged: Vec<Entry>,
        key: Option<(String, Position, bool)>,
        at: Position,
        anchor: usize,
    },
}

/// Reads one document. An empty text is an empty map.
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let options = granit_parser::options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH, };
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|e| syntax_error(&e))?;
        let at = Position { line: span.start.line().max(1), column: span.start.col().saturating_add(1) };
        builder.event(event, at)?;
    }
    Ok(builder.root.unwrap_or_else(|| Node::new(Value::Map(vec![]), Position { line: 1, column: 1 })))
}

fn syntax_error(error: &granit_parser::ScanError) -> SyntaxError {
    let at = Position { line: error.marker().line().max(1), column: error.marker().col().saturating_add(1) };
    let message = format!("not readable as YAML: {}", error.info());
    let help = if message.contains("tab") {
        "indent with spaces"
    } else {
        "look at the indentation, the quotes and the brackets here and in the line before"
    };
    SyntaxError { at, message, help: help.into() }
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    documents: usize,
    weight: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, at: Position) -> Result<(), SyntaxError> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(error(at, "a second document", "keep one document in the file"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = self.tag(tag.as_deref(), at)?.unwrap_or(style == ScalarStyle::Plain);
                let node = Node::new(Value::Scalar { text: text.into_owned(), plain }, at);
                self.charge(&node, at)?;
                self.finish(node, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), at)?;
                self.open.push(Open::List { items: vec![], at, anchor });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), at)?;
                self.open.push(Open::Map { entries: vec![], merged: vec![], key: None, at, anchor });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (node, anchor) = match self.open.pop() {
                    Some(Open::List { items, at, anchor }) => (Node::new(Value::List(items), at), anchor),
                    Some(Open::Map { entries, merged, at, anchor, .. }) => {
                        (Node::new(Value::Map(merge(entries, merged)), at), anchor)
                    }
                    None => return Err(error(at, "an end without a beginning", "look at the brackets")),
                };
                self.finish(node, anchor)?;
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(error(at, "an alias inside the value that it names", "write the value out"));
                };
                self.charge(&node, at)?;
                self.finish(node, 0)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether an explicit tag makes a scalar text (`Some(false)`: not plain) or says nothing that matters.
    #[expect(clippy::unused_self, reason = "reads as a step of the builder")]
    fn tag(&self, tag: Option<&Tag>, at: Position) -> Result<Option<bool>, SyntaxError> {
        match tag.map(|t| (t.core_suffix(), t)) {
            Some((Some("str"), _)) => Ok(Some(false)),
            None | Some((Some(_), _)) => Ok(None),
            Some((None, tag)) if tag.suffix().is_empty() => Ok(Some(false)),
            Some((None, tag)) => {
                Err(error(at, format!("the tag `{}` means nothing here", tag.original()), "remove the tag"))
            }
        }
    }

    fn charge(&mut self, node: &Node, at: Position) -> Result<(), SyntaxError> {
        self.weight = self.weight.saturating_add(node.weight);
        if self.weight > MAX_WEIGHT {
            return Err(error(
                at,
                "the file is too large, its aliases expanded",
                "use fewer aliases, or smaller ones",
            ));
        }
        if self.open.len() + node.depth > MAX_DEPTH {
            return Err(error(
                at,
                format!("nested deeper than {MAX_DEPTH} levels"),
                "nothing needs that many",
            ));
        }
        Ok(())
    }

    /// A value is complete: it becomes a key, a value, an item or the root.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
            // The kept copy counts too.
            self.charge(&node, node.at)?;
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, merged, key, .. }) => match key.take() {
                None => *key = Some(map_key(&node, entries)?),
                Some((name, at, true)) if name == "<<" => merge_in(node, at, merged)?,
                Some((name, key_at, _)) => entries.push(Entry { key: name, key_at, node }),
            },
        }
        Ok(())
    }
}

/// A map's next key: text, and no key twice.
fn map_key(node: &Node, before: &[Entry]) -> Result<(String, Position, bool), SyntaxError> {
    let Value::Scalar { text, plain } = &node.value else {
        return Err(error(node.at, "a key is not text", "a key is one word, such as `name`"));
    };
    if let Some(first) = before.iter().find(|e| e.key == *text) {
        return Err(error(
            node.at,
            format!("the key `{text}` stands twice in one map, first in line {}", first.key_at.line),
            "keep one of them",
        ));
    }
    Ok((text.clone(), node.at, *plain))
}

/// `<<: *base` and `<<: [*a, *b]`: the entries of other maps, where this one does not have them.
fn merge_in(node: Node, at: Position, merged: &mut Vec<Entry>) -> Result<(), SyntaxError> {
    match node.value {
        Value::Map(entries) => merged.extend(entries),
        Value::List(items) => {
            for item in items {
                let Value::Map(entries) = item.value else {
                    return Err(error(at, "`<<` takes maps", "write `<<: *name`, where `&name` marks a map"));
                };
                merged.extend(entries);
            }
        }
        Value::Scalar { .. } => {
            return Err(error(at, "`<<` takes a map", "write `<<: *name`, where `&name` marks a map"));
        }
    }
    Ok(())
}

fn merge(mut entries: Vec<Entry>, merged: Vec<Entry>) -> Vec<Entry> {
    let mut seen: BTreeSet<String> = entries.iter().map(|e| e.key.clone()).collect();
    entries.extend(merged.into_iter().filter(|e| seen.insert(e.key.clone())));
    entries
}

fn error(at: Position, message: impl Into<String>, help: impl Into<String>) -> SyntaxError {
    SyntaxError { at, message: message.into(), help: help.into() }
}
