//! What the worker measures, from a webhook's alert to a sink that is told.
#![expect(clippy::unwrap_used, reason = "a test part that cannot do its work fails the test")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::card::{Card, ToolId};
use sentinel_core::incident::Job;
use sentinel_core::intake::intake;
use sentinel_core::lifecycle::Claim;
use sentinel_core::ports::{Clock, Ports, Sink, SinkError, Telling, Told};
use sentinel_core::price::Price;
use sentinel_core::redact::Redactor;
use sentinel_investigation::ports::{
    Api, FunctionCall, Model, ModelError, Output, Said, ToolBox, ToolDefinition, ToolError, ToolOutput,
    TurnRequest, TurnResponse, TurnUsage,
};
use sentinel_local::{Backend, LocalQueue, Receiver};
use sentinel_telemetry::Metrics;
use sentinel_testkit::builders::{alert, card, message};
use sentinel_testkit::clock::ManualClock;
use sentinel_worker::{Handled, Mind, Worker};
use serde_json::{Map, Value, json};

/// Each call takes 40 ms of the clock; those with arguments cannot be made, if it says so.
#[derive(Debug)]
struct Tools {
    clock: Arc<ManualClock>,
    fatal: bool,
}

#[async_trait]
impl ToolBox for Tools {
    async fn list(&self, _: &str, _: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        Ok(vec![ToolDefinition {
            tool: "pods_get".into(),
            description: "Gets a pod.".into(),
            input_schema: json!({"type": "object"}),
            read_only_hint: Some(true),
            destructive_hint: None,
            more: Map::new(),
            unusable: None,
        }])
    }

    async fn call(
        &self,
        _: &ToolId,
        arguments: &Map<String, Value>,
        _: Duration,
    ) -> Result<ToolOutput, ToolError> {
        // As a real call does: everything else gets its turn meanwhile.
        tokio::task::yield_now().await;
        self.clock.advance(Duration::from_millis(40));
        if self.fatal && !arguments.is_empty() {
            return Err(ToolError::Fatal("no such server".into()));
        }
        Ok(ToolOutput { text: "the pod is out of memory".into(), is_error: false, remarks: Vec::new() })
    }
}

/// Asks for one tool call that is allowed and one that is not; then concludes.
#[derive(Debug)]
struct Script(AtomicUsize);

#[async_trait]
impl Model for Script {
    async fn respond(&self, _: &TurnRequest, _: Duration) -> Result<TurnResponse, ModelError> {
        let call = |id: &str, name: &str, arguments: Value| FunctionCall {
            call_id: id.into(),
            name: name.into(),
            arguments: arguments.to_string(),
        };
        let calls = match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => vec![
                call("a", "k8s__pods_get", json!({"name": "p"})),
                call("b", "k8s__pods_delete", json!({})),
            ],
            1 => {
                let cited = json!([{"id": "E1", "quote": "the pod is out of memory"}]);
                let report = json!({
                    "verdict": "action_required", "title": "t", "summary": "s", "ruled_out": [], "gaps": [],
                    "hypotheses": [{"statement": "s", "confidence": 0.9, "evidence": cited}],
                    "next_steps": [],
                });
                vec![call("c", "submit_report", report)]
            }
            _ => return Err(ModelError::Refused("no credit".into())),
        };
        Ok(TurnResponse {
            model: "gpt-4.1-mini".into(),
            api: Api::Responses,
            outputs: calls.into_iter().map(|call| Output::plain(Said::Call(call))).collect(),
            incomplete: None,
            left_out: vec![],
            usage: TurnUsage {
                input_tokens: 1_000,
                cached_tokens: 0,
                output_tokens: 100,
                ..TurnUsage::default()
            },
        })
    }
}

/// Fails as often as it says, then works.
#[derive(Debug)]
struct FailsAtFirst(AtomicUsize);

