//! Sweeps and restarts over a store in memory.
#![expect(clippy::unwrap_used, reason = "a test part that cannot do its work fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::budget::{Entered, Entry};
use sentinel_core::incident::{
    Child, Delivery, DeliveryKey, DeliveryState, Event, Gen, Head, IncidentId, Job, State,
};
use sentinel_core::lifecycle::{Rules, due_at};
use sentinel_core::ports::{
    Appended, Created, IncidentStore, JobQueue, Ports, QueueError, StoreError, Swapped,
};
use sentinel_sweeper::{SweepError, Swept, restart, sweep};
use sentinel_testkit::builders::{self, NOON};
use sentinel_testkit::clock::ManualClock;

#[derive(Debug, Default)]
struct FakeStore {
    heads: Mutex<BTreeMap<IncidentId, Head>>,
    down: bool,
    /// Heads that cannot be written.
    stuck: BTreeSet<IncidentId>,
}

#[async_trait]
impl IncidentStore for FakeStore {
    async fn create(&self, _: &Head) -> Result<Created, StoreError> {
        unreachable!("a sweep creates nothing")
    }

    async fn load(&self, id: &IncidentId) -> Result<Option<Head>, StoreError> {
        Ok(self.heads.lock().unwrap().get(id).cloned())
    }

    async fn swap(&self, head: &Head) -> Result<Swapped, StoreError> {
        if self.stuck.contains(&head.id) {
            return Err(StoreError::Refused {
                action: format!("PutItem {}", head.id),
                reason: "too large".into(),
            });
        }
        let mut heads = self.heads.lock().unwrap();
        match heads.get(&head.id) {
            Some(found) if found.version + 1 == head.version => {
                heads.insert(head.id.clone(), head.clone());
                Ok(Swapped::Stored)
            }
            found => Ok(Swapped::Stale(found.cloned().map(Box::new))),
        }
    }

    async fn append(&self, _: &IncidentId, _: &Child) -> Result<Appended, StoreError> {
        unreachable!("a sweep appends nothing")
    }

    async fn children(&self, _: &IncidentId, _: Gen) -> Result<Vec<Child>, StoreError> {
        unreachable!("a sweep reads no children")
    }

    async fn all_children(&self, _: &IncidentId) -> Result<Vec<Child>, StoreError> {
        unreachable!("a sweep reads no children")
    }

    async fn due(&self, now: UnixMs, limit: usize) -> Result<Vec<Head>, StoreError> {
        if self.down {
            return Err(StoreError::Unavailable("time-out".into()));
        }
        let mut due: Vec<Head> = self.heads.lock().unwrap().values().cloned().collect();
        due.retain(|head| due_at(head).is_some_and(|at| at <= now));
        due.sort_by_key(due_at);
        due.truncate(limit);
        Ok(due)
    }

    async fn recent(&self, _: usize) -> Result<Vec<Head>, StoreError> {
        unreachable!("a sweep lists nothing")
    }

    async fn budget(&self, _: &Entry) -> Result<Entered, StoreError> {
        unreachable!("a sweep spends nothing")
    }
}

#[derive(Debug, Default)]
struct FakeQueue {
    jobs: Mutex<Vec<(String, Duration)>>,
    now: AtomicUsize,
    most_at_once: AtomicUsize,
}

#[async_trait]
impl JobQueue for FakeQueue {
    async fn send(&self, job: &Job, delay: Duration) -> Result<(), QueueError> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.jobs.lock().unwrap().push((job.incident.to_string(), delay));
        Ok(())
    }
}

struct Bench {
    store: Arc<FakeStore>,
    queue: Arc<FakeQueue>,
    clock: Arc<ManualClock>,
    ports: Ports,
}

impl Bench {
    fn new(heads: Vec<Head>) -> Self {
        Self::on(FakeStore::default(), heads)
    }

    fn on(store: FakeStore, heads: Vec<Head>) -> Self {
        store.heads.lock().unwrap().extend(heads.into_iter().map(|head| (head.id.clone(), head)));
        let (store, queue) = (Arc::new(store), Arc::new(FakeQueue::default()));
        let clock = Arc::new(ManualClock::default());
        let fresh = AtomicUsize::new(0);
        let ports = Ports {
            store: Arc::<FakeStore>::clone(&store),
            queue: Arc::<FakeQueue>::clone(&queue),
            clock: Arc::<ManualClock>::clone(&clock),
            fresh: Arc::new(move || format!("writer-{}", fresh.fetch_add(1, Ordering::SeqCst))),
            signing_key: None,
        };
        Self { store, queue, clock, ports }
    }

    /// The jobs that were sent, by incident.
    fn sent(&self) -> Vec<(String, Duration)> {
        let mut jobs = std::mem::take(&mut *self.queue.jobs.lock().unwrap());
        jobs.sort();
        jobs
    }

    fn head(&self, id: &str) -> Head {
        self.store.heads.lock().unwrap().get(&IncidentId::new(id)).cloned().unwrap()
    }
}

fn no_card(_: &str) -> Rules {
    Rules::of_no_card()
}

fn head(id: &str, state: State) -> Head {
    Head { state, ..builders::head(id) }
}

fn running(id: &str, lease_until: UnixMs) -> Head {
    Head { epoch: 1, owner: Some("o".into()), lease_until: Some(lease_until), ..head(id, State::Running) }
}

fn delivering(id: &str, state: DeliveryState, at: UnixMs) -> Head {
    let key = DeliveryKey { event: Event::Findings, sink: "log".into() };
    let delivery = Delivery {
        key,
        state,
        at,
        tries: 1,
        claimer: Some("c".into()),
        remote: None,
        rearmed: false,
        armed: None,
        error: None,
    };
    Head { deliveries: vec![delivery], ..head(id, State::Done) }
}

