//! An incident for people: what was found, from which evidence, and what was not; at the end what is read in ten seconds.
//!
//! Everything that an alert, a tool or a model wrote is printed without its control characters: a report must not
//! be able to move the cursor or hide its own lines.

mod card;
mod lines;
pub(crate) mod stored;

#[cfg(test)]
mod tests;

use sentinel_core::UnixMs;
use sentinel_core::report::ReportSource;
use sentinel_core::view::{Claim, Findings, Quote, View, span};

use self::card::card;
use self::lines::{BOLD, DIM, GREEN, RED, STRUCK, YELLOW};
pub(crate) use self::lines::{Lines, inert};
use crate::api::{Detail, Summary};

/// How an incident is printed.
#[derive(Debug)]
pub(crate) struct Screen<'a> {
    /// The terminal's columns.
    pub(crate) width: usize,
    /// With the evidence, all checks, deliveries and costs.
    pub(crate) full: bool,
    /// The commands that go deeper.
    pub(crate) more: &'a [String],
}

/// One incident, whole. Colours are escape sequences; the writer drops them where they do not belong.
pub(crate) fn incident(d: &Detail, screen: &Screen<'_>) -> String {
    let v = &d.view;
    let mut lines = Lines::new(screen.width);
    let labels: Vec<String> = v.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let short: String = d.id.as_str().chars().take(12).collect();
    lines.hanging("", BOLD, &format!("Incident {short}  card {}  {}", v.card, labels.join(" ")), usize::MAX);
    if screen.full {
        lines.hanging("", DIM, &format!("id {}", d.id), usize::MAX);
        let opened = format!("opened {}, {} ago; attempts {}", v.opened.local, v.opened.distance, d.attempts);
        lines.hanging("", DIM, &opened, usize::MAX);
    }
    if let Some(findings) = &v.findings {
        self::findings(&mut lines, v, findings, screen);
    }
    if screen.full || v.findings.is_none() {
        evidence(&mut lines, d);
    }
    deliveries(&mut lines, d, screen.full);
    if let Some(findings) = v.findings.as_ref().filter(|_| screen.full) {
        usage(&mut lines, findings);
    }
    if !v.links.is_empty() {
        lines.heading("Links");
        for link in &v.links {
            // Whole, however long: half an address leads nowhere.
            lines.raw(&format!("  {:<10}{}", link.kind, inert(&link.address)));
        }
    }
    card(&mut lines, v, screen.more);
    lines.text()
}

fn findings(lines: &mut Lines, v: &View, f: &Findings, screen: &Screen<'_>) {
    lines.blank();
    match f.source {
        ReportSource::Model => {}
        ReportSource::EvidenceOnly => {
            lines.hanging("", YELLOW, "Evidence only: no model concluded this.", usize::MAX);
        }
        ReportSource::Recorded => lines.hanging(
            "",
            YELLOW,
            "Recorded: the model's turns and the tools' outputs come from a file, not from your systems.",
            usize::MAX,
        ),
    }
    if v.affected.left_out > 0 {
        let text = format!("The sender left out {} alerts of its notification.", v.affected.left_out);
        lines.hanging("", YELLOW, &text, usize::MAX);
    }
    lines.paragraph(&f.summary);
    claims(lines, "Hypotheses", &f.causes, screen.full);
    claims(lines, "Ruled out", &f.ruled_out, screen.full);
    list(lines, "Gaps", &f.gaps);
    list(lines, "Notes", &f.notes);
    if !f.next_steps.is_empty() {
        lines.heading("Next steps");
        for (n, step) in f.next_steps.iter().enumerate() {
            lines.hanging(&format!("  {}. ", n + 1), "", &step.action, usize::MAX);
            lines.hanging("     ", DIM, &step.why, usize::MAX);
        }
    }
    let checks: Vec<_> = f.checklist.iter().filter(|check| screen.full || !check.passed).collect();
    if !checks.is_empty() {
        lines.heading(if screen.full { "Checklist" } else { "Checks that failed" });
        for check in checks {
            let (colour, mark) = if check.passed { (GREEN, "ok") } else { (RED, "failed") };
            let detail = check.detail.as_deref().map(|t| format!(" ({t})")).unwrap_or_default();
            lines.hanging(&format!("  {mark:<7}"), colour, &format!("{}{detail}", check.name), usize::MAX);
        }
    }
}

