//! A store of its own for each test: in memory, a table in an embedded `DynamoDB` or in the one that
//! `SENTINEL_TEST_DYNAMODB_URL` names, and one in a `DynamoDB` that does everything it may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sentinel_aws::{
    Answer, Aws, CallLimits, Client, Credentials, DynamoStore, SqsQueue, client_for_engine, create_table,
    fresh_ids,
};
use sentinel_core::UnixMs;
use sentinel_core::incident::{Child, ChildName, Gen, Head, IncidentId};
use sentinel_core::lifecycle::Owed;
use sentinel_core::ports::{IncidentStore, Ports};
use sentinel_testkit::builders;
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::loose::{Liberties, Loose};
use sentinel_testkit::memory::MemoryStore;

/// A store and, for looking behind it, its client and table.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    pub(crate) store: DynamoStore,
    pub(crate) client: Client,
    pub(crate) table: String,
    pub(crate) url: String,
}

/// Runs a test against an empty table, which is deleted afterwards.
pub(crate) async fn with_table(test: impl AsyncFnOnce(&Bench)) {
    static TABLES: AtomicU32 = AtomicU32::new(0);
    #[expect(clippy::disallowed_methods, reason = "which DynamoDB to test against is the caller's to say")]
    let url = match std::env::var("SENTINEL_TEST_DYNAMODB_URL") {
        Ok(url) => url,
        Err(_) => embedded().await,
    };
    let client = client(&url, CallLimits::EMBEDDED);
    let number = TABLES.fetch_add(1, Ordering::Relaxed);
    let table = format!("sentinel-test-{}-{number}", std::process::id());
    create_table(&client, &table).await.unwrap();
    let store = DynamoStore::new(client.clone(), &*table);
    let bench = Bench { store, client, table, url };
    test(&bench).await;
    bench.client.delete_table().table_name(&bench.table).send().await.unwrap();
}

/// Runs a test against every store, each empty.
pub(crate) async fn with_every_store(test: impl AsyncFn(&Arc<dyn IncidentStore>)) {
    with_racing_stores(&test).await;
    let (_, loose) = loose(Liberties::default(), CallLimits::EMBEDDED).await;
    let loose: Arc<dyn IncidentStore> = Arc::new(loose);
    test(&loose).await;
}

/// The same without the one that does one thing at a time: nobody races in it.
pub(crate) async fn with_racing_stores(test: impl AsyncFn(&Arc<dyn IncidentStore>)) {
    let memory: Arc<dyn IncidentStore> = Arc::new(MemoryStore::default());
    test(&memory).await;
    with_table(async |bench| {
        let dynamo: Arc<dyn IncidentStore> = Arc::new(bench.store.clone());
        test(&dynamo).await;
    })
    .await;
}

/// A `DynamoDB` that takes these liberties, and a store in an empty table of it.
pub(crate) async fn loose(liberties: Liberties, limits: CallLimits) -> (Arc<Loose>, DynamoStore) {
    let loose = Arc::new(Loose::new(liberties));
    let store = store_in(&loose, limits);
    create_table(&in_process(&loose, limits), LOOSE_TABLE).await.unwrap();
    (loose, store)
}

const LOOSE_TABLE: &str = "loose";

/// Another store in the same table, as another process has it.
pub(crate) fn store_in(loose: &Arc<Loose>, limits: CallLimits) -> DynamoStore {
    DynamoStore::new(in_process(loose, limits), LOOSE_TABLE)
}

fn in_process(loose: &Arc<Loose>, limits: CallLimits) -> Client {
    let answering = Arc::clone(loose);
    let engine = move |operation: &str, body: &[u8]| {
        let (status, body) = answering.answer(operation, body);
        Answer { status, body }
    };
    client_for_engine(Arc::new(engine), limits)
}

pub(crate) fn client(url: &str, limits: CallLimits) -> Client {
    Aws::at_endpoint(url, "us-east-1", credentials(), limits).dynamo()
}

fn credentials() -> Credentials {
    Credentials::new("test", "test", None, None, "test")
}

/// This store with a clock that stands at the time of [`head`]'s alerts, and with a queue that nobody answers for:
/// what sends a job fails.
pub(crate) fn ports(store: &Arc<dyn IncidentStore>) -> Ports {
    let aws = Aws::at_endpoint("http://127.0.0.1:1", "us-east-1", credentials(), PATIENT);
    Ports {
        store: Arc::clone(store),
        queue: Arc::new(SqsQueue::new(aws.sqs(), "http://127.0.0.1:1/nobody")),
        clock: Arc::new(ManualClock::at(UnixMs::new(1_000))),
        fresh: fresh_ids(),
        signing_key: None,
    }
}

/// Limits for tests in which replies get lost: as on AWS, but not as tight, because test machines are slow.
pub(crate) const PATIENT: CallLimits =
    CallLimits { attempts: 3, attempt: Duration::from_secs(20), operation: Duration::from_mins(1) };

/// Ends with the test's runtime.
async fn embedded() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let database = dynoxide::Database::memory().unwrap();
    tokio::spawn(dynoxide::server::serve_on(listener, database));
    url
}

pub(crate) fn id(n: u32) -> IncidentId {
    IncidentId::new(format!("{n:064x}"))
}

/// A pending head of generation `opened`, due two minutes after it.
pub(crate) fn head(n: u32, opened: i64) -> Head {
    let at = UnixMs::new(opened);
    Head {
        id: id(n),
        writer: format!("writer-{n}"),
        generation: Gen(opened),
        not_before: at,
        reopen_after: at.plus(Duration::from_mins(10)),
        began: Some(at),
        seen: Some(at),
        ..builders::head("")
    }
}

/// `head` as another writer would write it next.
pub(crate) fn next(head: &Head, writer: &str) -> Head {
    Head { version: head.version + 1, writer: writer.into(), ..head.clone() }
}

pub(crate) fn child(generation: i64, name: ChildName, body: impl Into<String>) -> Child {
    Child { generation: Gen(generation), name, body: body.into() }
}

/// Heads that are due, those first that are served first, in pages as large as may be.
pub(crate) async fn all_due(store: &(impl IncidentStore + ?Sized), until: UnixMs, limit: usize) -> Vec<Head> {
    let mut due = Vec::new();
    for owed in Owed::ALL {
        let page = store.due(owed, UnixMs::new(0)..=until, limit - due.len()).await.unwrap();
        due.extend(page.heads);
    }
    due
}
