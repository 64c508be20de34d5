//! One incident in memory, which can fail at a chosen write.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::budget::{Entered, Entry};
use sentinel_core::incident::{Child, ChildName, Gen, Head, IncidentId, Job};
use sentinel_core::lifecycle::Owed;
use sentinel_core::ports::{
    Appended, Created, DuePage, IncidentStore, JobQueue, QueueError, StoreError, Swapped,
};
use sentinel_testkit::builders::NOON;

/// One incident in memory. Every write counts; the one at `fail_at` and all after it fail, as if the process had died.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(super) head: Mutex<Option<Head>>,
    children: Mutex<Vec<Child>>,
    writes: AtomicUsize,
    fail_at: Mutex<Option<usize>>,
    fail_before: Mutex<Option<ChildName>>,
}

impl Store {
    pub(crate) fn die_at(&self, write: Option<usize>) {
        self.writes.store(0, Ordering::SeqCst);
        *self.fail_at.lock().unwrap() = write;
    }

    /// Dies when this child is to be stored; comes back to life by [`Store::die_at`].
    pub(crate) fn die_before(&self, name: ChildName) {
        *self.fail_before.lock().unwrap() = Some(name);
    }

    pub(crate) fn head(&self) -> Head {
        self.head.lock().unwrap().clone().unwrap()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Head)) {
        change(self.head.lock().unwrap().as_mut().unwrap());
    }

    pub(crate) fn put(&self, name: ChildName, body: String) {
        self.children.lock().unwrap().push(Child { generation: Gen(NOON.get()), name, body });
    }

    pub(crate) fn bodies(&self) -> Vec<Child> {
        self.children.lock().unwrap().clone()
    }

    fn write(&self) -> Result<(), StoreError> {
        let write = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let dies = self.fail_at.lock().unwrap().is_some_and(|at| write >= at);
        if dies { Err(StoreError::Unavailable("the process died".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl IncidentStore for Store {
    async fn create(&self, _: &Head) -> Result<Created, StoreError> {
        unreachable!("the incident is there")
    }

    async fn load(&self, _: &IncidentId) -> Result<Option<Head>, StoreError> {
        Ok(self.head.lock().unwrap().clone())
    }

    async fn swap(&self, head: &Head) -> Result<Swapped, StoreError> {
        self.write()?;
        let mut stored = self.head.lock().unwrap();
        if stored.as_ref().is_some_and(|s| s.version + 1 == head.version) {
            *stored = Some(head.clone());
            return Ok(Swapped::Stored);
        }
        Ok(Swapped::Stale(stored.clone().map(Box::new)))
    }

    async fn append(&self, _: &IncidentId, child: &Child) -> Result<Appended, StoreError> {
        if self.fail_before.lock().unwrap().take_if(|name| *name == child.name).is_some() {
            *self.fail_at.lock().unwrap() = Some(0);
        }
        self.write()?;
        let mut children = self.children.lock().unwrap();
        if let Some(there) =
            children.iter().find(|c| c.name == child.name && c.generation == child.generation)
        {
            return Ok(if there == child { Appended::Written } else { Appended::Other });
        }
        children.push(child.clone());
        Ok(Appended::Written)
    }

    async fn children(&self, _: &IncidentId, generation: Gen) -> Result<Vec<Child>, StoreError> {
        let mut children = self.children.lock().unwrap().clone();
        children.retain(|c| c.generation == generation);
        children.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(children)
    }

    async fn all_children(&self, _: &IncidentId) -> Result<Vec<Child>, StoreError> {
        Ok(self.children.lock().unwrap().clone())
    }

    async fn remove(&self, _: &IncidentId, _: Gen) -> Result<usize, StoreError> {
        unreachable!("an investigation deletes nothing")
    }

    async fn due(&self, _: Owed, _: RangeInclusive<UnixMs>, _: usize) -> Result<DuePage, StoreError> {
        Ok(DuePage::default())
    }

    async fn recent_before(&self, _: Gen, _: usize) -> Result<Vec<Head>, StoreError> {
        Ok(vec![])
    }

    async fn budget(&self, _: &Entry) -> Result<Entered, StoreError> {
        unreachable!("these runs have no limits")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue;

#[async_trait]
impl JobQueue for Queue {
    async fn send(&self, _: &Job, _: Duration) -> Result<(), QueueError> {
        Ok(())
    }
}
