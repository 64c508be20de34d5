//! The export: one incident's whole record in one file of JSON lines, which `docs/audit.md` describes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::IncidentRecord;
use super::verify::Finding;
use crate::canonical::canonical;
use crate::digest::sha256;
use crate::incident::{Child, ChildName, Gen, Head, IncidentId};

/// What the first line says the file is.
const FORMAT: &str = "sentinel-audit-1";

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    First { format: String, head: bool, incident: IncidentId },
    Head { head: Value },
    Child { child: Stored },
    Last { sha256: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(rename = "gen")]
    generation: Gen,
    name: String,
    /// Intake's own, of the names that both have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    intake: bool,
    body: String,
}

/// Writes a record as a file.
///
/// # Errors
/// The head is no JSON.
pub fn write_export(record: &IncidentRecord) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    let mut push = |line: &Line| -> Result<(), serde_json::Error> {
        text.push_str(&canonical(&serde_json::to_value(line)?));
        text.push('\n');
        Ok(())
    };
    let first =
        Line::First { format: FORMAT.to_owned(), head: record.head.is_some(), incident: record.id.clone() };
    push(&first)?;
    if let Some(head) = &record.head {
        push(&Line::Head { head: serde_json::to_value(head)? })?;
    }
    let mut children: Vec<&Child> = record.children.iter().collect();
    children.sort_by_key(|child| (child.generation, &child.name));
    for child in children {
        let Child { generation, name, body } = child.clone();
        let intake = matches!(name, ChildName::IntakeEntries(_));
        push(&Line::Child { child: Stored { generation, name: name.to_string(), intake, body } })?;
    }
    let digest = sha256(&text);
    text.push_str(&canonical(&serde_json::to_value(Line::Last { sha256: digest })?));
    text.push('\n');
    Ok(text)
}

/// Reads a file back, as far as it can be read, and names the lines that are not as they were written.
pub fn read_export(text: &str) -> (IncidentRecord, Vec<Finding>) {
    let mut record = IncidentRecord::new(IncidentId::new(""), None, Vec::new());
    let mut found = Vec::new();
    let mut last: Option<(Gen, ChildName)> = None;
    let mut ended = false;
    let mut says_head = false;
    let mut offset = 0_usize;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let place = format!("line {}", number + 1);
        let before = offset;
        offset += line.len();
        let mut breach = |what: &str| found.push(Finding::breach(&*place, what));
        if ended {
            breach("it stands after the last line");
        }
        let Some(line) = line.strip_suffix('\n') else {
            breach("it does not end");
            continue;
        };
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            breach("it is no JSON");
            continue;
        };
        if canonical(&value) != line {
            breach("it is not written canonically");
        }
        match serde_json::from_value(value) {
            Ok(Line::First { format, head, incident }) => {
                says_head = head;
                if format != FORMAT || number != 0 {
                    breach("it is not the first line of this format");
                }
                record.id = incident;
            }
            Ok(Line::Head { head }) => {
                if number != 1 {
                    breach("the head is not the second line");
                }
                match serde_json::from_value::<Head>(head.clone()) {
                    Ok(read) => record.set_head(read, head),
                    Err(_) => breach("it is no head"),
                }
            }
            Ok(Line::Child { child: Stored { generation, name, intake, body } }) => {
                match ChildName::parse(&name, intake).filter(|parsed| parsed.to_string() == name) {
                    Some(name) => {
                        let key = (generation, name.clone());
                        if last.as_ref().is_some_and(|last| *last >= key) {
                            breach("it is not in its place");
                        }
                        last = Some(key);
                        record.children.push(Child { generation, name, body });
                    }
                    None => breach("its name is not known"),
                }
            }
            Ok(Line::Last { sha256: digest }) => {
                if text.get(..before).is_none_or(|all| sha256(all) != digest) {
                    breach("the lines before it are not those that it was written for");
                }
                ended = true;
            }
            Err(_) => breach("it is of no kind that is known"),
        }
    }
    if record.head.is_none() && record.children.is_empty() {
        found.push(Finding::breach("the file", "it holds neither a head nor a child"));
    }
    if says_head && record.head.is_none() {
        found.push(Finding::breach("HEAD", "line 1 says that there is one, and it is not there"));
    }
    if record.id.as_str().is_empty() {
        found.push(Finding::breach("line 1", "it does not say which incident this is"));
    }
    if !ended {
        found.push(Finding::breach("the end", "the last line is not there"));
    }
    (record, found)
}
