//! The whole house over the real adapter, and below that a `DynamoDB` that does everything it may. What the adapter
//! answers has to be what the store in memory answers, which is asked beside it and which the checks look at.

use std::fmt::{self, Debug};
use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sentinel_aws::{Answer, CallLimits, Client, DynamoStore, client_for_engine, create_table};
use sentinel_core::UnixMs;
use sentinel_core::budget::{Entered, Entry};
use sentinel_core::incident::{Child, Gen, Head, IncidentId};
use sentinel_core::lifecycle::Owed;
use sentinel_core::ports::{Appended, Created, DuePage, IncidentStore, StoreError, Swapped};
use sentinel_testkit::faults::Faults;
use sentinel_testkit::loose::{Liberties, Loose};
use sentinel_testkit::memory::MemoryStore;
use tokio::sync::{Mutex, OnceCell};

use crate::cases::{LATENCY, Played, Table, in_virtual_time, on_all_processors, switch};
use crate::parts::Broken;
use crate::scenarios::{Scenario, all};
use crate::world::Setting;

const TABLE: &str = "incidents";
/// One attempt more than a lost reply needs.
const PATIENT: CallLimits =
    CallLimits { attempts: 3, attempt: Duration::from_mins(1), operation: Duration::from_mins(5) };

/// Both stores, as one.
#[derive(Clone)]
pub(crate) struct OverDynamo(Arc<Both>);

struct Both {
    memory: Arc<MemoryStore>,
    loose: Arc<Loose>,
    client: Client,
    dynamo: OnceCell<Arc<DynamoStore>>,
    /// One call at a time: both stores see them in one order.
    turn: Mutex<()>,
    broken: Broken,
}

impl Debug for OverDynamo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OverDynamo")
    }
}

impl OverDynamo {
    pub(crate) fn new(liberties: Liberties, memory: Arc<MemoryStore>, broken: Broken) -> Self {
        let loose = Arc::new(Loose::new(liberties));
        let answering = Arc::clone(&loose);
        let engine = move |operation: &str, body: &[u8]| {
            let (status, body) = answering.answer(operation, body);
            Answer { status, body }
        };
        let client = client_for_engine(Arc::new(engine), PATIENT);
        Self(Arc::new(Both {
            memory,
            loose,
            client,
            dynamo: OnceCell::new(),
            turn: Mutex::default(),
            broken,
        }))
    }

    /// Makes a call of the adapter and then of the store in memory, to its end also where its caller dies meanwhile.
    async fn call<T, F>(
        &self,
        what: &'static str,
        call: impl Fn(Arc<dyn IncidentStore>) -> F + Send + Sync + 'static,
        agree: fn(&T, &T) -> bool,
    ) -> Result<T, StoreError>
    where
        T: Debug + Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let both = Arc::clone(&self.0);
        let made = tokio::spawn(async move {
            let _turn = both.turn.lock().await;
            let got = call(both.dynamo().await).await;
            let want = call(Arc::clone(&both.memory) as Arc<dyn IncidentStore>).await;
            let same = matches!((&got, &want), (Ok(got), Ok(want)) if agree(got, want));
            both.broken.unless(same, || format!("{what}: {got:?} of DynamoDB is {want:?} in memory"));
            got
        });
        made.await.unwrap()
    }

    /// Lists heads from an index that lags: not all may be there yet, but what is there is as it is by now.
    async fn listed<F, T>(
        &self,
        what: &'static str,
        list: impl Fn(Arc<dyn IncidentStore>) -> F + Send + Sync + 'static,
    ) -> Result<(Vec<Head>, T), StoreError>
    where
        F: Future<Output = Result<(Vec<Head>, T), StoreError>> + Send + 'static,
        T: Debug + Send + 'static,
    {
        let both = Arc::clone(&self.0);
        let made = tokio::spawn(async move {
            let _turn = both.turn.lock().await;
            let got = list(both.dynamo().await).await;
            both.loose.catch_up();
            let heads = both.memory.heads();
            let same = got.iter().flat_map(|(listed, _)| listed).all(|head| heads.contains(head));
            both.broken.unless(same && got.is_ok(), || format!("{what}: {got:?} of {heads:?}"));
            got
        });
        made.await.unwrap()
    }
}

impl Both {
    async fn dynamo(&self) -> Arc<dyn IncidentStore> {
        let made = self.dynamo.get_or_init(async || {
            create_table(&self.client, TABLE).await.unwrap();
            Arc::new(DynamoStore::new(self.client.clone(), TABLE))
        });
        Arc::clone(made.await) as Arc<dyn IncidentStore>
    }
}

#[async_trait]
impl IncidentStore for OverDynamo {
    async fn create(&self, head: &Head) -> Result<Created, StoreError> {
        let head = head.clone();
        let create = move |store: Arc<dyn IncidentStore>| {
            let head = head.clone();
            async move { store.create(&head).await }
        };
        self.call("create", create, Created::eq).await
    }

    async fn load(&self, id: &IncidentId) -> Result<Option<Head>, StoreError> {
        let id = id.clone();
        let load = move |store: Arc<dyn IncidentStore>| {
            let id = id.clone();
            async move { store.load(&id).await }
        };
        self.call("load", load, Option::eq).await
    }

