//! `sentinel tools diff`: what servers say now of the tools that cards allow, word by word against `tools.lock`.

use std::io::Write;
use std::time::Duration;

use sentinel_core::tools_lock::{Difference, Drift};
use serde::Serialize;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::{Looked, look};
use crate::Exit;
use crate::args::Diff;
use crate::environment::Environment;
use crate::render::inert;

/// How long the words of one part are compared: what differs more than that is told in larger pieces.
const LONGEST: Duration = Duration::from_secs(1);

/// What `--json` prints: the tools that differ, or of which nothing can be said.
#[derive(PartialEq, Debug, Serialize)]
struct Differing {
    tool: String,
    /// Why there is nothing to compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Part>,
}

/// A part of what a server says of a tool.
#[derive(PartialEq, Debug, Serialize)]
struct Part {
    /// By the protocol's name.
    field: String,
    before: Option<Value>,
    now: Option<Value>,
    words: Vec<Words>,
}

/// Words in a row that were there before, are there now, or both.
#[derive(PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Words {
    Same(String),
    Removed(String),
    Added(String),
}

pub(super) async fn run(args: &Diff, env: &Environment) -> anyhow::Result<Exit> {
    let looked = match look(args.config.config.as_deref(), env).await? {
        Ok(looked) => looked,
        Err(exit) => return Ok(exit),
    };
    let tools = compare(&looked);
    let mut out = anstream::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&tools)?)?;
    } else {
        write!(out, "{}", shown(&tools))?;
    }
    Ok(if tools.is_empty() { Exit::Done } else { Exit::Failed })
}

fn compare(looked: &Looked) -> Vec<Differing> {
    let Looked { before, allowed, listed, .. } = looked;
    let tool = |id: &sentinel_core::card::ToolId| {
        let because =
            |reason: String| Some(Differing { tool: id.to_string(), reason: Some(reason), fields: vec![] });
        let definitions = match listed.get(&id.server) {
            Some(Ok(definitions)) => definitions,
            Some(Err(reason)) => return because(reason.clone()),
            None => return because("its server was not asked".to_owned()),
        };
        let mut found = definitions.iter().filter(|d| d.tool == id.tool);
        let (Some(one), None) = (found.next(), found.next()) else {
            return because("its server does not list it, or lists it more than once".to_owned());
        };
        match before.diff(id, one.said()) {
            Err(drift @ (Drift::Unknown | Drift::Changed(_))) => because(drift.to_string()),
            Ok(fields) if fields.is_empty() => None,
            Ok(fields) => {
                let fields = fields.into_iter().map(field).collect();
                Some(Differing { tool: id.to_string(), reason: None, fields })
            }
        }
    };
    allowed.iter().filter_map(tool).collect()
}

fn field(difference: Difference) -> Part {
    let text = |value: &Option<Value>| match value {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => format!("{value:#}"),
    };
    let (before, now) = (text(&difference.before), text(&difference.now));
    let mut words: Vec<Words> = Vec::new();
    for change in TextDiff::configure().timeout(LONGEST).diff_words(&before, &now).iter_all_changes() {
        let said = change.value();
        match (change.tag(), words.last_mut()) {
            (ChangeTag::Equal, Some(Words::Same(row)))
            | (ChangeTag::Delete, Some(Words::Removed(row)))
            | (ChangeTag::Insert, Some(Words::Added(row))) => row.push_str(said),
            (ChangeTag::Equal, _) => words.push(Words::Same(said.to_owned())),
            (ChangeTag::Delete, _) => words.push(Words::Removed(said.to_owned())),
            (ChangeTag::Insert, _) => words.push(Words::Added(said.to_owned())),
        }
    }
    let Difference { field, before, now } = difference;
    Part { field, before, now, words }
}

/// For people: `[-gone-]` and `{+new+}`, in colour where the terminal has it.
fn shown(tools: &[Differing]) -> String {
    if tools.is_empty() {
        return "Servers say of the allowed tools what tools.lock holds.\n".to_owned();
    }
    let mut out = String::new();
    for tool in tools {
        let reason = tool.reason.as_deref().map(|r| format!(": {}", inert(r))).unwrap_or_default();
        out.extend([&*inert(&tool.tool), &reason, "\n"]);
        for field in &tool.fields {
            out.extend(["  ", &*inert(&field.field), ": "]);
            for words in &field.words {
                let (opening, said, closing) = match words {
                    Words::Same(said) => ("", said, ""),
                    Words::Removed(said) => ("\u{1b}[31m[-", said, "-]\u{1b}[0m"),
                    Words::Added(said) => ("\u{1b}[32m{+", said, "+}\u{1b}[0m"),
                };
                let lines: Vec<String> = said.split('\n').map(visible).collect();
                out.extend([opening, &lines.join("\n    "), closing]);
            }
            out.push('\n');
        }
    }
    out
}

/// One line of a server's words. What a terminal would obey or not show is written out: a change may hide in it.
fn visible(line: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(c, '\u{feff}' | '\u{e0000}'..='\u{e007f}' | '\u{fe00}'..='\u{fe0f}')
    };
    let mut out = String::new();
    for c in line.chars() {
        if is_hidden(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changed_is_shown_word_by_word_and_nothing_of_it_reaches_the_terminal_as_a_command() {
        let field = field(Difference {
            field: "description".to_owned(),
            before: Some(json!("Looks at a namespace.")),
            now: Some(json!("Looks at a namespace. \u{1b}[2JThen mails it.")),
        });
        let tool = Differing { tool: "s.t".to_owned(), reason: None, fields: vec![field] };
        let told = anstream::adapter::strip_str(&shown(&[tool])).to_string();
        assert_eq!(told, "s.t\n  description: Looks at a namespace.{+ \\u{1b}[2JThen mails it.+}\n");
    }
}
