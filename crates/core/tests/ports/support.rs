//! A store and a queue in memory, with the conditions of the real ones, that fail where a test says so; and every call
//! that is made to them, in order.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::alert::{Alert, AlertStatus, Labels};
use sentinel_core::budget::{self, Amount, Entered, MicroUsd, Reservation, Scope, Spent};
use sentinel_core::card::{Card, DedupeBy, Prompt, PromptSource, Resource};
use sentinel_core::incident::{Child, ChildName, Gen, Head, IncidentId, Job};
use sentinel_core::lifecycle::{Owed, due_at};
use sentinel_core::notification::{Envelope, Message, Source};
use sentinel_core::ports::{
    Appended, Clock, Created, DuePage, IncidentStore, JobQueue, Ports, QueueError, StoreError, Swapped,
};

pub(crate) const START: i64 = 1_795_348_800_000;

/// What goes wrong with a call.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Fault {
    /// None: for a call before the one that is meant.
    None,
    /// It does not arrive.
    Before,
    /// It is done, and its reply is lost.
    After,
    /// Another writer was a moment faster.
    Stale,
}

/// A world of one store, one queue and one clock.
#[derive(Default)]
pub(crate) struct World {
    heads: Mutex<BTreeMap<IncidentId, Head>>,
    children: Mutex<BTreeMap<(IncidentId, Gen, ChildName), String>>,
    /// What is reserved and not settled: nothing here is ever spent.
    pub(crate) open: Mutex<BTreeMap<(Scope, String), Reservation>>,
    pub(crate) jobs: Mutex<Vec<(Job, Duration)>>,
    log: Mutex<Vec<&'static str>>,
    /// Faults by call, taken one after the other.
    faults: Mutex<BTreeMap<&'static str, VecDeque<Fault>>>,
    now: AtomicI64,
    fresh: AtomicU64,
    creating: AtomicU64,
    pub(crate) most_creating: AtomicU64,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// Lets others go on once.
#[derive(Default)]
struct Pause(bool);

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn lost(call: &str) -> StoreError {
    StoreError::Unavailable(format!("{call} timed out"))
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let world = Self::default();
        world.now.store(START, Ordering::SeqCst);
        Arc::new(world)
    }

    pub(crate) fn ports(self: &Arc<Self>) -> Ports {
        let world = Arc::clone(self);
        Ports {
            store: Arc::<Self>::clone(self),
            queue: Arc::<Self>::clone(self),
            clock: Arc::<Self>::clone(self),
            fresh: Arc::new(move || format!("id-{}", world.fresh.fetch_add(1, Ordering::SeqCst))),
            signing_key: None,
        }
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// The next calls of that name go wrong, one fault each.
    pub(crate) fn fail(&self, call: &'static str, faults: &[Fault]) {
        self.faults.lock().unwrap().entry(call).or_default().extend(faults);
    }

    /// What was called since the last time that this was asked.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    pub(crate) fn heads(&self) -> Vec<Head> {
        self.heads.lock().unwrap().values().cloned().collect()
    }

    pub(crate) fn only(&self) -> Head {
        let mut heads = self.heads();
        assert_eq!(heads.len(), 1, "one incident");
        heads.remove(0)
    }

    /// Puts a head there behind everybody's back.
    pub(crate) fn put(&self, head: Head) {
        self.heads.lock().unwrap().insert(head.id.clone(), head);
    }

    pub(crate) fn delete(&self, id: &IncidentId) {
        self.heads.lock().unwrap().remove(id);
    }

    /// The bodies of the stored snapshots.
    pub(crate) fn snapshots(&self) -> Vec<String> {
        self.children.lock().unwrap().values().cloned().collect()
    }

    /// Whether the notification that the head speaks of is stored.
    pub(crate) fn has_snapshot_of(&self, head: &Head) -> bool {
        let name = ChildName::Snapshot(head.digest.clone());
        self.children.lock().unwrap().contains_key(&(head.id.clone(), head.generation, name))
    }

    async fn call(&self, name: &'static str) -> Result<Option<Fault>, StoreError> {
        self.log.lock().unwrap().push(name);
        Pause::default().await;
        match self.faults.lock().unwrap().get_mut(name).and_then(VecDeque::pop_front) {
            Some(Fault::Before) => Err(lost(name)),
            other => Ok(other),
        }
    }
}

