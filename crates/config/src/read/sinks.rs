//! `sinks` and `watchers`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use sentinel_core::card::Resource;
use sentinel_core::incident::Event;
use url::Url;

use super::general::warn_refused;
use super::{LEVELS, unique};
use crate::nearest;
use crate::reader::{Field, Keys, Reader, Section, shown};
use crate::settings::{Level, Network, SinkKind, SinkSettings, Watcher, WatcherKind};

pub(super) const SINK: Keys = &[
    ("name", &[]),
    ("type", &["sink-type"]),
    ("level", &["log-level"]),
    ("token", &[]),
    ("channel", &["target", "route"]),
    ("url", &["api-url"]),
    ("secret", &[]),
    ("homeserver", &[]),
    ("access-token", &[]),
    ("room", &["room-id"]),
    ("events", &[]),
];
/// A key of a Matrix sink, and the key that every destination has for the same, by which it is known too.
const OF_MATRIX: [(&str, &str); 3] = [("homeserver", "url"), ("access-token", "token"), ("room", "channel")];
const SINK_TYPES: &[(&str, &str)] = &[
    ("logger", "logger"),
    ("slack", "slack"),
    ("webhook", "webhook"),
    ("teams", "teams"),
    ("matrix", "matrix"),
    ("jira", "jira"),
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
    ("flapping", Event::Flapping),
    ("storm", Event::Storm),
];
const WATCHER_TYPES: &[(&str, WatcherKind)] =
    &[("prometheus", WatcherKind::Prometheus), ("alertmanager", WatcherKind::Alertmanager)];
/// What to do instead of a user in a sink's address.
const NO_USER: &str = "Slack takes its `token`, Matrix its `access-token`; a webhook checks the signature that `secret` makes, \
                       or a token in the path";
pub(super) const WATCHER: Keys = &[
    ("type", &["watcher-type"]),
    ("name", &[]),
    ("endpoint", &["url", "base-url"]),
    ("poll-interval", &["poll-interval-seconds"]),
    ("timeout", &["timeout-seconds", "request-timeout"]),
    ("resources", &["resource-list"]),
];