    async fn swap(&self, head: &Head) -> Result<Swapped, StoreError> {
        let head = head.clone();
        let swap = move |store: Arc<dyn IncidentStore>| {
            let head = head.clone();
            async move { store.swap(&head).await }
        };
        self.call("swap", swap, Swapped::eq).await
    }

    async fn append(&self, id: &IncidentId, child: &Child) -> Result<Appended, StoreError> {
        let (id, child) = (id.clone(), child.clone());
        let append = move |store: Arc<dyn IncidentStore>| {
            let (id, child) = (id.clone(), child.clone());
            async move { store.append(&id, &child).await }
        };
        self.call("append", append, Appended::eq).await
    }

    async fn children(&self, id: &IncidentId, generation: Gen) -> Result<Vec<Child>, StoreError> {
        let id = id.clone();
        let children = move |store: Arc<dyn IncidentStore>| {
            let id = id.clone();
            async move { store.children(&id, generation).await }
        };
        self.call("children", children, Vec::eq).await
    }

    async fn all_children(&self, id: &IncidentId) -> Result<Vec<Child>, StoreError> {
        let id = id.clone();
        let children = move |store: Arc<dyn IncidentStore>| {
            let id = id.clone();
            async move { store.all_children(&id).await }
        };
        self.call("all children", children, Vec::eq).await
    }

    async fn remove(&self, id: &IncidentId, before: Gen) -> Result<usize, StoreError> {
        let id = id.clone();
        let remove = move |store: Arc<dyn IncidentStore>| {
            let id = id.clone();
            async move { store.remove(&id, before).await }
        };
        // One is asked again after a lost reply, and finds less: what matters is what is left.
        self.call("remove", remove, |_, _| true).await
    }

    async fn due(
        &self,
        owed: Owed,
        within: RangeInclusive<UnixMs>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        let due = move |store: Arc<dyn IncidentStore>| {
            let within = within.clone();
            async move { store.due(owed, within, limit).await.map(|page| (page.heads, page.next)) }
        };
        self.listed("due", due).await.map(|(heads, next)| DuePage { heads, next })
    }

    async fn recent_before(&self, before: Gen, limit: usize) -> Result<Vec<Head>, StoreError> {
        let recent = move |store: Arc<dyn IncidentStore>| async move {
            store.recent_before(before, limit).await.map(|heads| (heads, ()))
        };
        self.listed("recent", recent).await.map(|(heads, ())| heads)
    }

    async fn budget(&self, entry: &Entry) -> Result<Entered, StoreError> {
        let entry = entry.clone();
        let enter = move |store: Arc<dyn IncidentStore>| {
            let entry = entry.clone();
            async move { store.budget(&entry).await }
        };
        self.call("budget", enter, agree).await
    }
}

/// A reservation whose reply was lost finds itself.
fn agree(got: &Entered, want: &Entered) -> bool {
    got == want || (*got == Entered::Already && *want == Entered::Done)
}

fn play(scenario: &Scenario, liberties: Liberties) -> Played {
    in_virtual_time(async || {
        let setting =
            Setting { over_dynamo: Some(liberties), ..Setting::of(Faults::planned(LATENCY, vec![])) };
        let world = scenario.play(setting).await;
        Played { points: world.faults().points(), injected: vec![], broken: world.broken.all() }
    })
}

/// Of so many conditional writes one loses its reply: the SDK does not try again for ever.
const LOSES_ONE_OF: usize = 4;

/// The liberties that a scenario is played with: another quarter of the replies is lost in each.
/// `SENTINEL_PAIRS=all` plays all quarters of each.
fn liberties(n: usize) -> Vec<Liberties> {
    let firsts = match switch("SENTINEL_PAIRS").as_deref() {
        Some("all") => 0..LOSES_ONE_OF,
        _ => n % LOSES_ONE_OF..n % LOSES_ONE_OF + 1,
    };
    let lossy = firsts.map(|first| Liberties {
        index_lags: true,
        loses_replies: Some((LOSES_ONE_OF, first)),
        hides_what_stood: false,
    });
    lossy.chain([Liberties { index_lags: true, loses_replies: None, hides_what_stood: true }]).collect()
}

#[test]
fn over_a_dynamodb_that_does_everything_it_may_every_scenario_goes_as_it_should() {
    let began = Instant::now();
    let mut table = Table::titled("over a loose DynamoDB", &["plays", "calls", "violations"]);
    for (n, scenario) in all().iter().enumerate() {
        let plays = liberties(n);
        let played = on_all_processors(&plays, |liberties| play(scenario, *liberties));
        for (liberties, played) in plays.iter().zip(&played) {
            assert!(played.broken.is_empty(), "{}, {liberties:?}: {:#?}", scenario.name, played.broken);
        }
        let calls = played.iter().map(|played| played.points.len()).sum();
        let broken = table.violations(scenario, &played);
        table.row(scenario.name, &[plays.len(), calls, broken]);
    }
    table.close(began);
}
