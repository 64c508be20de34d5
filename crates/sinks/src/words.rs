//! What destinations say of an event beside the view, in the same words everywhere, and how much of it where each event is
//! laid out in parts. Texts of alerts are not made inert yet, but for [`quoted`].

use sentinel_core::alert::Labels;
use sentinel_core::incident::{Again, Event, Head};
use sentinel_core::ports::Telling;
use sentinel_core::view::{Findings, Quote, Standing, View};

use crate::text::inert;

/// The longest text of a part, in characters.
pub(crate) const MAX_TEXT: usize = 600;
/// The longest entry of a list.
pub(crate) const MAX_ENTRY: usize = 250;
/// The most entries of one list.
pub(crate) const MAX_ENTRIES: usize = 5;
/// The most quotes of one cause.
pub(crate) const MAX_QUOTES: usize = 2;
/// The longest address of a link.
pub(crate) const MAX_LINK: usize = 1_000;

/// How it stands; of what flaps the end is not told.
pub(crate) fn standing(telling: &Telling, v: &View) -> String {
    let over = v.standing == Standing::ResolvedByItself && telling.resolved().is_none();
    (if over { Standing::FiresAgain } else { v.standing }).to_string()
}

/// Since when, and until when; of what flaps the end is not told.
fn since(telling: &Telling, v: &View) -> String {
    let mut firing = v.firing.clone();
    if telling.resolved().is_none() {
        firing.resolved = None;
    }
    // It stands in a line of its own.
    firing.again = None;
    format!("{firing:#}")
}

/// What happened after the start and beside the findings: in short, and whole.
pub(crate) fn happened(telling: &Telling) -> Option<(&'static str, String)> {
    Some(match telling.event {
        Event::Started | Event::Findings | Event::Failed | Event::Aborted | Event::Storm => return None,
        Event::Suppressed => (
            "Resolved before anything was spent",
            "It resolved before an investigation began. Nothing was spent.".to_owned(),
        ),
        Event::Updated => updated(&telling.head),
        Event::Flapping => (
            "This alert is flapping",
            "It comes and goes more often than its card lets it be investigated in an hour. This stands for \
             whatever else the hour brings; what still fires after it is investigated then."
                .to_owned(),
        ),
        Event::Resolved => {
            let at = telling.resolved().map_or_else(String::new, |at| format!(" at {at}"));
            ("All alerts are resolved", format!("All alerts of this incident are resolved{at}."))
        }
    })
}

/// Of an update, the alerts that fire, by their labels; of every other event nothing.
pub(crate) fn firing_now(telling: &Telling) -> Vec<String> {
    if telling.event != Event::Updated {
        return Vec::new();
    }
    let alerts = telling.notification.as_ref().map_or(&[][..], |n| &n.alerts);
    alerts.iter().filter(|alert| alert.is_firing()).map(|alert| labels(&alert.labels)).collect()
}

/// The lines on the alerts: a name, and what is said to it.
pub(crate) fn about(telling: &Telling, v: &View) -> Vec<(&'static str, String)> {
    let why = v.reason.clone().filter(|_| v.findings.is_none());
    let affected = (!v.affected.is_empty()).then(|| v.affected.to_string());
    let lines = [
        ("Why", why),
        ("Severity", v.severity.clone()),
        ("Since", Some(since(telling, v))),
        ("Recurs", v.recurrence.as_ref().map(ToString::to_string)),
        ("Affected", affected),
        ("Says", v.alert.clone()),
        ("Alert", Some(labels(&v.labels))),
    ];
    lines.into_iter().filter_map(|(name, said)| Some((name, said?))).collect()
}

/// A quote with where it is from, inert.
pub(crate) fn quoted(quote: &Quote) -> String {
    let from = if quote.found { "" } else { ", not found there" };
    format!("{} ({}{from})", inert(&quote.says(), MAX_TEXT), inert(&quote.source(), MAX_ENTRY))
}

/// Labels in one line.
pub(crate) fn labels(labels: &Labels) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

/// Since when it fires again, and from when on it is investigated.
pub(crate) fn again_words(again: Again) -> String {
    format!("since {}; not investigated again before {}", again.since, again.not_before)
}

/// What the findings took.
pub(crate) fn took(findings: &Findings) -> String {
    let cost = findings.usage.usd.map_or_else(String::new, |usd| format!(", US$ {usd:.4}"));
    let model = findings.model.as_deref().unwrap_or("no model");
    format!("{model}, {} turns, {} tool calls{cost}", findings.usage.turns, findings.usage.tool_calls)
}

/// What an update says: in short, and whole.
fn updated(head: &Head) -> (&'static str, String) {
    match head.again {
        Some(again) if head.resolved_at.is_some() => {
            ("It fires again", format!("It fires again {}.", again_words(again)))
        }
        Some(again) => (
            "More alerts joined this incident",
            format!("More alerts joined this incident: they fire {}.", again_words(again)),
        ),
        None if head.resolved().is_some() => {
            ("It fired again", "It fired again meanwhile, and has resolved.".to_owned())
        }
        // By the word of a sender, and since before its end: a late copy, or an end that was none.
        None if head.resolved_at.is_some() => (
            "It still fires",
            "A sender says that it still fires, since before it was told as resolved. It is not investigated again for \
             that."
            .to_owned(),
        ),
        None => (
            "More alerts joined this incident",
            "More alerts joined this incident, which is not investigated again for them.".to_owned(),
        ),
    }
}
