//! The shell around [`decide`]: read, decide, write, act, in the order that survives a crash between any two steps.
//!
//! * children are appended **before** the swap that refers to them; only for a head that is just being created is
//!   the snapshot written beside the send, because nothing reads it before the job arrives;
//! * jobs are sent **after** the write, and a failed send is an error: nobody answers 200 for it;
//! * a swap that found another version decides again on what it found.

use std::time::Duration;

use thiserror::Error;

use crate::incident::{Child, ChildName, Head, IncidentId, Job};
use crate::lifecycle::{Decision, Input, Rules, decide};
use crate::notification::Notification;
use crate::ports::{Created, Ports, QueueError, StoreError, Swapped};

/// A swap that lost this many races in a row gives up.
const MOST_RACES: usize = 24;

/// What [`drive`] starts from.
#[derive(Clone, Debug)]
pub enum Start {
    /// Probably nothing is there: try to create at once, in one conditional write.
    Absent,
    /// Read the head first.
    Load,
    /// This head was read or written a moment ago.
    Known(Box<Head>),
}

/// How an input went.
#[must_use]
#[derive(Clone, Debug)]
pub struct Driven<T> {
    /// What came of it.
    pub outcome: T,
    /// The head as it now stands; `None`: there is none.
    pub head: Option<Head>,
}

/// What can go wrong on the way.
#[derive(Debug, Error)]
pub enum DriveError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue, after the store had been written: the sweeper sends again.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl DriveError {
    /// Whether the same input may be driven again later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(e) => e.is_retryable(),
            Self::Queue(e) => e.is_retryable(),
        }
    }
}

/// Runs one input against one incident.
///
/// `snapshot` is what is appended where the rules say so: the notification that arrived.
///
/// # Errors
/// The store or the queue. Whatever was written stands; driving the same input again is harmless.
pub async fn drive<I: Input>(
    ports: &Ports,
    id: &IncidentId,
    input: &I,
    rules: &Rules,
    start: Start,
    snapshot: Option<&Notification>,
) -> Result<Driven<I::Outcome>, DriveError> {
    let mut found = match start {
        Start::Absent => None,
        Start::Load => ports.store.load(id).await?,
        Start::Known(head) => Some(*head),
    };
    for _ in 0..MOST_RACES {
        let now = ports.clock.now();
        let Decision { next, append, send, outcome } = decide(found.as_ref(), input, rules, now);
        let snapshot = snapshot.filter(|_| append);

        let Some(mut next) = next else {
            if let Some(head) = &found {
                let (stored, sent) =
                    futures::join!(store_snapshot(ports, head, snapshot), resend(ports, head, send));
                stored?;
                sent?;
            }
            return Ok(Driven { outcome, head: found });
        };
        next.version = next.version.saturating_add(1);
        next.writer = (ports.fresh)();

        if found.is_none() {
            match ports.store.create(&next).await? {
                Created::New => {
                    let (stored, sent) =
                        futures::join!(store_snapshot(ports, &next, snapshot), resend(ports, &next, send));
                    stored?;
                    sent?;
                    return Ok(Driven { outcome, head: Some(next) });
                }
                Created::Exists(head) => found = Some(*head),
            }
        } else {
            store_snapshot(ports, &next, snapshot).await?;
            match ports.store.swap(&next).await? {
                Swapped::Stored => {
                    resend(ports, &next, send).await?;
                    return Ok(Driven { outcome, head: Some(next) });
                }
                Swapped::Stale(head) => found = head.map(|h| *h),
            }
        }
    }
    Err(StoreError::Contended(id.clone()).into())
}

async fn store_snapshot(
    ports: &Ports,
    head: &Head,
    notification: Option<&Notification>,
) -> Result<(), StoreError> {
    let Some(notification) = notification else { return Ok(()) };
    let body = serde_json::to_string(notification).map_err(|e| StoreError::Refused {
        action: format!("a snapshot of incident {}", head.id),
        reason: e.to_string(),
    })?;
    let name = ChildName::Snapshot(head.digest.clone());
    let child = Child { generation: head.generation, name, body };
    // Another body under the same digest is the same members told with other annotations: the first one stays.
    let _ = ports.store.append(&head.id, &child).await?;
    Ok(())
}

async fn resend(ports: &Ports, head: &Head, delay: Option<Duration>) -> Result<(), QueueError> {
    match delay {
        Some(delay) => {
            ports.queue.send(&Job { incident: head.id.clone(), generation: head.generation }, delay).await
        }
        None => Ok(()),
    }
}
