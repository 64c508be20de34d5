//! Sweeps and restarts over a store in memory.
#![expect(clippy::unwrap_used, reason = "a test part that cannot do its work fails the test")]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::budget::{Entered, Entry};
use sentinel_core::incident::{
    Child, Delivery, DeliveryKey, DeliveryState, Event, Gen, Head, IncidentId, Job, State,
};
use sentinel_core::lifecycle::{Owed, Rules, due_at};
use sentinel_core::ports::{
    Appended, Clock as _, Created, DuePage, IncidentStore, JobQueue, Ports, QueueError, StoreError, Swapped,
};
use sentinel_sweeper::{SweepError, Swept, When, restart, sweep};
use sentinel_testkit::builders::{self, NOON};
use sentinel_testkit::clock::ManualClock;

const ALL: When = When::until(UnixMs::new(i64::MAX));

fn counts(swept: Swept) -> (usize, usize) {
    (swept.looked, swept.sent)
}

#[derive(Debug, Default)]
struct FakeStore {
    clock: Arc<ManualClock>,
    /// What each write takes.
    cost: Duration,
    heads: Mutex<BTreeMap<IncidentId, Head>>,
    /// Those that are due, in the order in which they are served.
    due: Mutex<BTreeSet<(Owed, UnixMs, IncidentId)>>,
    down: bool,
    /// Heads that cannot be written.
    stuck: BTreeSet<IncidentId>,
}

