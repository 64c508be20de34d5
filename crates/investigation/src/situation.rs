//! What is known of the alerts when a run begins: the latest of each label set, over all snapshots.

use std::collections::{BTreeMap, BTreeSet};

use sentinel_core::UnixMs;
use sentinel_core::alert::{Alert, Labels};
use sentinel_core::card::Card;
use sentinel_core::incident::Head;
use sentinel_core::notification::{Envelope, Notification, merged};
use serde_json::{Map, Value, json};

use crate::fence::shorten;

/// The most of the alerts that is shown, in bytes.
const MOST_SHOWN: usize = 32 * 1024;

/// The alerts of an incident, and what their senders said about all of them.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Situation {
    /// Firing ones first, then in the order of their labels.
    pub(crate) alerts: Vec<Alert>,
    pub(crate) envelope: Envelope,
    pub(crate) key_labels: Labels,
    /// The most that one snapshot lacks.
    pub(crate) truncated_alerts: u64,
    /// By whose credential the alerts were posted; see [`verified`].
    pub(crate) verified: String,
    resolved_at: Option<UnixMs>,
}

impl Situation {
    /// Merges; `None` without a snapshot.
    pub(crate) fn of(snapshots: &[(String, Notification)], head: &Head) -> Option<Self> {
        let Notification { key_labels, envelope, alerts, .. } = merged(snapshots, head)?;
        Some(Self {
            alerts,
            key_labels,
            truncated_alerts: envelope.truncated_alerts,
            envelope,
            verified: verified(snapshots.iter().map(|(_, n)| n.envelope.verified_by.as_deref())),
            resolved_at: head.resolved(),
        })
    }

    /// Labels that all alerts share, overlaid by those of the dedupe key.
    pub(crate) fn labels(&self) -> Labels {
        let mut alerts = self.alerts.iter();
        let mut common = alerts.next().map(|a| a.labels.clone()).unwrap_or_default();
        for alert in alerts {
            common.retain(|name, value| alert.labels.get(name) == Some(value));
        }
        common.extend(self.key_labels.clone());
        common
    }

    /// The resource's annotations, overlaid by the alerts' own: those on which all agree that have them.
    pub(crate) fn annotations(&self, card: &Card) -> Labels {
        let mut all = card.resource.annotations.clone();
        for (name, mut values) in self.values(|alert| &alert.annotations) {
            all.remove(&name);
            if let (1, Some(value)) = (values.len(), values.pop()) {
                all.insert(name, value);
            }
        }
        all
    }

    /// The values of each label or annotation over all alerts, in the alerts' order, each once.
    fn values(&self, of: impl Fn(&Alert) -> &Labels) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in self.alerts.iter().flat_map(of) {
            let values = all.entry(name.clone()).or_default();
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
        all
    }

    /// The labels and annotations that some alert has and that are not one value for all, as templates name them:
    /// `labels.queue`.
    pub(crate) fn differing(&self) -> BTreeSet<String> {
        let shared = self.labels();
        let labels = self.values(|alert| &alert.labels).into_keys().filter(|name| !shared.contains_key(name));
        let labels = labels.map(|name| format!("labels.{name}"));
        let annotations =
            self.values(|alert| &alert.annotations).into_iter().filter(|(_, values)| values.len() > 1);
        labels.chain(annotations.map(|(name, _)| format!("annotations.{name}"))).collect()
    }

