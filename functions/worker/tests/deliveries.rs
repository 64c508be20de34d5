//! What people are told by the real worker, and what is kept of how that went.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test part that cannot do its work fails the test")]

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::budget::Limits;
use sentinel_core::card::{Card, Subscription, ToolId};
use sentinel_core::incident::{DeliveryState, Event, Head, Job, State};
use sentinel_core::intake::intake;
use sentinel_core::lifecycle::due_at;
use sentinel_core::notification::Message;
use sentinel_core::ports::{Clock as _, Ports, Sink, SinkError, Telling, Told};
use sentinel_core::redact::Redactor;
use sentinel_investigation::Playbook;
use sentinel_investigation::ports::{ToolBox, ToolDefinition, ToolError, ToolOutput};
use sentinel_local::{LocalQueue, Receiver};
use sentinel_telemetry::Metrics;
use sentinel_testkit::builders::{AlertBuilder, alert, card, message};
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::lambda::sqs_event;
use sentinel_testkit::memory::MemoryStore;
use sentinel_worker::{Mind, Worker, lambda};
use serde_json::{Map, Value, json};

/// A secret of no shape that anything would know it by.
const SECRET: &str = "ember-quartz-lantern";

/// One tool, which cannot be called any more. It is listed once this destination was asked to take something.
#[derive(Debug)]
struct BrokenTools(Option<Arc<Destination>>);

#[async_trait]
impl ToolBox for BrokenTools {
    async fn list(&self, _: &str, _: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        while self.0.as_ref().is_some_and(|first| first.told.lock().unwrap().is_empty()) {
            tokio::task::yield_now().await;
        }
        Ok(vec![ToolDefinition {
            tool: "pod".into(),
            description: "a pod".into(),
            input_schema: json!({"type": "object"}),
            read_only_hint: Some(true),
            destructive_hint: None,
            more: Map::new(),
            unusable: None,
        }])
    }

    async fn call(&self, _: &ToolId, _: &Map<String, Value>, _: Duration) -> Result<ToolOutput, ToolError> {
        Err(ToolError::Fatal(format!("the program ended, it was started with {SECRET}")))
    }
}

/// How a destination behaves.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Manner {
    Takes,
    Refuses,
    /// It takes a start only when the investigation is over.
    TakesStartsLate,
    Hangs,
}

#[derive(Debug)]
struct Destination {
    manner: Manner,
    store: Arc<MemoryStore>,
    told: Mutex<Vec<Telling>>,
}

#[async_trait]
impl Sink for Destination {
    async fn tell(&self, telling: &Telling) -> Result<Told, SinkError> {
        self.told.lock().unwrap().push(telling.clone());
        match self.manner {
            Manner::Refuses => return Err(SinkError::Refused(format!("401: token {SECRET} is not known"))),
            Manner::Hangs => pending().await,
            Manner::TakesStartsLate if telling.event == Event::Started => {
                while self.store.heads().iter().any(|head| !head.state.is_terminal()) {
                    tokio::task::yield_now().await;
                }
            }
            Manner::Takes | Manner::TakesStartsLate => {}
        }
        Ok(Told::default())
    }
}

struct Bench {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    queue: Receiver,
    worker: Worker,
    sink: Arc<Destination>,
    card: Card,
}

impl Bench {
    /// One card that asks no model, and one destination of this manner that is told these.
    fn new(card: Card, manner: Manner, events: &[Event]) -> Self {
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
        let sinks = vec![Subscription { sink: "hook".into(), events: events.iter().copied().collect() }];
        let card = Card { sinks, ..card };
        let playbook = Playbook::compile(&card).unwrap();
        let sink = Arc::new(Destination { manner, store: store.clone(), told: Mutex::default() });
        let worker = Worker {
            display: Arc::default(),
            ports,
            playbooks: Arc::new([(card.name.clone(), playbook)].into()),
            mind: Mind::None { reason: "none is configured".into() },
            tools: Arc::new(BrokenTools((manner == Manner::TakesStartsLate).then(|| sink.clone()))),
            sinks: Arc::new(BTreeMap::from([("hook".to_owned(), sink.clone() as Arc<dyn Sink>)])),
            redactor: Arc::new(Redactor::new([SECRET.to_owned()])),
            prices: Arc::default(),
            budget: Limits::default(),
            max_output_tokens: 1_000,
            model_timeout: Duration::from_secs(90),
            events: None,
            running: sentinel_worker::Running::default(),
            ending: sentinel_worker::EndingModels::default(),
            metrics: Metrics::off(),
        };
        Self { store, clock, queue: receiver, worker, sink, card }
    }

    async fn post(&self, alerts: impl IntoIterator<Item = AlertBuilder>) {
        self.take(&message(alerts)).await;
    }

