//! The shell around [`decide`]: read, decide, write, act, in the order that survives a crash between any two steps.
//!
//! * children are appended **before** the swap that refers to them; only for a head that is just being created is
//!   the snapshot written beside the send, because nothing reads it before the job arrives;
//! * jobs are sent **after** the write, and a failed send is an error: nobody answers 200 for it;
//! * a swap that found another version decides again on what it found;
//! * each head that is written has its entry of the record's chain in it ([`crate::chain`]), and what no longer fits into
//!   the head is stored as a child before.

use std::time::Duration;

use thiserror::Error;

use crate::chain::{self, Change, Entry, Happened, Sealed};
use crate::incident::{Child, ChildName, Head, IncidentId, Job};
use crate::lifecycle::{Decision, Input, Rules, decide};
use crate::notification::Notification;
use crate::ports::{Appended, Created, Ports, QueueError, StoreError, Swapped};

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
    Drive { ports, id, input, rules, snapshot, sealed: &[] }.run(start).await
}

/// Runs one input of a worker, which has stored children since the entry before: the entry of this change seals them.
///
/// # Errors
/// As [`drive`].
pub async fn drive_sealing<I: Input>(
    ports: &Ports,
    id: &IncidentId,
    input: &I,
    rules: &Rules,
    start: Start,
    sealed: &[Sealed],
) -> Result<Driven<I::Outcome>, DriveError> {
    Drive { ports, id, input, rules, snapshot: None, sealed }.run(start).await
}

struct Drive<'a, I> {
    ports: &'a Ports,
    id: &'a IncidentId,
    input: &'a I,
    rules: &'a Rules,
    snapshot: Option<&'a Notification>,
    sealed: &'a [Sealed],
}

