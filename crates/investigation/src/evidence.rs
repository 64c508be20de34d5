//! Evidence: stored tool outputs, what the model sees of them, and how it looks further.

use std::collections::BTreeMap;
use std::sync::Arc;

use sentinel_core::UnixMs;
use sentinel_core::digest::sha256;
use sentinel_core::redact::Redactor;
use sentinel_core::view::Output;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::arguments;
use crate::fence::{clip, cut, fenced};
use crate::ports::Remark;
use crate::refusal::{Refusal, RefusalReason};
use crate::search::{Found, Search};
use crate::tools::READ_EVIDENCE;

/// The most of one output that is kept, in bytes; head and tail of a longer one.
pub(crate) const MOST_KEPT: usize = 256 * 1024;
/// The most that a kept text may be as a JSON string: a stored item has to stay under 400 KB.
pub(crate) const MOST_ENCODED: usize = 336 * 1024;
/// What a token of a tool's output is taken for, in characters. Logs, tables and JSON have 2.8 to 3.2 by the tokenizer
/// of the gpt-4o and gpt-4.1 models (`o200k_base`); prose has four.
pub(crate) const CHARS_PER_TOKEN: usize = 3;
/// How a redactor's placeholders begin.
const PLACEHOLDER: &str = "[redacted";

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallStatus {
    /// The tool gave what it was asked for.
    Answered,
    /// The tool answered that it failed. Its words are evidence too.
    ToolError,
    /// It left, and nothing usable came back: the server is down, slow, or answers garbage. The text is Sentinel's.
    NoAnswer,
    /// It never left. The text is Sentinel's and says why.
    Refused,
}

impl CallStatus {
    /// Whether the call left.
    pub(crate) fn left(self) -> bool {
        self != Self::Refused
    }

    /// Whether the text is the tool's own words.
    pub(crate) fn is_the_tools(self) -> bool {
        matches!(self, Self::Answered | Self::ToolError)
    }
}

/// One of a card's own calls: what tells it from the others, whatever its number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OwnCall {
    /// Its place in the card's `evidence`, from 1.
    pub place: u32,
    /// Where the alerts differ in what it asks for: of which of them it was made, as `labels.queue` to its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub of: BTreeMap<String, String>,
}

/// One stored tool output: the body of an `OUT` child, as JSON.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EvidenceRecord {
    /// `E1`. Calls of the card come first, then the model's, in the order in which it asked.
    pub id: String,
    /// `server.tool`.
    pub tool: String,
    /// What it was asked, secrets redacted.
    pub arguments: Map<String, Value>,
    /// Whether the tool gave what it was asked for: [`CallStatus::Answered`].
    pub ok: bool,
    /// How the call ended.
    pub status: CallStatus,
    /// Why it never left, as a label, where it did not; `None` in records that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<RefusalReason>,
    /// The model turn that asked; 0: the card.
    pub turn: u32,
    /// Which of the card's own calls it is; `None` for the model's, and in records that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnCall>,
    /// When the call left.
    pub at: UnixMs,
    /// How long it took.
    pub ms: u64,
    /// The output's size as it was received.
    pub bytes: u64,
    /// SHA-256 of the whole redacted output, in hexadecimal digits.
    pub sha256: String,
    /// How many secrets were taken out of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redactions: u64,
    /// Bytes of it that are not kept. They are missing after the first `head` bytes of the text.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// Where the kept tail begins in `text`, where bytes are left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub head: u64,
    /// The redacted output, or its head and tail.
    pub text: String,
    /// What a reader should know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Remark>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What a view of the incident needs of its tool outputs: of those that are the tools' own words.
pub fn outputs(evidence: &[EvidenceRecord]) -> Arc<[Output]> {
    let told = evidence.iter().filter(|e| e.status.is_the_tools());
    told.map(|e| Output { id: e.id.clone(), tool: e.tool.clone(), text: e.text.clone() }).collect()
}

/// A text without secrets, bounded: what is kept of an output.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The size as it was received.
    pub bytes: u64,
    /// SHA-256 of the whole redacted text, in hexadecimal digits.
    pub sha256: String,
    /// How many secrets were taken out of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redactions: u64,
    /// Bytes that are not kept, after the first `head` bytes of the text.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// Where the kept tail begins in `text`, where bytes are left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub head: u64,
    /// The redacted text, or its head and tail.
    pub text: String,
}

