//! What the handlers are put between: a clock, a queue, a model, a tool box and sinks that a case controls and that
//! write down what reached them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::card::ToolId;
use sentinel_core::incident::{ChildName, Delivery, Event, Gen, IncidentId, Job, State};
use sentinel_core::ports::{self, Clock, JobQueue, QueueError, Sink, SinkError, Telling};
use sentinel_investigation::ports::{
    Api, FunctionCall, Item, Model, ModelError, Output, Said, ToolBox, ToolDefinition, ToolError, ToolOutput,
    TurnRequest, TurnResponse,
};
use sentinel_testkit::builders::NOON;
use sentinel_testkit::memory::MemoryStore;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use crate::spending;

/// The longest that SQS holds a message back.
const LONGEST_DELAY: Duration = Duration::from_mins(15);
/// How long the model thinks.
const THINKS: Duration = Duration::from_secs(5);
/// How long a tool takes.
const LOOKS: Duration = Duration::from_secs(1);
/// What the tool answers, and the report quotes.
const SEEN: &str = "phase: Pending, secret api-db not found";

/// What was found to be wrong with a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broken(Arc<Mutex<Vec<String>>>);

impl Broken {
    pub(crate) fn say(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    pub(crate) fn unless(&self, good: bool, what: impl FnOnce() -> String) {
        if !good {
            self.say(what());
        }
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// The runtime's paused time, which only the case moves, as a wall clock that may be wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CaseClock {
    started: Instant,
    /// By how much it is ahead, in milliseconds.
    ahead: i64,
}

impl CaseClock {
    /// Stands at [`NOON`].
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), ahead: 0 }
    }

    /// The same time, as a clock shows it that is so many milliseconds ahead.
    pub(crate) fn ahead(self, ahead: i64) -> Self {
        Self { ahead, ..self }
    }

    pub(crate) fn instant(&self, at: UnixMs) -> Instant {
        self.started + at.since(NOON)
    }
}

impl Clock for CaseClock {
    fn now(&self) -> UnixMs {
        let now = NOON.plus(self.started.elapsed());
        UnixMs::new(now.get() + self.ahead)
    }
}

/// A message of the queue.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) body: String,
    /// How often it was handed out.
    pub(crate) received: u32,
}

/// How much later each copy of a sent message arrives; none: it is lost.
pub(crate) type Carry = Box<dyn Fn() -> Vec<Duration> + Send + Sync>;

/// A queue that the case hands out.
pub(crate) struct Queue {
    clock: CaseClock,
    carry: Carry,
    waiting: Mutex<BTreeMap<(UnixMs, u64), Message>>,
    sent: Mutex<Vec<Job>>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

impl Queue {
    pub(crate) fn new(clock: CaseClock, carry: Carry) -> Self {
        Self { clock, carry, waiting: Mutex::default(), sent: Mutex::default() }
    }

    pub(crate) fn put(&self, body: String, received: u32, delay: Duration) {
        let mut waiting = self.waiting.lock().unwrap();
        let id = waiting.keys().map(|(_, id)| *id).max().unwrap_or_default() + 1;
        waiting.insert((self.clock.now().plus(delay), id), Message { id, body, received });
    }

    pub(crate) fn next_due(&self) -> Option<UnixMs> {
        self.waiting.lock().unwrap().keys().next().map(|(due, _)| *due)
    }

    /// Takes all that are due.
    pub(crate) fn take(&self, now: UnixMs) -> Vec<Message> {
        let mut waiting = self.waiting.lock().unwrap();
        let later = waiting.split_off(&(UnixMs::new(now.get() + 1), 0));
        std::mem::replace(&mut *waiting, later).into_values().collect()
    }

    pub(crate) fn has_taken(&self, incident: &IncidentId, generation: Gen) -> bool {
        let sent = self.sent.lock().unwrap();
        sent.iter().any(|job| job.incident == *incident && job.generation == generation)
    }

    /// Forgets everything, as the embedded queue does when its process ends.
    pub(crate) fn forget(&self) {
        self.waiting.lock().unwrap().clear();
    }
}

#[async_trait]
impl JobQueue for Queue {
    async fn send(&self, job: &Job, delay: Duration) -> Result<(), QueueError> {
        self.sent.lock().unwrap().push(job.clone());
        let body = serde_json::to_string(job).unwrap();
        for later in (self.carry)() {
            self.put(body.clone(), 0, delay.min(LONGEST_DELAY) + later);
        }
        Ok(())
    }
}

/// A turn that was paid for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Turn {
    pub(crate) incident: IncidentId,
    pub(crate) card: String,
    pub(crate) generation: Gen,
    pub(crate) number: u32,
    /// Its answer stood in the store when the request arrived.
    pub(crate) was_stored: bool,
}

/// A model that looks at the pod and then reports. It cannot be reached between `out` times.
#[derive(Debug)]
pub(crate) struct Analyst {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: CaseClock,
    pub(crate) broken: Broken,
    pub(crate) most_skew: Duration,
    /// Until when it is out of reach.
    pub(crate) out_until: UnixMs,
    pub(crate) paid: Mutex<Vec<Turn>>,
}

impl Analyst {
    /// Writes down what is paid for, and holds it against what stands in the store at that moment.
    fn charge(&self, incident: IncidentId, number: u32) {
        let now = self.clock.now();
        let Some(head) = self.store.head(&incident) else { return };
        let stored = self.store.body(&incident, head.generation, &ChildName::Turn(number));
        let turn = Turn {
            incident,
            card: head.card.clone(),
            generation: head.generation,
            number,
            was_stored: stored.is_some(),
        };
        let leased = head.state == State::Running
            && head.lease_until.is_some_and(|until| until.plus(self.most_skew) > now);
        self.broken.unless(leased || head.state != State::Running, || {
            format!("{now}: {turn:?} is paid for after the lease's end: {head:?}")
        });
        let mut paid = self.paid.lock().unwrap();
        paid.push(turn);
        spending::charged(&self.store, &paid, &self.broken);
    }
}

