//! One incident as people see it: the one view that the terminal, pages and every destination render.
//!
//! [`View::of`] makes it from the record. A surface lays it out and adds nothing: what is said of an incident, and what is
//! left out, is decided here. Texts of alerts, tools and models in it are bounded; making them inert for its markup is
//! the surface's own matter.

mod links;
mod places;
mod said;
mod times;
mod words;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::links::{Link, LinkKind};
pub use self::places::places;
use self::said::{Answer, said};
pub use self::times::{When, span};
use crate::UnixMs;
use crate::alert::{Alert, Labels};
use crate::incident::{DeliveryState, Event, Gen, Head, IncidentId, State};
use crate::notification::Notification;
use crate::report::{Check, Citation, NextStep, Report, ReportSource, Statement, Usage, Verdict};

/// The longest text of one field, in characters.
const LONGEST_TEXT: usize = 2_000;
/// The most affected objects that are named.
pub const MOST_AFFECTED: usize = 5;
/// Within which time an incident that was opened before has recurred.
pub const RECURRENCE: Duration = Duration::from_hours(7 * 24);
/// Labels that say who told, and how bad it is, and not what is affected.
const NOT_AFFECTED: [&str; 10] = [
    "alertname",
    "severity",
    "priority",
    "prometheus",
    "prometheus_replica",
    "__replica__",
    "replica",
    "receiver",
    "endpoint",
    "uid",
];
/// Words for how bad it is, the worst first.
const SEVERITIES: [&str; 10] =
    ["page", "critical", "fatal", "emergency", "error", "major", "high", "warning", "minor", "info"];

/// What the configuration says of how incidents are shown.
#[derive(Clone, Debug)]
pub struct Display {
    /// The zone in which times are told.
    pub zone: TimeZone,
    /// Hosts to which links of tools' outputs may lead, and all below them.
    pub link_hosts: Vec<String>,
    /// Where the pages are served.
    pub console: Option<Url>,
    /// Annotations of a card's alerts that have none of that name, by the card's name.
    pub annotations: BTreeMap<String, Labels>,
}

/// In UTC, without links of tools and without pages.
impl Default for Display {
    fn default() -> Self {
        Self { zone: TimeZone::UTC, link_hosts: Vec::new(), console: None, annotations: BTreeMap::new() }
    }
}

/// A stored tool output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// `E1`.
    pub id: String,
    /// `server.tool`.
    pub tool: String,
    /// What is kept of it.
    pub text: String,
}

/// What a view needs beside an incident's head, alerts and report.
#[derive(Clone, Debug)]
pub struct Beside {
    /// The tool outputs, oldest first.
    pub outputs: Arc<[Output]>,
    /// When its generations were opened, in any order; this one's may be among them.
    pub openings: Vec<Gen>,
    /// How incidents are shown.
    pub display: Arc<Display>,
    /// When it is looked at.
    pub now: UnixMs,
}

/// From which generation on an incident has recurred, if it was opened before.
pub fn recurring_since(head: &Head) -> Gen {
    Gen(UnixMs::new(head.generation.0).minus(RECURRENCE).get())
}

/// What a view is made from. Secrets have been taken out of all of it.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The head.
    pub head: &'a Head,
    /// What was told of its alerts, where that can be read.
    pub notification: Option<&'a Notification>,
    /// The report, once there is one.
    pub report: Option<&'a Report>,
    /// What else is needed.
    pub beside: &'a Beside,
}

/// How an incident stands, in words that Sentinel chose.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It waits, or a worker is at it.
    Investigating,
    /// Someone has to do something.
    ActionRequired,
    /// Nobody has to.
    NoAction,
    /// The evidence does not say.
    Inconclusive,
    /// No model was asked, or none answered.
    EvidenceOnly,
    /// The investigation failed.
    NotInvestigated,
    /// A person stopped the investigation.
    Aborted,
    /// It resolved before anything was spent.
    ResolvedByItself,
    /// It did, and fires.
    FiresAgain,
}

impl Standing {
    fn of(head: &Head, report: Option<&Report>) -> Self {
        match head.state {
            State::Pending | State::Running => Self::Investigating,
            State::Failed => Self::NotInvestigated,
            State::Aborted => Self::Aborted,
            State::Suppressed if head.resolved().is_none() => Self::FiresAgain,
            State::Suppressed => Self::ResolvedByItself,
            State::Done if report.is_some_and(|r| r.source == ReportSource::EvidenceOnly) => {
                Self::EvidenceOnly
            }
            State::Done => match report.map(|r| r.verdict).or(head.verdict) {
                Some(Verdict::ActionRequired) => Self::ActionRequired,
                Some(Verdict::NoAction) => Self::NoAction,
                Some(Verdict::Inconclusive) | None => Self::Inconclusive,
            },
        }
    }
}