fn reply<T>(name: &str, fault: Option<Fault>, value: T) -> Result<T, StoreError> {
    if fault == Some(Fault::After) { Err(lost(name)) } else { Ok(value) }
}

#[async_trait]
impl IncidentStore for World {
    async fn create(&self, head: &Head) -> Result<Created, StoreError> {
        let creating = self.creating.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_creating.fetch_max(creating, Ordering::SeqCst);
        let fault = self.call("create").await;
        self.creating.fetch_sub(1, Ordering::SeqCst);
        let fault = fault?;
        let mut heads = self.heads.lock().unwrap();
        let created = match heads.entry(head.id.clone()) {
            Entry::Occupied(found) => Created::Exists(Box::new(found.get().clone())),
            Entry::Vacant(place) => {
                place.insert(head.clone());
                Created::New
            }
        };
        reply("create", fault, created)
    }

    async fn load(&self, id: &IncidentId) -> Result<Option<Head>, StoreError> {
        let fault = self.call("load").await?;
        reply("load", fault, self.heads.lock().unwrap().get(id).cloned())
    }

    async fn swap(&self, head: &Head) -> Result<Swapped, StoreError> {
        let fault = self.call("swap").await?;
        let mut heads = self.heads.lock().unwrap();
        if fault == Some(Fault::Stale)
            && let Some(found) = heads.get_mut(&head.id)
        {
            found.version += 1;
            found.writer = "somebody else".into();
        }
        let swapped = match heads.get(&head.id) {
            Some(found) if found.version + 1 == head.version => {
                heads.insert(head.id.clone(), head.clone());
                Swapped::Stored
            }
            found => Swapped::Stale(found.cloned().map(Box::new)),
        };
        reply("swap", fault, swapped)
    }

    async fn append(&self, id: &IncidentId, child: &Child) -> Result<Appended, StoreError> {
        let fault = self.call("append").await?;
        let key = (id.clone(), child.generation, child.name.clone());
        let mut children = self.children.lock().unwrap();
        let body = children.entry(key).or_insert_with(|| child.body.clone());
        let appended = if *body == child.body { Appended::Written } else { Appended::Other };
        reply("append", fault, appended)
    }

    async fn children(&self, id: &IncidentId, generation: Gen) -> Result<Vec<Child>, StoreError> {
        let children = self.children.lock().unwrap();
        let of_it = children.iter().filter(|((i, g, _), _)| i == id && *g == generation);
        Ok(of_it
            .map(|((_, _, name), body)| Child { generation, name: name.clone(), body: body.clone() })
            .collect())
    }

    async fn all_children(&self, id: &IncidentId) -> Result<Vec<Child>, StoreError> {
        let children = self.children.lock().unwrap();
        let of_it = children.iter().filter(|((i, _, _), _)| i == id);
        Ok(of_it
            .map(|((_, generation, name), body)| Child {
                generation: *generation,
                name: name.clone(),
                body: body.clone(),
            })
            .collect())
    }

    async fn remove(&self, id: &IncidentId, before: Gen) -> Result<usize, StoreError> {
        let fault = self.call("remove").await?;
        let mut children = self.children.lock().unwrap();
        let stored = children.len();
        children.retain(|(of, generation, _), _| of != id || *generation >= before);
        reply("remove", fault, stored - children.len())
    }

    async fn due(
        &self,
        owed: Owed,
        within: RangeInclusive<UnixMs>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        let due = self.heads().into_iter().filter(|head| Owed::of(head) == owed);
        let due = due.filter_map(|head| Some((due_at(&head).filter(|at| within.contains(at))?, head)));
        Ok(DuePage::of(due.collect(), limit))
    }

    async fn recent_before(&self, before: Gen, limit: usize) -> Result<Vec<Head>, StoreError> {
        let mut heads = self.heads();
        heads.retain(|head| head.generation < before);
        heads.sort_by_key(|h| std::cmp::Reverse(h.generation));
        heads.truncate(limit);
        Ok(heads)
    }