    /// The alerts by what they have of these, each group as a situation of its own, in the alerts' order: those names of
    /// `asked` in which the alerts differ, and what a group has of each. Without a difference it is one group.
    pub(crate) fn by_value<'n>(
        &self,
        asked: impl Iterator<Item = &'n str>,
    ) -> Vec<(BTreeMap<String, String>, Self)> {
        let differing = self.differing();
        let names: Vec<&str> = asked.filter(|name| differing.contains(*name)).collect();
        let of = |alert: &Alert| -> BTreeMap<String, String> {
            let value = |name: &&str| {
                let (map, key) = name.split_once('.')?;
                let of = if map == "labels" { &alert.labels } else { &alert.annotations };
                Some(((*name).to_owned(), of.get(key)?.clone()))
            };
            names.iter().filter_map(value).collect()
        };
        let mut groups: Vec<(BTreeMap<String, String>, Self)> = Vec::new();
        for alert in &self.alerts {
            let values = of(alert);
            match groups.iter_mut().find(|(known, _)| *known == values) {
                Some((_, group)) => group.alerts.push(alert.clone()),
                None => groups.push((values, Self { alerts: vec![alert.clone()], ..self.clone() })),
            }
        }
        if groups.is_empty() {
            groups.push((BTreeMap::new(), self.clone()));
        }
        groups
    }

    /// The first alert as JSON, in Alertmanager's words.
    pub(crate) fn alert_json(&self) -> Value {
        self.alerts.first().map_or(Value::Null, alert_json)
    }

    /// The alerts as the model is shown them.
    pub(crate) fn shown(&self) -> String {
        let value = json!({
            "receiver": self.envelope.receiver,
            "groupLabels": self.envelope.group_labels,
            "externalURL": self.envelope.external_url,
            "truncatedAlerts": self.truncated_alerts,
            "resolvedAt": self.resolved_at.map(|t| t.to_string()),
            "alerts": self.alerts.iter().map(alert_json).collect::<Vec<_>>(),
        });
        shorten(&serde_json::to_string_pretty(&value).unwrap_or_default(), MOST_SHOWN)
    }

    /// The variables of prompts and evidence calls; [`crate::template::kinds::VARIABLES`] are their names.
    pub(crate) fn variables(&self, card: &Card, now: UnixMs) -> Value {
        let alert = self.alert_json();
        let labels = self.labels();
        let annotations = self.annotations(card);
        let first = self.alerts.first();
        let mut all = Map::new();
        let mut set = |name: &str, value: Value| {
            all.insert(name.to_owned(), value);
        };
        set("resource_name", json!(card.resource.name));
        set("resource_type", json!(card.resource.kind));
        set("resource_state", alert.get("status").cloned().unwrap_or_default());
        set("resource_value", json!(first.map(value_of).unwrap_or_default()));
        set(
            "resource_timestamp",
            json!(first.and_then(|a| a.starts_at).map_or_else(String::new, |t| t.to_string())),
        );
        set("resource_labels", json!(json!(labels).to_string()));
        set("resource_annotations", json!(json!(annotations).to_string()));
        set("raw_payload", json!(self.shown()));
        set("alert", alert);
        set("alerts", self.alerts.iter().map(alert_json).collect());
        set("labels", json!(labels));
        set("annotations", json!(annotations));
        set("label_values", json!(self.values(|alert| &alert.labels)));
        set("annotation_values", json!(self.values(|alert| &alert.annotations)));
        set("group_labels", json!(self.envelope.group_labels));
        set("receiver", json!(self.envelope.receiver));
        set("external_url", json!(self.envelope.external_url.clone().unwrap_or_default()));
        set("truncated_alerts", json!(self.truncated_alerts));
        set("card", json!(card.name));
        set("resource", json!({"name": card.resource.name, "kind": card.resource.kind}));
        set("now", json!(now.to_string()));
        Value::Object(all)
    }

    /// One line for people: the alert's name and the labels of the dedupe key.
    pub(crate) fn title(&self) -> String {
        let labels = self.labels();
        let name = labels.get("alertname").map_or("An alert", String::as_str);
        let others: Vec<String> = self
            .key_labels
            .iter()
            .filter(|(label, _)| *label != "alertname")
            .map(|(label, value)| format!("{label} {value}"))
            .collect();
        if others.is_empty() { name.to_owned() } else { format!("{name}: {}", others.join(", ")) }
    }
}

/// The credential by which every notification of an incident was posted. One without a credential makes the whole
/// `none`, and different ones make it `several`: a rule that asks for a credential speaks of all labels that it sees.
fn verified<'s>(posted: impl Iterator<Item = Option<&'s str>>) -> String {
    let named: BTreeSet<&str> = posted.map(|by| by.unwrap_or("none")).collect();
    match (named.contains("none"), named.len(), named.first()) {
        (false, 1, Some(one)) => (*one).to_owned(),
        (false, 2.., _) => "several".to_owned(),
        _ => "none".to_owned(),
    }
}

fn alert_json(alert: &Alert) -> Value {
    json!({
        "status": if alert.is_firing() { "firing" } else { "resolved" },
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": alert.starts_at.map(|t| t.to_string()),
        "endsAt": alert.ends_at.map(|t| t.to_string()),
        "generatorURL": alert.generator_url,
        "values": alert.values,
    })
}

/// The one measured value, all of them as JSON, or the annotation that the original read.
fn value_of(alert: &Alert) -> String {
    let mut values = alert.values.values();
    match (values.next(), values.next()) {
        (Some(Value::String(text)), None) => text.clone(),
        (Some(value), None) => value.to_string(),
        (Some(_), Some(_)) => json!(alert.values).to_string(),
        (None, _) => alert.annotations.get("value").cloned().unwrap_or_default(),
    }
}