#[async_trait]
impl Model for Analyst {
    async fn respond(&self, request: &TurnRequest, _: Duration) -> Result<TurnResponse, ModelError> {
        if self.clock.now() < self.out_until {
            return Err(ModelError::Unavailable {
                reason: "overloaded".to_owned(),
                retry_after: None,
                billed: false,
            });
        }
        let answered = request.input.iter().filter(|item| matches!(item, Item::Response { .. })).count();
        self.charge(IncidentId::new(request.cache_key.clone()), u32::try_from(answered).unwrap() + 1);
        sleep(THINKS).await;
        let (name, arguments) = if answered == 0 && request.force.is_none() {
            ("k8s__pod", json!({}))
        } else {
            ("submit_report", report())
        };
        let call = FunctionCall {
            call_id: format!("call_{answered}"),
            name: name.to_owned(),
            arguments: arguments.to_string(),
        };
        Ok(TurnResponse {
            model: request.model.name.clone(),
            api: Api::Responses,
            outputs: vec![Output::plain(Said::Call(call))],
            incomplete: None,
            usage: spending::A_TURN,
            left_out: vec![],
        })
    }
}

fn report() -> Value {
    let evidence = json!([{"id": "E1", "quote": "secret api-db not found"}]);
    json!({
        "verdict": "action_required", "title": "The pod cannot start", "summary": "Its secret is missing.",
        "hypotheses": [{"statement": "The secret is gone.", "confidence": 0.9, "evidence": evidence}],
        "ruled_out": [], "gaps": [], "next_steps": []
    })
}

/// One tool, that answers.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    pub(crate) called: Mutex<u32>,
}

#[async_trait]
impl ToolBox for Tools {
    async fn list(&self, _: &str, _: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        Ok(vec![ToolDefinition {
            tool: "pod".to_owned(),
            description: "Reads the pod".to_owned(),
            input_schema: json!({"type": "object"}),
            read_only_hint: Some(true),
            destructive_hint: None,
            more: Map::new(),
            unusable: None,
        }])
    }

    async fn call(&self, _: &ToolId, _: &Map<String, Value>, _: Duration) -> Result<ToolOutput, ToolError> {
        *self.called.lock().unwrap() += 1;
        sleep(LOOKS).await;
        Ok(ToolOutput { text: SEEN.to_owned(), is_error: false, remarks: Vec::new() })
    }
}

/// What a destination was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) sink: &'static str,
    pub(crate) incident: IncidentId,
    pub(crate) generation: Gen,
    pub(crate) event: Event,
    /// Which notification or episode it is about.
    pub(crate) about: String,
    pub(crate) key: String,
    /// The latest beginning of an alert that the head knew.
    pub(crate) seen: Option<UnixMs>,
    /// Whether that is that all is over.
    pub(crate) over: bool,
    /// When it was told.
    pub(crate) at: UnixMs,
    /// What a storm notice listed: incidents and their generations.
    pub(crate) listed: Vec<String>,
}

/// A destination.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) name: &'static str,
    /// Whether it gives each message an id of its own, as Slack does.
    pub(crate) numbers: bool,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: CaseClock,
    pub(crate) broken: Broken,
    /// Until when it is down.
    pub(crate) down_until: UnixMs,
    pub(crate) told: Arc<Mutex<Vec<Told>>>,
}

#[async_trait]
impl Sink for Destination {
    async fn tell(&self, telling: &Telling) -> Result<ports::Told, SinkError> {
        let now = self.clock.now();
        if now < self.down_until {
            return Err(SinkError::Retry { reason: "503".to_owned(), after: None });
        }
        let (id, generation) = (telling.head.id.clone(), telling.head.generation);
        if let Some(head) = self.store.head(&id) {
            let begun = telling.event == Event::Started && head.attempts + head.slices > 0;
            let so = head.generation > generation || head.state.is_terminal() || begun;
            self.broken.unless(so, || format!("{now}: {} is told before it is so", telling.event));
        }
        if telling.event == Event::Resolved {
            self.broken
                .unless(telling.resolved().is_some(), || format!("{now}: it fires, and is told as over"));
        }
        if telling.event == Event::Findings {
            self.broken.unless(telling.report.is_some(), || format!("{now}: findings without a report"));
        }
        let mine = |d: &&Delivery| d.key.event == telling.event && d.key.sink == self.name;
        let armed = telling.head.deliveries.iter().find(mine).and_then(|d| d.armed);
        let about = match telling.event {
            Event::Updated => format!("{} {armed:?}", telling.head.digest),
            Event::Resolved => format!("{armed:?}"),
            // Of which incident it was the news.
            Event::Storm => telling.head.digest.clone(),
            _ => String::new(),
        };
        let mut told = self.told.lock().unwrap();
        told.push(Told {
            sink: self.name,
            incident: id,
            generation,
            event: telling.event,
            about,
            key: telling.idempotency_key.clone(),
            seen: telling.head.seen,
            over: telling.event == Event::Resolved || telling.resolved().is_some(),
            at: now,
            listed: telling.listed.iter().map(|listed| listed.incident.clone()).collect(),
        });
        Ok(ports::Told { remote: self.numbers.then(|| format!("ts-{}", told.len())), amiss: None })
    }
}