/// A quote, and what it says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quote {
    /// The evidence's id, `E1`.
    pub evidence: String,
    /// The tool whose words they are, where the evidence is there.
    pub tool: Option<String>,
    /// As it stands there.
    pub quote: String,
    /// What that says, where it is a piece of JSON.
    pub said: Option<String>,
    /// Whether it stands there, by code.
    pub found: bool,
}

/// A statement with its quotes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// What is claimed.
    pub statement: String,
    /// 0 to 1; only causes have one.
    pub confidence: Option<f64>,
    /// Whether its quotes carry it, by code.
    pub supported: bool,
    /// What it rests on.
    pub quotes: Vec<Quote>,
}

/// Since when its alerts fire, and until when they did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Firing {
    /// Since when, by the sender; `None`: it does not say.
    pub since: Option<When>,
    /// When all had ended; `None`: some fire.
    pub resolved: Option<When>,
    /// For how long it fired; `None`: it fires still, or nobody knows since when.
    pub lasted: Option<String>,
    /// What fires and is not what was investigated, since when.
    pub again: Option<When>,
    /// That is not investigated before.
    pub again_not_before: Option<When>,
}

/// What is affected.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Affected {
    /// At most [`MOST_AFFECTED`], each as the labels by which they differ, those that fire first.
    pub objects: Vec<String>,
    /// How many there are.
    pub count: u64,
    /// How many of them fire.
    pub firing: u64,
    /// Alerts that the sender left out of what it told.
    pub left_out: u64,
}

impl Affected {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.count == 0 || (self.count == 1 && self.objects.is_empty() && self.left_out == 0)
    }
}

/// How often it was opened lately.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recurrence {
    /// How often within [`RECURRENCE`], this time included; at least twice.
    pub count: u64,
    /// When it was opened the time before.
    pub before: When,
}

/// Who was told what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ToldTo {
    /// The sink.
    pub sink: String,
    /// What.
    pub event: Event,
    /// How far that is.
    pub state: DeliveryState,
}

/// What the report says beyond the first look.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Findings {
    /// A few sentences.
    pub summary: String,
    /// Possible causes, the likeliest first.
    pub causes: Vec<Claim>,
    /// Causes that the evidence speaks against.
    pub ruled_out: Vec<Claim>,
    /// What could not be found out.
    pub gaps: Vec<String>,
    /// What a person could do.
    pub next_steps: Vec<NextStep>,
    /// How the card's rules ended.
    pub checklist: Vec<Check>,
    /// What a reader should know of how it was made.
    pub notes: Vec<String>,
    /// The model that concluded it.
    pub model: Option<String>,
    /// Where its conclusions come from.
    pub source: ReportSource,
    /// What it took.
    pub usage: Usage,
}

/// One incident as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct View {
    /// The dedupe key.
    pub id: IncidentId,
    /// The generation that is shown.
    #[serde(rename = "gen")]
    pub generation: Gen,
    /// The incident card.
    pub card: String,
    /// The labels of the key.
    pub labels: Labels,
    /// How it stands.
    pub standing: Standing,
    /// One line.
    pub title: String,
    /// The likeliest cause that its quotes carry; where none is, the likeliest.
    pub cause: Option<Claim>,
    /// What to do first.
    pub next_step: Option<NextStep>,
    /// Why there is no report, or why it was put off.
    pub reason: Option<String>,
    /// The worst of its alerts' severities.
    pub severity: Option<String>,
    /// Since when, and until when.
    pub firing: Firing,
    /// What is affected.
    pub affected: Affected,
    /// What the alert says of itself.
    pub alert: Option<String>,
    /// Where a reader goes next, each kind once but for those of tools.
    pub links: Vec<Link>,
    /// How often it came lately; `None`: this is the first time.
    pub recurrence: Option<Recurrence>,
    /// When this generation was opened.
    pub opened: When,
    /// Who was told, and is to be.
    pub told: Vec<ToldTo>,
    /// The report, once there is one.
    pub findings: Option<Findings>,
}