    async fn take(&self, message: &Message) {
        let cards = std::slice::from_ref(&self.card);
        let _ = intake(&self.worker.ports, cards, &Redactor::default(), message).await.unwrap();
    }

    fn job(&self) -> Job {
        self.queue.pop_due(self.clock.now()).unwrap()
    }

    /// Handles one job.
    async fn handle(&self) {
        let deadline = self.clock.now().plus(Duration::from_mins(14));
        let _ = self.worker.handle(&self.job(), deadline).await.unwrap();
    }

    fn head(&self) -> Head {
        let [head] = &self.store.heads()[..] else { panic!("one incident") };
        head.clone()
    }

    fn told(&self) -> Vec<Telling> {
        self.sink.told.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_secret_in_a_destinations_error_is_not_kept() {
    let bench = Bench::new(card("pods").build(), Manner::Refuses, &[Event::Findings]);
    bench.post([alert("PodDown")]).await;
    bench.handle().await;
    let head = bench.head();
    let [delivery] = &head.deliveries[..] else { panic!("{head:?}") };
    assert_eq!(delivery.state, DeliveryState::Failed);
    let error = delivery.error.as_deref().unwrap();
    assert!(error.starts_with("401: token [redacted: configured-secret"), "{error}");
    let record = format!("{:?}", bench.store.record(&head.id));
    assert!(!record.contains(SECRET), "{record}");
}

#[tokio::test]
async fn a_secret_in_the_reason_of_a_failure_is_neither_kept_nor_told() {
    let card = card("pods").tool("k8s.pod").evidence("k8s.pod", json!({})).build();
    let bench = Bench::new(card, Manner::Takes, &[Event::Failed]);
    bench.post([alert("PodDown")]).await;
    bench.handle().await;
    let head = bench.head();
    let reason = head.reason.as_deref().unwrap();
    assert_eq!(head.state, State::Failed);
    assert!(reason.contains("it was started with [redacted: configured-secret"), "{reason}");
    let (record, told) = (format!("{:?}", bench.store.record(&head.id)), format!("{:?}", bench.told()));
    assert_eq!(bench.told().len(), 1);
    assert!(!record.contains(SECRET) && !told.contains(SECRET), "{record} {told}");
}

#[tokio::test]
async fn the_notification_that_is_told_is_the_latest_whatever_its_digest() {
    let events = [Event::Findings];
    // Snapshots are kept in the order of their digests, which have none in time.
    for name in (0..8).map(|n| format!("Alert{n}")) {
        let bench = Bench::new(card("pods").build(), Manner::Takes, &events);
        for pods in 1..=4 {
            let mut sent = message((0..pods).map(|pod| alert(&name).label("pod", &format!("p-{pod}"))));
            sent.envelope.external_url = Some(format!("http://alertmanager/{pods}"));
            bench.take(&sent).await;
        }
        bench.handle().await;
        let [telling] = &bench.told()[..] else { panic!("{:?}", bench.told()) };
        let told = telling.notification.as_ref().unwrap();
        let url = told.envelope.external_url.as_deref();
        assert_eq!((told.alerts.len(), url), (4, Some("http://alertmanager/4")), "{name}");
    }
}

#[tokio::test]
async fn an_end_that_waited_for_its_start_is_told_as_soon_as_that_is_told() {
    let events = [Event::Started, Event::Findings];
    let bench = Bench::new(card("pods").tool("k8s.pod").build(), Manner::TakesStartsLate, &events);
    bench.post([alert("PodDown")]).await;
    bench.handle().await;
    let told: Vec<Event> = bench.told().iter().map(|telling| telling.event).collect();
    assert_eq!(told, events, "nobody waits for the sweeper");
    assert!(bench.head().is_settled());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_runs_into_the_deadline_is_done_with_and_left_to_the_sweeper() {
    let bench = Bench::new(card("pods").build(), Manner::Hangs, &[Event::Findings]);
    bench.post([alert("PodDown")]).await;
    let body = serde_json::to_string(&bench.job()).unwrap();
    let event = serde_json::from_value(sqs_event(&[&body])).unwrap();
    let deadline = bench.clock.now().plus(Duration::from_secs(30));
    let began = tokio::time::Instant::now();
    let response = lambda::batch(&Arc::new(bench.worker.clone()), event, 1, deadline, None).await;
    assert_eq!(began.elapsed(), Duration::from_secs(29), "a moment before the platform ends it");
    let response = serde_json::to_value(response).unwrap();
    assert_eq!(response, json!({"batchItemFailures": []}), "back at once, it would run into it again");
    let head = bench.head();
    assert_eq!((head.state, bench.told().len()), (State::Done, 1));
    assert!(due_at(&head).is_some_and(|due| due > bench.clock.now()), "once the claim is over");
}
