//! Alerts, notifications and cards with sane defaults, of which a test says only what it is about.
//!
//! Every builder is the value that it builds ([`AlertBuilder::build`] gives it) and converts into it.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::UnixMs;
use sentinel_core::alert::{Alert, AlertStatus, Labels};
use sentinel_core::card::{
    Card, CheckRule, Comparison, DedupeBy, EvidenceCall, Matcher, Otherwise, Prompt, PromptSource, Resource,
    ToolId,
};
use sentinel_core::incident::{Gen, Head, IncidentId, Members, State};
use sentinel_core::notification::{Envelope, Message, Notification, Source};
use sentinel_core::pattern::Pattern;
use sentinel_core::report::{Citation, NextStep, Report, ReportSource, Statement, Usage, Verdict};
use sentinel_core::view::Beside;
use serde_json::Value;

/// 2026-11-22T12:00:00Z: when alerts of this module began to fire, and where [`crate::clock::ManualClock`] stands at
/// first.
pub const NOON: UnixMs = UnixMs::new(1_795_348_800_000);

/// A firing alert of that name, since [`NOON`].
pub fn alert(alertname: &str) -> AlertBuilder {
    AlertBuilder(Alert {
        status: AlertStatus::Firing,
        labels: Labels::from([("alertname".to_owned(), alertname.to_owned())]),
        annotations: Labels::new(),
        starts_at: Some(NOON),
        ends_at: None,
        ends_at_is_receipt: false,
        generator_url: None,
        fingerprint: None,
        values: std::collections::BTreeMap::new(),
        member: None,
    })
}

/// See [`alert`].
#[derive(Clone, Debug)]
pub struct AlertBuilder(Alert);

impl AlertBuilder {
    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.0.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.0.annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Since when it fires; `None` where the payload does not say.
    #[must_use]
    pub fn starts_at(mut self, at: impl Into<Option<UnixMs>>) -> Self {
        self.0.starts_at = at.into();
        self
    }

    /// Makes it a resolved one, which ended then.
    #[must_use]
    pub fn resolved_at(mut self, at: UnixMs) -> Self {
        self.0.status = AlertStatus::Resolved;
        self.0.ends_at = Some(at);
        self
    }

    /// The alert.
    pub fn build(self) -> Alert {
        self.0
    }
}

impl From<AlertBuilder> for Alert {
    fn from(builder: AlertBuilder) -> Self {
        builder.0
    }
}

/// Alertmanager's envelope around these alerts: grouped by `alertname`, with the labels and annotations that they
/// share.
pub fn envelope(alerts: &[Alert]) -> Envelope {
    let shared = |of: fn(&Alert) -> &Labels| -> Labels {
        let Some((first, others)) = alerts.split_first() else { return Labels::new() };
        let in_all =
            |name: &str, value: &str| others.iter().all(|a| of(a).get(name).is_some_and(|v| v == value));
        of(first)
            .iter()
            .filter(|(name, value)| in_all(name, value))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect()
    };
    let common_labels = shared(|alert| &alert.labels);
    let group_labels: Labels =
        common_labels.get_key_value("alertname").map(|(n, v)| (n.clone(), v.clone())).into_iter().collect();
    Envelope {
        source: Source::Alertmanager,
        receiver: "sentinel".to_owned(),
        group_key: group_labels.get("alertname").map(|name| format!("{{}}:{{alertname={name:?}}}")),
        group_labels,
        common_labels,
        common_annotations: shared(|alert| &alert.annotations),
        external_url: Some("http://alertmanager.example:9093".to_owned()),
        reason: None,
        truncated_alerts: 0,
        verified_by: None,
    }
}

/// A whole webhook with these alerts.
pub fn message<A: Into<Alert>>(alerts: impl IntoIterator<Item = A>) -> Message {
    let alerts: Vec<Alert> = alerts.into_iter().map(Into::into).collect();
    Message { envelope: envelope(&alerts), alerts, refused: vec![] }
}

/// What of such a webhook concerns one incident of the card named `card`; its key labels are the group labels.
pub fn notification<A: Into<Alert>>(card: &str, alerts: impl IntoIterator<Item = A>) -> Notification {
    let Message { envelope, alerts, .. } = message(alerts);
    Notification { card: card.to_owned(), key_labels: envelope.group_labels.clone(), envelope, alerts }
}

