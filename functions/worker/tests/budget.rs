//! Budgets in the real worker: what is spent never exceeds a limit, and what is refused is never refused silently.
#![expect(clippy::unwrap_used, reason = "a test part that cannot do its work fails the test")]

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::budget::{Limits, MicroUsd, Scope};
use sentinel_core::card::{Card, Subscription, ToolId};
use sentinel_core::incident::{ChildName, Event, Head, State};
use sentinel_core::intake::intake;
use sentinel_core::lifecycle::{BETWEEN_NOTICES, GATHER, notice_id};
use sentinel_core::ports::{Clock as _, Ports, Sink, SinkError, Telling, Told};
use sentinel_core::price::Price;
use sentinel_core::redact::Redactor;
use sentinel_core::report::{Report, ReportSource};
use sentinel_investigation::ports::{
    Api, FunctionCall, Model, ModelError, Output, Said, ToolBox, ToolDefinition, ToolError, ToolOutput,
    TurnRequest, TurnResponse, TurnUsage,
};
use sentinel_local::{LocalQueue, Receiver};
use sentinel_telemetry::Metrics;
use sentinel_testkit::builders::{NOON, alert, card, message};
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::memory::MemoryStore;
use sentinel_worker::{Mind, Worker};
use serde_json::{Map, Value, json};

/// What one turn costs: 1,000 tokens sent and 100 received, a dollar a million each.
const A_TURN: u64 = 1_100;

#[derive(Debug)]
struct NoTools;

#[async_trait]
impl ToolBox for NoTools {
    async fn list(&self, _: &str, _: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        Ok(vec![])
    }

    async fn call(&self, _: &ToolId, _: &Map<String, Value>, _: Duration) -> Result<ToolOutput, ToolError> {
        Err(ToolError::RespondToModel("there is no tool".into()))
    }
}

/// Reports at once, and counts what it was asked. Before that it fails in these ways.
#[derive(Debug, Default)]
struct Analyst {
    turns: AtomicUsize,
    hangs: bool,
    fails: Mutex<Vec<ModelError>>,
}