/// The sinks of the file; `log` is there even if the file does not define it.
pub(super) fn sinks(r: &mut Reader<'_>, top: &Section<'_>, network: &Network) -> Vec<SinkSettings> {
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
        let keys = SinkFields {
            token: r.optional_secret(&s, "token"),
            access_token: r.optional_secret(&s, "access-token"),
            secret: signing_secret(r, &s),
            channel: r.optional_text(&s, "channel"),
            room: r.optional_text(&s, "room"),
            url: address(r, &s, "url", network),
            homeserver: address(r, &s, "homeserver", network),
        };
        let wanted = events(r, &s);
        let kind = r
            .required(&s, "type", "write `type: logger`, or the destination's type")
            .and_then(|f| kind(r, &s, &f, level, keys));
        warn_of_other_kinds(r, &s, kind.as_ref());
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

/// The keys that only some kinds of sinks have.
struct SinkFields {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
    secret: Option<SecretString>,
    channel: Option<String>,
    room: Option<String>,
    url: Option<Url>,
    homeserver: Option<Url>,
}

fn address(r: &mut Reader<'_>, s: &Section<'_>, key: &str, network: &Network) -> Option<Url> {
    let field = s.get(key)?;
    let url = r.url(&field, NO_USER)?;
    warn_refused(r, &field, &url, network);
    Some(url)
}

fn kind(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    field: &Field<'_>,
    level: Level,
    keys: SinkFields,
) -> Option<SinkKind> {
    let SinkFields { token, access_token, secret, channel, room, url, homeserver } = keys;
    match r.choice(field, SINK_TYPES)? {
        "logger" => Some(SinkKind::Log { level }),
        "webhook" => {
            r.required(s, "url", "write the address that takes the events")?;
            if s.get("secret").is_none() {
                let help = "write `secret: \"${NAME}\"`, and verify the header `webhook-signature` there";
                r.warn(field, "is not signed: whoever gets the events cannot tell who sent them", help);
            }
            Some(SinkKind::Webhook { url: url?, secret })
        }
        "slack" => {
            r.required(s, "token", "write the bot's token (xoxb-…) as `${NAME}`")?;
            let api = url.map(|mut url| {
                if !url.path().ends_with('/') {
                    url.set_path(&format!("{}/", url.path()));
                }
                url
            });
            Some(SinkKind::Slack { api, token: token?, channel })
        }
        "teams" => {
            r.required(s, "url", "write the workflow's address as `${NAME}`: whoever has it can post")?;
            Some(SinkKind::Teams { url: url? })
        }
        "matrix" => {
            for (key, also) in OF_MATRIX {
                if let (true, Some(field)) = (s.get(key).is_some(), s.get(also)) {
                    r.warn(&field, format!("means the same as `{key}` beside it"), "remove one of the two");
                }
            }
            let either = |key: &str, also| s.get(key).is_some() || s.get(also).is_some();
            if !either("homeserver", "url") {
                r.missing(s, "homeserver", "write its address, such as https://matrix.example");
            }
            if !either("access-token", "token") {
                r.missing(s, "access-token", "write the account's access token as `${NAME}`");
            }
            let room = room.or(channel);
            if let (Some(room), Some(field)) = (&room, s.get("room").or_else(|| s.get("channel")))
                && !is_room(room)
            {
                r.error(&field, format!("{} is no room's id", shown(&field, room)), ROOM);
            }
            Some(SinkKind::Matrix { homeserver: homeserver.or(url)?, token: access_token.or(token)?, room })
        }
        kind => {
            let meanwhile = "nothing is sent there; `logger`, `webhook`, `slack`, `teams` and `matrix` work";
            r.unbuilt(field, &format!("sinks of type {kind}"), meanwhile);
            Some(SinkKind::Unbuilt(kind.into()))
        }
    }
}

/// What to write for a room.
pub(super) const ROOM: &str =
    "write the id of the room, which begins with `!`; clients show it in the room's settings, beside `#…`";

/// Whether it is the id of a Matrix room, and none of its names.
pub(super) fn is_room(room: &str) -> bool {
    room.starts_with('!')
}

/// What a webhook is signed with. [Standard Webhooks](https://www.standardwebhooks.com) begins a secret that is base64 with
/// `whsec_`.
fn signing_secret(r: &mut Reader<'_>, s: &Section<'_>) -> Option<SecretString> {
    let field = s.get("secret")?;
    let secret = r.secret(&field)?;
    let encoded = secret.expose_secret().strip_prefix("whsec_");
    if encoded.is_some_and(|encoded| STANDARD.decode(encoded).is_err()) {
        let help = "take the secret whole as it was generated, or one that does not begin with `whsec_`";
        r.error(&field, "begins with `whsec_`, and what follows is not base64", help);
        return None;
    }
    Some(secret)
}

/// A key that this sink's kind does not have was meant for something that now does not happen.
fn warn_of_other_kinds(r: &mut Reader<'_>, s: &Section<'_>, kind: Option<&SinkKind>) {
    let (name, own): (_, &[&str]) = match kind {
        Some(SinkKind::Log { .. }) => ("logger", &["level"]),
        Some(SinkKind::Webhook { .. }) => ("webhook", &["url", "secret"]),
        Some(SinkKind::Slack { .. }) => ("slack", &["token", "channel", "url"]),
        Some(SinkKind::Teams { .. }) => ("teams", &["url"]),
        Some(SinkKind::Matrix { .. }) => {
            ("matrix", &["homeserver", "access-token", "room", "url", "token", "channel"])
        }
        Some(SinkKind::Unbuilt(_)) | None => return,
    };
    for key in ["level", "token", "channel", "url", "secret", "homeserver", "access-token", "room"] {
        if let (false, Some(field)) = (own.contains(&key), s.get(key)) {
            let help = format!("remove it; its own keys are {}", own.join(", "));
            r.warn(&field, format!("means nothing to a sink of type {name}"), help);
        }
    }
}

/// What a sink is told that does not say what it wants: everything, and the log no starts.
fn default_events(kind: &SinkKind) -> BTreeSet<Event> {
    let log = matches!(kind, SinkKind::Log { .. });
    Event::ALL.into_iter().filter(|event| !(log && *event == Event::Started)).collect()
}

/// The events that a sink asks for. `findings` brings the other ends with it (failed, aborted, suppressed): nobody
/// should miss by oversight how an investigation ended. A list that names one of these means what it says. The notices
/// stand for findings that are not made, so whoever wants these is told of those.
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
    if wanted.contains(&Event::Findings) {
        wanted.extend([Event::Flapping, Event::Storm]);
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
            let url = r.url(&f, "a watcher shows no credentials: poll by an address that needs none")?;
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