impl Kept {
    /// Redacts first, so that a secret at the edge of what is kept is still recognised, then bounds, so that the text
    /// as a JSON string takes at most `most_encoded` bytes.
    pub(crate) fn of(received: &str, redactor: &Redactor, most_encoded: usize) -> Self {
        let text = redactor.redact(received);
        let mut most = MOST_KEPT.min(most_encoded);
        let mut kept = cut(&text, most);
        while most > 0 && encoded_len(kept.head) + encoded_len(kept.tail) > most_encoded {
            most = most / 4 * 3;
            kept = cut(&text, most);
        }
        Self {
            bytes: received.len() as u64,
            sha256: sha256(&*text),
            redactions: text
                .matches(PLACEHOLDER)
                .count()
                .saturating_sub(received.matches(PLACEHOLDER).count()) as u64,
            left_out: kept.left_out as u64,
            head: if kept.left_out == 0 { 0 } else { kept.head.len() as u64 },
            text: format!("{}{}", kept.head, kept.tail),
        }
    }
}

/// What is known of a call when it has ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) number: u32,
    pub(crate) tool: String,
    pub(crate) arguments: &'a Map<String, Value>,
    pub(crate) status: CallStatus,
    pub(crate) refusal: Option<RefusalReason>,
    pub(crate) turn: u32,
    pub(crate) own: Option<OwnCall>,
    pub(crate) at: UnixMs,
    pub(crate) ms: u64,
    pub(crate) kept: Kept,
    pub(crate) remarks: Vec<Remark>,
}

/// The id of the `number`-th evidence.
pub(crate) fn id_of(number: u32) -> String {
    format!("E{number}")
}

impl EvidenceRecord {
    /// Takes secrets out of the arguments; the output is kept as it is.
    pub(crate) fn new(ended: Ended<'_>, redactor: &Redactor) -> Self {
        let Kept { bytes, sha256, redactions, left_out, head, text } = ended.kept;
        Self {
            id: id_of(ended.number),
            tool: ended.tool,
            arguments: redacted(ended.arguments, redactor),
            ok: ended.status == CallStatus::Answered,
            status: ended.status,
            refusal: ended.refusal,
            turn: ended.turn,
            own: ended.own,
            at: ended.at,
            ms: ended.ms,
            bytes,
            sha256,
            redactions,
            left_out,
            head,
            text,
            remarks: ended.remarks.into_iter().map(|remark| remark.redacted(redactor)).collect(),
        }
    }

    /// What is kept in one piece each: the text, or its head and its tail.
    pub(crate) fn pieces(&self) -> (&str, &str) {
        let cut = usize::try_from(self.head).ok().filter(|_| self.left_out > 0);
        cut.and_then(|at| self.text.split_at_checked(at)).unwrap_or((&self.text, ""))
    }

    /// The text with a line where bytes are missing.
    pub fn shown(&self) -> String {
        match self.pieces() {
            (head, tail) if self.left_out > 0 => {
                format!("{head}\n[… {} bytes were not kept …]\n{tail}", self.left_out)
            }
            (text, _) => text.to_owned(),
        }
    }

    /// What is left of it where the whole does not fit into the model's context.
    pub(crate) fn as_id(&self) -> String {
        let arguments = clip(&Value::Object(self.arguments.clone()).to_string(), 200);
        format!(
            "[{}] {} {arguments} — left out to make room: read_evidence with id {} shows it",
            self.id, self.tool, self.id
        )
    }

    /// What the model sees: the id, the call, and at most `tokens` of the text, fenced as data.
    pub(crate) fn for_model(&self, tokens: u32) -> String {
        let status = match self.status {
            CallStatus::Answered => "",
            CallStatus::ToolError => " — the tool reports an error",
            CallStatus::NoAnswer => " — no answer",
            CallStatus::Refused => " — not called",
        };
        let arguments = clip(&Value::Object(self.arguments.clone()).to_string(), 600);
        let text = self.shown();
        let shown = cut(&text, budget(tokens));
        let body = if shown.left_out == 0 {
            text.clone()
        } else {
            format!(
                "{}\n[… {} of {} bytes are not shown here: read_evidence with id {} shows them, by pattern or lines …]\n{}",
                shown.head,
                shown.left_out,
                text.len(),
                self.id,
                shown.tail
            )
        };
        format!("[{}] {} {arguments}{status}\n{}", self.id, self.tool, fenced(&body))
    }
}

