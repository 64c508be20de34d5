//! What is kept of an incident, as it is kept: outputs with the report's quotes marked, turns, alerts, and all of it in the
//! order of time.

use std::ops::Range;

use sentinel_core::alert::Labels;
use sentinel_core::report::Report;
use sentinel_core::view::places;
use sentinel_investigation::ports::Said;
use sentinel_investigation::{EvidenceRecord, TurnRecord};
use serde_json::Value;

use super::lines::{BOLD, DIM, Lines, MARKED, OFF, RED, inert};
use crate::api::Record;

/// Lines on each side of what is looked for.
const AROUND: usize = 10;
/// The most bytes on each side of it: an output may be one line.
const MOST_AROUND: usize = 2_000;

/// The evidence that a person means by `E4`, `e4` or `4`.
pub(crate) fn find<'r>(record: &'r Record, given: &str) -> Option<&'r EvidenceRecord> {
    let number = given.trim().trim_start_matches(['E', 'e']);
    record.evidence.iter().find(|e| e.id.trim_start_matches('E') == number)
}

/// The quotes of the report that cite this evidence, and stand there.
fn quotes<'r>(report: Option<&'r Report>, id: &str) -> Vec<&'r str> {
    let statements = report.into_iter().flat_map(|r| r.hypotheses.iter().chain(&r.ruled_out));
    let citations = statements.flat_map(|s| &s.evidence).filter(|c| c.id == id && c.found == Some(true));
    citations.map(|c| c.quote.as_str()).collect()
}

/// A line for each output.
pub(crate) fn evidence_list(record: &Record, width: usize) -> String {
    let mut lines = Lines::new(width);
    if record.evidence.is_empty() {
        lines.raw("No tool was called.");
    }
    for e in &record.evidence {
        let cited = match quotes(record.report.as_ref(), &e.id).len() {
            0 => String::new(),
            1 => ", quoted once".to_owned(),
            n => format!(", quoted {n} times"),
        };
        let failed = if e.ok { "" } else { ", FAILED" };
        let text = format!("{} {} {} bytes, {} ms{cited}{failed}", e.tool, json(&e.arguments), e.bytes, e.ms);
        lines.hanging(&format!("{:<4} ", inert(&e.id)), if e.ok { "" } else { RED }, &text, usize::MAX);
    }
    lines.text()
}

fn json(arguments: &serde_json::Map<String, Value>) -> String {
    Value::Object(arguments.clone()).to_string()
}

/// One output, with the quotes of the report marked; `around`: only the lines around this text, which is marked too. `None`:
/// it does not stand there.
pub(crate) fn evidence(record: &Record, e: &EvidenceRecord, around: Option<&str>) -> Option<String> {
    let quotes = quotes(record.report.as_ref(), &e.id);
    let mut lines = Lines::new(usize::MAX);
    lines.raw(&format!("{BOLD}{}  {} {}{OFF}", inert(&e.id), inert(&e.tool), inert(&json(&e.arguments))));
    let status = if e.ok { String::new() } else { format!(", {RED}{:?}{OFF}", e.status) };
    let asked = match e.turn {
        0 => "asked by the card".to_owned(),
        turn => format!("asked in turn {turn}"),
    };
    lines.raw(&format!("{DIM}{}, {} ms, {} bytes, {asked}{OFF}{status}", e.at, e.ms, e.bytes));
    if e.redactions > 0 {
        lines.raw(&format!("{DIM}{} secrets were taken out{OFF}", e.redactions));
    }
    for remark in &e.remarks {
        lines.raw(&format!("{DIM}{}{OFF}", inert(&format!("{remark:?}"))));
    }
    lines.blank();
    let shown = match around {
        None => 0..e.text.len(),
        Some(text) => window(&e.text, places(&e.text, &[text]).into_iter().next()?),
    };
    let marks = places(&e.text, &quotes.iter().copied().chain(around).collect::<Vec<_>>());
    if shown.start > 0 {
        lines.raw(&format!("{DIM}… {} bytes before this{OFF}", shown.start));
    }
    marked(&mut lines, e, &shown, &marks);
    if shown.end < e.text.len() {
        lines.raw(&format!("{DIM}… {} bytes after this{OFF}", e.text.len() - shown.end));
    }
    Some(lines.text())
}

