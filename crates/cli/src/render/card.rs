//! What is read in ten seconds, in the last lines of a screen: at most twenty.

use sentinel_core::incident::DeliveryState;
use sentinel_core::report::ReportSource;
use sentinel_core::view::{Claim, LinkKind, Standing, View};

use super::lines::{BOLD, DIM, GREEN, Lines, OFF, RED, YELLOW, inert};

/// The columns of the names.
const NAMES: usize = 10;

pub(super) fn card(lines: &mut Lines, v: &View, more: &[String]) {
    lines.raw(&format!("{DIM}{}{OFF}", "─".repeat(lines.width)));
    headline(lines, v);
    lines.hanging("", BOLD, &v.title, 2);
    match &v.cause {
        Some(cause) => {
            row(lines, "Cause", &cause.statement, 3);
            if let Some(quote) = cause.best_quote() {
                row(lines, "Quote", &format!("{}: {}", quote.source(), quote.says()), 2);
            }
        }
        None => row(lines, "Why", v.reason.as_deref().unwrap_or(without_report(v.standing)), 3),
    }
    if let Some(step) = &v.next_step {
        row(lines, "Next", &step.action, 2);
    }
    let again = v.recurrence.as_ref().map(|r| format!("; {r}")).unwrap_or_default();
    row(lines, "Since", &format!("{}{again}", v.firing), 2);
    if !v.affected.is_empty() {
        row(lines, "Affected", &v.affected.to_string(), 2);
    }
    if let Some(alert) = &v.alert {
        row(lines, "Alert", alert, 1);
    }
    let fits = |address: &str| address.len() + NAMES <= lines.width;
    let shown = [LinkKind::Page, LinkKind::Runbook].into_iter().filter_map(|kind| v.link(kind));
    for link in shown.filter(|link| fits(&link.address)).take(1).collect::<Vec<_>>() {
        row(lines, if link.kind == LinkKind::Page { "Page" } else { "Runbook" }, &link.address, 1);
    }
    row(lines, "Cost", &cost(v), 1);
    for (n, command) in more.iter().take(2).enumerate() {
        row(lines, if n == 0 { "More" } else { "" }, command, 1);
    }
}

fn row(lines: &mut Lines, name: &str, text: &str, most: usize) {
    lines.hanging(&format!("{name:<NAMES$}"), "", text, most);
}

fn headline(lines: &mut Lines, v: &View) {
    let colour = match v.standing {
        Standing::ActionRequired | Standing::NotInvestigated | Standing::FiresAgain => RED,
        Standing::NoAction | Standing::ResolvedByItself => GREEN,
        Standing::Inconclusive | Standing::EvidenceOnly | Standing::Aborted | Standing::Investigating => {
            YELLOW
        }
    };
    let mut beside: Vec<String> = v.cause.iter().map(Claim::carried).collect();
    beside.push(format!("severity {}", inert(v.severity.as_deref().unwrap_or("not said"))));
    beside.push(match (&v.firing.resolved, &v.firing.again) {
        (Some(_), _) => "resolved".to_owned(),
        (None, Some(_)) => "fires again".to_owned(),
        (None, None) => "firing".to_owned(),
    });
    let fits = lines.width.saturating_sub(v.standing.to_string().len() + 2).max(8);
    let beside = super::lines::wrapped(&beside.join(", "), fits, 1).concat();
    lines.raw(&format!("{colour}{BOLD}{}{OFF}  {beside}", v.standing));
}

/// Why there is no report.
const fn without_report(standing: Standing) -> &'static str {
    match standing {
        Standing::ResolvedByItself | Standing::FiresAgain => {
            "The alert had resolved by itself while Sentinel waited. Nothing was spent."
        }
        Standing::Investigating => "It has not ended yet.",
        _ => "No reason is recorded.",
    }
}

fn cost(v: &View) -> String {
    let mut parts = Vec::new();
    if let Some(f) = &v.findings {
        parts.push(match (f.usage.usd, f.source) {
            (None, _) => "unknown".to_owned(),
            (Some(usd), ReportSource::Recorded) => format!("${usd:.4} (recorded, not paid)"),
            (Some(usd), _) => format!("${usd:.4}"),
        });
        let many = |n: u32, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        parts.push(format!("{}, {}", many(f.usage.turns, "turn"), many(f.usage.tool_calls, "tool call")));
    } else {
        parts.push("nothing that a report counts".to_owned());
    }
    let told = |state: fn(DeliveryState) -> bool| {
        let mut sinks: Vec<&str> =
            v.told.iter().filter(|told| state(told.state)).map(|told| told.sink.as_str()).collect();
        sinks.sort_unstable();
        sinks.dedup();
        sinks.join(", ")
    };
    for (what, sinks) in [
        ("told", told(|s| s == DeliveryState::Sent)),
        ("to tell", told(|s| matches!(s, DeliveryState::Due | DeliveryState::Claimed))),
        ("NOT TOLD", told(|s| s == DeliveryState::Failed)),
    ] {
        if !sinks.is_empty() {
            parts.push(format!("{what}: {sinks}"));
        }
    }
    parts.join("; ")
}
