//! An incident for people: what was found, from which evidence, and what was not.
//!
//! Everything that an alert, a tool or a model wrote is printed without its control characters: a report must not
//! be able to move the cursor or hide its own lines.

use std::fmt::Write;

use sentinel_core::incident::State;
use sentinel_core::marks::changes_the_display;
use sentinel_core::report::{Report, ReportSource, Statement, Verdict};

use crate::api::{Detail, Summary};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const STRUCK: &str = "\x1b[9m";
const OFF: &str = "\x1b[0m";

/// Text of others on one line, without control characters.
pub(crate) fn inert(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\n' || c == '\t' { ' ' } else { c })
        .filter(|c| !changes_the_display(*c))
        .collect()
}

/// One incident, whole. Colours are escape sequences; the writer drops them where they do not belong.
pub(crate) fn incident(d: &Detail) -> String {
    let mut out = String::new();
    let labels: Vec<String> = d.labels.iter().map(|(k, v)| format!("{}={}", inert(k), inert(v))).collect();
    let short: String = d.id.as_str().chars().take(12).collect();
    line(&mut out, &format!("{BOLD}Incident {short}{OFF}  card {}  {}", inert(&d.card), labels.join(" ")));
    line(&mut out, &format!("{DIM}id {}  opened {}  attempts {}{OFF}", d.id, d.opened_at, d.attempts));
    if let Some(at) = &d.resolved_at {
        line(&mut out, &format!("{DIM}the alerts resolved at {at}{OFF}"));
    }
    if let Some(again) = &d.again {
        let (since, not_before) = (&again.since, &again.not_before);
        line(
            &mut out,
            &format!("{RED}fires again since {since}; not investigated again before {not_before}{OFF}"),
        );
    }
    match (d.state, &d.report) {
        (_, Some(report)) => self::report(&mut out, report, d),
        (State::Suppressed, None) if d.resolved_at.is_none() => {
            line(
                &mut out,
                "Suppressed: the alert had resolved by itself while Sentinel waited, and fires. Nothing was spent.",
            );
        }
        (State::Suppressed, None) => {
            line(
                &mut out,
                "Suppressed: the alert resolved by itself while Sentinel waited. Nothing was spent.",
            );
        }
        (state, None) => {
            let reason = d.reason.as_deref().map(|r| format!(": {}", inert(r))).unwrap_or_default();
            line(&mut out, &format!("State {state}{reason}"));
        }
    }
    if d.report.is_none() && !d.evidence.is_empty() {
        evidence(&mut out, d);
    }
    if !d.deliveries.is_empty() {
        heading(&mut out, "Told");
        for t in &d.deliveries {
            let remote = t.remote.as_deref().map(|r| format!(" as {}", inert(r))).unwrap_or_default();
            let state = format!("{:?}", t.state).to_lowercase();
            let next = t.next_try_at.as_deref().map(|at| format!(", next at {at}")).unwrap_or_default();
            let error = t.error.as_deref().map(|e| format!(": {}", inert(e))).unwrap_or_default();
            let (event, sink, tries) = (t.event, inert(&t.sink), t.tries);
            line(&mut out, &format!("  {event} to {sink}: {state} after {tries} tries{remote}{next}{error}"));
        }
    }
    out
}