/// The head of an incident of the card `pods` that waits for a worker since [`NOON`], and of which nobody has been told.
pub fn head(id: &str) -> Head {
    Head {
        schema: Head::SCHEMA,
        id: IncidentId::new(id),
        card: "pods".to_owned(),
        labels: [("alertname", "PodDown"), ("namespace", "web")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        version: 1,
        writer: "w".to_owned(),
        state: State::Pending,
        generation: Gen(NOON.get()),
        epoch: 0,
        owner: None,
        lease_until: None,
        attempts: 0,
        slices: 0,
        turn: 0,
        not_before: NOON,
        sent_at: None,
        sends: 0,
        reopen_after: NOON,
        began: Some(NOON),
        seen: Some(NOON),
        resolved_at: None,
        again: None,
        digest: "d".to_owned(),
        known: Members::default(),
        firing: Members::default(),
        truncated: false,
        deliveries: vec![],
        verdict: None,
        reason: None,
        openings: None,
        ttl: None,
        deleted: None,
        chain: Vec::new(),
        signed: None,
    }
}

/// What a view of an incident needs beside it: no outputs, no earlier generation, seen an hour after [`NOON`].
pub fn beside() -> Beside {
    let now = NOON.plus(Duration::from_hours(1));
    Beside { outputs: Arc::from([]), openings: vec![], display: Arc::default(), now }
}

/// A model's report with a cause that its evidence carries and one that it does not.
pub fn report() -> Report {
    let citation =
        |quote: &str, found| Citation { id: "E1".to_owned(), quote: quote.to_owned(), found: Some(found) };
    let statement = |text: &str, confidence, citation: Citation| Statement {
        statement: text.to_owned(),
        confidence,
        supported: citation.found,
        evidence: vec![citation],
    };
    Report {
        verdict: Verdict::ActionRequired,
        title: "api cannot pull its image".to_owned(),
        summary: "The tag does not exist.".to_owned(),
        hypotheses: vec![
            statement("The tag v9 is missing", Some(0.8), citation("manifest unknown", true)),
            statement("The registry is down", Some(0.4), citation("connection refused", false)),
        ],
        ruled_out: vec![statement("The node is full", None, citation("DiskPressure False", true))],
        gaps: vec!["the registry's own log".to_owned()],
        next_steps: vec![NextStep { action: "push v9".to_owned(), why: "it is missing".to_owned() }],
        checklist: vec![],
        notes: vec![],
        source: ReportSource::Model,
        model: Some("m".to_owned()),
        usage: Usage { turns: 3, tool_calls: 7, usd: Some(0.0125), ..Usage::default() },
        truncated_alerts: 0,
    }
}

/// A card of that name which takes every alert, with the defaults of the configuration, no tools and no sinks.
pub fn card(name: &str) -> CardBuilder {
    CardBuilder(Card {
        name: name.to_owned(),
        resource: Resource {
            name: name.to_owned(),
            kind: "prometheus_alert".to_owned(),
            matchers: vec![],
            annotations: Labels::new(),
        },
        prompt: Prompt { source: PromptSource::Inline, text: "Find out why this alert fires.".to_owned() },
        model: "gpt-4.1-mini".into(),
        fallback_models: vec![],
        tools: [].into(),
        policy: vec![],
        lock: None,
        lock_undecided: false,
        not_read_only: std::collections::BTreeMap::new(),
        sinks: vec![],
        max_iterations: 6,
        timeout: Duration::from_mins(10),
        max_tokens: 1_000_000,
        max_usd: sentinel_core::budget::MicroUsd(1_000_000),
        max_tool_output_tokens: 2_000,
        attempts: 3,
        dedupe_by: DedupeBy::Group,
        ignore_labels: ["replica", "prometheus", "prometheus_replica", "__replica__"]
            .map(str::to_owned)
            .into(),
        wait: Duration::ZERO,
        dedupe_ttl: Duration::from_mins(10),
        reinvestigate_after: None,
        budget: sentinel_core::budget::Limits::default(),
        generations_per_hour: None,
        continues: false,
        evidence: vec![],
        checklist: vec![],
    })
}

/// See [`card`]. Fields that have no method here are set on the [`Card`] itself.
#[derive(Clone, Debug)]
pub struct CardBuilder(Card);

impl CardBuilder {
    /// It takes only alerts whose label is this.
    #[must_use]
    pub fn matching(mut self, label: &str, value: &str) -> Self {
        self.0.resource.matchers.push(Matcher::equal(label, value));
        self
    }

    /// It takes only alerts whose label matches this expression, anchored at both ends.
    #[must_use]
    pub fn matching_regex(mut self, label: &str, regex: &str) -> Self {
        let pattern = Pattern::new(regex).expect("a regular expression");
        let matcher = Matcher { label: label.to_owned(), comparison: Comparison::Matches(pattern) };
        self.0.resource.matchers.push(matcher);
        self
    }

    /// The task given to the model.
    #[must_use]
    pub fn prompt(mut self, text: &str) -> Self {
        text.clone_into(&mut self.0.prompt.text);
        self
    }

    /// Allows a tool, as `server.tool`.
    #[must_use]
    pub fn tool(mut self, id: &str) -> Self {
        self.0.tools.insert(tool_id(id));
        self
    }

    /// Tells a sink.
    #[must_use]
    pub fn sink(mut self, name: &str) -> Self {
        self.0.sinks.push(name.into());
        self
    }

    /// Adds a call that is made before the model is asked; `arguments` are an object.
    #[must_use]
    pub fn evidence(mut self, id: &str, arguments: Value) -> Self {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object, not {arguments}") };
        self.0.evidence.push(EvidenceCall { tool: tool_id(id), arguments });
        self
    }

    /// Adds a checklist rule in CEL.
    #[must_use]
    pub fn check(mut self, name: &str, rule: &str, otherwise: Otherwise) -> Self {
        self.0.checklist.push(CheckRule { name: name.to_owned(), rule: rule.to_owned(), otherwise });
        self
    }

    /// Which labels name an incident.
    #[must_use]
    pub fn dedupe_by(mut self, by: DedupeBy) -> Self {
        self.0.dedupe_by = by;
        self
    }

    /// How long to wait for the alert to resolve by itself.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.0.wait = wait;
        self
    }

    /// The shortest time between two generations.
    #[must_use]
    pub fn dedupe_ttl(mut self, ttl: Duration) -> Self {
        self.0.dedupe_ttl = ttl;
        self
    }

    /// How often an investigation is begun before it is given up.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    /// The most model turns.
    #[must_use]
    pub fn max_iterations(mut self, turns: u32) -> Self {
        self.0.max_iterations = turns;
        self
    }

    /// The card.
    pub fn build(self) -> Card {
        self.0
    }
}

