//! Where a reader goes next: links that the sender's webhook brought, and those of tools' outputs that the configuration
//! allows.
//!
//! A link is an http or https address with a host, without a user and at most [`LONGEST`] bytes long; whatever else
//! stands where one is expected is left out.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;
use url::form_urlencoded::byte_serialize;

use super::Output;
use crate::alert::{Alert, Labels};
use crate::notification::Notification;

/// The longest address.
const LONGEST: usize = 2_000;
/// The most links of tools' outputs.
const MOST_OF_TOOLS: usize = 5;
/// What takes the place of a secret begins so; a matcher of it would match nothing.
const REDACTED: &str = "[redacted";

/// What a link leads to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// This incident's page.
    Page,
    /// What to do about such an alert, by its annotations.
    Runbook,
    /// The rule's graph, by `generatorURL`.
    Graph,
    /// The sender's form for a silence, filled in.
    Silence,
    /// The dashboard that the alert names.
    Dashboard,
    /// The panel of it.
    Panel,
    /// Something that a tool's output names.
    Evidence,
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Page => "page",
            Self::Runbook => "runbook",
            Self::Graph => "graph",
            Self::Silence => "silence",
            Self::Dashboard => "dashboard",
            Self::Panel => "panel",
            Self::Evidence => "evidence",
        })
    }
}

/// A link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Link {
    /// What it leads to.
    pub kind: LinkKind,
    /// The address as a browser takes it.
    pub address: String,
    /// Its host, which a reader should see before he follows it.
    pub host: String,
}

impl Link {
    /// The link, where `address` is one.
    pub(super) fn of(kind: LinkKind, address: &str) -> Option<Self> {
        let url = Url::parse(address.trim()).ok()?;
        let host = url.host_str()?.to_owned();
        let fits = matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.as_str().len() <= LONGEST;
        fits.then(|| Self { kind, address: url.into(), host })
    }
}

