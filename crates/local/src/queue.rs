//! The queue: wake-ups with delays, in memory.
//!
//! Durability is not here. The store is the truth, and the sweep at start and each minute sends again whatever was not
//! finished, so losing this queue with its process loses nothing.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use sentinel_core::UnixMs;
use sentinel_core::incident::Job;
use sentinel_core::ports::{Clock, JobQueue, QueueError};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A job that was not handled is delivered again after this, doubled for each further time, …
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … but never more than this, …
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// … and this often in all; after that it is the sweeper's.
const MOST_DELIVERIES: u32 = 5;
/// The wall clock may be set while the queue sleeps, so it looks again at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// What a handler says about its job.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handled {
    /// Finished with: acknowledged.
    Done,
    /// Deliver it again after a pause.
    Again,
}

/// How full the queue is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Jobs that wait, for their delay or for a free place.
    pub waiting: usize,
    /// Jobs that are being handled by [`Receiver::run`].
    pub running: usize,
}

/// The sending end.
#[derive(Clone, Debug)]
pub struct LocalQueue(Arc<Shared>);

/// The receiving end: either [`run`](Receiver::run), or [`pop_due`](Receiver::pop_due) by hand.
#[derive(Debug)]
pub struct Receiver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    jobs: Mutex<Jobs>,
    sent: Notify,
}

#[derive(Debug, Default)]
struct Jobs {
    /// By due time, then in the order of sending.
    waiting: BTreeMap<(UnixMs, u64), Delivery>,
    /// Where in `waiting` each job is.
    places: HashMap<Job, (UnixMs, u64)>,
    sent: u64,
    running: usize,
}

#[derive(Debug)]
struct Delivery {
    job: Job,
    /// How often it was delivered before.
    before: u32,
}

impl Jobs {
    /// Lets a job wait until `due`. One that waits already keeps the earlier of the two times.
    fn insert(&mut self, delivery: Delivery, due: UnixMs) {
        if let Some(place) = self.places.get(&delivery.job).copied() {
            if place.0 <= due {
                return;
            }
            self.waiting.remove(&place);
        }
        let place = (due, self.sent);
        self.sent += 1;
        self.places.insert(delivery.job.clone(), place);
        self.waiting.insert(place, delivery);
    }

    fn pop_due(&mut self, now: UnixMs) -> Option<Delivery> {
        let first = self.waiting.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let delivery = first.remove();
        self.places.remove(&delivery.job);
        Some(delivery)
    }

    fn next_due(&self) -> Option<UnixMs> {
        self.waiting.keys().next().map(|(due, _)| *due)
    }
}

impl Shared {
    /// Nothing panics while it holds the lock, so a poisoned one is as good as any.
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalQueue {
    /// A queue whose delays are counted by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> (Self, Receiver) {
        let shared = Arc::new(Shared { clock, jobs: Mutex::default(), sent: Notify::new() });
        (Self(Arc::clone(&shared)), Receiver(shared))
    }

    /// How full it is.
    pub fn stats(&self) -> Stats {
        let jobs = self.0.jobs();
        Stats { waiting: jobs.waiting.len(), running: jobs.running }
    }
}

#[async_trait]
impl JobQueue for LocalQueue {
    async fn send(&self, job: &Job, delay: Duration) -> Result<(), QueueError> {
        let due = self.0.clock.now().plus(delay);
        self.0.jobs().insert(Delivery { job: job.clone(), before: 0 }, due);
        self.0.sent.notify_one();
        Ok(())
    }
}

impl Receiver {
    /// Takes the job that has been due longest at `now`, if any is.
    pub fn pop_due(&self, now: UnixMs) -> Option<Job> {
        self.0.jobs().pop_due(now).map(|delivery| delivery.job)
    }

    /// When the next waiting job is due.
    pub fn next_due(&self) -> Option<UnixMs> {
        self.0.jobs().next_due()
    }

    /// Handles jobs as they become due, at most `concurrency` (at least one) at once, until `shutdown`; then waits for
    /// those that are being handled. Dropping the future ends these too.
    ///
    /// A handler that says [`Handled::Again`] or panics gets its job again, after a pause that doubles, a few times.
    pub async fn run<H, F>(self, handler: H, concurrency: usize, shutdown: CancellationToken)
    where
        H: Fn(Job) -> F + Send + Sync + 'static,
        F: Future<Output = Handled> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let concurrency = concurrency.max(1);
        let mut running = JoinSet::new();
        while !shutdown.is_cancelled() {
            while running.len() < concurrency {
                let Some((delivery, place)) = self.take() else { break };
                running.spawn(handle(place, Arc::clone(&handler), delivery));
            }
            let sleep = self.time_to_next();
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(_) = running.join_next() => {}
                () = self.0.sent.notified() => {}
                () = tokio::time::sleep(sleep), if running.len() < concurrency => {}
            }
        }
        while running.join_next().await.is_some() {}
    }

    /// Takes the next due job and counts it as running in the same moment, so that [`Stats`] never misses it.
    fn take(&self) -> Option<(Delivery, Running)> {
        let mut jobs = self.0.jobs();
        let delivery = jobs.pop_due(self.0.clock.now())?;
        jobs.running += 1;
        Some((delivery, Running(Arc::clone(&self.0))))
    }

    fn time_to_next(&self) -> Duration {
        self.next_due().map_or(LONGEST_SLEEP, |due| due.since(self.0.clock.now()).min(LONGEST_SLEEP))
    }
}

/// A job that is counted as running for as long as this lives, also when its task is ended.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.jobs().running -= 1;
    }
}

async fn handle<H, F>(running: Running, handler: Arc<H>, delivery: Delivery)
where
    H: Fn(Job) -> F + Send + Sync,
    F: Future<Output = Handled> + Send,
{
    let Delivery { job, before } = delivery;
    let ended = AssertUnwindSafe(async { handler(job.clone()).await }).catch_unwind().await;
    match ended {
        Ok(Handled::Done) => return,
        Ok(Handled::Again) => {}
        Err(_) => {
            tracing::error!(incident = %job.incident, gen = %job.generation, "a job's handler panicked");
        }
    }
    let deliveries = before + 1;
    if deliveries >= MOST_DELIVERIES {
        tracing::warn!(incident = %job.incident, gen = %job.generation, deliveries, "a job is left to the sweeper");
        return;
    }
    let pause = FIRST_PAUSE.saturating_mul(1 << before.min(16)).min(LONGEST_PAUSE);
    let due = running.0.clock.now().plus(pause);
    running.0.jobs().insert(Delivery { job, before: deliveries }, due);
    running.0.sent.notify_one();
}