fn claims(lines: &mut Lines, title: &str, claims: &[Claim], full: bool) {
    if claims.is_empty() {
        return;
    }
    lines.heading(title);
    for claim in claims {
        let style = if claim.supported { "" } else { RED };
        let text = match (claim.confidence, claim.supported) {
            (None, true) => claim.statement.clone(),
            _ => format!("{} ({})", claim.statement, claim.carried()),
        };
        lines.hanging("  - ", style, &text, usize::MAX);
        for quote in &claim.quotes {
            self::quote(lines, quote, full);
        }
    }
}

fn quote(lines: &mut Lines, quote: &Quote, full: bool) {
    let id = format!("      {:<4}", inert(&quote.evidence));
    if !quote.found {
        lines.hanging(&id, STRUCK, &quote.says(), usize::MAX);
        let text = format!("does not stand in {}", quote.evidence);
        lines.hanging("          ", RED, &text, usize::MAX);
        return;
    }
    lines.hanging(&id, DIM, &quote.says(), usize::MAX);
    if full && quote.said.is_some() {
        lines.hanging("          ", DIM, &format!("{}: “{}”", quote.source(), quote.quote), usize::MAX);
    }
}

fn list(lines: &mut Lines, title: &str, entries: &[String]) {
    if !entries.is_empty() {
        lines.heading(title);
        for entry in entries {
            lines.hanging("  - ", "", entry, usize::MAX);
        }
    }
}

fn usage(lines: &mut Lines, f: &Findings) {
    let u = &f.usage;
    let cost = match (u.usd, f.source) {
        (None, _) => "cost unknown".to_owned(),
        (Some(usd), ReportSource::Recorded) => format!("${usd:.4} (recorded, not paid)"),
        (Some(usd), _) => format!("${usd:.4}"),
    };
    let model = f.model.as_deref().unwrap_or("no model");
    let written = match u.cache_write_tokens {
        0 => String::new(),
        written => format!(", {written} written to the cache"),
    };
    let text = format!(
        "{model}: {} turns, {} tool calls, {} tokens in ({} cached{written}), {} out, {cost}, {}.{} s",
        u.turns,
        u.tool_calls,
        u.input_tokens,
        u.cached_tokens,
        u.output_tokens,
        u.ms / 1000,
        u.ms % 1000 / 100
    );
    lines.blank();
    lines.hanging("", DIM, &text, usize::MAX);
}

fn evidence(lines: &mut Lines, d: &Detail) {
    if d.evidence.is_empty() {
        return;
    }
    lines.heading("Evidence");
    for e in &d.evidence {
        let arguments = serde_json::Value::Object(e.arguments.clone());
        let failed = if e.ok { "" } else { " FAILED" };
        let text = format!("{} {arguments} {} bytes, {} ms{failed}", e.tool, e.bytes, e.ms);
        lines.hanging(&format!("  {:<4} ", inert(&e.id)), if e.ok { "" } else { RED }, &text, usize::MAX);
    }
}

/// Who was told; unless all is asked for, those only of whom something went wrong.
fn deliveries(lines: &mut Lines, d: &Detail, full: bool) {
    let shown: Vec<_> = d.deliveries.iter().filter(|told| full || told.error.is_some()).collect();
    if shown.is_empty() {
        return;
    }
    lines.heading("Told");
    for t in shown {
        let remote = t.remote.as_deref().map(|r| format!(" as {r}")).unwrap_or_default();
        let state = format!("{:?}", t.state).to_lowercase();
        let next = t.next_try_at.as_deref().map(|at| format!(", next at {at}")).unwrap_or_default();
        let error = t.error.as_deref().map(|e| format!(": {e}")).unwrap_or_default();
        let text = format!("{} to {}: {state} after {} tries{remote}{next}{error}", t.event, t.sink, t.tries);
        lines.hanging("  ", "", &text, usize::MAX);
    }
}

/// A listing.
pub(crate) fn listing(incidents: &[Summary], now: UnixMs) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["ID", "OPENED", "AGE", "STATE", "ALERTS", "VERDICT", "CARD", "LABELS"]);
    for i in incidents {
        let labels: Vec<String> =
            i.labels.iter().map(|(k, v)| format!("{}={}", inert(k), inert(v))).collect();
        table.add_row([
            i.id.as_str().chars().take(12).collect(),
            i.opened_at.clone(),
            span(now.since(UnixMs::new(i.generation.0))),
            i.state.to_string(),
            if i.resolved_at.is_some() { "resolved" } else { "firing" }.to_owned(),
            i.verdict.map_or_else(|| "-".to_owned(), |v| v.to_string()),
            inert(&i.card),
            labels.join(" "),
        ]);
    }
    table.trim_fmt()
}