fn report(out: &mut String, r: &Report, d: &Detail) {
    let (colour, verdict) = match r.verdict {
        Verdict::ActionRequired => (RED, "ACTION REQUIRED"),
        Verdict::NoAction => (GREEN, "NO ACTION"),
        Verdict::Inconclusive => (YELLOW, "INCONCLUSIVE"),
    };
    line(out, "");
    line(out, &format!("{colour}{BOLD}{verdict}{OFF}  {BOLD}{}{OFF}", inert(&r.title)));
    match r.source {
        ReportSource::Model => {}
        ReportSource::EvidenceOnly => {
            line(out, &format!("{YELLOW}Evidence only: no model concluded this.{OFF}"));
        }
        ReportSource::Recorded => line(
            out,
            &format!(
                "{YELLOW}Recorded: the model's turns and the tools' outputs come from a file, not from your systems.{OFF}"
            ),
        ),
    }
    if r.truncated_alerts > 0 {
        line(
            out,
            &format!("{YELLOW}The sender left out {} alerts of its notification.{OFF}", r.truncated_alerts),
        );
    }
    paragraph(out, &r.summary);
    statements(out, "Hypotheses", &r.hypotheses);
    statements(out, "Ruled out", &r.ruled_out);
    if !r.gaps.is_empty() {
        heading(out, "Gaps");
        r.gaps.iter().for_each(|gap| line(out, &format!("  - {}", inert(gap))));
    }
    if !r.notes.is_empty() {
        heading(out, "Notes");
        r.notes.iter().for_each(|note| line(out, &format!("  - {}", inert(note))));
    }
    if !r.next_steps.is_empty() {
        heading(out, "Next steps");
        for (n, step) in r.next_steps.iter().enumerate() {
            line(out, &format!("  {}. {}", n + 1, inert(&step.action)));
            line(out, &format!("     {DIM}{}{OFF}", inert(&step.why)));
        }
    }
    if !r.checklist.is_empty() {
        heading(out, "Checklist");
        for check in &r.checklist {
            let mark = if check.passed { format!("{GREEN}ok{OFF}    ") } else { format!("{RED}failed{OFF}") };
            let detail = check.detail.as_deref().map(|t| format!(" ({})", inert(t))).unwrap_or_default();
            line(out, &format!("  {mark} {}{detail}", inert(&check.name)));
        }
    }
    evidence(out, d);
    let u = &r.usage;
    let cost = match (u.usd, r.source) {
        (None, _) => "cost unknown".to_owned(),
        (Some(usd), ReportSource::Recorded) => format!("${usd:.4} (recorded, not paid)"),
        (Some(usd), _) => format!("${usd:.4}"),
    };
    let model = r.model.as_deref().map_or("no model".to_owned(), inert);
    let written = match u.cache_write_tokens {
        0 => String::new(),
        written => format!(", {written} written to the cache"),
    };
    line(out, "");
    line(
        out,
        &format!(
            "{DIM}{model}: {} turns, {} tool calls, {} tokens in ({} cached{written}), {} out, {cost}, {:.1} s{OFF}",
            u.turns,
            u.tool_calls,
            u.input_tokens,
            u.cached_tokens,
            u.output_tokens,
            Seconds(u.ms)
        ),
    );
}

/// Milliseconds shown as seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 % 1000 / 100)
    }
}

fn statements(out: &mut String, title: &str, statements: &[Statement]) {
    if statements.is_empty() {
        return;
    }
    heading(out, title);
    for s in statements {
        let supported = s.supported.unwrap_or(false);
        let confidence = s.confidence.map(|c| format!("{:>3.0}%  ", c * 100.0)).unwrap_or_default();
        if supported {
            line(out, &format!("  {BOLD}{confidence}{OFF}{}", inert(&s.statement)));
        } else {
            line(out, &format!("  {STRUCK}{confidence}{OFF}{} {RED}UNSUPPORTED{OFF}", inert(&s.statement)));
        }
        for c in &s.evidence {
            let quote = inert(&c.quote);
            let id = inert(&c.id);
            if c.found.unwrap_or(false) {
                line(out, &format!("        {DIM}{id}{OFF}  “{quote}”"));
            } else {
                line(out, &format!("        {id}  {STRUCK}“{quote}”{OFF} {RED}does not stand in {id}{OFF}"));
            }
        }
    }
}

fn evidence(out: &mut String, d: &Detail) {
    if d.evidence.is_empty() {
        return;
    }
    heading(out, "Evidence");
    for e in &d.evidence {
        let arguments = inert(&serde_json::Value::Object(e.arguments.clone()).to_string());
        let failed = if e.ok { String::new() } else { format!(" {RED}failed{OFF}") };
        line(
            out,
            &format!(
                "  {:<4} {} {DIM}{arguments}{OFF} {} bytes, {} ms{failed}",
                e.id,
                inert(&e.tool),
                e.bytes,
                e.ms
            ),
        );
    }
}

fn heading(out: &mut String, title: &str) {
    line(out, "");
    line(out, &format!("{BOLD}{title}{OFF}"));
}

/// Wraps at 100 columns.
fn paragraph(out: &mut String, text: &str) {
    let mut width = 0;
    for word in inert(text).split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > 100 {
            out.push('\n');
            width = 0;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += length;
    }
    out.push('\n');
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// A listing.
pub(crate) fn list(incidents: &[Summary]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["ID", "OPENED", "STATE", "VERDICT", "CARD", "LABELS"]);
    for i in incidents {
        let labels: Vec<String> =
            i.labels.iter().map(|(k, v)| format!("{}={}", inert(k), inert(v))).collect();
        table.add_row([
            i.id.as_str().chars().take(12).collect(),
            i.opened_at.clone(),
            i.state.to_string(),
            i.verdict.map_or_else(|| "-".to_owned(), |v| v.to_string()),
            inert(&i.card),
            labels.join(" "),
        ]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_drive_the_terminal() {
        assert_eq!(inert("a\x1b[2Jb\r\nc\u{202e}d"), "a[2Jb cd");
        assert_eq!(inert("a\u{61c}b\u{2028}c\u{2029}d\u{200f}e"), "abcde");
    }
}
