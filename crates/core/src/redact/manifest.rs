//! Manifests of Kubernetes in YAML: the values of a Secret, and environments as pairs of `name` and `value`.

use std::ops::Range;

use super::values::{Form, Sense, is_secret, sense, stands_for_no_secret};

/// The kind of what a Secret holds.
pub(super) const SECRET: &str = "k8s-secret";

/// Whether what stands in a Secret is more than a mark for something.
pub(super) fn holds_secret(value: &str) -> bool {
    !stands_for_no_secret(value)
        && !value.contains("[redacted: ")
        && !value.starts_with('<')
        && !value.contains("{{")
}

/// One mapping that is being read: the keys that stand at one indent.
#[derive(Default)]
struct Mapping {
    indent: usize,
    /// `kind: Secret` stands in it.
    secret: bool,
    /// The key that is being read: what is indented further belongs to it.
    reading: Key,
    /// What stands under `data`, and under `stringData`, which nothing but a Secret has.
    data: Vec<Range<usize>>,
    string_data: Vec<Range<usize>>,
    /// What `name` says of `value`.
    named: Option<Sense>,
    value: Vec<Range<usize>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Key {
    Data,
    StringData,
    /// `value: |`
    Value,
    #[default]
    Other,
}

/// All that stand in `text`. Lines are read once, in order.
pub(super) fn find(text: &str) -> Vec<(Range<usize>, &'static str)> {
    let mut found = Vec::new();
    let mut open: Vec<Mapping> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let line = line.trim_end();
        let body = line.trim_start_matches(' ');
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        if body == "---" {
            open.drain(..).for_each(|mapping| mapping.end(text, &mut found));
            continue;
        }
        let mut indent = line.len() - body.len();
        // A manifest may begin behind words of whoever wrote it to the log.
        let marks = ["kind: Secret", "stringData:", "data:"];
        let behind = |mark: &&str| body.strip_suffix(*mark).is_some_and(|words| words.ends_with(": "));
        let mut body = marks.into_iter().find(behind).unwrap_or(body);
        let data = open
            .iter()
            .any(|m| m.indent < indent && matches!(m.reading, Key::Data | Key::StringData | Key::Value));
        while !data && let Some(item) = body.strip_prefix("- ") {
            // A list's item is a mapping of its own, also where the one before stands at the same indent.
            close(&mut open, indent + 1, text, &mut found);
            let inner = item.trim_start_matches(' ');
            indent += body.len() - inner.len();
            body = inner;
        }
        close(&mut open, indent + 1, text, &mut found);
        let place = start + line.len() - body.len();
        if data {
            if let Some(mapping) =
                open.iter_mut().rev().find(|m| m.indent < indent && m.reading != Key::Other)
            {
                mapping.take(place..start + line.len(), body);
            }
            continue;
        }
        let Some((key, value)) = body.split_once(':') else { continue };
        if !(value.is_empty() || value.starts_with([' ', '\t'])) || key.len() > 253 {
            continue;
        }
        if open.last().is_none_or(|mapping| mapping.indent < indent) {
            if open.len() >= 64 {
                continue;
            }
            open.push(Mapping { indent, ..Mapping::default() });
        }
        let Some(mapping) = open.last_mut() else { continue };
        let blanks = value.len() - value.trim_start().len();
        let range = place + key.len() + 1 + blanks..start + line.len();
        mapping.reading = Key::Other;
        match (key.trim_matches(['"', '\'']), value.trim()) {
            ("kind", value) => mapping.secret |= value.trim_matches(['"', '\'']) == "Secret",
            ("data", "") => mapping.reading = Key::Data,
            ("stringData", "") => mapping.reading = Key::StringData,
            ("name" | "key", value) => mapping.named = sense(value.trim_matches(['"', '\''])),
            ("value", "|" | "|-" | ">" | ">-" | "|+") => mapping.reading = Key::Value,
            ("value", value) if !value.is_empty() => mapping.value.push(range),
            _ => {}
        }
    }
    open.drain(..).for_each(|mapping| mapping.end(text, &mut found));
    found
}

/// Ends the mappings that stand at `indent` or deeper.
fn close(open: &mut Vec<Mapping>, indent: usize, text: &str, found: &mut Vec<(Range<usize>, &'static str)>) {
    while let Some(mapping) = open.pop_if(|mapping| mapping.indent >= indent) {
        mapping.end(text, found);
    }
}

impl Mapping {
    /// Takes a line that stands under the key that is being read.
    fn take(&mut self, line: Range<usize>, body: &str) {
        if self.reading == Key::Value {
            self.value.push(line);
            return;
        }
        // `key: value`; a line without a key belongs to the block of the one before.
        let value = match body.split_once(": ") {
            Some((_, value)) => value.trim_start(),
            None if body.ends_with(':') => return,
            None => body,
        };
        if matches!(value, "|" | "|-" | "|+" | ">" | ">-" | "\"\"" | "''" | "{}") {
            return;
        }
        let values = if self.reading == Key::Data { &mut self.data } else { &mut self.string_data };
        values.push(line.end - value.len()..line.end);
    }

    fn end(self, text: &str, found: &mut Vec<(Range<usize>, &'static str)>) {
        let bare = |range: Range<usize>| {
            let value = text.get(range.clone())?;
            let inner = value.trim_matches(['"', '\'']);
            let start = range.start + (value.len() - value.trim_start_matches(['"', '\'']).len());
            (!inner.is_empty()).then_some((start..start + inner.len(), inner))
        };
        let data = if self.secret { self.data } else { vec![] };
        for (range, value) in data.into_iter().chain(self.string_data).filter_map(bare) {
            if holds_secret(value) {
                found.push((range, SECRET));
            }
        }
        if let Some(sense) = self.named {
            for (range, value) in self.value.into_iter().filter_map(bare) {
                if is_secret(sense, Form::Environment, value, false) {
                    found.push((range, sense.kind()));
                }
            }
        }
    }
}
