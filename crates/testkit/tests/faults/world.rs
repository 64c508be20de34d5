//! The real handlers around a store in memory, under a clock that only the case moves: what AWS does around the
//! functions, and what Alertmanager does before them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use sentinel_core::UnixMs;
use sentinel_core::incident::{Head, IncidentId};
use sentinel_core::ports::{Clock as _, IncidentStore};
use sentinel_testkit::builders::NOON;
use sentinel_testkit::faults::{Faults, Process};
use sentinel_testkit::memory::MemoryStore;
use serde_json::Value;
use tokio::time::sleep_until;

use crate::checks;
use crate::over_dynamo::OverDynamo;
use crate::parts::{Analyst, Broken, CaseClock, Destination, Message, Queue, Told, Tools, Turn};
use crate::sender::Webhook;
pub(crate) use crate::setting::Setting;
use crate::spending;

mod processes;

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

/// What happens to the house from outside.
pub(crate) enum Action {
    /// A sender posts, until it is answered with 200.
    Post(Webhook),
    /// Something that is no job gets into the queue.
    Garbage,
    /// A person aborts whatever is not over.
    Abort,
    /// A person deletes every incident, again and again until it is done.
    Delete,
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
            Self::Delete => f.write_str("delete"),
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
    /// A wrong design: entries of the record that leave a head are lost.
    LosesEntries,
    /// A wrong design: turns are stored otherwise than they are sealed.
    ChangesTurns,
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
    /// The same as the processes reach it.
    reached: Arc<dyn IncidentStore>,
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
        let store = MemoryStore::watched(move |before, after| {
            checks::write(before, after, clock.now(), most_skew, &wrong);
            log.lock().unwrap().push((clock.now(), after.clone()));
        });
        let wrong = broken.clone();
        let store = Arc::new(store.counting(move |entry, spent| spending::entered(entry, spent, &wrong)));
        let memory = Arc::clone(&store);
        let reached: Arc<dyn IncidentStore> = match setting.over_dynamo {
            Some(liberties) => Arc::new(OverDynamo::new(liberties, memory, broken.clone())),
            None => memory,
        };
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
            reached,
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

    /// By how much two clocks may differ.
    pub(crate) fn most_skew(&self) -> Duration {
        self.setting.most_skew
    }

    /// The incidents: no notices.
    pub(crate) fn incidents(&self) -> Vec<Head> {
        self.store.heads().into_iter().filter(|head| !head.is_notice()).collect()
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
                Action::Delete => self.delete(),
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