#[async_trait]
impl Model for Analyst {
    async fn respond(&self, _: &TurnRequest, _: Duration) -> Result<TurnResponse, ModelError> {
        let n = self.turns.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            return pending().await;
        }
        if let Some(error) = self.fails.lock().unwrap().pop() {
            return Err(error);
        }
        // As a real call does: everything else gets its turn meanwhile.
        tokio::task::yield_now().await;
        let report = json!({
            "verdict": "inconclusive", "title": "t", "summary": "s", "hypotheses": [], "ruled_out": [],
            "gaps": ["everything"], "next_steps": [],
        });
        let call = FunctionCall {
            call_id: format!("c{n}"),
            name: "submit_report".into(),
            arguments: report.to_string(),
        };
        Ok(TurnResponse {
            model: "m".into(),
            api: Api::Responses,
            outputs: vec![Output::plain(Said::Call(call))],
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

/// Keeps what it is told.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Telling>>);

#[async_trait]
impl Sink for Kept {
    async fn tell(&self, telling: &Telling) -> Result<Told, SinkError> {
        self.0.lock().unwrap().push(telling.clone());
        Ok(Told::default())
    }
}

struct Bench {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    queue: Receiver,
    worker: Worker,
    model: Arc<Analyst>,
    sink: Arc<Kept>,
    card: Card,
}

impl Bench {
    /// One card, which is told of to `hook`; all cards together may spend `overall`, and this one `own`.
    fn new(overall: Limits, own: Limits, hangs: bool) -> Self {
        let (store, clock) = (Arc::new(MemoryStore::default()), Arc::new(ManualClock::default()));
        let (queue, receiver) = LocalQueue::new(clock.clone());
        let fresh = AtomicUsize::new(0);
        let ports = Ports {
            store: store.clone(),
            queue: Arc::new(queue),
            clock: clock.clone(),
            fresh: Arc::new(move || format!("fresh-{}", fresh.fetch_add(1, Ordering::SeqCst))),
            signing_key: None,
        };
        let sinks = vec![Subscription { sink: "hook".into(), events: Event::ALL.into() }];
        let card = Card { budget: own, sinks, ..card("pods").build() };
        let playbook = sentinel_investigation::Playbook::compile(&card).unwrap();
        let (model, sink) = (Arc::new(Analyst { hangs, ..Analyst::default() }), Arc::new(Kept::default()));
        let worker = Worker {
            display: Arc::default(),
            ports,
            playbooks: Arc::new([("pods".to_owned(), playbook)].into()),
            mind: Mind::Model(model.clone()),
            tools: Arc::new(NoTools),
            sinks: Arc::new(BTreeMap::from([("hook".to_owned(), sink.clone() as Arc<dyn Sink>)])),
            redactor: Arc::new(Redactor::default()),
            prices: Arc::new(
                [(card.model.clone(), Price { cache_write: 1.0, ..Price::new(1.0, 1.0, 1.0) })].into(),
            ),
            budget: overall,
            max_output_tokens: 1_000,
            model_timeout: Duration::from_secs(90),
            events: None,
            running: sentinel_worker::Running::default(),
            ending: sentinel_worker::EndingModels::default(),
            metrics: Metrics::off(),
        };
        Self { store, clock, queue: receiver, worker, model, sink, card }
    }

    /// Takes `n` alerts in, each an incident of its own.
    async fn fire(&self, names: impl IntoIterator<Item = String>) {
        for name in names {
            let told = message([alert(&name)]);
            let receipt =
                intake(&self.worker.ports, std::slice::from_ref(&self.card), &Redactor::default(), &told)
                    .await
                    .unwrap();
            assert_eq!(receipt.accepted, 1);
        }
    }

    /// Handles all that is due at the same time, as many workers do.
    async fn work(&self) {
        loop {
            let mut handled = tokio::task::JoinSet::new();
            while let Some(job) = self.queue.pop_due(self.clock.now()) {
                let (worker, deadline) =
                    (self.worker.clone(), self.clock.now().plus(Duration::from_mins(14)));
                handled.spawn(async move { worker.handle(&job, deadline).await.unwrap() });
            }
            if handled.is_empty() {
                return;
            }
            let _ = handled.join_all().await;
        }
    }

    fn incidents(&self) -> Vec<Head> {
        self.store.heads().into_iter().filter(|head| !head.is_notice()).collect()
    }

    fn reports(&self) -> Vec<Report> {
        let body = |h: &Head| self.store.body(&h.id, h.generation, &ChildName::Report).unwrap();
        self.incidents().iter().map(|h| serde_json::from_str(&body(h)).unwrap()).collect()
    }

    /// How many incidents each notice listed.
    fn notices(&self) -> Vec<usize> {
        let told = self.sink.0.lock().unwrap();
        told.iter().filter(|t| t.event == Event::Storm).map(|t| t.listed.len()).collect()
    }
}

fn by_model(reports: &[Report]) -> usize {
    reports.iter().filter(|r| r.source == ReportSource::Model).count()
}

fn names(of: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    of.map(|n| format!("Alert{n}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_workers_begin_no_more_investigations_than_the_budget_has() {
    let limits = Limits { per_hour: Some(7), ..Limits::default() };
    let bench = Bench::new(limits, Limits::default(), false);
    bench.fire(names(0..40)).await;
    bench.work().await;
    let reports = bench.reports();
    assert_eq!((by_model(&reports), reports.len()), (7, 40));
    assert!(bench.incidents().iter().all(|head| head.state == State::Done));
    let refused = reports.iter().find(|r| r.source == ReportSource::EvidenceOnly).unwrap();
    assert!(
        refused.summary.contains("the budget overall is used up (7 investigations an hour)"),
        "{}",
        refused.summary
    );
    let counters = bench.store.counters();
    assert_eq!(counters.spent(&Scope::Overall, NOON).hour.investigations, 7);
    assert_eq!(counters.open(), 0, "everything is settled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_workers_spend_no_more_than_the_budget_in_dollars() {
    let cap = MicroUsd(100_000);
    let limits = Limits { usd_per_day: Some(cap), ..Limits::default() };
    let bench = Bench::new(Limits::default(), limits, false);
    for n in 0..20 {
        bench.fire(names(n * 20..(n + 1) * 20)).await;
        bench.work().await;
    }
    let paid = bench.model.turns.load(Ordering::SeqCst) as u64 * A_TURN;
    let counted = bench.store.counters().spent(&Scope::Card("pods".into()), NOON).day.usd;
    assert!(paid > 0 && paid <= cap.0, "{paid} of {cap}");
    assert_eq!(counted.0, paid, "what is counted is what was paid, to the millionth");
    assert!(by_model(&bench.reports()) < 400, "the budget did end");
    assert_eq!(bench.store.counters().open(), 0);
}

#[tokio::test]
async fn one_notice_an_hour_lists_what_ended_on_its_evidence_alone() {
    let limits = Limits { per_day: Some(1), ..Limits::default() };
    let bench = Bench::new(limits, Limits::default(), false);
    bench.fire(names(0..4)).await;
    bench.work().await;
    assert_eq!(bench.notices(), [0; 0], "it waits for what the same storm brings");
    bench.clock.advance(GATHER);
    bench.work().await;
    assert_eq!(bench.notices(), [3]);
    let told = bench.sink.0.lock().unwrap().last().cloned().unwrap();
    let listed: Vec<String> =
        told.listed.iter().map(|l| format!("{} {}", l.card, l.labels["alertname"])).collect();
    let place = bench.reports().iter().position(|r| r.source == ReportSource::Model).unwrap();
    let investigated = format!("pods {}", bench.incidents()[place].labels["alertname"]);
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|l| l.starts_with("pods Alert")), "{listed:?}");
    assert!(!listed.contains(&investigated), "{listed:?}");
    assert_eq!(told.head.reason.as_deref(), Some("the budget overall is used up (1 investigation a day)"));

    // What comes within the hour is on the next one, and that is not told before.
    bench.clock.advance(Duration::from_mins(10));
    bench.fire(names(4..6)).await;
    bench.work().await;
    bench.clock.advance(Duration::from_mins(20));
    bench.fire(names(6..7)).await;
    bench.work().await;
    assert_eq!(bench.notices(), [3]);
    bench.clock.advance(BETWEEN_NOTICES.saturating_sub(Duration::from_mins(30)));
    bench.work().await;
    assert_eq!(bench.notices(), [3, 3]);
    // Each of them was told by itself too, as evidence only.
    let told = bench.sink.0.lock().unwrap().clone();
    assert_eq!(told.iter().filter(|t| t.event == Event::Findings).count(), 7);
    let notice = bench.store.head(&notice_id("hook")).unwrap();
    assert!(notice.ttl.is_some(), "what is told is garbage some day");
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_answer_may_have_cost_stays_spent_and_a_refusal_costs_nothing() {
    let limits = Limits { usd_per_day: Some(MicroUsd(100_000)), per_hour: Some(5), ..Limits::default() };
    let spent = async |error| {
        let bench = Bench::new(limits, Limits::default(), false);
        bench.model.fails.lock().unwrap().push(error);
        bench.fire(names(0..1)).await;
        bench.work().await;
        assert_eq!((by_model(&bench.reports()), bench.model.turns.load(Ordering::SeqCst)), (1, 2));
        let spent = bench.store.counters().spent(&Scope::Overall, NOON).day;
        assert_eq!(spent.investigations, 1);
        (spent.usd.0, bench.store.counters().open())
    };
    let out = |billed| ModelError::Unavailable { reason: "out".into(), retry_after: None, billed };
    assert_eq!(spent(out(false)).await, (A_TURN, 0));
    for error in [out(true), ModelError::Unreadable("half of it".into())] {
        let (usd, open) = spent(error).await;
        assert!(usd > 2 * A_TURN && open == 1, "the most that the lost one could cost: {usd}, {open}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_investigation_that_no_model_answered_leaves_its_place_to_the_next() {
    let limits = Limits { per_hour: Some(1), ..Limits::default() };
    let bench = Bench::new(limits, Limits::default(), false);
    bench.model.fails.lock().unwrap().push(ModelError::Refused("there is no such model".into()));
    bench.fire(names(0..1)).await;
    bench.work().await;
    assert_eq!((by_model(&bench.reports()), bench.model.turns.load(Ordering::SeqCst)), (0, 1));
    let counters = bench.store.counters();
    assert_eq!((counters.spent(&Scope::Overall, NOON).hour.investigations, counters.open()), (0, 0));
    bench.fire(names(1..2)).await;
    bench.work().await;
    assert_eq!(by_model(&bench.reports()), 1);
}

#[tokio::test]
async fn what_a_crashed_worker_reserved_stays_spent_until_its_day_is_over() {
    let limits = Limits { usd_per_day: Some(MicroUsd(20_000)), per_hour: Some(5), ..Limits::default() };
    let bench = Bench::new(limits, Limits::default(), true);
    bench.fire(names(0..1)).await;
    let job = bench.queue.pop_due(bench.clock.now()).unwrap();
    let deadline = bench.clock.now().plus(Duration::from_mins(14));
    let handling = bench.worker.handle(&job, deadline);
    let waiting = async {
        while bench.model.turns.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    // It dies in the middle of its first call.
    tokio::select! {
        handled = handling => panic!("{handled:?}"),
        () = waiting => {}
    }
    let spent = |at: UnixMs| bench.store.counters().spent(&Scope::Overall, at);
    let held = spent(NOON).day;
    assert_eq!(held.investigations, 1);
    assert!(held.usd.0 > A_TURN, "the most that the call could cost: {}", held.usd);
    assert_eq!(spent(NOON.plus(Duration::from_hours(24))).day.investigations, 0);
    // Whoever resumes it is the same investigation.
    let model = Arc::new(Analyst::default());
    let worker = Worker { mind: Mind::Model(model.clone()), ..bench.worker.clone() };
    bench.clock.advance(Duration::from_mins(10));
    let deadline = bench.clock.now().plus(Duration::from_mins(14));
    let _ = worker.handle(&job, deadline).await.unwrap();
    let after = spent(NOON).day;
    assert_eq!(after.investigations, 1);
    assert_eq!(after.usd.0 - held.usd.0, model.turns.load(Ordering::SeqCst) as u64 * A_TURN);
    assert_eq!(by_model(&bench.reports()), 1);
}
