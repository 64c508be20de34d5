//! The real handlers around a store in memory, under a clock that only the case moves: what AWS does around the
//! functions, and what Alertmanager does before them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use http::Request;
use sentinel_config::{Source, load};
use sentinel_core::UnixMs;
use sentinel_core::card::Card;
use sentinel_core::drive::{Start, drive};
use sentinel_core::incident::{Head, IncidentId};
use sentinel_core::lifecycle::{Abort, Rules};
use sentinel_core::ports::{Clock as _, IncidentStore, JobQueue, Ports, Sink};
use sentinel_ingest::{Authenticator, Credentials, Ingest};
use sentinel_investigation::ports::{Model, ToolBox};
use sentinel_local::LocalQueue;
use sentinel_testkit::builders::NOON;
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::faults::{Faults, Process};
use sentinel_testkit::memory::MemoryStore;
use sentinel_worker::{Mind, Worker, assemble, compile};
use serde_json::Value;
use tokio::time::{sleep, sleep_until};

use crate::checks;
use crate::mutant::OkOnConflict;
use crate::parts::{Analyst, Broken, CaseClock, Destination, Message, Queue, Told, Tools, Turn};
use crate::sender::Webhook;
pub(crate) use crate::setting::Setting;

/// Two cards: one starts at once, the other waits for its alert to resolve by itself. And both with one sink only, so
/// that all pairs of faults are not too many.
const CONFIG: &str = "
openai: {model: gpt-4.1-mini, timeout: 60s}
dispatcher: {dedupe-ttl-seconds: 600}
mcp-servers: [{name: k8s, server-url: 'https://mcp.example/mcp'}]
sinks:
- {name: hook, type: logger}
- {name: chat, type: logger, events: [started, findings, updated, resolved]}
resources:
- {name: pods, filters: {alertname: '=~Pod.*'}}
- {name: disks, filters: {alertname: '=~Disk.*'}}
- {name: lean pods, filters: {alertname: '=~LeanPod.*'}}
- {name: lean disks, filters: {alertname: '=~LeanDisk.*'}}
incident-cards:
- {name: pods, resource: pods, prompt: Find out why., tools: [k8s.pod], sinks: [hook, chat]}
- {name: disks, resource: disks, prompt: Find out why., tools: [k8s.pod], sinks: [hook, chat], wait: 60s}
- {name: lean pods, resource: lean pods, prompt: Find out why., tools: [k8s.pod], sinks: [hook]}
- {name: lean disks, resource: lean disks, prompt: Find out why., tools: [k8s.pod], sinks: [hook], wait: 60s}
";
/// How long the platform lets a worker run: `WorkerTimeout` of the template.
const INVOCATION: Duration = Duration::from_mins(15);
/// How long Alertmanager, or the gateway before the function, waits for an answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(29);
/// How often the sweeper comes.
const SWEEPS_EVERY: i64 = 60_000;
/// When a message that was not handled is seen again, and how often: the queue's visibility and `maxReceiveCount`.
const SEEN_AGAIN: Duration = Duration::from_secs(30);
const MOST_RECEIVED: u32 = 5;
/// How long nothing happens before it is believed that nothing more will: longer than anything is slow.
const CALM: Duration = Duration::from_mins(25);
/// Virtual time after which a case that is still not over is wrong.
const PATIENCE: Duration = Duration::from_hours(24);
/// Posts of one webhook after which it is wrong that none was taken.
const MOST_POSTS: u32 = 40;

struct Base {
    cards: Arc<[Card]>,
    rules: BTreeMap<String, Rules>,
    /// As production wires it; each process gets its own ports, model, tools and sinks.
    worker: Worker,
}

/// What all cases share: the configuration.
static BASE: LazyLock<Base> = LazyLock::new(|| {
    let source = Source { name: "case.yaml".into(), text: CONFIG.into(), base_dir: None };
    let loaded = load(&source, &|_| None).unwrap();
    let cards: Arc<[Card]> = loaded.settings.cards.clone().into();
    let ports = Ports {
        store: Arc::new(MemoryStore::default()),
        queue: Arc::new(LocalQueue::new(Arc::new(ManualClock::default())).0),
        clock: Arc::new(ManualClock::default()),
        fresh: Arc::new(String::new),
    };
    Base {
        rules: sentinel_sweeper::lambda::rules(&cards),
        cards,
        worker: assemble(&loaded.settings, compile(&loaded).unwrap(), ports, None).unwrap(),
    }
});

pub(crate) fn rules(card: &str) -> Rules {
    BASE.rules.get(card).cloned().unwrap_or_else(Rules::of_no_card)
}

