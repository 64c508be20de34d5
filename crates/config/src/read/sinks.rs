//! `sinks` and `watchers`.

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel_core::card::Resource;

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
const EVENTS: &[(&str, ())] = &[("started", ()), ("findings", ()), ("updated", ()), ("resolved", ())];
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
        for event in r.items(&s, "events") {
            r.choice(&event, EVENTS);
        }
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
            all.push(SinkSettings { name, kind: kind.unwrap_or(SinkKind::Unbuilt(String::new())) });
        }
    }
    if !all.iter().any(|s| s.name == "log") {
        all.push(SinkSettings { name: "log".into(), kind: SinkKind::Log { level: Level::Info } });
    }
    all
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
