//! JSON: its strings are redacted one by one, decoded, with what the names around them say; whatever holds no secret
//! stays byte for byte.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::Redactor;
use super::manifest::{SECRET, holds_secret};
use super::values::{Form, Sense, is_secret, sense};

/// A value, its strings decoded. Each string has the number of its place in the document.
enum Node<'t> {
    Text(usize, Cow<'t, str>),
    List(Vec<Self>),
    Map(Vec<(usize, Cow<'t, str>, Self)>),
    Other,
}

/// New texts of strings, by their numbers.
type Edits = Vec<(usize, String)>;

/// The most places of a line at which a document is looked for.
const MOST_TRIES: usize = 8;

/// Where objects and lists of JSON stand in text: on one line each, but for the first, which may go over many.
pub(super) fn documents(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut at, mut tries, mut line_end) = (0, 0, 0);
    let mut first = true;
    while let Some(next) = text.get(at..).and_then(|rest| rest.find(['{', '['])) {
        let start = at + next;
        at = start + 1;
        if start >= line_end {
            tries = 0;
            line_end =
                text.get(start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |end| start + end);
        }
        let inside = text.get(at..).unwrap_or_default().trim_start();
        if !inside.starts_with(['"', '{', '[']) {
            continue;
        }
        tries += 1;
        if tries > MOST_TRIES {
            at = line_end;
            continue;
        }
        let end = if std::mem::take(&mut first) { text.len() } else { line_end };
        let mut documents = serde_json::Deserializer::from_str(text.get(start..end).unwrap_or_default())
            .into_iter::<IgnoredAny>();
        if let Some(Ok(_)) = documents.next() {
            at = start + documents.byte_offset();
            found.push(start..at);
        }
    }
    found
}

/// A document without its secrets.
pub(super) enum Cleaned {
    /// It holds none.
    Same,
    /// Its new text.
    New(String),
}

/// The text of a JSON document without secrets; `None`: it is no JSON.
pub(super) fn clean_text(redactor: &Redactor, text: &str, depth: usize) -> Option<Cleaned> {
    // It also bounds the depth.
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let mut reader = Reader { text, at: 0, strings: Vec::new() };
    let root = reader.value()?;
    let mut edits = Vec::new();
    Walk { redactor, depth, edits: &mut edits }.node(&root, None);
    if edits.is_empty() {
        return Some(Cleaned::Same);
    }
    edits.sort_by_key(|(number, _)| *number);
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for (number, new) in edits {
        let place = reader.strings.get(number)?;
        out.push_str(text.get(copied..place.start)?);
        out.push_str(&Value::String(new).to_string());
        copied = place.end;
    }
    out.push_str(text.get(copied..)?);
    Some(Cleaned::New(out))
}

/// Takes secrets out of a parsed value.
pub(super) fn clean_value(redactor: &Redactor, value: &mut Value) {
    let mut edits = Vec::new();
    let mut strings = 0;
    Walk { redactor, depth: 0, edits: &mut edits }.node(&of_value(value, &mut strings), None);
    if edits.is_empty() {
        return;
    }
    edits.sort_by_key(|(number, _)| *number);
    let mut edits = edits.into_iter().peekable();
    let mut strings = 0;
    apply(value, &mut strings, &mut |number| edits.next_if(|(next, _)| *next == number).map(|(_, new)| new));
}

/// The text that stands under `name`, without secrets; `None`: it holds none.
pub(super) fn clean_named(redactor: &Redactor, name: &str, text: &str) -> Option<String> {
    let mut edits = Vec::new();
    Walk { redactor, depth: 0, edits: &mut edits }.node(&Node::Text(0, text.into()), sense(name));
    edits.pop().map(|(_, new)| new)
}

/// Reads a document that is known to be JSON.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    strings: Vec<Range<usize>>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().position(|b| !b.is_ascii_whitespace())?;
        self.text.as_bytes().get(self.at).copied()
    }

    fn value(&mut self) -> Option<Node<'t>> {
        match self.next()? {
            b'"' => self.string().map(|(number, text)| Node::Text(number, text)),
            b'[' => {
                let mut items = Vec::new();
                self.at += 1;
                loop {
                    match self.next()? {
                        b']' => break,
                        b',' => self.at += 1,
                        _ => items.push(self.value()?),
                    }
                }
                self.at += 1;
                Some(Node::List(items))
            }
            b'{' => {
                let mut entries = Vec::new();
                self.at += 1;
                loop {
                    match self.next()? {
                        b'}' => break,
                        b',' => self.at += 1,
                        _ => {
                            let (number, name) = self.string()?;
                            self.next()?;
                            self.at += 1;
                            entries.push((number, name, self.value()?));
                        }
                    }
                }
                self.at += 1;
                Some(Node::Map(entries))
            }
            _ => {
                let rest = self.text.as_bytes().get(self.at..)?;
                let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b',' | b']' | b'}');
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
                Some(Node::Other)
            }
        }
    }

    fn string(&mut self) -> Option<(usize, Cow<'t, str>)> {
        let start = self.at;
        let mut end = start + 1;
        let mut escaped = false;
        loop {
            match self.text.as_bytes().get(end)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    end += 2;
                }
                _ => end += 1,
            }
        }
        self.at = end + 1;
        self.strings.push(start..end + 1);
        // A lone half of a pair is JSON and no text: such a string is read as far as it can be.
        let plain = self.text.get(start + 1..end)?;
        let text = if escaped {
            serde_json::from_str::<String>(self.text.get(start..=end)?)
                .map_or(Cow::Borrowed(plain), Cow::Owned)
        } else {
            Cow::Borrowed(plain)
        };
        Some((self.strings.len() - 1, text))
    }
}