fn jobs(ids: &[&str]) -> Vec<(String, Duration)> {
    ids.iter().map(|id| ((*id).to_owned(), Duration::ZERO)).collect()
}

const LATER: UnixMs = UnixMs::new(NOON.get() + 3_600_000);

#[tokio::test]
async fn what_is_due_is_sent_again_and_nothing_else_is() {
    let bench = Bench::new(vec![
        head("a-pending", State::Pending),
        Head { not_before: LATER, ..head("b-waiting", State::Pending) },
        running("c-crashed", NOON),
        running("d-at-work", LATER),
        delivering("e-untold", DeliveryState::Due, NOON),
        delivering("f-told-later", DeliveryState::Due, LATER),
        delivering("g-told", DeliveryState::Sent, NOON),
        head("h-settled", State::Failed),
    ]);
    bench.clock.advance(Duration::from_mins(2));
    assert_eq!(sweep(&bench.ports, no_card, 1_000).await.unwrap(), Swept { looked: 3, sent: 3 });
    assert_eq!(bench.sent(), jobs(&["a-pending", "c-crashed", "e-untold"]));
    assert_eq!(bench.head("a-pending").sends, 1, "so that the next time is later");

    assert_eq!(sweep(&bench.ports, no_card, 1_000).await.unwrap(), Swept { looked: 2, sent: 2 });
    assert_eq!(bench.sent(), jobs(&["c-crashed", "e-untold"]), "until a worker takes them");
}

#[tokio::test]
async fn incidents_that_nobody_can_finish_do_not_hide_the_others() {
    let stuck = (0..300).map(|n| running(&format!("stuck-{n:03}"), NOON.minus(Duration::from_hours(1))));
    let bench = Bench::new(stuck.chain([running("fresh", NOON)]).collect());
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(sweep(&bench.ports, no_card, 1_000).await.unwrap(), Swept { looked: 301, sent: 301 });
    assert!(bench.sent().iter().any(|(id, _)| id == "fresh"));
    assert_eq!(bench.queue.most_at_once.load(Ordering::SeqCst), 16);
}

#[tokio::test]
async fn a_sweep_ends_at_its_limit() {
    let bench = Bench::new((0..1_000).map(|n| running(&format!("{n:04}"), NOON)).collect());
    bench.clock.advance(Duration::from_secs(1));
    let swept = sweep(&bench.ports, no_card, 200).await.unwrap();
    assert!((200..400).contains(&swept.looked), "{swept:?}");
}

#[tokio::test]
async fn one_failure_does_not_stop_the_others() {
    let store = FakeStore { stuck: [IncidentId::new("b")].into(), ..FakeStore::default() };
    let bench = Bench::on(store, ["a", "b", "c"].map(|id| head(id, State::Pending)).into());
    bench.clock.advance(Duration::from_mins(2));
    let error = sweep(&bench.ports, no_card, 1_000).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "1 of 3 incidents were not swept, the first: the store refused PutItem b: too large"
    );
    assert!(!error.is_retryable());
    let SweepError::Some { failed: 1, swept, .. } = error else { panic!("{error:?}") };
    assert_eq!(swept, Swept { looked: 3, sent: 2 });
    assert_eq!(bench.sent(), jobs(&["a", "c"]));
}

#[tokio::test]
async fn a_store_that_does_not_say_what_is_due_is_an_error_worth_a_retry() {
    let bench = Bench::on(FakeStore { down: true, ..FakeStore::default() }, vec![]);
    let error = sweep(&bench.ports, no_card, 1_000).await.unwrap_err();
    assert!(matches!(error, SweepError::Due(_)) && error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_restart_ends_leases_and_claims_and_sends_everything_not_before_its_time() {
    let bench = Bench::new(vec![
        head("a-pending", State::Pending),
        Head { not_before: LATER, ..head("b-waiting", State::Pending) },
        running("c-at-work", LATER),
        delivering("d-claimed", DeliveryState::Claimed, LATER),
        delivering("e-due-later", DeliveryState::Due, LATER),
        delivering("f-told", DeliveryState::Sent, NOON),
        head("g-settled", State::Aborted),
    ]);
    assert_eq!(restart(&bench.ports, no_card).await.unwrap(), Swept { looked: 5, sent: 5 });
    let hour = Duration::from_hours(1);
    let sent = bench.sent();
    let sent: Vec<(&str, Duration)> = sent.iter().map(|(id, delay)| (id.as_str(), *delay)).collect();
    assert_eq!(
        sent,
        [
            ("a-pending", Duration::ZERO),
            ("b-waiting", hour),
            ("c-at-work", Duration::ZERO),
            ("d-claimed", Duration::ZERO),
            ("e-due-later", hour)
        ]
    );
    assert_eq!(bench.head("c-at-work").lease_until, Some(NOON));
    assert_eq!(bench.head("d-claimed").deliveries[0].at, NOON);
}

#[tokio::test]
async fn a_restart_reaches_all_of_many() {
    let bench = Bench::new((0..1_000).map(|n| head(&format!("{n:04}"), State::Pending)).collect());
    assert_eq!(restart(&bench.ports, no_card).await.unwrap(), Swept { looked: 1_000, sent: 1_000 });
    assert_eq!(bench.sent().len(), 1_000);
}

#[tokio::test]
async fn a_sweep_can_run_on_any_thread() {
    let bench = Bench::new(vec![running("a", NOON)]);
    bench.clock.advance(Duration::from_secs(1));
    let ports = bench.ports.clone();
    let swept = tokio::spawn(async move { sweep(&ports, no_card, 10).await }).await.unwrap().unwrap();
    assert_eq!(swept.sent, 1);
}