/// What happens to the house from outside.
pub(crate) enum Action {
    /// A sender posts, until it is answered with 200.
    Post(Webhook),
    /// Something that is no job gets into the queue.
    Garbage,
    /// A person aborts whatever is not over.
    Abort,
    /// The one process of the embedded service is killed and started again.
    Restart,
    /// Somebody meddles with what is stored.
    Do(Box<dyn FnOnce(&World) + Send>),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Post(webhook) => webhook.fmt(f),
            Self::Garbage => f.write_str("garbage"),
            Self::Abort => f.write_str("abort"),
            Self::Restart => f.write_str("restart"),
            Self::Do(_) => f.write_str("something"),
        }
    }
}

/// Which house is played.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum House {
    /// The one with all its sinks.
    Whole,
    /// The same with one sink.
    Lean,
    /// A wrong design: it answers 200 on any conflict.
    OkOnConflict,
}

/// A webhook that was answered with 200.
pub(crate) struct Taken {
    pub(crate) firing: bool,
    /// When what fires began.
    pub(crate) starts: Vec<UnixMs>,
    pub(crate) incidents: Vec<IncidentId>,
}

/// How a process ended.
enum Ended {
    Posted { webhook: Webhook, tries: u32, answer: Option<(u16, Bytes)> },
    Batch { messages: Vec<Message>, failures: Option<Vec<String>> },
    Other,
}

/// One case.
pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) clock: CaseClock,
    pub(crate) broken: Broken,
    pub(crate) taken: Vec<Taken>,
    pub(crate) dead: Vec<String>,
    /// How often everything that ran was ended from outside.
    pub(crate) restarts: usize,
    /// Heads in the order in which they were written.
    pub(crate) written: Arc<Mutex<Vec<(UnixMs, Head)>>>,
    setting: Setting,
    analyst: Arc<Analyst>,
    tools: Arc<Tools>,
    sinks: [Arc<Destination>; 2],
    told: Arc<Mutex<Vec<Told>>>,
    fresh: Arc<AtomicU64>,
    processes: u64,
    alive: Vec<Process>,
    script: VecDeque<(UnixMs, Action)>,
    again: Vec<(UnixMs, Webhook, u32)>,
    running: FuturesUnordered<BoxFuture<'static, Ended>>,
    last_sweep: UnixMs,
}

impl World {
    pub(crate) fn new(mut setting: Setting) -> Self {
        let (clock, broken) = (CaseClock::start(), Broken::default());
        let written: Arc<Mutex<Vec<(UnixMs, Head)>>> = Arc::default();
        let (log, wrong, most_skew) = (Arc::clone(&written), broken.clone(), setting.most_skew);
        let store = Arc::new(MemoryStore::watched(move |before, after| {
            checks::write(before, after, clock.now(), most_skew, &wrong);
            log.lock().unwrap().push((clock.now(), after.clone()));
        }));
        let carry = std::mem::replace(&mut setting.carry, Box::new(Vec::new));
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let sinks = [("hook", false), ("chat", true)].map(|(name, numbers)| {
            Arc::new(Destination {
                name,
                numbers,
                store: Arc::clone(&store),
                clock,
                broken: broken.clone(),
                down_until: setting.sink_down_until,
                told: Arc::clone(&told),
            })
        });
        let analyst = Arc::new(Analyst {
            store: Arc::clone(&store),
            clock,
            broken: broken.clone(),
            most_skew: setting.most_skew,
            out_until: setting.model_out_until,
            paid: Mutex::default(),
        });
        Self {
            store,
            queue: Arc::new(Queue::new(clock, carry)),
            clock,
            broken,
            taken: vec![],
            dead: vec![],
            restarts: 0,
            written,
            setting,
            analyst,
            tools: Arc::default(),
            sinks,
            told,
            fresh: Arc::default(),
            processes: 0,
            alive: vec![],
            script: VecDeque::new(),
            again: vec![],
            running: FuturesUnordered::new(),
            last_sweep: NOON,
        }
    }

