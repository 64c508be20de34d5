//! Investigations of this process, so that an abort can cut off the call that one is in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{AbortHandle, AbortRegistration};
use sentinel_core::incident::{Fence, IncidentId};

type Handles = BTreeMap<(IncidentId, u64), AbortHandle>;

/// What runs here.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Mutex<Handles>>);

impl Running {
    fn handles(&self) -> MutexGuard<'_, Handles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that an investigation begins. It is among those that run until the guard is dropped.
    pub(crate) fn enter(&self, incident: &IncidentId, fence: Fence) -> (Entered, AbortRegistration) {
        let (handle, registration) = AbortHandle::new_pair();
        // No two leases of an incident have the same epoch.
        let key = (incident.clone(), fence.epoch);
        self.handles().insert(key.clone(), handle);
        (Entered { running: self.clone(), key }, registration)
    }

    /// Cuts off what runs for an incident here. What it has stored stays.
    pub(crate) fn cut_off(&self, incident: &IncidentId) {
        for ((id, _), handle) in self.handles().iter() {
            if id == incident {
                handle.abort();
            }
        }
    }
}

/// One investigation that runs.
#[derive(Debug)]
pub(crate) struct Entered {
    running: Running,
    key: (IncidentId, u64),
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.running.handles().remove(&self.key);
    }
}