impl From<CardBuilder> for Card {
    fn from(builder: CardBuilder) -> Self {
        builder.0
    }
}

/// The tool written as `server.tool`.
pub fn tool_id(id: &str) -> ToolId {
    let (server, tool) = id.split_once('.').unwrap_or_else(|| panic!("{id:?} is not server.tool"));
    ToolId { server: server.to_owned(), tool: tool.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noon_is_noon() {
        assert_eq!(NOON.to_string(), "2026-11-22T12:00:00Z");
    }

    #[test]
    fn an_envelope_shares_only_what_all_alerts_have() {
        let alerts = ["a", "b"].map(|pod| alert("PodDown").label("namespace", "web").label("pod", pod));
        let notification = notification("pods", alerts);
        let common: Vec<&str> = notification.envelope.common_labels.keys().map(String::as_str).collect();
        assert_eq!(common, ["alertname", "namespace"]);
        let key: Vec<&str> = notification.key_labels.keys().map(String::as_str).collect();
        assert_eq!(key, ["alertname"]);
    }

    #[test]
    fn a_card_takes_what_its_matchers_say() {
        let card =
            card("pods").matching("alertname", "PodDown").matching_regex("namespace", "web|api").build();
        let of = |namespace: &str| alert("PodDown").label("namespace", namespace).build().labels;
        assert!(card.resource.matches(&of("web")));
        assert!(!card.resource.matches(&of("webs")));
    }
}