impl<I: Input> Drive<'_, I> {
    async fn run(&self, start: Start) -> Result<Driven<I::Outcome>, DriveError> {
        let ports = self.ports;
        let mut found = match start {
            Start::Absent => None,
            Start::Load => ports.store.load(self.id).await?,
            Start::Known(head) => Some(*head),
        };
        let body = self.snapshot.map(|snapshot| self.encoded(snapshot)).transpose()?;
        for _ in 0..MOST_RACES {
            let now = ports.clock.now();
            let Decision { next, append, send, outcome } =
                decide(found.as_ref(), self.input, self.rules, now);
            let body = body.as_deref().filter(|_| append);
            let Some(mut next) = next else {
                let Some(head) = found else { return Ok(Driven { outcome, head: None }) };
                let (stored, sent) =
                    futures::join!(self.append_snapshot(snapshot_of(&head, body)), self.resend(&head, send));
                let late = stored?.filter(|stored| is_late(&head, stored));
                sent?;
                let head = match late {
                    Some(late) => self.seal_late(head, late).await?,
                    None => head,
                };
                return Ok(Driven { outcome, head: Some(head) });
            };
            self.number(&mut next);
            let snapshot = snapshot_of(&next, body);
            let mut change = Change {
                at: now,
                happened: self.input.happened(&outcome),
                children: self.sealed,
                announced: None,
            };
            match &mut found {
                None => {
                    // Of what is not there yet nobody has stored children.
                    change.children = &[];
                    change.announced = snapshot.as_ref().map(Sealed::of);
                    let _ = chain::advance(None, &mut next, change);
                    self.sign(&mut next);
                    match ports.store.create(&next).await? {
                        Created::New => {
                            told(&next);
                            let (stored, sent) =
                                futures::join!(self.append_snapshot(snapshot), self.resend(&next, send));
                            stored?;
                            sent?;
                            return Ok(Driven { outcome, head: Some(next) });
                        }
                        Created::Exists(head) => found = Some(*head),
                    }
                }
                Some(head) => {
                    let mut sealed = self.sealed.to_vec();
                    let (stored, moved) =
                        futures::join!(self.append_snapshot(snapshot), self.append_moved(head));
                    moved?;
                    sealed.extend(stored?);
                    change.children = &sealed;
                    if let Some(list) = chain::advance(Some(head), &mut next, change) {
                        let _ = ports.store.append(self.id, &list).await?;
                    }
                    self.sign(&mut next);
                    match ports.store.swap(&next).await? {
                        Swapped::Stored => {
                            told(&next);
                            self.resend(&next, send).await?;
                            return Ok(Driven { outcome, head: Some(next) });
                        }
                        Swapped::Stale(head) => found = head.map(|h| *h),
                    }
                }
            }
        }
        Err(StoreError::Contended(self.id.clone()).into())
    }

    fn number(&self, next: &mut Head) {
        next.version = next.version.saturating_add(1);
        next.writer = (self.ports.fresh)();
    }

    /// Signs the new end of the chain, where there is a key.
    fn sign(&self, next: &mut Head) {
        if let Some(key) = &self.ports.signing_key {
            key.sign(next);
        }
    }

    /// Stores a snapshot. `None`: nothing was to be stored, or another body stands under its name.
    async fn append_snapshot(&self, snapshot: Option<Child>) -> Result<Option<Sealed>, StoreError> {
        let Some(snapshot) = snapshot else { return Ok(None) };
        // Another body under the same digest is the same members told with other annotations: the first one stays.
        let appended = self.ports.store.append(self.id, &snapshot).await?;
        Ok((appended == Appended::Written).then(|| Sealed::of(&snapshot)))
    }

    /// Stores the entries of a head that is full of them, before it is changed.
    async fn append_moved(&self, head: &Head) -> Result<(), StoreError> {
        if let Some(entries) = chain::moved(head, self.snapshot.is_some()) {
            let _ = self.ports.store.append(self.id, &entries).await?;
        }
        Ok(())
    }

    /// Puts a snapshot on record whose first writer was lost before storing it, and which differs from what that one
    /// announced. Where the head has changed meanwhile it is left to whoever investigates.
    async fn seal_late(&self, head: Head, late: Sealed) -> Result<Head, StoreError> {
        let mut next = head.clone();
        self.number(&mut next);
        let change = Change {
            at: self.ports.clock.now(),
            happened: Happened::Stored,
            children: &[late],
            announced: None,
        };
        self.append_moved(&head).await?;
        let _ = chain::advance(Some(&head), &mut next, change);
        self.sign(&mut next);
        Ok(match self.ports.store.swap(&next).await? {
            Swapped::Stored => {
                told(&next);
                next
            }
            Swapped::Stale(_) => head,
        })
    }

    fn encoded(&self, notification: &Notification) -> Result<String, StoreError> {
        serde_json::to_string(notification).map_err(|e| StoreError::Refused {
            action: format!("a snapshot of incident {}", self.id),
            reason: e.to_string(),
        })
    }

    async fn resend(&self, head: &Head, delay: Option<Duration>) -> Result<(), QueueError> {
        match delay {
            Some(delay) => {
                let job = Job { incident: head.id.clone(), generation: head.generation };
                self.ports.queue.send(&job, delay).await
            }
            None => Ok(()),
        }
    }
}

/// The notification's child under the head's generation and digest.
fn snapshot_of(head: &Head, body: Option<&str>) -> Option<Child> {
    let name = ChildName::Snapshot(head.digest.clone());
    body.map(|body| Child { generation: head.generation, name, body: body.to_owned() })
}

/// Whether the head's entries announce another body under this child's name: its writer was lost before storing it.
fn is_late(head: &Head, stored: &Sealed) -> bool {
    let entries = head.chain.iter().filter_map(|text| Entry::read(text).ok());
    let known = entries.flat_map(|entry| entry.announced.into_iter().chain(entry.children));
    let mut of_its_name = known.filter(|known| known.name == stored.name);
    of_its_name.next_back().is_some_and(|known| known.sha256 != stored.sha256)
}

/// The chain has a new end: said where the store's own keeper cannot unsay it.
fn told(head: &Head) {
    if let Some((n, hash)) = chain::anchor(head) {
        let signed = head.signed.as_ref().filter(|signed| signed.n == n);
        // The redactor takes what is called a signature for a secret.
        let (signed_by, ed25519) =
            (signed.map(|signed| &*signed.key), signed.map(|signed| &*signed.signature));
        tracing::info!(incident = %head.id, gen = %head.generation, n, hash, signed_by, ed25519, "record advanced");
    }
}