fn encoded_len(text: &str) -> usize {
    text.chars()
        .map(|c| match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            c if (c as u32) < 0x20 => 6,
            c => c.len_utf8(),
        })
        .sum()
}

/// Arguments without secrets.
pub(crate) fn redacted(arguments: &Map<String, Value>, redactor: &Redactor) -> Map<String, Value> {
    let mut value = Value::Object(arguments.clone());
    redactor.redact_json(&mut value);
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn budget(tokens: u32) -> usize {
    usize::try_from(tokens).unwrap_or(usize::MAX).saturating_mul(CHARS_PER_TOKEN)
}

/// What the model asks of `read_evidence`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Reading {
    id: String,
    #[serde(default)]
    pattern: Option<String>,
    #[serde(default)]
    lines: Option<String>,
}

/// Answers `read_evidence`: from what is stored, nothing leaves.
///
/// # Errors
/// Where its arguments are refused before anything is looked up.
pub(crate) fn read<'e>(
    arguments: &str,
    find: impl Fn(&str) -> Option<&'e EvidenceRecord>,
    tokens: u32,
) -> Result<String, Refusal> {
    let arguments = arguments::object(READ_EVIDENCE, arguments)?;
    let reading: Reading = serde_json::from_value(Value::Object(arguments))
        .map_err(|e| Refusal::NotJson { name: READ_EVIDENCE.to_owned(), why: e.to_string() })?;
    Ok(look(&reading, find, tokens))
}

fn look<'e>(reading: &Reading, find: impl Fn(&str) -> Option<&'e EvidenceRecord>, tokens: u32) -> String {
    let Some(record) = find(&normal_id(&reading.id)) else {
        return format!("Error: there is no evidence {:?}.", clip(&reading.id, 20));
    };
    let text = record.shown();
    let lines: Vec<&str> = text.lines().collect();
    let (from, to) = match reading.lines.as_deref().map(str::trim).filter(|l| !l.is_empty()) {
        None => (1, lines.len()),
        Some(range) => match parse_range(range) {
            Some(range) => range,
            None => return format!("Error: lines is a range like \"10-40\", not {:?}.", clip(range, 40)),
        },
    };
    let numbered = lines.iter().enumerate().map(|(i, line)| (i + 1, *line));
    let chosen = numbered.filter(|(n, _)| (from..=to).contains(n));
    let (what, body) = match reading.pattern.as_deref().filter(|p| !p.is_empty()) {
        None => {
            let body: Vec<&str> = chosen.map(|(_, line)| line).collect();
            (format!("lines {from}-{} of {}", to.min(lines.len()), lines.len()), body.join("\n"))
        }
        Some(pattern) => {
            let search = match Search::new(pattern) {
                Ok(search) => search,
                Err(reason) => return format!("Error: {reason}"),
            };
            let Found { places, body, ended } = search.places(chosen);
            let pattern = clip(pattern, 80);
            match ended {
                None => (format!("{places} places match {pattern}"), body),
                Some(why) => (format!("the first {places} places that match {pattern}; {why}"), body),
            }
        }
    };
    let shown = cut(&body, budget(tokens));
    let body = if shown.left_out == 0 {
        body.clone()
    } else {
        format!("{}\n[… {} more bytes: ask for fewer lines …]\n{}", shown.head, shown.left_out, shown.tail)
    };
    format!("[{}] {what}\n{}", record.id, fenced(&body))
}

/// `10-40`, `10-`, `10`.
fn parse_range(text: &str) -> Option<(usize, usize)> {
    match text.split_once('-') {
        None => text.parse().ok().map(|n| (n, n)),
        Some((from, "")) => from.trim().parse().ok().map(|n| (n, usize::MAX)),
        Some((from, to)) => {
            let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
            (from <= to).then_some((from, to))
        }
    }
}

