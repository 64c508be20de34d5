//! Faults at the ports: every call of a store, queue, model, tool box or sink can be made to go wrong, without anybody
//! listing the calls.
//!
//! A [`Process`] is one run of a handler: an invocation of a Lambda, say. It reaches the outside through [`Through`]
//! only, which asks the [`Faults`] of its case before each call. They count the calls of all processes and say what
//! becomes of each; a run without faults tells how many there are and which of them write. A process that has crashed
//! makes no call any more: its future waits for ever, and whoever started it drops it.

use std::fmt;
use std::future::{Future, pending};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::budget::{Entered, Entry};
use sentinel_core::card::ToolId;
use sentinel_core::incident::{Child, ChildName, Gen, Head, IncidentId, Job};
use sentinel_core::lifecycle::Owed;
use sentinel_core::ports::{
    Appended, Created, DuePage, IncidentStore, JobQueue, QueueError, Sink, SinkError, StoreError, Swapped,
    Telling, Told,
};
use sentinel_investigation::ports::{
    Model, ModelError, ToolBox, ToolDefinition, ToolError, ToolOutput, TurnRequest, TurnResponse,
};
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

/// After this long a call that timed out is given up by its caller.
pub const TIMED_OUT_AFTER: Duration = Duration::from_secs(10);
/// A call that timed out takes effect all the same, this long after its caller gave it up.
pub const LANDS_AFTER: Duration = Duration::from_secs(5);
/// How late a slow call arrives: past every lease that a worker of these tests takes.
pub const LATE_BY: Duration = Duration::from_secs(150);
/// How late a slow reply arrives: past the deadline of every invocation.
pub const STUCK_FOR: Duration = Duration::from_mins(20);

/// What goes wrong with a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// The process dies before the call leaves.
    CrashBefore,
    /// The call takes effect, and the process dies without having seen the reply.
    CrashAfter,
    /// The call takes effect, and its caller gets an error at once.
    ReplyLost,
    /// The call is refused for now, at once.
    Throttled,
    /// The caller gets an error after [`TIMED_OUT_AFTER`], and the call takes effect after that.
    TimedOut,
    /// The call arrives after [`LATE_BY`].
    SlowCall,
    /// The call takes effect, and its reply comes after [`STUCK_FOR`].
    SlowReply,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::ReplyLost,
        Self::Throttled,
        Self::TimedOut,
        Self::SlowCall,
        Self::SlowReply,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CrashBefore => "crash before",
            Self::CrashAfter => "crash after",
            Self::ReplyLost => "reply lost",
            Self::Throttled => "throttled",
            Self::TimedOut => "timed out",
            Self::SlowCall => "slow call",
            Self::SlowReply => "slow reply",
        })
    }
}

/// One call of one process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Point {
    /// Which process.
    pub process: &'static str,
    /// Which method.
    pub call: &'static str,
    /// Whether it changes something outside: a write, a send, something that is paid for, a message to a person.
    pub writes: bool,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.process, self.call)
    }
}

/// What becomes of one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fate {
    /// How long it takes to arrive.
    pub latency: Duration,
    /// What goes wrong with it.
    pub fault: Option<Kind>,
}

/// Says what becomes of the n-th call of a case.
type Choose = Box<dyn Fn(usize, Point) -> Fate + Send + Sync>;

/// The calls of one case.
pub struct Faults {
    choose: Choose,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    points: Vec<Point>,
    injected: Vec<(Point, Kind)>,
    crashes: Vec<Instant>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

impl Faults {
    /// Calls of which `choose` says what becomes of each, by its number from 0.
    pub fn chosen(choose: impl Fn(usize, Point) -> Fate + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { choose: Box::new(choose), seen: Mutex::default() })
    }

