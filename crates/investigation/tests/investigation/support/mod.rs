//! An incident with a store, a model and tools that do what a test says, and a run over them.

mod model;
mod store;
mod tools;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sentinel_core::UnixMs;
use sentinel_core::card::Card;
use sentinel_core::drive::{Start, drive};
use sentinel_core::incident::{ChildName, Gen, Head, IncidentId};
use sentinel_core::lifecycle::{Claim, Claimed, Rules, Yield};
use sentinel_core::notification::Notification;
use sentinel_core::ports::Ports;
use sentinel_core::price::Price;
use sentinel_core::redact::Redactor;
use sentinel_core::report::Report;
use sentinel_investigation::ports::{Model, TurnRequest};
use sentinel_investigation::{InvestigateError, Outcome, Playbook, Run, investigate};
use sentinel_testkit::builders::{NOON, alert, head, notification};
use sentinel_testkit::clock::ManualClock;
use serde_json::{Value, json};

pub(crate) use model::*;
pub(crate) use store::{Queue, Store};
pub(crate) use tools::Tools;

pub(crate) fn id() -> IncidentId {
    IncidentId::new("1f".repeat(32))
}

/// One incident with everything around it.
pub(crate) struct World {
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ports: Ports,
    pub(crate) tools: Tools,
    pub(crate) card: Card,
    pub(crate) prices: BTreeMap<sentinel_core::card::ModelId, Price>,
    pub(crate) model_timeout: Duration,
    pub(crate) invocation: Duration,
    claims: AtomicUsize,
}

pub(crate) fn web_alert() -> Notification {
    let mut told = notification(
        "card",
        [alert("KubePodNotReady")
            .label("namespace", "web")
            .label("pod", "api-7d9")
            .annotation("summary", "api-7d9 is not ready")],
    );
    told.key_labels.insert("namespace".into(), "web".into());
    told
}

pub(crate) fn card() -> Card {
    sentinel_testkit::builders::card("card")
        .prompt("Why is {{ labels.pod }} of {{ labels.namespace }} not ready?")
        .tool("k8s.events")
        .tool("k8s.pod")
        .tool("k8s.log")
        .tool("k8s.delete")
        .evidence("k8s.events", json!({"namespace": "{{ labels.namespace }}"}))
        .build()
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(card(), &[web_alert()])
    }

    pub(crate) fn of(card: Card, notifications: &[Notification]) -> Self {
        let store = Arc::new(Store::default());
        for (i, n) in notifications.iter().enumerate() {
            store.put(ChildName::Snapshot(format!("d{i}")), serde_json::to_string(n).unwrap());
        }
        *store.head.lock().unwrap() = Some(Head {
            card: card.name.clone(),
            reopen_after: NOON.plus(Duration::from_mins(10)),
            digest: format!("d{}", notifications.len().saturating_sub(1)),
            ..head(id().as_str())
        });
        let clock = Arc::new(ManualClock::default());
        let counter = AtomicUsize::new(0);
        let ports = Ports {
            store: store.clone(),
            queue: Arc::new(Queue),
            clock: clock.clone(),
            fresh: Arc::new(move || format!("fresh-{}", counter.fetch_add(1, Ordering::SeqCst))),
            signing_key: None,
        };
        Self {
            store,
            clock,
            ports,
            tools: Tools::k8s(),
            card,
            prices: [("gpt-4.1-mini".into(), Price::new(0.4, 0.1, 1.6))].into(),
            model_timeout: Duration::from_secs(90),
            invocation: Duration::from_mins(14),
            claims: AtomicUsize::new(0),
        }
    }

    /// Claims the incident as a worker does, once its lease is over, and investigates.
    pub(crate) async fn run(&self, model: Option<&dyn Model>) -> Result<Outcome, InvestigateError> {
        self.run_watched(model, None).await
    }

    pub(crate) async fn run_watched(
        &self,
        model: Option<&dyn Model>,
        events: Option<&sentinel_investigation::EventSender>,
    ) -> Result<Outcome, InvestigateError> {
        let rules = Rules { max_attempts: 1000, max_slices: 1000, ..Rules::of(&self.card) };
        let playbook = Playbook::compile(&self.card).unwrap();
        let owner = format!("owner-{}", self.claims.fetch_add(1, Ordering::SeqCst));
        if let Some(until) = self.store.head().lease_until {
            self.clock.set(until.plus(Duration::from_millis(1)));
        }
        let claim = Claim { generation: Gen(NOON.get()), owner };
        let claimed = drive(&self.ports, &id(), &claim, &rules, Start::Load, None).await?;
        let Claimed::Investigate(fence) = claimed.outcome else {
            panic!("not claimed: {:?}", claimed.outcome)
        };
        let redactor = Redactor::new(["swordfish-1234".to_owned()]);
        let run = Run {
            ports: &self.ports,
            head: claimed.head.unwrap(),
            fence,
            rules: &rules,
            playbook: &playbook,
            model,
            tools: &self.tools,
            redactor: &redactor,
            prices: &self.prices,
            budget: &[],
            max_output_tokens: 1_000,
            deadline: self.ports.clock.now().plus(self.invocation),
            model_timeout: self.model_timeout,
            no_model_reason: Some("no key is configured".into()),
            events,
        };
        let outcome = investigate(run).await?;
        if let Outcome::Yield { not_before, reason, head, .. } = &outcome {
            let input = Yield { fence, not_before: *not_before, reason: reason.clone() };
            let start = Start::Known(Box::new(head.clone()));
            let _ = drive(&self.ports, &id(), &input, &rules, start, None).await?;
            self.clock.set(*not_before);
        }
        Ok(outcome)
    }

    pub(crate) fn clock_now(&self) -> UnixMs {
        self.ports.clock.now()
    }

    /// Runs again and again, as long as the process dies, until there is a report; gives it and how often it died.
    pub(crate) async fn through(&self, model: &dyn Model) -> (Report, usize) {
        let mut crashes = 0;
        loop {
            match self.run(Some(model)).await {
                Ok(outcome) => return (report_of(outcome), crashes),
                Err(e) => {
                    assert!(e.is_retryable(), "{e}");
                    crashes += 1;
                    self.store.die_at(None);
                }
            }
        }
    }

    /// Runs to the report.
    pub(crate) async fn report(&self, model: &dyn Model) -> Report {
        report_of(self.run(Some(model)).await.unwrap())
    }
}

pub(crate) fn report_of(outcome: Outcome) -> Report {
    match outcome {
        Outcome::Report { report, .. } => *report,
        other => panic!("no report: {other:?}"),
    }
}

/// What the calls of the last turn were answered in a request.
pub(crate) fn answers(request: &TurnRequest) -> Vec<String> {
    request
        .input
        .iter()
        .filter_map(|item| match item {
            sentinel_investigation::ports::Item::CallOutput { output, .. } => Some(output.clone()),
            _ => None,
        })
        .collect()
}

/// Stands in the events.
pub(crate) const QUOTE: (&str, &str) = ("E1", "secret \"api-db\" not found");

pub(crate) fn pod() -> (&'static str, Value) {
    ("k8s__pod", json!({"namespace": "web"}))
}

/// A run of a scripted model in a world of its own, to its report. `dies` says when the process dies; gives the report and
/// how often it died.
pub(crate) async fn run_through(model: Script, dies: impl Fn(&World)) -> (World, Script, Report, usize) {
    let world = World::new();
    dies(&world);
    let (report, crashes) = world.through(&model).await;
    (world, model, report, crashes)
}