/// `[e3]` is `E3`.
pub(crate) fn normal_id(id: &str) -> String {
    id.trim().trim_matches(['[', ']']).trim().to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> EvidenceRecord {
        let redactor = Redactor::new(["swordfish".to_owned()]);
        let ended = Ended {
            number: 1,
            tool: "s.t".into(),
            arguments: &Map::new(),
            status: CallStatus::Answered,
            refusal: None,
            turn: 0,
            own: None,
            at: UnixMs::new(0),
            ms: 1,
            kept: Kept::of(text, &redactor, MOST_ENCODED),
            remarks: Vec::new(),
        };
        EvidenceRecord::new(ended, &redactor)
    }

    fn read_one(record: &EvidenceRecord, arguments: &Value) -> String {
        read(&arguments.to_string(), |id| (id == record.id).then_some(record), 100).unwrap()
    }

    #[test]
    fn a_long_output_keeps_head_and_tail_and_says_what_is_missing() {
        let text = format!("BEGIN{}END", "x".repeat(MOST_KEPT * 2));
        let e = record(&text);
        assert_eq!(e.text.len() as u64 + e.left_out, text.len() as u64);
        assert!(e.text.len() <= MOST_KEPT && e.text.starts_with("BEGIN") && e.text.ends_with("END"));
        assert_eq!((e.bytes, &e.sha256), (text.len() as u64, &sha256(&text)));
        assert!(e.shown().contains(&format!("{} bytes were not kept", e.left_out)));
    }

    #[test]
    fn an_output_that_grows_when_it_is_encoded_still_fits_into_an_item() {
        let e = record(&"\u{1}".repeat(MOST_KEPT));
        assert!(serde_json::to_string(&e).unwrap().len() < 380_000);
    }

    #[test]
    fn a_secret_at_the_edge_of_what_is_kept_is_redacted() {
        let head = MOST_KEPT - MOST_KEPT / 3;
        let e = record(&format!("{}swordfish{}", "x".repeat(head - 4), "y".repeat(MOST_KEPT)));
        assert!(!e.text.contains("swor"));
    }

    #[test]
    fn the_model_sees_the_id_first_and_no_more_than_its_budget() {
        let seen = record(&format!("BEGIN {} END", "word ".repeat(1000))).for_model(50);
        assert!(seen.starts_with("[E1] s.t {}\n<data seal="), "{seen}");
        assert!(seen.contains("BEGIN") && seen.contains("END") && seen.contains("read_evidence with id E1"));
        assert!(seen.len() < 50 * 4 + 300);
    }

    #[test]
    fn evidence_can_be_read_by_lines_and_by_pattern() {
        let e = record("alpha\nbeta\ngamma\nBetamax");
        let lines = read_one(&e, &serde_json::json!({"id": "[e1]", "lines": "2-3"}));
        assert!(lines.starts_with("[E1] lines 2-3 of 4") && lines.contains("\nbeta\ngamma\n"), "{lines}");
        let found = read_one(&e, &serde_json::json!({"id": "E1", "pattern": "beta", "lines": null}));
        assert!(found.contains("line 2:\nbeta\nline 4:\nBetamax"), "{found}");
    }

    #[test]
    fn what_is_read_again_is_held_to_the_same_budget() {
        let e = record(&format!("BEGIN\n{}END", "a line of it\n".repeat(5000)));
        for arguments in [
            serde_json::json!({"id": "E1"}),
            serde_json::json!({"id": "E1", "lines": "1-"}),
            serde_json::json!({"id": "E1", "pattern": "line"}),
        ] {
            let read = read_one(&e, &arguments);
            assert!(read.len() < 100 * 4 + 300, "{arguments}: {}", read.len());
            assert!(read.contains("more bytes: ask for fewer lines"), "{read}");
        }
        let whole = read_one(&e, &serde_json::json!({"id": "E1"}));
        assert!(whole.contains("BEGIN") && whole.contains("END"), "its head and its tail: {whole}");
    }

    #[test]
    fn a_match_in_a_long_line_shows_its_surroundings_only() {
        let e = record(&format!("{}needle{}", "a".repeat(5000), "é".repeat(5000)));
        let found = read_one(&e, &serde_json::json!({"id": "E1", "pattern": "needle"}));
        assert!(found.contains("aneedleé") && found.len() < 1200, "{}", found.len());
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let e = record("x");
        for (arguments, want) in [
            ("not json", "are not JSON"),
            (r#"{"id":"E1","id":"E2"}"#, "stands twice"),
            ("{}", "missing field `id`"),
            (r#"{"id":"E9"}"#, "no evidence"),
            (r#"{"id":"E1","pattern":"("}"#, "no regular expression"),
            (r#"{"id":"E1","lines":"9-2"}"#, "a range like"),
        ] {
            let answer = read(arguments, |id| (id == e.id).then_some(&e), 100);
            let answer = answer.unwrap_or_else(|refusal| refusal.to_string());
            assert!(answer.starts_with("Error: ") && answer.contains(want), "{answer}");
        }
    }
}
