//! A store and a queue in memory, which fail when told to.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response};
use sentinel_core::UnixMs;
use sentinel_core::budget::{Entered, Entry};
use sentinel_core::card::Card;
use sentinel_core::incident::{Child, ChildName, Gen, Head, IncidentId, Job};
use sentinel_core::lifecycle::Owed;
use sentinel_core::ports::{
    Appended, Created, DuePage, IncidentStore, JobQueue, Ports, QueueError, StoreError, Swapped,
};
use sentinel_core::redact::Redactor;
use sentinel_ingest::{Door, Ingest};
use sentinel_telemetry::Metrics;
use sentinel_testkit::clock::ManualClock;

#[derive(Debug, Default)]
pub(crate) struct FakeStore {
    pub(crate) heads: Mutex<BTreeMap<IncidentId, Head>>,
    pub(crate) children: Mutex<BTreeMap<(IncidentId, Gen, ChildName), String>>,
    pub(crate) calls: AtomicUsize,
    pub(crate) fails: Mutex<Option<fn() -> StoreError>>,
}

impl FakeStore {
    fn call(&self) -> Result<(), StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.fails.lock().unwrap().map_or(Ok(()), |error| Err(error()))
    }
}

#[async_trait]
impl IncidentStore for FakeStore {
    async fn create(&self, head: &Head) -> Result<Created, StoreError> {
        self.call()?;
        let mut heads = self.heads.lock().unwrap();
        if let Some(found) = heads.get(&head.id) {
            return Ok(Created::Exists(Box::new(found.clone())));
        }
        heads.insert(head.id.clone(), head.clone());
        Ok(Created::New)
    }

    async fn load(&self, id: &IncidentId) -> Result<Option<Head>, StoreError> {
        self.call()?;
        Ok(self.heads.lock().unwrap().get(id).cloned())
    }

    async fn swap(&self, head: &Head) -> Result<Swapped, StoreError> {
        self.call()?;
        let mut heads = self.heads.lock().unwrap();
        match heads.get(&head.id) {
            Some(found) if found.version + 1 == head.version => {
                heads.insert(head.id.clone(), head.clone());
                Ok(Swapped::Stored)
            }
            found => Ok(Swapped::Stale(found.cloned().map(Box::new))),
        }
    }

    async fn append(&self, id: &IncidentId, child: &Child) -> Result<Appended, StoreError> {
        self.call()?;
        let name = (id.clone(), child.generation, child.name.clone());
        let mut children = self.children.lock().unwrap();
        let body = children.entry(name).or_insert_with(|| child.body.clone());
        Ok(if *body == child.body { Appended::Written } else { Appended::Other })
    }

    async fn children(&self, _: &IncidentId, _: Gen) -> Result<Vec<Child>, StoreError> {
        unreachable!("a webhook reads no children")
    }

    async fn all_children(&self, _: &IncidentId) -> Result<Vec<Child>, StoreError> {
        unreachable!("a webhook reads no children")
    }

    async fn remove(&self, _: &IncidentId, _: Gen) -> Result<usize, StoreError> {
        unreachable!("a webhook deletes nothing")
    }

    async fn due(&self, _: Owed, _: RangeInclusive<UnixMs>, _: usize) -> Result<DuePage, StoreError> {
        unreachable!("a webhook does not sweep")
    }

    async fn recent_before(&self, _: Gen, _: usize) -> Result<Vec<Head>, StoreError> {
        unreachable!("a webhook lists nothing")
    }

    async fn budget(&self, _: &Entry) -> Result<Entered, StoreError> {
        unreachable!("a webhook spends nothing")
    }
}

#[derive(Debug, Default)]
pub(crate) struct FakeQueue {
    pub(crate) jobs: Mutex<Vec<(Job, Duration)>>,
    pub(crate) fails: Mutex<Option<fn() -> QueueError>>,
}

#[async_trait]
impl JobQueue for FakeQueue {
    async fn send(&self, job: &Job, delay: Duration) -> Result<(), QueueError> {
        if let Some(error) = *self.fails.lock().unwrap() {
            return Err(error());
        }
        self.jobs.lock().unwrap().push((job.clone(), delay));
        Ok(())
    }
}

/// The function on fakes.
pub(crate) struct Bench {
    pub(crate) store: Arc<FakeStore>,
    pub(crate) queue: Arc<FakeQueue>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) lines: Lines,
    ingest: Ingest,
}

/// The metrics, a line each.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Each line without its description.
    pub(crate) fn taken(&self) -> Vec<serde_json::Value> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        let mut lines: Vec<serde_json::Value> =
            text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        for line in &mut lines {
            line.as_object_mut().unwrap().remove("_aws").unwrap();
        }
        lines
    }
}

impl Bench {
    pub(crate) fn new(cards: Vec<Card>, auth: impl Into<Door>) -> Self {
        let store = Arc::new(FakeStore::default());
        let queue = Arc::new(FakeQueue::default());
        let clock = Arc::new(ManualClock::default());
        let fresh = AtomicUsize::new(0);
        let ports = Ports {
            store: Arc::<FakeStore>::clone(&store),
            queue: Arc::<FakeQueue>::clone(&queue),
            clock: Arc::<ManualClock>::clone(&clock),
            fresh: Arc::new(move || format!("writer-{}", fresh.fetch_add(1, Ordering::SeqCst))),
            signing_key: None,
        };
        let lines = Lines::default();
        let out = lines.clone();
        let ingest = Ingest::new(ports, cards.into(), auth, Redactor::default())
            .with_metrics(Metrics::to(move || out.clone()));
        Self { store, queue, clock, lines, ingest }
    }

    /// Sends a request with these headers.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Bytes> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ingest.handle(request.body(body.into()).unwrap()).await
    }

    /// Posts a webhook.
    pub(crate) async fn post(&self, body: impl Into<Bytes>) -> Response<Bytes> {
        self.send("POST", "/webhook/alertmanager", &[("content-type", "application/json")], body).await
    }

    /// Whether the store and the queue were left alone.
    pub(crate) fn is_untouched(&self) -> bool {
        self.store.calls.load(Ordering::SeqCst) == 0 && self.queue.jobs.lock().unwrap().is_empty()
    }
}

/// Status, headers that matter and body, for a snapshot. Ids are cut to eight digits.
pub(crate) fn shown(response: &Response<Bytes>) -> String {
    let mut text = response.status().as_u16().to_string();
    for (name, value) in response.headers() {
        if !matches!(name.as_str(), "content-type" | "cache-control") {
            let _ = write!(text, " {name}: {}", value.to_str().unwrap());
        }
    }
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = std::str::from_utf8(response.body()).unwrap();
    let mut shown = String::new();
    for part in body.split_inclusive('"') {
        let id = part.len() == 65 && part.bytes().take(64).all(|b| b.is_ascii_hexdigit());
        shown.push_str(if id { "…\"" } else { part });
    }
    format!("{text}\n{shown}")
}
