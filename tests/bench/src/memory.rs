//! The ports that an investigation needs, in memory: what is measured is the library, not a store.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::budget::{Entered, Entry};
use sentinel_core::incident::{Child, Gen, Head, IncidentId, Job};
use sentinel_core::lifecycle::Owed;
use sentinel_core::ports::{
    Appended, Clock, Created, DuePage, IncidentStore, JobQueue, Ports, QueueError, StoreError, Swapped,
};

/// Ports over an empty store.
pub(crate) fn ports() -> Ports {
    let made = AtomicU64::new(0);
    Ports {
        store: Arc::new(Store::default()),
        queue: Arc::new(Nowhere),
        clock: Arc::new(Machine),
        fresh: Arc::new(move || format!("fresh-{}", made.fetch_add(1, Ordering::Relaxed))),
        signing_key: None,
    }
}

#[derive(Debug)]
struct Machine;

impl Clock for Machine {
    #[expect(clippy::disallowed_methods, reason = "the clock itself")]
    fn now(&self) -> UnixMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMs::new(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl JobQueue for Nowhere {
    async fn send(&self, _: &Job, _: Duration) -> Result<(), QueueError> {
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Store {
    incidents: Mutex<HashMap<IncidentId, (Head, Vec<Child>)>>,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, HashMap<IncidentId, (Head, Vec<Child>)>> {
        self.incidents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl IncidentStore for Store {
    async fn create(&self, head: &Head) -> Result<Created, StoreError> {
        let mut incidents = self.lock();
        if let Some((there, _)) = incidents.get(&head.id) {
            return Ok(Created::Exists(Box::new(there.clone())));
        }
        incidents.insert(head.id.clone(), (head.clone(), Vec::new()));
        Ok(Created::New)
    }

    async fn load(&self, id: &IncidentId) -> Result<Option<Head>, StoreError> {
        Ok(self.lock().get(id).map(|(head, _)| head.clone()))
    }

    async fn swap(&self, head: &Head) -> Result<Swapped, StoreError> {
        match self.lock().get_mut(&head.id) {
            Some((there, _)) if there.version + 1 == head.version => {
                there.clone_from(head);
                Ok(Swapped::Stored)
            }
            there => Ok(Swapped::Stale(there.map(|(head, _)| Box::new(head.clone())))),
        }
    }

    async fn append(&self, id: &IncidentId, child: &Child) -> Result<Appended, StoreError> {
        let mut incidents = self.lock();
        let Some((_, children)) = incidents.get_mut(id) else { return Ok(Appended::Other) };
        let same = |c: &&Child| c.name == child.name && c.generation == child.generation;
        if let Some(there) = children.iter().find(same) {
            return Ok(if there == child { Appended::Written } else { Appended::Other });
        }
        children.push(child.clone());
        Ok(Appended::Written)
    }

    async fn children(&self, id: &IncidentId, generation: Gen) -> Result<Vec<Child>, StoreError> {
        let mut children = self.lock().get(id).map(|(_, children)| children.clone()).unwrap_or_default();
        children.retain(|child| child.generation == generation);
        children.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(children)
    }

    async fn all_children(&self, id: &IncidentId) -> Result<Vec<Child>, StoreError> {
        Ok(self.lock().get(id).map(|(_, children)| children.clone()).unwrap_or_default())
    }

    async fn remove(&self, _: &IncidentId, _: Gen) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn due(&self, _: Owed, _: RangeInclusive<UnixMs>, _: usize) -> Result<DuePage, StoreError> {
        Ok(DuePage::default())
    }

    async fn budget(&self, _: &Entry) -> Result<Entered, StoreError> {
        Ok(Entered::Done)
    }

    async fn recent_before(&self, _: Gen, _: usize) -> Result<Vec<Head>, StoreError> {
        Ok(Vec::new())
    }
}