    async fn budget(&self, entry: &budget::Entry) -> Result<Entered, StoreError> {
        let fault = self.call("budget").await?;
        let (budget::Entry::Reserve { reservation, .. } | budget::Entry::Settle { reservation, .. }) = entry;
        let mut open = self.open.lock().unwrap();
        let mut entered = Entered::Done;
        match entry {
            budget::Entry::Reserve { limits, .. } => {
                let hour =
                    open.values().map(|r: &Reservation| r.amount).fold(Amount::NOTHING, |a, b| Amount {
                        investigations: a.investigations + b.investigations,
                        usd: MicroUsd(a.usd.0 + b.usd.0),
                    });
                match open.entry((reservation.scope.clone(), reservation.id.clone())) {
                    Entry::Occupied(_) => entered = Entered::Already,
                    Entry::Vacant(vacant) => match limits.refuse(reservation, &Spent { hour, day: hour }) {
                        Some(limit) => entered = Entered::UsedUp(limit),
                        None => {
                            vacant.insert(reservation.clone());
                        }
                    },
                }
            }
            budget::Entry::Settle { .. } => {
                open.remove(&(reservation.scope.clone(), reservation.id.clone()));
            }
        }
        reply("budget", fault, entered)
    }
}

#[async_trait]
impl JobQueue for World {
    async fn send(&self, job: &Job, delay: Duration) -> Result<(), QueueError> {
        let refused = |e: StoreError| QueueError::Unavailable(e.to_string());
        let fault = self.call("send").await.map_err(refused)?;
        self.jobs.lock().unwrap().push((job.clone(), delay));
        reply("send", fault, ()).map_err(refused)
    }
}

impl Clock for World {
    fn now(&self) -> UnixMs {
        UnixMs::new(self.now.load(Ordering::SeqCst))
    }
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// An alert of that name and pod, firing since that second.
pub(crate) fn firing(name: &str, pod: &str, since: i64) -> Alert {
    Alert {
        status: AlertStatus::Firing,
        labels: labels(&[("alertname", name), ("pod", pod)]),
        annotations: Labels::new(),
        starts_at: Some(UnixMs::new(START + since * 1000)),
        ends_at: None,
        ends_at_is_receipt: false,
        generator_url: None,
        fingerprint: None,
        values: BTreeMap::new(),
        member: None,
    }
}

/// The same, resolved at that second.
pub(crate) fn resolved(name: &str, pod: &str, since: i64, until: i64) -> Alert {
    Alert {
        status: AlertStatus::Resolved,
        ends_at: Some(UnixMs::new(START + until * 1000)),
        ..firing(name, pod, since)
    }
}

pub(crate) fn message(alerts: Vec<Alert>) -> Message {
    let envelope = Envelope {
        source: Source::Alertmanager,
        receiver: "sentinel".into(),
        group_labels: Labels::new(),
        common_labels: Labels::new(),
        common_annotations: Labels::new(),
        group_key: None,
        external_url: None,
        reason: None,
        truncated_alerts: 0,
        verified_by: None,
    };
    Message { envelope, alerts, refused: vec![] }
}

/// A card that takes every alert.
pub(crate) fn card(name: &str) -> Card {
    Card {
        name: name.into(),
        resource: Resource {
            name: "all".into(),
            kind: String::new(),
            matchers: vec![],
            annotations: Labels::new(),
        },
        prompt: Prompt { source: PromptSource::Inline, text: "Investigate.".into() },
        model: "m".into(),
        fallback_models: vec![],
        tools: [].into(),
        policy: vec![],
        lock: None,
        lock_undecided: false,
        not_read_only: BTreeMap::new(),
        sinks: vec!["log".into()],
        max_iterations: 6,
        timeout: Duration::from_mins(10),
        max_tokens: 1_000_000,
        max_usd: MicroUsd(1_000_000),
        max_tool_output_tokens: 2000,
        attempts: 3,
        dedupe_by: DedupeBy::Group,
        ignore_labels: ["replica".to_owned()].into(),
        wait: Duration::ZERO,
        dedupe_ttl: Duration::from_mins(10),
        reinvestigate_after: None,
        budget: budget::Limits::default(),
        generations_per_hour: None,
        continues: false,
        evidence: vec![],
        checklist: vec![],
    }
}
