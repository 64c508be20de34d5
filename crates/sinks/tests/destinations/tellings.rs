//! Every event as it is told shortly, at length, and by somebody who wants more than to be read.

use std::fmt;

use sentinel_core::card::Otherwise;
use sentinel_core::incident::{Again, Event, State};
use sentinel_core::ports::Telling;
use sentinel_core::report::Check;
use sentinel_core::storm::Listed;
use sentinel_testkit::builders::{NOON, alert, notification};

use crate::support::telling;

/// What a text could want: a mention, a link, markup of any kind, another line, another direction.
pub(crate) const NASTY: &str = "<at>everyone</at> @room @here <!channel> [ok](https://evil.example/a) \
    <a href=\"https://evil.example/b\">ok</a> https://evil.example/c evil.example **bold** `x` &lt;b&gt; \
    <script>alert(1)</script> {{DATE(2026)}} \u{202e}\u{1b}[2J\r\nsecond line";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Short,
    Long,
    Hostile,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Short, Self::Long, Self::Hostile];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::Hostile => "hostile",
        })
    }
}

/// How an incident stands when this is told of it.
pub(crate) const fn state(event: Event) -> State {
    match event {
        Event::Started => State::Running,
        Event::Failed => State::Failed,
        Event::Aborted => State::Aborted,
        Event::Suppressed => State::Suppressed,
        Event::Findings | Event::Updated | Event::Resolved | Event::Flapping | Event::Storm => State::Done,
    }
}

/// This event, with texts of that kind.
pub(crate) fn of(event: Event, kind: Kind) -> Telling {
    let mut telling = short(event);
    match kind {
        Kind::Short => {}
        Kind::Long => fill(&mut telling, &"many words ".repeat(450), 30),
        Kind::Hostile => fill(&mut telling, NASTY, 2),
    }
    telling
}

fn short(event: Event) -> Telling {
    let mut telling = telling(event, state(event));
    let mut down = alert("PodDown").label("namespace", "web").label("severity", "critical");
    down =
        down.annotation("summary", "The pod is down.").annotation("runbook_url", "https://wiki.example/down");
    telling.notification = Some(notification("pods", [down]));
    let head = &mut telling.head;
    match event {
        Event::Failed => head.reason = Some("gave up after 3 attempts".to_owned()),
        Event::Aborted => head.reason = Some("stopped by desk".to_owned()),
        Event::Suppressed | Event::Resolved => head.resolved_at = Some(NOON),
        Event::Updated => {
            head.again =
                Some(Again { since: NOON, not_before: NOON.plus(std::time::Duration::from_mins(10)) });
        }
        Event::Storm => {
            head.reason = Some("budget.max-usd-per-day is used up".to_owned());
            telling.listed = vec![listed("pods", "a"), listed("pods", "b"), listed("disks", "c")];
            telling.report = None;
        }
        Event::Started | Event::Findings | Event::Flapping => {}
    }
    telling
}

fn listed(card: &str, pod: &str) -> Listed {
    let labels = [("alertname".to_owned(), "PodDown".to_owned()), ("pod".to_owned(), pod.to_owned())];
    Listed { card: card.to_owned(), labels: labels.into(), incident: format!("{pod}-1") }
}

/// Puts the text wherever somebody else can write something, `times` where there may be several.
pub(crate) fn fill(telling: &mut Telling, text: &str, times: usize) {
    let text = text.to_owned();
    telling.head.labels.insert("pod".to_owned(), text.clone());
    if let Some(reason) = &mut telling.head.reason {
        reason.clone_from(&text);
    }
    let mut alerts = Vec::new();
    for n in 0..times {
        let mut alert = alert(&text).label("namespace", &text).label("n", &n.to_string());
        alert = alert.label("severity", &text).annotation("summary", &text).annotation("runbook_url", &text);
        alerts.push(alert);
    }
    let mut told = notification("pods", alerts);
    told.envelope.external_url = Some(text.clone());
    telling.notification = Some(told);
    let entry = telling.listed.first().cloned();
    telling.listed.extend((0..times).filter_map(|_| {
        let mut entry = entry.clone()?;
        entry.labels.insert("pod".to_owned(), text.clone());
        entry.card.clone_from(&text);
        Some(entry)
    }));
    let Some(report) = &mut telling.report else { return };
    report.title.clone_from(&text);
    report.summary.clone_from(&text);
    for statement in report.hypotheses.iter_mut().chain(&mut report.ruled_out) {
        statement.statement.clone_from(&text);
        for citation in &mut statement.evidence {
            citation.quote.clone_from(&text);
            citation.id.clone_from(&text);
        }
        many(&mut statement.evidence, times);
    }
    many(&mut report.hypotheses, times);
    many(&mut report.ruled_out, times);
    report.gaps = vec![text.clone(); times];
    report.notes = vec![text.clone(); times];
    for step in &mut report.next_steps {
        step.action.clone_from(&text);
        step.why.clone_from(&text);
    }
    many(&mut report.next_steps, times);
    report.model = Some(text.clone());
    let otherwise = Otherwise::Warn;
    report.checklist =
        vec![Check { name: text.clone(), passed: false, otherwise, detail: Some(text) }; times];
}

/// The first of them so many times.
fn many<T: Clone>(all: &mut Vec<T>, times: usize) {
    let first = all.first().cloned();
    *all = first.into_iter().cycle().take(times).collect();
}

/// The lines; of those that are long only the beginning, and their length.
pub(crate) fn outline(kind: Kind, text: &str) -> String {
    let most = if matches!(kind, Kind::Long) { 300 } else { 5_000 };
    let shown = |line: &str| {
        if line.chars().count() <= most {
            return format!("{line}\n");
        }
        let begin: String = line.chars().take(120).collect();
        format!("{}[… {} bytes]\n", begin.trim_end(), line.len())
    };
    text.lines().map(shown).collect()
}