#[async_trait]
impl Sink for FailsAtFirst {
    async fn tell(&self, _: &Telling) -> Result<Told, SinkError> {
        if self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(SinkError::Retry { reason: "busy".into(), after: None });
        }
        Ok(Told::default())
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Bench {
    clock: Arc<ManualClock>,
    queue: Receiver,
    worker: Worker,
    card: Card,
    lines: Lines,
}

impl Bench {
    async fn new(mind: Mind, failures: usize) -> Self {
        let clock = Arc::new(ManualClock::default());
        let (sender, queue) = LocalQueue::new(Arc::<ManualClock>::clone(&clock));
        let fresh = AtomicUsize::new(0);
        let ports = Ports {
            store: Backend::memory().await.unwrap().store(),
            queue: Arc::new(sender),
            clock: Arc::<ManualClock>::clone(&clock),
            fresh: Arc::new(move || format!("id-{}", fresh.fetch_add(1, Ordering::SeqCst))),
            signing_key: None,
        };
        let card = card("pods").tool("k8s.pods_get").evidence("k8s.pods_get", json!({})).sink("hook").build();
        let playbook = sentinel_investigation::Playbook::compile(&card).unwrap();
        let sink: Arc<dyn Sink> = Arc::new(FailsAtFirst(AtomicUsize::new(failures)));
        let lines = Lines::default();
        let out = lines.clone();
        let worker = Worker {
            display: Arc::default(),
            ports,
            playbooks: Arc::new(BTreeMap::from([("pods".to_owned(), playbook)])),
            mind,
            tools: Arc::new(Tools { clock: Arc::clone(&clock), fatal: false }),
            sinks: Arc::new(BTreeMap::from([("hook".to_owned(), sink)])),
            redactor: Arc::new(Redactor::new([])),
            prices: Arc::new(BTreeMap::from([(card.model.clone(), Price::new(1.0, 0.5, 10.0))])),
            budget: sentinel_core::budget::Limits::default(),
            max_output_tokens: 1_000,
            model_timeout: Duration::from_secs(30),
            events: None,
            running: sentinel_worker::Running::default(),
            ending: sentinel_worker::EndingModels::default(),
            metrics: Metrics::to(move || out.clone()),
        };
        Self { clock, queue, worker, card, lines }
    }

    /// An alert arrives; gives its job.
    async fn fire(&self) -> Job {
        let message = message([alert("PodDown")]);
        let receipt =
            intake(&self.worker.ports, std::slice::from_ref(&self.card), &Redactor::default(), &message)
                .await
                .unwrap();
        assert_eq!(receipt.accepted, 1);
        self.queue.pop_due(self.clock.now()).unwrap()
    }

    async fn handle(&self, job: &Job) -> Handled {
        self.worker.handle(job, UnixMs::new(i64::MAX)).await.unwrap()
    }