impl FakeStore {
    fn put(&self, head: Head) {
        let place = |head: &Head| due_at(head).map(|due| (Owed::of(head), due, head.id.clone()));
        let mut due = self.due.lock().unwrap();
        due.extend(place(&head));
        let now = place(&head);
        let before = self.heads.lock().unwrap().insert(head.id.clone(), head);
        if let Some(before) = before.as_ref().and_then(place).filter(|before| Some(before) != now.as_ref()) {
            due.remove(&before);
        }
    }
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
        self.clock.advance(self.cost);
        let found = self.heads.lock().unwrap().get(&head.id).cloned();
        match found {
            Some(found) if found.version + 1 == head.version => {
                self.put(head.clone());
                Ok(Swapped::Stored)
            }
            found => Ok(Swapped::Stale(found.map(Box::new))),
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

    async fn remove(&self, _: &IncidentId, _: Gen) -> Result<usize, StoreError> {
        unreachable!("a sweep deletes nothing")
    }

    async fn due(
        &self,
        owed: Owed,
        within: RangeInclusive<UnixMs>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        if self.down {
            return Err(StoreError::Unavailable("time-out".into()));
        }
        let (due, heads) = (self.due.lock().unwrap(), self.heads.lock().unwrap());
        let from = (owed, *within.start(), IncidentId::new(""));
        let page = due.range(from..).take_while(|(of, at, _)| *of == owed && at <= within.end());
        // One more says whether there are more.
        let page =
            page.take(limit.saturating_add(1)).filter_map(|(_, at, id)| Some((*at, heads.get(id)?.clone())));
        Ok(DuePage::of(page.collect(), limit))
    }

    async fn recent_before(&self, _: Gen, _: usize) -> Result<Vec<Head>, StoreError> {
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
    clock: Arc<ManualClock>,
    sent_at: Mutex<Vec<(String, UnixMs)>>,
}

#[async_trait]
impl JobQueue for FakeQueue {
    async fn send(&self, job: &Job, delay: Duration) -> Result<(), QueueError> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.jobs.lock().unwrap().push((job.incident.to_string(), delay));
        self.sent_at.lock().unwrap().push((job.incident.to_string(), self.clock.now()));
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
        for head in heads {
            store.put(head);
        }
        let clock = Arc::clone(&store.clock);
        let queue = Arc::new(FakeQueue { clock: Arc::clone(&clock), ..FakeQueue::default() });
        let store = Arc::new(store);
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
    assert_eq!(counts(sweep(&bench.ports, no_card, ALL).await.unwrap()), (3, 3));
    assert_eq!(bench.sent(), jobs(&["a-pending", "c-crashed", "e-untold"]));
    assert_eq!(bench.head("a-pending").sends, 1, "so that the next time is later");

    assert_eq!(counts(sweep(&bench.ports, no_card, ALL).await.unwrap()), (2, 2));
    assert_eq!(bench.sent(), jobs(&["c-crashed", "e-untold"]), "until a worker takes them");
}

#[tokio::test]
async fn incidents_that_nobody_can_finish_do_not_hide_the_others() {
    let stuck = (0..300).map(|n| running(&format!("stuck-{n:03}"), NOON.minus(Duration::from_hours(1))));
    let bench = Bench::new(stuck.chain([running("fresh", NOON)]).collect());
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(counts(sweep(&bench.ports, no_card, ALL).await.unwrap()), (301, 301));
    assert!(bench.sent().iter().any(|(id, _)| id == "fresh"));
    assert_eq!(bench.queue.most_at_once.load(Ordering::SeqCst), 16);
}

#[tokio::test]
async fn a_sweep_begins_no_page_once_its_time_is_used() {
    let store = FakeStore { cost: Duration::from_millis(10), ..FakeStore::default() };
    let bench = Bench::on(store, (0..3_000).map(|n| head(&format!("{n:04}"), State::Pending)).collect());
    bench.clock.advance(Duration::from_mins(3));
    let end = bench.clock.now().plus(Duration::from_secs(6));
    let (looked, sent) = counts(sweep(&bench.ports, no_card, When::until(end)).await.unwrap());
    assert_eq!((looked, sent), (1_024, 1_024), "two pages of 512, of which each took five seconds");
    let (looked, _) = counts(sweep(&bench.ports, no_card, ALL).await.unwrap());
    assert_eq!(looked, 3_000 - 1_024, "the next one comes to the rest");
}

#[tokio::test]
async fn what_was_due_before_a_time_can_be_left() {
    let bench =
        Bench::new(vec![running("a-before", NOON), running("b-after", NOON.plus(Duration::from_secs(9)))]);
    bench.clock.advance(Duration::from_secs(10));
    let when = When { from: NOON.plus(Duration::from_secs(1)), ..ALL };
    assert_eq!(counts(sweep(&bench.ports, no_card, when).await.unwrap()), (1, 1));
    assert_eq!(bench.sent(), jobs(&["b-after"]));
}

/// A storm: fifty thousand wait to be begun, their messages in the queue, and workers come to none of them. Each call
/// takes the time that it takes on AWS, a sweep runs each minute and may take fifty seconds of it.
#[tokio::test]
async fn fifty_thousand_that_wait_do_not_hold_up_a_lease_that_has_ended() {
    const WAITING: usize = 50_000;
    const CRASHES: usize = 60;
    // 32 ms a write, of which 16 are under way at once.
    let store = FakeStore { cost: Duration::from_millis(2), ..FakeStore::default() };
    let waiting = (0..WAITING).map(|n| {
        let not_before = NOON.plus(Duration::from_millis(n as u64 / 50));
        Head { not_before, ..head(&format!("waits-{n:05}"), State::Pending) }
    });
    let ends = |n: usize| NOON.plus(Duration::from_secs(121 + 11 * n as u64));
    let crashed = (0..CRASHES).map(|n| running(&format!("crash-{n:02}"), ends(n)));
    let bench = Bench::on(store, waiting.chain(crashed).collect());
    let clock = &bench.clock;
    let mut longest_sweep = Duration::ZERO;
    for minute in 2..16 {
        let begins = NOON.plus(Duration::from_mins(minute));
        clock.advance(begins.since(clock.now()));
        let when = When::until(begins.plus(Duration::from_secs(50)));
        let _ = sweep(&bench.ports, no_card, when).await.unwrap();
        longest_sweep = longest_sweep.max(clock.now().since(begins));
    }
    let sent = bench.queue.sent_at.lock().unwrap().clone();
    let first = |id: &str| sent.iter().find(|(sent, _)| sent == id).map(|(_, at)| *at).unwrap();
    let delays = (0..CRASHES).map(|n| first(&format!("crash-{n:02}")).since(ends(n)));
    let longest = delays.max().unwrap();
    let waited: HashSet<&str> =
        sent.iter().map(|(id, _)| id.as_str()).filter(|id| id.starts_with("waits")).collect();
    println!(
        "50,000 wait: a lease that has ended is served after {longest:?} at most, a sweep takes {longest_sweep:?}"
    );
    assert!(longest <= Duration::from_mins(2), "{longest:?}");
    assert!(longest_sweep < Duration::from_mins(1), "{longest_sweep:?}");
    assert_eq!(waited.len(), WAITING, "and each of the others is sent again, too");
}

#[tokio::test]
async fn one_failure_does_not_stop_the_others() {
    let store = FakeStore { stuck: [IncidentId::new("b")].into(), ..FakeStore::default() };
    let bench = Bench::on(store, ["a", "b", "c"].map(|id| head(id, State::Pending)).into());
    bench.clock.advance(Duration::from_mins(2));
    let error = sweep(&bench.ports, no_card, ALL).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "1 of 3 incidents were not swept, the first: the store refused PutItem b: too large"
    );
    assert!(!error.is_retryable());
    let SweepError::Some { failed: 1, swept, .. } = error else { panic!("{error:?}") };
    assert_eq!(counts(swept), (3, 2));
    assert_eq!(bench.sent(), jobs(&["a", "c"]));
}

#[tokio::test]
async fn a_store_that_does_not_say_what_is_due_is_an_error_worth_a_retry() {
    let bench = Bench::on(FakeStore { down: true, ..FakeStore::default() }, vec![]);
    let error = sweep(&bench.ports, no_card, ALL).await.unwrap_err();
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
    assert_eq!(counts(restart(&bench.ports, no_card).await.unwrap()), (5, 5));
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
    assert_eq!(counts(restart(&bench.ports, no_card).await.unwrap()), (1_000, 1_000));
    assert_eq!(bench.sent().len(), 1_000);
}

#[tokio::test]
async fn a_sweep_can_run_on_any_thread() {
    let bench = Bench::new(vec![running("a", NOON)]);
    bench.clock.advance(Duration::from_secs(1));
    let ports = bench.ports.clone();
    let swept = tokio::spawn(async move { sweep(&ports, no_card, ALL).await }).await.unwrap().unwrap();
    assert_eq!(swept.sent, 1);
}