    pub(crate) fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// Who is told.
    pub(crate) fn sinks(&self) -> &'static [&'static str] {
        if self.setting.house == House::Lean { &["hook"] } else { &["hook", "chat"] }
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.setting.faults
    }

    pub(crate) fn paid(&self) -> Vec<Turn> {
        self.analyst.paid.lock().unwrap().clone()
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Says what happens, by milliseconds since the start; in the order of time.
    pub(crate) fn script(&mut self, actions: impl IntoIterator<Item = (u64, Action)>) {
        let at = |ms| NOON.plus(Duration::from_millis(ms));
        self.script.extend(actions.into_iter().map(|(ms, action)| (at(ms), action)));
    }

    /// Lets everything happen until nothing more does.
    pub(crate) async fn play(&mut self) {
        self.play_until(NOON.plus(PATIENCE)).await;
        let over = self.is_calm();
        let (now, heads) = (self.now(), self.store.heads());
        self.broken.unless(over, || format!("{now}: it goes on for ever: {heads:?}"));
    }

    /// Lets everything happen until then, or until nothing more does.
    pub(crate) async fn play_until(&mut self, end: UnixMs) {
        let mut calm_since = None;
        while self.now() < end {
            self.start_due();
            let next = if self.is_calm() {
                let since = *calm_since.get_or_insert(self.now());
                if self.now() >= since.plus(CALM) {
                    return;
                }
                Some(since.plus(CALM))
            } else {
                calm_since = None;
                self.next_time()
            };
            let next = next.map_or(end, |next| next.min(end));
            let ended = tokio::select! {
                biased;
                Some(ended) = self.running.next(), if !self.running.is_empty() => Some(ended),
                () = sleep_until(self.clock.instant(next)) => None,
            };
            if let Some(ended) = ended {
                self.ended(ended);
            }
        }
    }

    fn is_calm(&self) -> bool {
        self.running.is_empty()
            && self.script.is_empty()
            && self.again.is_empty()
            && self.queue.next_due().is_none()
            && self.store.first_due().is_none()
    }

    /// When something has to be started.
    fn next_time(&self) -> Option<UnixMs> {
        let script = self.script.front().map(|(at, _)| *at);
        let again = self.again.iter().map(|(at, ..)| *at).min();
        [script, again, self.queue.next_due(), self.next_sweep()].into_iter().flatten().min()
    }

    /// The first whole minute at which a sweep finds something. Those that find nothing are left out.
    fn next_sweep(&self) -> Option<UnixMs> {
        let due = self.store.first_due()?;
        let from = (due.get().max(self.last_sweep.get() + 1) - NOON.get()).max(0);
        Some(UnixMs::new(NOON.get() + (from + SWEEPS_EVERY - 1) / SWEEPS_EVERY * SWEEPS_EVERY))
    }

    fn start_due(&mut self) {
        let now = self.now();
        while let Some((_, action)) = self.script.pop_front_if(|(at, _)| *at <= now) {
            match action {
                Action::Post(webhook) => self.post(webhook, 1),
                Action::Garbage => self.queue.put("not a job at all".to_owned(), 0, Duration::ZERO),
                Action::Abort => self.abort(),
                Action::Restart => self.restart(),
                Action::Do(act) => act(self),
            }
        }
        let (due, later) = std::mem::take(&mut self.again).into_iter().partition(|(at, ..)| *at <= now);
        self.again = later;
        let due: Vec<_> = due;
        for (_, webhook, tries) in due {
            self.post(webhook, tries);
        }
        let messages = self.queue.take(now);
        if !messages.is_empty() {
            self.work(messages);
        }
        if self.next_sweep().is_some_and(|at| at <= now) {
            self.last_sweep = now;
            self.sweep();
        }
    }

    /// A process, and the ports as it reaches them.
    fn process(&mut self, name: &'static str) -> (Process, Ports) {
        let process = Process::new(name, &self.setting.faults);
        self.processes += 1;
        let ahead = (self.setting.skew)(name, self.processes);
        let store: Arc<dyn IncidentStore> = Arc::<MemoryStore>::clone(&self.store);
        let queue: Arc<dyn JobQueue> = Arc::<Queue>::clone(&self.queue);
        let ports = Ports {
            store: process.through(&store),
            queue: process.through(&queue),
            clock: Arc::new(self.clock.ahead(ahead)),
            fresh: fresh_ids(&self.fresh),
        };
        self.alive.push(process.clone());
        (process, ports)
    }

    fn post(&mut self, webhook: Webhook, tries: u32) {
        let (process, ports) = self.process("ingest");
        let wrong = self.setting.house == House::OkOnConflict;
        let ports = if wrong { OkOnConflict::around(ports) } else { ports };
        let door = Authenticator::new(Credentials::default()).or_loopback();
        let ingest = Ingest::new(ports, Arc::clone(&BASE.cards), door);
        let request = Request::post("/webhook/alertmanager")
            .body(Bytes::from(webhook.body(self.setting.house)))
            .unwrap();
        let answer = supervised(process, async move { ingest.handle(request).await });
        let answer = async move {
            tokio::select! {
                biased;
                answer = answer => answer.map(|a| (a.status().as_u16(), a.into_body())),
                // The sender has gone; the function goes on.
                () = sleep(ANSWERS_WITHIN) => None,
            }
        };
        self.running.push(Box::pin(async move { Ended::Posted { webhook, tries, answer: answer.await } }));
    }

    /// The worker as one invocation has it.
    fn worker(&self, process: &Process, ports: Ports) -> Worker {
        let model: Arc<dyn Model> = Arc::<Analyst>::clone(&self.analyst);
        let tools: Arc<dyn ToolBox> = Arc::<Tools>::clone(&self.tools);
        let sinks = self.sinks.iter().map(|sink| {
            let port: Arc<dyn Sink> = Arc::<Destination>::clone(sink);
            (sink.name.to_owned(), process.through(&port) as Arc<dyn Sink>)
        });
        Worker {
            ports,
            mind: Mind::Model(process.through(&model)),
            tools: process.through(&tools),
            sinks: Arc::new(sinks.collect()),
            ..BASE.worker.clone()
        }
    }

    fn work(&mut self, messages: Vec<Message>) {
        let (process, ports) = self.process("worker");
        let deadline = ports.clock.now().plus(INVOCATION);
        let worker = Arc::new(self.worker(&process, ports));
        let mut event = SqsEvent::default();
        event.records = messages
            .iter()
            .map(|message| {
                let mut record = SqsMessage::default();
                record.message_id = Some(message.id.to_string());
                record.body = Some(message.body.clone());
                record
            })
            .collect();
        let batch =
            supervised(
                process,
                async move { sentinel_worker::lambda::batch(&worker, event, 4, deadline).await },
            );
        self.running.push(Box::pin(async move {
            let failures = batch.await.map(|answer| {
                answer.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
            });
            Ended::Batch { messages, failures }
        }));
    }

    fn sweep(&mut self) {
        let (process, ports) = self.process("sweeper");
        let swept = supervised(process, async move {
            // What it could not do is due again in a minute.
            let _ = sentinel_sweeper::sweep(&ports, rules, 1_000).await;
        });
        self.other(swept);
    }

    fn abort(&mut self) {
        for head in self.store.heads() {
            let (process, ports) = self.process("abort");
            let aborted = supervised(process, async move {
                let input = Abort { who: "a person".to_owned() };
                let rules = rules(&head.card);
                drive(&ports, &head.id, &input, &rules, Start::Load, None).await.is_ok()
            });
            self.other(aborted);
        }
    }

    /// What was running is gone, and the queue with it; then the service starts, until it has started.
    fn restart(&mut self) {
        self.alive.drain(..).for_each(|process| process.kill());
        self.restarts += 1;
        self.queue.forget();
        let (process, ports) = self.process("restart");
        let restarted =
            supervised(process, async move { sentinel_sweeper::restart(&ports, rules).await.is_ok() });
        self.other(restarted);
    }

    fn other<T: Send + 'static>(&self, process: impl Future<Output = Option<T>> + Send + 'static) {
        self.running.push(Box::pin(async move {
            process.await;
            Ended::Other
        }));
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Posted { webhook, answer: Some((200, body)), .. } => self.taken(&webhook, &body),
            Ended::Posted { webhook, tries, answer } => {
                let refused = answer.is_some_and(|(status, _)| status < 500);
                self.broken.unless(!refused && tries < MOST_POSTS, || format!("never taken: {webhook:?}"));
                let pause = Duration::from_secs(1 << tries.min(6));
                self.again.push((self.now().plus(pause), webhook, tries + 1));
            }
            Ended::Batch { messages, failures } => {
                for message in messages {
                    let received = message.received + 1;
                    let again = match &failures {
                        None => self.setting.comes_back,
                        Some(failed) => failed.contains(&message.id.to_string()).then_some(SEEN_AGAIN),
                    };
                    match again {
                        Some(_) if received >= MOST_RECEIVED => self.dead.push(message.body),
                        Some(after) => self.queue.put(message.body, received, after),
                        None => {}
                    }
                }
            }
            Ended::Other => {}
        }
    }

    /// A 200: everything that it promises has to be so by now.
    fn taken(&mut self, webhook: &Webhook, body: &[u8]) {
        let receipt: Value = serde_json::from_slice(body).unwrap();
        let incidents = receipt["incidents"].as_array().unwrap().iter();
        let incidents = incidents.map(|incident| IncidentId::new(incident["id"].as_str().unwrap())).collect();
        let starts = webhook.facts.iter().filter(|fact| fact.ends_at.is_none()).map(|fact| fact.starts_at);
        let taken = Taken { firing: webhook.is_firing(), starts: starts.collect(), incidents };
        checks::answered(self, &taken);
        self.taken.push(taken);
    }
}

fn fresh_ids(counter: &Arc<AtomicU64>) -> sentinel_core::ports::FreshId {
    let counter = Arc::clone(counter);
    Arc::new(move || format!("id-{}", counter.fetch_add(1, Ordering::SeqCst)))
}

/// Runs a handler until it ends or crashes (`None`).
async fn supervised<T: Send + 'static>(
    process: Process,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let mut task = tokio::spawn(work);
    tokio::select! {
        biased;
        ended = &mut task => match ended {
            Ok(ended) => Some(ended),
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => None,
        },
        () = process.crashed() => {
            task.abort();
            None
        }
    }
}
