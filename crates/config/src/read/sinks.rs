//! `sinks` and `watchers`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sentinel_core::card::Resource;
use sentinel_core::incident::Event;

use super::general::warn_refused;
use super::{LEVELS, unique};
use crate::nearest;
use crate::reader::{Keys, Reader, Section, shown};
use crate::settings::{Level, Network, SinkKind, SinkSettings, Watcher, WatcherKind};

const SINK: Keys = &[
    ("name", &[]),
    ("type", &["sink-type"]),
    ("level", &["log-level"]),
    ("token", &[]),
    ("channel", &["target", "route"]),
    ("url", &[]),
    ("secret", &[]),
    ("events", &[]),
];
const SINK_TYPES: &[(&str, &str)] = &[
    ("logger", "logger"),
    ("slack", "slack"),
    ("webhook", "webhook"),
    ("jira", "jira"),
    ("matrix", "matrix"),
    ("email", "email"),
    ("log", "logger"),
];
const EVENTS: &[(&str, Event)] = &[
    ("started", Event::Started),
    ("findings", Event::Findings),
    ("failed", Event::Failed),
    ("aborted", Event::Aborted),
    ("suppressed", Event::Suppressed),
    ("updated", Event::Updated),
    ("resolved", Event::Resolved),
];
const WATCHER_TYPES: &[(&str, WatcherKind)] =
    &[("prometheus", WatcherKind::Prometheus), ("alertmanager", WatcherKind::Alertmanager)];
const WATCHER: Keys = &[
    ("type", &["watcher-type"]),
    ("name", &[]),
    ("endpoint", &["url", "base-url"]),
    ("poll-interval", &["poll-interval-seconds"]),
    ("timeout", &["timeout-seconds", "request-timeout"]),
    ("resources", &["resource-list"]),
];

/// The sinks of the file; `log` is there even if the file does not define it.
pub(super) fn sinks(r: &mut Reader<'_>, top: &Section<'_>) -> Vec<SinkSettings> {
    let (mut all, mut names) = (vec![], BTreeMap::new());
    for field in r.items(top, "sinks") {
        let s = r.section(&field, SINK);
        let name = r.required_text(&s, "name", "name it as the cards' `sinks` do");
        let name = name.filter(|n| {
            let good = !n.contains(':');
            if let (false, Some(f)) = (good, s.get("name")) {
                r.error(&f, "has a colon", "what follows a colon in a card's `sinks` is the route");
            }
            good
        });
        let level = s.get("level").and_then(|f| r.choice(&f, LEVELS)).unwrap_or(Level::Info);
        // All are read, so that every problem is told and every secret is known to the redactor.
        r.optional_secret(&s, "token");
        r.optional_secret(&s, "secret");
        r.optional_text(&s, "channel");
        let wanted = events(r, &s);
        let url = s.get("url").map(|f| r.url(&f));
        let kind = r.required(&s, "type", "write `type: logger`, or the destination's type").and_then(|f| {
            let kind = r.choice(&f, SINK_TYPES)?;
            if kind == "logger" {
                return Some(SinkKind::Log { level });
            }
            if kind == "webhook" && url.is_none() {
                r.missing(&s, "url", "write the address that takes the events");
            }
            r.unbuilt(&f, &format!("sinks of type {kind}"), "nothing is sent there; `logger` works");
            Some(SinkKind::Unbuilt(kind.into()))
        });
        if let Some(name) = name
            && unique(r, &mut names, &s, &name, "sink")
        {
            // A sink without a readable type is told once, not again by each card that names it.
            let kind = kind.unwrap_or(SinkKind::Unbuilt(String::new()));
            let events = wanted.unwrap_or_else(|| default_events(&kind));
            all.push(SinkSettings { name, kind, events });
        }
    }
    if !all.iter().any(|s| s.name == "log") {
        let kind = SinkKind::Log { level: Level::Info };
        all.push(SinkSettings { name: "log".into(), events: default_events(&kind), kind });
    }
    all
}

/// What a sink is told that does not say what it wants: everything, and the log no starts.
fn default_events(kind: &SinkKind) -> BTreeSet<Event> {
    let log = matches!(kind, SinkKind::Log { .. });
    Event::ALL.into_iter().filter(|event| !(log && *event == Event::Started)).collect()
}

/// The events that a sink asks for. `findings` brings the other ends with it (failed, aborted, suppressed): nobody
/// should miss by oversight how an investigation ended. A list that names one of these means what it says.
fn events(r: &mut Reader<'_>, s: &Section<'_>) -> Option<BTreeSet<Event>> {
    let field = s.get("events")?;
    let mut wanted: BTreeSet<Event> =
        r.list(&field).iter().filter_map(|event| r.choice(event, EVENTS)).collect();
    if wanted.is_empty() {
        r.warn(&field, "names no event, so nothing is ever told there", "remove the key for the usual ones");
    }
    let ends = wanted.iter().filter(|event| event.is_ending()).count();
    if wanted.contains(&Event::Findings) && ends == 1 {
        wanted.extend(Event::ALL.into_iter().filter(|event| event.is_ending()));
    }
    Some(wanted)
}

pub(super) fn watchers(
    r: &mut Reader<'_>,
    top: &Section<'_>,
    resources: &[Resource],
    network: &Network,
) -> Vec<Watcher> {
    let (mut all, mut names) = (vec![], BTreeMap::new());
    for field in r.items(top, "watchers") {
        let s = r.section(&field, WATCHER);
        let kind = s.get("type").and_then(|f| r.choice(&f, WATCHER_TYPES)).unwrap_or(WatcherKind::Prometheus);
        // The specification's own example has a watcher without a name.
        let name = r.optional_text(&s, "name").unwrap_or_else(|| kind.as_str().into());
        let endpoint =
            r.required(&s, "endpoint", "write the API's address, such as https://prom.example/api/v1");
        let endpoint = endpoint.and_then(|f| {
            let url = r.url(&f)?;
            warn_refused(r, &f, &url, network);
            Some(url)
        });
        let poll_interval = r.duration_or(&s, "poll-interval", Duration::from_secs(15));
        let timeout = r.duration_or(&s, "timeout", Duration::from_secs(10));
        let mut wanted = vec![];
        for f in r.items(&s, "resources") {
            let Some(name) = r.text(&f) else { continue };
            if !resources.iter().any(|res| res.name == name) {
                let near = nearest(&name, resources.iter().map(|res| res.name.as_str()));
                let help = near.map_or_else(
                    || "define it in `resources`".into(),
                    |near| format!("did you mean `{near}`?"),
                );
                r.warn(
                    &f,
                    format!("no resource is named {}; it means the alert of that name", shown(&f, &name)),
                    help,
                );
            }
            wanted.push(name);
        }
        if let Some(endpoint) = endpoint
            && unique(r, &mut names, &s, &name, "watcher")
        {
            all.push(Watcher { name, kind, endpoint, poll_interval, timeout, resources: wanted });
        }
    }
    all
}