    /// All that was measured since the last look: names with their values; of dimensions, their values first.
    fn measured(&self) -> String {
        let bytes = std::mem::take(&mut *self.lines.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        let line = |line: &str| {
            let mut line: Map<String, Value> = serde_json::from_str(line).unwrap();
            line.remove("_aws").unwrap();
            line.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn script() -> Mind {
    Mind::Model(Arc::new(Script(AtomicUsize::new(0))))
}

#[tokio::test]
async fn an_investigation_measures_its_waits_its_calls_its_cost_and_its_deliveries() {
    let bench = Bench::new(script(), 0).await;
    let job = bench.fire().await;
    bench.clock.advance(Duration::from_millis(700));
    assert!(matches!(bench.handle(&job).await, Handled::Concluded(_)));
    insta::assert_snapshot!(bench.measured(), @r#"
    AlertToClaimMs=700
    ClaimToStartMs=0
    Reason="not_offered" RefusedCalls=1
    Server="k8s" Tool="pods_get" ToolMs=[40,40]
    StartToReportMs=80 Tokens=2200 Turns=2 Usd=0.004
    Result="sent" Sink="hook" SinkResults=1
    "#);
}

#[tokio::test]
async fn what_a_failed_investigation_paid_for_is_counted_too() {
    let mut bench = Bench::new(script(), 0).await;
    bench.worker.tools = Arc::new(Tools { clock: Arc::clone(&bench.clock), fatal: true });
    let job = bench.fire().await;
    assert_eq!(bench.handle(&job).await, Handled::Failed);
    insta::assert_snapshot!(bench.measured(), @r#"
    AlertToClaimMs=0
    ClaimToStartMs=0 Tokens=1100 Turns=1 Usd=0.002
    Reason="not_offered" RefusedCalls=1
    Server="k8s" Tool="pods_get" ToolMs=40
    InvestigationsFailed=1
    Result="sent" Sink="hook" SinkResults=1
    "#);
}

#[tokio::test]
async fn a_claim_after_an_attempt_that_did_not_come_back_is_a_retry() {
    let bench = Bench::new(Mind::None { reason: "no key".into() }, 0).await;
    let job = bench.fire().await;
    let rules = bench.worker.rules("pods");
    let claim = Claim { generation: job.generation, owner: "crashed".into() };
    let start = sentinel_core::drive::Start::Load;
    let _ = sentinel_core::drive::drive(&bench.worker.ports, &job.incident, &claim, &rules, start, None)
        .await
        .unwrap();
    bench.clock.advance(Duration::from_mins(2));
    assert!(matches!(bench.handle(&job).await, Handled::Concluded(_)));
    insta::assert_snapshot!(bench.measured(), @r#"
    Retries=1
    ClaimToStartMs=0
    Server="k8s" Tool="pods_get" ToolMs=40
    StartToReportMs=40 Tokens=0 Turns=0 Usd=0.0
    Result="sent" Sink="hook" SinkResults=1
    "#);
}

#[tokio::test]
async fn a_delivery_that_fails_is_counted_by_its_result_each_time() {
    let bench = Bench::new(Mind::None { reason: "no key".into() }, 1).await;
    let job = bench.fire().await;
    assert!(matches!(bench.handle(&job).await, Handled::Concluded(_)));
    assert!(bench.measured().ends_with(r#"Result="retry" Sink="hook" SinkResults=1"#));
    bench.clock.advance(Duration::from_hours(1));
    assert_eq!(bench.handle(&job).await, Handled::Told);
    assert_eq!(bench.measured(), r#"Result="sent" Sink="hook" SinkResults=1"#);
}

/// Never takes anything again.
#[derive(Debug)]
struct Revoked;

#[async_trait]
impl Sink for Revoked {
    async fn tell(&self, _: &Telling) -> Result<Told, SinkError> {
        Err(SinkError::Refused("token_revoked".into()))
    }
}

#[tokio::test]
async fn a_destination_that_will_never_work_is_counted_for_its_alarm() {
    let mut bench = Bench::new(Mind::None { reason: "no key".into() }, 0).await;
    let sink: Arc<dyn Sink> = Arc::new(Revoked);
    bench.worker.sinks = Arc::new(BTreeMap::from([("hook".to_owned(), sink)]));
    let job = bench.fire().await;
    assert!(matches!(bench.handle(&job).await, Handled::Concluded(_)));
    let measured = bench.measured();
    assert!(measured.contains(r#"Result="refused" Sink="hook" SinkResults=1"#), "{measured}");
    assert_eq!(measured.lines().filter(|line| *line == "SinkRefusals=1").count(), 1, "{measured}");
}

#[tokio::test]
async fn whoever_watches_still_hears_every_step() {
    let mut bench = Bench::new(script(), 0).await;
    let events = sentinel_investigation::events();
    let mut heard = events.subscribe();
    bench.worker.events = Some(events);
    let job = bench.fire().await;
    assert!(matches!(bench.handle(&job).await, Handled::Concluded(_)));
    let mut steps = Vec::new();
    while let Ok(step) = heard.try_recv() {
        let Value::Object(step) = serde_json::to_value(step).unwrap() else {
            panic!("an event is an object")
        };
        steps.push(step["event"].as_str().unwrap().to_owned());
    }
    assert_eq!((steps.first().unwrap().as_str(), steps.last().unwrap().as_str()), ("started", "ended"));
}