impl View {
    /// The view of what is stored.
    pub fn of(stored: Stored<'_>) -> Self {
        let Stored { head, notification, report, beside } = stored;
        let Beside { outputs, openings, display, now } = beside;
        let notification = notification.map(|n| with_defaults(n, display.annotations.get(&head.card)));
        let alerts = notification.as_ref().map_or(&[][..], |n| &n.alerts);
        let findings = report.map(|report| Findings::of(report, beside));
        let causes = findings.as_ref().map_or(&[][..], |f| &f.causes);
        let cause = causes.iter().find(|cause| cause.supported).or_else(|| causes.first());
        let when = |at: UnixMs| When::of(at, *now, &display.zone);
        let page = display.console.as_ref().and_then(|console| {
            let base = console.as_str().trim_end_matches('/');
            Link::of(LinkKind::Page, &format!("{base}/incidents/{}", head.id))
        });
        let mut links: Vec<Link> = page.into_iter().collect();
        links.extend(notification.iter().flat_map(links::of_notification));
        let cited = report.map(cited).unwrap_or_default();
        let of_report = outputs.iter().filter(|output| cited.contains(&output.id.as_str()));
        links.extend(links::of_outputs(of_report, &display.link_hosts));
        Self {
            id: head.id.clone(),
            generation: head.generation,
            card: head.card.clone(),
            labels: head.labels.iter().map(|(name, value)| (cut(name), cut(value))).collect(),
            standing: Standing::of(head, report),
            title: match report {
                Some(report) => cut(&report.title),
                None => cut(head.labels.get("alertname").unwrap_or(&head.card)),
            },
            cause: cause.cloned(),
            next_step: report.and_then(|r| r.next_steps.first()).map(step),
            reason: head.reason.as_deref().map(cut),
            severity: severity(alerts),
            firing: Firing::of(head, alerts, &when),
            affected: Affected::of(head, notification.as_ref()),
            alert: said_of_itself(alerts),
            links,
            recurrence: Recurrence::of(head.generation, openings, &when),
            opened: when(UnixMs::new(head.generation.0)),
            told: head
                .deliveries
                .iter()
                .map(|d| ToldTo { sink: d.key.sink.clone(), event: d.key.event, state: d.state })
                .collect(),
            findings,
        }
    }

    /// The link of this kind, where there is one.
    pub fn link(&self, kind: LinkKind) -> Option<&Link> {
        self.links.iter().find(|link| link.kind == kind)
    }
}

impl Findings {
    fn of(report: &Report, beside: &Beside) -> Self {
        let Beside { outputs, display, now, .. } = beside;
        let mut read: BTreeMap<&str, (&String, Answer)> = BTreeMap::new();
        for id in cited(report) {
            if let Some(output) = outputs.iter().find(|output| output.id == id) {
                read.insert(id, (&output.tool, Answer::read(&output.text)));
            }
        }
        let none = Answer::default();
        let quote = |citation: &Citation| {
            let output = read.get(citation.id.as_str());
            let answer = output.map_or(&none, |(_, answer)| answer);
            Quote {
                evidence: cut(&citation.id),
                tool: output.map(|(tool, _)| cut(tool)),
                said: said(&cut(&citation.quote), answer, *now, &display.zone).map(|said| cut(&said)),
                quote: cut(&citation.quote),
                found: citation.found == Some(true),
            }
        };
        let claim = |statement: &Statement| Claim {
            statement: cut(&statement.statement),
            confidence: statement.confidence.map(|c| c.clamp(0.0, 1.0)),
            supported: statement.supported == Some(true),
            quotes: statement.evidence.iter().map(quote).collect(),
        };
        let mut checklist = report.checklist.clone();
        for check in &mut checklist {
            check.detail = check.detail.as_deref().map(cut);
        }
        Self {
            summary: cut(&report.summary),
            causes: report.hypotheses.iter().map(claim).collect(),
            ruled_out: report.ruled_out.iter().map(claim).collect(),
            gaps: report.gaps.iter().map(|gap| cut(gap)).collect(),
            next_steps: report.next_steps.iter().map(step).collect(),
            checklist,
            notes: report.notes.iter().map(|note| cut(note)).collect(),
            model: report.model.clone(),
            source: report.source,
            usage: report.usage.clone(),
        }
    }
}

/// The evidence that a report cites.
fn cited(report: &Report) -> Vec<&str> {
    let statements = report.hypotheses.iter().chain(&report.ruled_out);
    statements.flat_map(|s| &s.evidence).map(|citation| citation.id.as_str()).collect()
}