/// The lines around a place.
fn window(text: &str, place: Range<usize>) -> Range<usize> {
    let (before, after) =
        (text.get(..place.start).unwrap_or_default(), text.get(place.end..).unwrap_or_default());
    let start = before.rmatch_indices('\n').nth(AROUND).map_or(0, |(at, _)| at + 1);
    let end = after.match_indices('\n').nth(AROUND).map_or(text.len(), |(at, _)| place.end + at);
    let mut start = start.max(place.start.saturating_sub(MOST_AROUND));
    let mut end = end.min(place.end.saturating_add(MOST_AROUND));
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// The text, line by line: those with a quote begin with `>`, and the quote is shown inverted.
fn marked(lines: &mut Lines, e: &EvidenceRecord, shown: &Range<usize>, marks: &[Range<usize>]) {
    let head = usize::try_from(e.head).unwrap_or(usize::MAX);
    let mut at = shown.start;
    for line in e.text.get(shown.clone()).unwrap_or_default().split('\n') {
        let span = at..at + line.len();
        let mut text = String::new();
        let mut from = span.start;
        let inside = marks.iter().filter(|mark| mark.start < span.end && mark.end > span.start);
        let mut found = false;
        for mark in inside {
            found = true;
            let (start, end) = (mark.start.max(span.start), mark.end.min(span.end));
            text.push_str(&inert(e.text.get(from..start).unwrap_or_default()));
            text.push_str(MARKED);
            text.push_str(&inert(e.text.get(start..end).unwrap_or_default()));
            text.push_str(OFF);
            from = end;
        }
        text.push_str(&inert(e.text.get(from..span.end).unwrap_or_default()));
        lines.raw(&format!("{}{text}", if found { "> " } else { "  " }));
        if e.left_out > 0 && span.start < head && head <= span.end + 1 {
            lines.raw(&format!("{DIM}… {} bytes were not kept{OFF}", e.left_out));
        }
        at = span.end + 1;
    }
}

/// What the model answered, turn by turn.
pub(crate) fn turns(record: &Record, width: usize) -> String {
    let mut lines = Lines::new(width);
    if record.turns.is_empty() {
        lines.raw("No model was asked.");
    }
    for turn in &record.turns {
        let TurnRecord { at, ms, response, .. } = turn;
        let usage = &response.usage;
        let head = format!(
            "Turn {}  {} at {at}, {ms} ms, {} tokens in ({} cached), {} out",
            turn.turn, response.model, usage.input_tokens, usage.cached_tokens, usage.output_tokens
        );
        lines.hanging("", BOLD, &head, usize::MAX);
        if let Some(forced) = turn.forced {
            lines.hanging("  ", DIM, &format!("it could only report: {forced:?}"), usize::MAX);
        }
        for output in &response.outputs {
            let (style, text) = match &output.said {
                Said::Text { text } => ("", text.clone()),
                Said::Refusal { text } => (RED, format!("refused: {text}")),
                Said::Reasoning { text } if text.is_empty() => {
                    (DIM, "(thought, sealed by its service)".to_owned())
                }
                Said::Reasoning { text } => (DIM, format!("thought: {text}")),
                Said::Call(call) => ("", format!("calls {} {}", call.name, call.arguments)),
                Said::HostedCall(call) => {
                    ("", format!("had {}.{} called {}", call.label, call.tool, call.arguments))
                }
                Said::HostedRequest(call) => {
                    ("", format!("asks for {}.{} {}", call.label, call.tool, call.arguments))
                }
                Said::HostedList(list) => {
                    (DIM, format!("was shown {} tools of {}", list.tools.len(), list.label))
                }
                Said::Other => (DIM, "(something that nobody asked for)".to_owned()),
            };
            lines.hanging("  ", style, &text, usize::MAX);
        }
    }
    lines.text()
}

/// The alerts of each notification.
pub(crate) fn alerts(record: &Record, width: usize) -> String {
    let mut lines = Lines::new(width);
    for notification in &record.notifications {
        let envelope = &notification.envelope;
        let by = envelope.verified_by.as_deref().unwrap_or("nobody that showed a credential");
        let from = format!(
            "{:?} to {:?}, sent by {by}, {} alerts",
            envelope.source,
            envelope.receiver,
            notification.alerts.len()
        );
        lines.hanging("", BOLD, &from, usize::MAX);
        if let Some(url) = &envelope.external_url {
            lines.raw(&format!("  from {}", inert(url)));
        }
        for alert in &notification.alerts {
            let status = if alert.is_firing() { "firing" } else { "resolved" };
            let time =
                |at: Option<sentinel_core::UnixMs>| at.map_or("not said".to_owned(), |at| at.to_string());
            let until = alert.ends_at.map(|at| format!(" until {at}")).unwrap_or_default();
            lines.hanging(
                "  - ",
                "",
                &format!("{status} since {}{until}", time(alert.starts_at)),
                usize::MAX,
            );
            lines.hanging("      labels       ", "", &pairs(&alert.labels), usize::MAX);
            for (name, value) in &alert.annotations {
                lines.hanging("      ", DIM, &format!("{name}: {value}"), usize::MAX);
            }
            for (name, value) in &alert.values {
                lines.hanging("      ", DIM, &format!("value {name}: {value}"), usize::MAX);
            }
            if let Some(url) = &alert.generator_url {
                lines.raw(&format!("      graph        {}", inert(url)));
            }
        }
    }
    lines.text()
}

fn pairs(labels: &Labels) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// All that is kept, in the order of time.
pub(crate) fn record(record: &Record, width: usize) -> String {
    let head = &record.incident;
    let mut entries = vec![(sentinel_core::UnixMs::new(head.generation.0), "opened".to_owned())];
    for e in &record.evidence {
        let failed = if e.ok { "" } else { ", FAILED" };
        entries.push((e.at, format!("{} {} {} bytes{failed}", e.id, e.tool, e.bytes)));
    }
    for turn in &record.turns {
        entries.push((turn.at, format!("turn {} of {}", turn.turn, turn.response.model)));
    }
    for d in &head.deliveries {
        let state = format!("{:?}", d.state).to_lowercase();
        entries.push((d.at, format!("{} to {}: {state}", d.key.event, d.key.sink)));
    }
    if let Some(at) = head.resolved_at {
        entries.push((at, "all alerts had ended".to_owned()));
    }
    entries.sort();
    let mut lines = Lines::new(width);
    lines.hanging("", BOLD, &format!("Incident {}", head.id), usize::MAX);
    let generation = format!(
        "card {}, generation {}, {}, version {} of the record, {} notifications",
        head.card,
        head.generation,
        head.state,
        head.version,
        record.notifications.len()
    );
    lines.hanging("", "", &generation, usize::MAX);
    for (at, what) in entries {
        lines.hanging(&format!("{at:<26} "), "", &what, usize::MAX);
    }
    if let Some(report) = &record.report {
        lines.hanging("", "", &format!("report: {}, {}", report.verdict, report.title), usize::MAX);
    }
    lines.text()
}
