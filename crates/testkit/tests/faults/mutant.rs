//! Designs that are known to be wrong, to see that the suite sees it: 200 on any conflict, entries of the record that are
//! moved out of a head and not stored, parts of an investigation that are stored otherwise than they are sealed.
//!
//! They stand in this test program, so no build of the product can hold them: the test kit is a dependency of tests only
//! (`tests/tests/architecture.rs`).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::budget::{Entered, Entry};
use sentinel_core::incident::{Child, ChildName, Gen, Head, IncidentId, Job};
use sentinel_core::lifecycle::Owed;
use sentinel_core::ports::{
    Appended, Created, DuePage, IncidentStore, JobQueue, Ports, QueueError, StoreError, Swapped,
};

/// What is wrong with a store.
#[derive(Debug)]
enum Wrong {
    /// Once a head turned out to be there already, everything that intake would still do is left out, as if the other
    /// sender had surely done it.
    OkOnConflict(Arc<AtomicBool>),
    /// It says it has stored each child, and does otherwise: what of the child it stores; `None`, nothing.
    Unfaithful(fn(&Child) -> Option<Child>),
}

/// A store of a wrong design.
#[derive(Debug)]
pub(crate) struct WrongStore {
    port: Arc<dyn IncidentStore>,
    wrong: Wrong,
}

/// The queue of one webhook whose store is wrong: nothing is sent after a conflict.
#[derive(Debug)]
struct OkOnConflict {
    port: Arc<dyn JobQueue>,
    conflict: Arc<AtomicBool>,
}

/// The ports of one webhook, with 200 on any conflict.
pub(crate) fn ok_on_conflict(ports: Ports) -> Ports {
    let conflict: Arc<AtomicBool> = Arc::default();
    let wrong = Wrong::OkOnConflict(Arc::clone(&conflict));
    Ports {
        store: Arc::new(WrongStore { port: ports.store, wrong }),
        queue: Arc::new(OkOnConflict { port: ports.queue, conflict }),
        ..ports
    }
}

impl WrongStore {
    /// Entries that leave a head are lost.
    pub(crate) fn losing_entries(port: Arc<dyn IncidentStore>) -> Arc<dyn IncidentStore> {
        let wrong = Wrong::Unfaithful(|child| {
            let is_entries = matches!(child.name, ChildName::Entries(_) | ChildName::IntakeEntries(_));
            (!is_entries).then(|| child.clone())
        });
        Arc::new(Self { port, wrong })
    }

    /// A model's turns are not stored as they are sealed.
    pub(crate) fn changing_turns(port: Arc<dyn IncidentStore>) -> Arc<dyn IncidentStore> {
        let wrong = Wrong::Unfaithful(|child| {
            let body = if matches!(child.name, ChildName::Turn(_)) {
                format!("{} ", child.body)
            } else {
                child.body.clone()
            };
            Some(Child { body, ..child.clone() })
        });
        Arc::new(Self { port, wrong })
    }

    fn is_over(&self) -> bool {
        matches!(&self.wrong, Wrong::OkOnConflict(conflict) if conflict.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl IncidentStore for WrongStore {
    async fn create(&self, head: &Head) -> Result<Created, StoreError> {
        let created = self.port.create(head).await;
        if let (Wrong::OkOnConflict(conflict), Ok(Created::Exists(_))) = (&self.wrong, &created) {
            conflict.store(true, Ordering::SeqCst);
        }
        created
    }

    async fn load(&self, id: &IncidentId) -> Result<Option<Head>, StoreError> {
        self.port.load(id).await
    }

    async fn swap(&self, head: &Head) -> Result<Swapped, StoreError> {
        if self.is_over() { Ok(Swapped::Stored) } else { self.port.swap(head).await }
    }

    async fn append(&self, id: &IncidentId, child: &Child) -> Result<Appended, StoreError> {
        let stored = match self.wrong {
            Wrong::OkOnConflict(_) => (!self.is_over()).then(|| child.clone()),
            Wrong::Unfaithful(way) => way(child),
        };
        match stored {
            Some(child) => self.port.append(id, &child).await,
            None => Ok(Appended::Written),
        }
    }

    async fn children(&self, id: &IncidentId, generation: Gen) -> Result<Vec<Child>, StoreError> {
        self.port.children(id, generation).await
    }

    async fn all_children(&self, id: &IncidentId) -> Result<Vec<Child>, StoreError> {
        self.port.all_children(id).await
    }

    async fn remove(&self, id: &IncidentId, before: Gen) -> Result<usize, StoreError> {
        self.port.remove(id, before).await
    }

    async fn due(
        &self,
        owed: Owed,
        within: RangeInclusive<UnixMs>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        self.port.due(owed, within, limit).await
    }

    async fn recent_before(&self, before: Gen, limit: usize) -> Result<Vec<Head>, StoreError> {
        self.port.recent_before(before, limit).await
    }

    async fn budget(&self, entry: &Entry) -> Result<Entered, StoreError> {
        self.port.budget(entry).await
    }
}

#[async_trait]
impl JobQueue for OkOnConflict {
    async fn send(&self, job: &Job, delay: Duration) -> Result<(), QueueError> {
        if self.conflict.load(Ordering::SeqCst) { Ok(()) } else { self.port.send(job, delay).await }
    }
}