impl Firing {
    fn of(head: &Head, alerts: &[Alert], when: &dyn Fn(UnixMs) -> When) -> Self {
        let firing =
            alerts.iter().filter(|alert| alert.is_firing()).filter_map(|alert| alert.starts_at).min();
        let since = firing.or_else(|| alerts.iter().filter_map(|alert| alert.starts_at).min()).or(head.began);
        let resolved = head.resolved();
        Self {
            since: since.map(when),
            lasted: since.zip(resolved).map(|(since, until)| span(until.since(since))),
            resolved: resolved.map(when),
            again: head.again.map(|again| when(again.since)),
            again_not_before: head.again.map(|again| when(again.not_before)),
        }
    }
}

impl Affected {
    /// Several alerts are told apart by the labels in which they differ; one by those that the incident's key has not.
    fn of(head: &Head, notification: Option<&Notification>) -> Self {
        let Some(notification) = notification else { return Self::default() };
        let all: Vec<&Alert> = notification.alerts.iter().collect();
        let shared = links::shared_labels(&all);
        let alone = all.len() == 1;
        // Who collected the metrics is no object of the alert: `job="kube-state-metrics"`, and what is named after it.
        let job = shared.get("job").map(String::as_str).filter(|_| alone);
        let collects = |value: &str| job.is_some_and(|job| value.starts_with(job));
        let telling = |(name, value): &(&String, &String)| {
            let same =
                if alone { head.labels.contains_key(*name) } else { shared.get(*name) == Some(*value) };
            !same && !NOT_AFFECTED.contains(&name.as_str()) && (!collects(value) || *name == "service")
        };
        let object = |alert: &&Alert| {
            let labels = alert.labels.iter().filter(telling).map(|(name, value)| format!("{name}={value}"));
            labels.collect::<Vec<_>>().join(", ")
        };
        let mut firing_first = all.clone();
        firing_first.sort_by_key(|alert| Reverse(alert.is_firing()));
        let objects = firing_first.iter().map(object).filter(|object| !object.is_empty());
        Self {
            objects: objects.take(MOST_AFFECTED).map(|object| cut(&object)).collect(),
            count: all.len() as u64,
            firing: all.iter().filter(|alert| alert.is_firing()).count() as u64,
            left_out: notification.envelope.truncated_alerts,
        }
    }
}

impl Recurrence {
    fn of(this: Gen, openings: &[Gen], when: &dyn Fn(UnixMs) -> When) -> Option<Self> {
        let since = Gen(UnixMs::new(this.0).minus(RECURRENCE).get());
        let earlier = openings.iter().filter(|opened| **opened < this && **opened > since);
        let before = earlier.clone().max()?;
        Some(Self { count: earlier.count() as u64 + 1, before: when(UnixMs::new(before.0)) })
    }
}

/// The notification with the card's annotations where its alerts have none of that name.
fn with_defaults(notification: &Notification, defaults: Option<&Labels>) -> Notification {
    let mut notification = notification.clone();
    for (name, value) in defaults.into_iter().flatten() {
        for alert in &mut notification.alerts {
            alert.annotations.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    notification
}

/// The worst of what fires, else of all.
fn severity(alerts: &[Alert]) -> Option<String> {
    let of = |alert: &Alert| alert.labels.get("severity").or_else(|| alert.labels.get("priority")).cloned();
    let rank = |severity: &String| {
        let known = SEVERITIES.iter().position(|known| severity.eq_ignore_ascii_case(known));
        (known.unwrap_or(SEVERITIES.len()), severity.clone())
    };
    let firing = alerts.iter().filter(|alert| alert.is_firing()).filter_map(of).min_by_key(rank);
    firing.or_else(|| alerts.iter().filter_map(of).min_by_key(rank)).map(|severity| cut(&severity))
}

/// What the first alert that says something of itself says.
fn said_of_itself(alerts: &[Alert]) -> Option<String> {
    let names = ["summary", "description", "message", "title"];
    let text = |alert: &Alert| names.iter().find_map(|name| alert.annotations.get(*name).cloned());
    alerts.iter().find_map(text).map(|text| cut(&text))
}

fn step(step: &NextStep) -> NextStep {
    NextStep { action: cut(&step.action), why: cut(&step.why) }
}

/// The text, or as much of it as [`LONGEST_TEXT`] allows and a mark that says so.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}