    /// Calls that take `latency`, of which those with these numbers go wrong.
    pub fn planned(latency: Duration, plan: Vec<(usize, Kind)>) -> Arc<Self> {
        Self::chosen(move |n, _| {
            let fault = plan.iter().find(|(at, _)| *at == n).map(|(_, kind)| *kind);
            Fate { latency, fault }
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, point: Point) -> Fate {
        let mut seen = self.seen();
        let fate = (self.choose)(seen.points.len(), point);
        seen.points.push(point);
        seen.injected.extend(fate.fault.map(|kind| (point, kind)));
        fate
    }

    /// The calls so far.
    pub fn points(&self) -> Vec<Point> {
        self.seen().points.clone()
    }

    /// What went wrong so far.
    pub fn injected(&self) -> Vec<(Point, Kind)> {
        self.seen().injected.clone()
    }

    /// When a process crashed.
    pub fn crashes(&self) -> Vec<Instant> {
        self.seen().crashes.clone()
    }
}

/// One run of a handler. Clones are the same process.
#[derive(Clone, Debug)]
pub struct Process {
    name: &'static str,
    faults: Arc<Faults>,
    life: Arc<Life>,
}

#[derive(Debug, Default)]
struct Life {
    over: AtomicBool,
    ended: Notify,
}

impl Process {
    /// A process that calls the outside under these faults.
    pub fn new(name: &'static str, faults: &Arc<Faults>) -> Self {
        Self { name, faults: Arc::clone(faults), life: Arc::default() }
    }

    /// What it is.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Ends it from outside: it makes no call any more.
    pub fn kill(&self) {
        self.life.over.store(true, Ordering::SeqCst);
        self.life.ended.notify_one();
    }

    /// Returns when it has crashed.
    pub async fn crashed(&self) {
        self.life.ended.notified().await;
    }

    /// Gives a port as this process reaches it.
    pub fn through<P: ?Sized>(&self, port: &Arc<P>) -> Arc<Through<P>> {
        Arc::new(Through { port: Arc::clone(port), process: self.clone() })
    }

    fn is_over(&self) -> bool {
        self.life.over.load(Ordering::SeqCst)
    }

    async fn call<T: Send + 'static, E: Send + 'static>(
        &self,
        call: &'static str,
        writes: bool,
        effect: impl Future<Output = Result<T, E>> + Send + 'static,
        fails: impl FnOnce(Kind) -> E + Send,
    ) -> Result<T, E> {
        if self.is_over() {
            return pending().await;
        }
        let Fate { latency, fault } = self.faults.next(Point { process: self.name, call, writes });
        if fault == Some(Kind::CrashBefore) {
            return self.crash().await;
        }
        if fault == Some(Kind::Throttled) {
            return Err(fails(Kind::Throttled));
        }
        if fault == Some(Kind::TimedOut) {
            tokio::time::sleep(TIMED_OUT_AFTER).await;
            tokio::spawn(async move {
                tokio::time::sleep(LANDS_AFTER).await;
                drop(effect.await);
            });
            return Err(fails(Kind::TimedOut));
        }
        tokio::time::sleep(if fault == Some(Kind::SlowCall) { LATE_BY } else { latency }).await;
        let done = effect.await;
        match fault {
            Some(Kind::CrashAfter) => self.crash().await,
            Some(Kind::ReplyLost) => Err(fails(Kind::ReplyLost)),
            Some(Kind::SlowReply) => {
                tokio::time::sleep(STUCK_FOR).await;
                done
            }
            // Killed while it waited: the reply reaches nobody.
            _ if self.is_over() => pending().await,
            _ => done,
        }
    }

    async fn crash<T>(&self) -> T {
        self.faults.seen().crashes.push(Instant::now());
        self.kill();
        pending().await
    }
}

fn unavailable(kind: Kind) -> StoreError {
    StoreError::Unavailable(kind.to_string())
}

fn no_answer(kind: Kind) -> ToolError {
    ToolError::RespondToModel(kind.to_string())
}

/// What storing entries of the record that leave a head is called.
pub const MOVED: &str = "append entries";

/// A port as one process reaches it.
#[derive(Debug)]
pub struct Through<P: ?Sized> {
    port: Arc<P>,
    process: Process,
}

#[async_trait]
impl IncidentStore for Through<dyn IncidentStore> {
    async fn create(&self, head: &Head) -> Result<Created, StoreError> {
        let (port, head) = (Arc::clone(&self.port), head.clone());
        let effect = async move { port.create(&head).await };
        self.process.call("create", true, effect, unavailable).await
    }

    async fn load(&self, id: &IncidentId) -> Result<Option<Head>, StoreError> {
        let (port, id) = (Arc::clone(&self.port), id.clone());
        let effect = async move { port.load(&id).await };
        self.process.call("load", false, effect, unavailable).await
    }

    async fn swap(&self, head: &Head) -> Result<Swapped, StoreError> {
        let (port, head) = (Arc::clone(&self.port), head.clone());
        let effect = async move { port.swap(&head).await };
        self.process.call("swap", true, effect, unavailable).await
    }

    async fn append(&self, id: &IncidentId, child: &Child) -> Result<Appended, StoreError> {
        let (port, id, child) = (Arc::clone(&self.port), id.clone(), child.clone());
        let moved = matches!(child.name, ChildName::Entries(_) | ChildName::IntakeEntries(_));
        let effect = async move { port.append(&id, &child).await };
        self.process.call(if moved { MOVED } else { "append" }, true, effect, unavailable).await
    }

    async fn children(&self, id: &IncidentId, generation: Gen) -> Result<Vec<Child>, StoreError> {
        let (port, id) = (Arc::clone(&self.port), id.clone());
        let effect = async move { port.children(&id, generation).await };
        self.process.call("children", false, effect, unavailable).await
    }

    async fn all_children(&self, id: &IncidentId) -> Result<Vec<Child>, StoreError> {
        let (port, id) = (Arc::clone(&self.port), id.clone());
        let effect = async move { port.all_children(&id).await };
        self.process.call("all_children", false, effect, unavailable).await
    }

    async fn remove(&self, id: &IncidentId, before: Gen) -> Result<usize, StoreError> {
        let (port, id) = (Arc::clone(&self.port), id.clone());
        let effect = async move { port.remove(&id, before).await };
        self.process.call("remove", true, effect, unavailable).await
    }

    async fn due(
        &self,
        owed: Owed,
        within: RangeInclusive<UnixMs>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        let port = Arc::clone(&self.port);
        let effect = async move { port.due(owed, within, limit).await };
        self.process.call("due", false, effect, unavailable).await
    }

    async fn recent_before(&self, before: Gen, limit: usize) -> Result<Vec<Head>, StoreError> {
        let port = Arc::clone(&self.port);
        let effect = async move { port.recent_before(before, limit).await };
        self.process.call("recent", false, effect, unavailable).await
    }

    async fn budget(&self, entry: &Entry) -> Result<Entered, StoreError> {
        let (port, entry) = (Arc::clone(&self.port), entry.clone());
        let effect = async move { port.budget(&entry).await };
        self.process.call("budget", true, effect, unavailable).await
    }
}

#[async_trait]
impl JobQueue for Through<dyn JobQueue> {
    async fn send(&self, job: &Job, delay: Duration) -> Result<(), QueueError> {
        let (port, job) = (Arc::clone(&self.port), job.clone());
        let effect = async move { port.send(&job, delay).await };
        self.process.call("send", true, effect, |kind| QueueError::Unavailable(kind.to_string())).await
    }
}

#[async_trait]
impl Sink for Through<dyn Sink> {
    async fn tell(&self, telling: &Telling) -> Result<Told, SinkError> {
        let (port, telling) = (Arc::clone(&self.port), telling.clone());
        let effect = async move { port.tell(&telling).await };
        let fails = |kind: Kind| SinkError::Retry { reason: kind.to_string(), after: None };
        self.process.call("tell", true, effect, fails).await
    }
}

#[async_trait]
impl Model for Through<dyn Model> {
    async fn respond(&self, request: &TurnRequest, within: Duration) -> Result<TurnResponse, ModelError> {
        let (port, request) = (Arc::clone(&self.port), request.clone());
        let effect = async move { port.respond(&request, within).await };
        let fails = |kind: Kind| ModelError::Unavailable {
            reason: kind.to_string(),
            retry_after: None,
            billed: kind != Kind::Throttled,
        };
        self.process.call("respond", true, effect, fails).await
    }

    fn is_recorded(&self) -> bool {
        self.port.is_recorded()
    }
}

#[async_trait]
impl ToolBox for Through<dyn ToolBox> {
    async fn list(&self, server: &str, within: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        let (port, server) = (Arc::clone(&self.port), server.to_owned());
        let effect = async move { port.list(&server, within).await };
        self.process.call("list", false, effect, no_answer).await
    }

    async fn call(
        &self,
        tool: &ToolId,
        arguments: &Map<String, Value>,
        within: Duration,
    ) -> Result<ToolOutput, ToolError> {
        let (port, tool, arguments) = (Arc::clone(&self.port), tool.clone(), arguments.clone());
        let effect = async move { port.call(&tool, &arguments, within).await };
        self.process.call("call", false, effect, no_answer).await
    }
}