/// What the sender's webhook links to.
pub(super) fn of_notification(notification: &Notification) -> Vec<Link> {
    let alerts = || notification.alerts.iter();
    let first = |link: &dyn Fn(&Alert) -> Option<Link>| alerts().find_map(link);
    let annotated = |kind, names: &[&str]| {
        first(&|alert| names.iter().find_map(|name| Link::of(kind, alert.annotations.get(*name)?)))
    };
    [
        annotated(LinkKind::Runbook, &["runbook_url", "runbookURL", "runbook"]),
        first(&|alert| Link::of(LinkKind::Graph, alert.generator_url.as_deref()?)),
        annotated(LinkKind::Silence, &["silenceURL"]).or_else(|| silence(notification)),
        annotated(LinkKind::Dashboard, &["dashboardURL", "dashboard_url", "dashboard"]),
        annotated(LinkKind::Panel, &["panelURL", "panel_url"]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Alertmanager's form for a silence of what all alerts share that fire; of what has ended there is none.
/// <https://github.com/prometheus/alertmanager/blob/main/ui/app/src/Views/SilenceForm/Parsing.elm>
fn silence(notification: &Notification) -> Option<Link> {
    let base = Link::of(LinkKind::Silence, notification.envelope.external_url.as_deref()?)?;
    let firing: Vec<&Alert> = notification.alerts.iter().filter(|alert| alert.is_firing()).collect();
    let matchers: Vec<String> = shared_labels(&firing)
        .iter()
        .filter(|(_, value)| !value.contains(REDACTED))
        .map(|(name, value)| format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    if matchers.is_empty() {
        return None;
    }
    let filter = format!("{{{}}}", matchers.join(","));
    // A form's `+` is no space behind the `#`.
    let filter = byte_serialize(filter.as_bytes()).collect::<String>().replace('+', "%20");
    let base = base.address.trim_end_matches('/');
    Link::of(LinkKind::Silence, &format!("{base}/#/silences/new?filter={filter}"))
}

/// The labels that all of these alerts have, with the same values.
pub(super) fn shared_labels(alerts: &[&Alert]) -> Labels {
    let Some((first, others)) = alerts.split_first() else { return Labels::new() };
    let shared =
        |(name, value): &(&String, &String)| others.iter().all(|a| a.labels.get(*name) == Some(*value));
    first.labels.iter().filter(shared).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The links in these outputs to `hosts`, or to what is below one of them.
pub(super) fn of_outputs<'o>(outputs: impl Iterator<Item = &'o Output>, hosts: &[String]) -> Vec<Link> {
    let allowed = |host: &str| {
        hosts.iter().any(|allowed| {
            host.strip_suffix(allowed.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    };
    let mut links = Vec::new();
    let mut seen = BTreeSet::new();
    if hosts.is_empty() {
        return links;
    }
    for output in outputs {
        for (at, _) in output.text.match_indices("http") {
            let rest = output.text.get(at..).unwrap_or_default();
            let end = rest.find(|c: char| c.is_whitespace() || c.is_control() || "\"'<>`\\|{}".contains(c));
            let address = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            let address = address.trim_end_matches(['.', ',', ';', ':', ')', ']', '!', '?']);
            if address.len() > LONGEST || !(address.starts_with("http://") || address.starts_with("https://"))
            {
                continue;
            }
            let Some(link) = Link::of(LinkKind::Evidence, address).filter(|link| allowed(&link.host)) else {
                continue;
            };
            if seen.insert(link.address.clone()) {
                links.push(link);
            }
            if links.len() == MOST_OF_TOOLS {
                return links;
            }
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{alert, envelope};

    fn notification(alerts: Vec<Alert>, external_url: &str) -> Notification {
        let mut envelope = envelope(&[]);
        envelope.external_url = Some(external_url.to_owned());
        Notification { card: "c".into(), key_labels: Labels::new(), envelope, alerts }
    }

    fn addresses(notification: &Notification) -> Vec<(LinkKind, String)> {
        of_notification(notification).into_iter().map(|link| (link.kind, link.address)).collect()
    }

    #[test]
    fn a_silence_is_filled_in_with_what_all_alerts_share() {
        let one = alert("Down", &[("pod", "a"), ("path", "C:\\x \"y\""), ("db", "[redacted: url]")]);
        let other = alert("Down", &[("pod", "b"), ("path", "C:\\x \"y\""), ("db", "[redacted: url]")]);
        let links = addresses(&notification(vec![one, other], "http://am.example:9093/base/"));
        let filter = "%7Balertname%3D%22Down%22%2Cpath%3D%22C%3A%5C%5Cx%20%5C%22y%5C%22%22%7D";
        let form = format!("http://am.example:9093/base/#/silences/new?filter={filter}");
        assert_eq!(links, [(LinkKind::Silence, form)]);
    }

    #[test]
    fn what_the_alert_itself_says_is_linked_to() {
        let mut told = alert("Down", &[]);
        told.generator_url = Some("http://prom.example/graph?g0.expr=up+%3D%3D+0".into());
        for (name, address) in [
            ("runbook_url", "https://wiki.example/down"),
            ("silenceURL", "https://grafana.example/silence/new"),
            ("dashboardURL", "https://grafana.example/d/x"),
            ("panelURL", "https://grafana.example/d/x?viewPanel=4"),
        ] {
            told.annotations.insert(name.into(), address.into());
        }
        let kinds: Vec<LinkKind> =
            addresses(&notification(vec![told], "http://am.example")).into_iter().map(|l| l.0).collect();
        let all =
            [LinkKind::Runbook, LinkKind::Graph, LinkKind::Silence, LinkKind::Dashboard, LinkKind::Panel];
        assert_eq!(kinds, all);
    }

    #[test]
    fn what_is_no_address_of_the_web_is_no_link() {
        for address in [
            "javascript:alert(1)",
            "data:text/html,<script>",
            "file:///etc/passwd",
            "//wiki.example/x",
            "see the wiki",
            "https://user:pw@wiki.example/",
            "https://user@wiki.example/",
            "http://",
            &format!("https://wiki.example/{}", "x".repeat(LONGEST)),
        ] {
            assert_eq!(Link::of(LinkKind::Runbook, address), None, "{address}");
        }
        let spaced = Link::of(LinkKind::Runbook, " https://wiki.example/a b\u{202e}\"<c> ").unwrap();
        assert_eq!(spaced.address, "https://wiki.example/a%20b%E2%80%AE%22%3Cc%3E");
    }

    #[test]
    fn outputs_link_to_allowed_hosts_and_those_below_them() {
        let text = r#"{"a":"https://ci.example/run/7","b":"https://evilci.example/","c":"http://x.ci.example/y)."}
            https://ci.example/run/7, https://ci.example.evil/ httpx https://user@ci.example/"#;
        let outputs = [Output { id: "E1".into(), tool: "t".into(), text: text.into() }];
        let found = of_outputs(outputs.iter(), &["ci.example".to_owned()]);
        let found: Vec<&str> = found.iter().map(|link| link.address.as_str()).collect();
        assert_eq!(found, ["https://ci.example/run/7", "http://x.ci.example/y"]);
        assert!(of_outputs(outputs.iter(), &[]).is_empty());
    }
}