/// Numbers the strings in the order of the document: a name, then what stands under it.
fn of_value<'t>(value: &'t Value, strings: &mut usize) -> Node<'t> {
    let number = |strings: &mut usize| {
        *strings += 1;
        *strings - 1
    };
    match value {
        Value::String(text) => Node::Text(number(strings), Cow::Borrowed(text)),
        Value::Array(items) => Node::List(items.iter().map(|item| of_value(item, strings)).collect()),
        Value::Object(map) => {
            let entry = |(name, item): (&'t String, &'t Value)| {
                (number(strings), Cow::Borrowed(name.as_str()), of_value(item, strings))
            };
            Node::Map(map.iter().map(entry).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Node::Other,
    }
}

fn apply(value: &mut Value, strings: &mut usize, edit: &mut dyn FnMut(usize) -> Option<String>) {
    let mut next = || {
        *strings += 1;
        edit(*strings - 1)
    };
    match value {
        Value::String(text) => {
            if let Some(new) = next() {
                *text = new;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| apply(item, strings, edit)),
        Value::Object(map) => {
            let mut renamed = Map::new();
            for (name, mut item) in std::mem::take(map) {
                *strings += 1;
                let new = edit(*strings - 1);
                let name = free_name(&renamed, new.as_deref().unwrap_or(&name));
                apply(&mut item, strings, edit);
                renamed.insert(name, item);
            }
            *map = renamed;
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The name, or where it is taken the name with a number: two names that hold secrets stay two.
fn free_name(taken: &Map<String, Value>, name: &str) -> String {
    let mut free = name.to_owned();
    let mut number = 1_usize;
    while taken.contains_key(&free) {
        number += 1;
        free = format!("{name} {number}");
    }
    free
}

/// One way through a document.
struct Walk<'a> {
    redactor: &'a Redactor,
    /// How many strings it stands in.
    depth: usize,
    edits: &'a mut Edits,
}

impl Walk<'_> {
    /// Looks at a value that stands under a name of this sense.
    fn node(&mut self, node: &Node<'_>, under: Option<Sense>) {
        match node {
            Node::Text(number, text) => self.text(*number, text, under),
            Node::List(items) => items.iter().for_each(|item| self.node(item, under)),
            Node::Map(entries) => self.map(entries),
            Node::Other => {}
        }
    }

    fn text(&mut self, number: usize, text: &str, under: Option<Sense>) {
        match under {
            Some(sense @ (Sense::Password | Sense::Token(_)))
                if is_secret(sense, Form::Config, text, has_more(text)) =>
            {
                self.replace(number, sense.kind(), text);
            }
            Some(sense @ (Sense::Authorization | Sense::Cookie)) => {
                // As the header stands elsewhere.
                let name = sense.kind();
                let whole = self.redactor.clean(&format!("{name}: {text}"), self.depth + 1);
                if let Some(new) = whole.as_deref().and_then(|whole| whole.get(name.len() + 2..)) {
                    self.edits.push((number, new.to_owned()));
                }
            }
            _ => {
                if let Some(new) = self.redactor.clean(text, self.depth + 1) {
                    self.edits.push((number, new));
                }
            }
        }
    }

    fn replace(&mut self, number: usize, kind: &str, text: &str) {
        let placeholder = self.redactor.placeholder(kind, &super::canonical(kind, text));
        self.edits.push((number, placeholder));
    }

    fn map(&mut self, entries: &[(usize, Cow<'_, str>, Node<'_>)]) {
        let text_of = |wanted: &[&str]| {
            entries.iter().find_map(|(_, name, node)| match node {
                Node::Text(_, text) if wanted.iter().any(|w| name.eq_ignore_ascii_case(w)) => {
                    Some(text.as_ref())
                }
                _ => None,
            })
        };
        let secret = text_of(&["kind"]) == Some("Secret")
            || text_of(&["type"]).is_some_and(|kind| kind == "Opaque" || kind.starts_with("kubernetes.io/"));
        let named = text_of(&["name", "key", "header"]).and_then(sense);
        for (number, name, node) in entries {
            if let Some(new) = self.redactor.clean(name, self.depth + 1) {
                self.edits.push((*number, new));
            }
            let data = name == "stringData" || secret && name == "data";
            match node {
                Node::Map(values) if data => self.data(values),
                Node::Text(number, text) if name.eq_ignore_ascii_case("value") && named.is_some() => {
                    match named {
                        Some(sense @ (Sense::Password | Sense::Token(_)))
                            if is_secret(sense, Form::Environment, text, has_more(text)) =>
                        {
                            self.replace(*number, sense.kind(), text);
                        }
                        _ => self.text(*number, text, named),
                    }
                }
                _ => self.node(node, sense(name)),
            }
        }
    }

    /// What a Secret holds.
    fn data(&mut self, values: &[(usize, Cow<'_, str>, Node<'_>)]) {
        for (number, name, node) in values {
            if let Some(new) = self.redactor.clean(name, self.depth + 1) {
                self.edits.push((*number, new));
            }
            match node {
                Node::Text(number, text) if holds_secret(text) => self.replace(*number, SECRET, text),
                node => self.node(node, None),
            }
        }
    }
}

/// Whether it is a sentence rather than one word.
fn has_more(text: &str) -> bool {
    text.trim().contains(' ')
}
