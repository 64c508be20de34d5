//! What Alertmanager posts.

use std::time::Duration;

use sentinel_core::UnixMs;
use sentinel_testkit::builders::NOON;
use serde_json::json;

use crate::world::House;

/// One alert of a group.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) pod: &'static str,
    /// When it began.
    pub(crate) starts_at: UnixMs,
    /// When it ended, if it has.
    pub(crate) ends_at: Option<UnixMs>,
}

/// A notification of one group.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) sender: &'static str,
    pub(crate) alertname: &'static str,
    pub(crate) facts: Vec<Fact>,
}

/// So many seconds after the start.
pub(crate) fn at(seconds: u64) -> UnixMs {
    NOON.plus(Duration::from_secs(seconds))
}

/// An alert that fires since so many seconds after the start.
pub(crate) fn fires(pod: &'static str, since: u64) -> Fact {
    Fact { pod, starts_at: at(since), ends_at: None }
}

/// An alert that fired from then to then.
pub(crate) fn ended(pod: &'static str, since: u64, until: u64) -> Fact {
    Fact { ends_at: Some(at(until)), ..fires(pod, since) }
}

impl Webhook {
    pub(crate) fn is_firing(&self) -> bool {
        self.facts.iter().any(|fact| fact.ends_at.is_none())
    }

    /// Alertmanager's version 4.
    pub(crate) fn body(&self, house: House) -> String {
        let prefix = if house == House::Lean { "Lean" } else { "" };
        let alertname = format!("{prefix}{}", self.alertname);
        let status = |firing| if firing { "firing" } else { "resolved" };
        let alerts: Vec<_> = self
            .facts
            .iter()
            .map(|fact| {
                json!({
                    "status": status(fact.ends_at.is_none()),
                    "labels": {"alertname": alertname, "pod": fact.pod},
                    "annotations": {"summary": "It is not ready."},
                    "startsAt": fact.starts_at.to_string(),
                    "endsAt": fact.ends_at.map_or("0001-01-01T00:00:00Z".to_owned(), |end| end.to_string()),
                    "generatorURL": "http://prometheus.example/graph",
                    "fingerprint": "0123456789abcdef"
                })
            })
            .collect();
        let body = json!({
            "version": "4",
            "groupKey": format!("{{}}:{{alertname={alertname:?}}}"),
            "truncatedAlerts": 0,
            "status": status(self.is_firing()),
            "receiver": "sentinel",
            "groupLabels": {"alertname": alertname},
            "commonLabels": {"alertname": alertname},
            "commonAnnotations": {},
            "externalURL": format!("http://{}.example:9093", self.sender),
            "alerts": alerts
        });
        body.to_string()
    }
}
