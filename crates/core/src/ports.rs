//! The outside world, as the rules see it: a store, a queue, sinks and a clock. No SDK type appears here.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use crate::UnixMs;
use crate::budget::{Entered, Entry, Scope, Spent};
use crate::chain::SigningKey;
use crate::incident::{Child, Event, Gen, Head, IncidentId, Job};
use crate::lifecycle::Owed;
use crate::notification::Notification;
use crate::report::Report;
use crate::storm::Listed;
use crate::view::{Beside, Stored, View};

/// Tells the time. Production reads the machine's clock once here; tests set it.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The current instant.
    fn now(&self) -> UnixMs;
}

/// Makes identifiers that nobody else makes: writers, owners, claimers.
pub type FreshId = Arc<dyn Fn() -> String + Send + Sync>;

/// How [`IncidentStore::create`] ended.
#[must_use]
#[derive(Clone, PartialEq, Debug)]
pub enum Created {
    /// The head was absent and is now stored (also when an earlier try of the same write had done it).
    New,
    /// Another head stands there.
    Exists(Box<Head>),
}

/// How [`IncidentStore::swap`] ended.
#[must_use]
#[derive(Clone, PartialEq, Debug)]
pub enum Swapped {
    /// The head is stored (also when an earlier try of the same write had done it).
    Stored,
    /// The version had moved on; this is what stands there now. `None`: somebody deleted it.
    Stale(Option<Box<Head>>),
}

/// How [`IncidentStore::append`] ended.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Appended {
    /// The child is stored, with this body (also when an earlier try of the same write had done it).
    Written,
    /// A child of that name with another body was there first, and stays.
    Other,
}

/// What [`IncidentStore::due`] gives.
#[must_use]
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DuePage {
    /// The heads. Fewer than were asked for say nothing: some may have been dealt with meanwhile.
    pub heads: Vec<Head>,
    /// From when on the next page is to be asked for, some of this one among it; `None`: this is the last one.
    pub next: Option<UnixMs>,
}

impl DuePage {
    /// Of heads that were found at these times, in their order, at most `limit` of them.
    pub fn of(mut found: Vec<(UnixMs, Head)>, limit: usize) -> Self {
        found.sort_by_key(|(due, _)| *due);
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().map(|(due, _)| *due).filter(|_| more);
        Self { heads: found.into_iter().map(|(_, head)| head).collect(), next }
    }
}

/// Where incidents are kept: the truth.
#[async_trait]
pub trait IncidentStore: Send + Sync + fmt::Debug {
    /// Stores a head where none stands, in one conditional write.
    async fn create(&self, head: &Head) -> Result<Created, StoreError>;

    /// Reads a head, consistently.
    async fn load(&self, id: &IncidentId) -> Result<Option<Head>, StoreError>;

    /// Stores `head` where the stored version is `head.version - 1`.
    async fn swap(&self, head: &Head) -> Result<Swapped, StoreError>;

    /// Stores a child where none of its name stands.
    async fn append(&self, id: &IncidentId, child: &Child) -> Result<Appended, StoreError>;

    /// Reads all children of one generation, consistently, in the order of their names.
    async fn children(&self, id: &IncidentId, generation: Gen) -> Result<Vec<Child>, StoreError>;

    /// Reads what intake stored of one generation, consistently, in the order of the names. The part of
    /// [`Self::children`] that does not need the right to read investigations.
    async fn received(&self, id: &IncidentId, generation: Gen) -> Result<Vec<Child>, StoreError> {
        let mut children = self.children(id, generation).await?;
        children.retain(|child| child.name.is_intakes());
        Ok(children)
    }

    /// Reads the children of all generations, consistently, in the order of generations and names.
    async fn all_children(&self, id: &IncidentId) -> Result<Vec<Child>, StoreError>;

    /// The generations from `since` on of which something is stored, the oldest first. Needs no right to read
    /// investigations.
    async fn generations(&self, id: &IncidentId, since: Gen) -> Result<Vec<Gen>, StoreError> {
        let children = self.all_children(id).await?;
        let stored =
            children.into_iter().filter(|child| child.name.is_intakes()).map(|child| child.generation);
        Ok(stored.filter(|generation| *generation >= since).collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Deletes everything that is stored of the generations before this one, but for the head. Gives how many items that
    /// were.
    async fn remove(&self, id: &IncidentId, before: Gen) -> Result<usize, StoreError>;

    /// A page of the heads of this kind whose [`crate::lifecycle::due_at`] is within this time, the longest overdue first,
    /// at most `limit`.
    async fn due(
        &self,
        owed: Owed,
        within: RangeInclusive<UnixMs>,
        limit: usize,
    ) -> Result<DuePage, StoreError>;

    /// The newest generations first, at most `limit`.
    async fn recent(&self, limit: usize) -> Result<Vec<Head>, StoreError> {
        self.recent_before(Gen(i64::MAX), limit).await
    }

    /// Of the generations that opened before this one the newest first, at most `limit`.
    async fn recent_before(&self, before: Gen, limit: usize) -> Result<Vec<Head>, StoreError>;

    /// Reserves or settles spending, in one conditional write on the counters of a scope and a day.
    async fn budget(&self, entry: &Entry) -> Result<Entered, StoreError>;

    /// What is counted of a scope in the hour and the day of an instant, for whoever watches; `None`: this store does not say.
    async fn spent(&self, scope: &Scope, at: UnixMs) -> Result<Option<Spent>, StoreError> {
        let _ = (scope, at);
        Ok(None)
    }
}

/// What can go wrong with a store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Out of reach, throttled or timed out: the same call may work later.
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// Many writers change one head at once, for longer than is worth waiting.
    #[error("incident {0} changed under every try to write it")]
    Contended(IncidentId),
    /// The store refuses: no such table, no permission, an item too large.
    #[error("the store refused {action}: {reason}")]
    Refused {
        /// What was asked of which table.
        action: String,
        /// Its answer.
        reason: String,
    },
    /// What is stored cannot be read by this version.
    #[error("item {item} cannot be read: {reason}")]
    Unreadable {
        /// Which item.
        item: String,
        /// What is wrong with it, and what would help.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same call may work later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Contended(_))
    }
}

/// What wakes workers. A hint: losing, doubling or delaying a message never matters.
#[async_trait]
pub trait JobQueue: Send + Sync + fmt::Debug {
    /// Sends a job that nobody should see before `delay` has passed. A queue may cut the delay to what it can do.
    async fn send(&self, job: &Job, delay: Duration) -> Result<(), QueueError>;
}

/// What can go wrong with a queue.
#[derive(Debug, Error)]
pub enum QueueError {
    /// Out of reach, throttled or timed out: the same call may work later.
    #[error("the queue did not answer: {0}")]
    Unavailable(String),
    /// The queue refuses: no such queue, no permission.
    #[error("the queue refused {action}: {reason}")]
    Refused {
        /// What was asked of which queue.
        action: String,
        /// Its answer.
        reason: String,
    },
}

impl QueueError {
    /// Whether the same call may work later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// What a sink is given to tell.
#[derive(Clone, Debug)]
pub struct Telling {
    /// What happened.
    pub event: Event,
    /// The incident.
    pub head: Head,
    /// The latest notification of the generation, where one is stored.
    pub notification: Option<Notification>,
    /// The report, once there is one.
    pub report: Option<Report>,
    /// What people see it by.
    pub beside: Beside,
    /// What a storm notice lists; of every other event nothing.
    pub listed: Vec<Listed>,
    /// The same for every try of one delivery, different for every other.
    pub idempotency_key: String,
    /// The destination's id of an earlier delivery of this event, or of a part of it, where there was one.
    pub remote: Option<String>,
    /// The destination's id of the latest thing that this sink was told of this generation, where it gave one: what
    /// belongs together can be put together.
    pub parent: Option<String>,
}

impl Telling {
    /// The incident as people see it. A storm notice is none, and has no view worth showing.
    pub fn view(&self) -> View {
        View::of(Stored {
            head: &self.head,
            notification: self.notification.as_ref(),
            report: self.report.as_ref(),
            beside: &self.beside,
        })
    }

    /// When all alerts had ended, as this tells it. Of what flaps nothing is told for the rest of the hour: it would go
    /// on saying that it is over when it fires again.
    pub fn resolved(&self) -> Option<UnixMs> {
        self.head.resolved().filter(|_| self.event != Event::Flapping)
    }
}

/// How a sink was told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Told {
    /// The destination's id of what was told, where it has one of at most
    /// [`MOST_REMOTE`](crate::lifecycle::MOST_REMOTE) bytes.
    pub remote: Option<String>,
    /// What the destination did not take as it was meant, so that it was told in another form: for the delivery's record.
    pub amiss: Option<String>,
}

/// A place where people look.
#[async_trait]
pub trait Sink: Send + Sync + fmt::Debug {
    /// Tells it.
    async fn tell(&self, telling: &Telling) -> Result<Told, SinkError>;

    /// Whether it would take what it is told, and as whom, where that can be asked without telling it anything; `None`: it
    /// cannot.
    async fn check(&self) -> Result<Option<String>, SinkError> {
        Ok(None)
    }
}

/// What can go wrong with a sink.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The same call may work later; not before `after`, where the destination said so.
    #[error("{reason}")]
    Retry {
        /// What happened.
        reason: String,
        /// The destination's `Retry-After`.
        after: Option<Duration>,
    },
    /// It will never work.
    #[error("{0}")]
    Refused(String),
    /// A part of it is told; the next try has its id and tells the rest.
    #[error("{because}")]
    Partly {
        /// The destination's id of the part.
        remote: String,
        /// What happened to the rest.
        because: Box<Self>,
    },
}

impl SinkError {
    /// Whether the same call may work later.
    pub fn is_retryable(&self) -> bool {
        self.retry_after().is_some()
    }

    /// How long to wait at least before the same call may work; `None`: it never will.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Retry { after, .. } => Some(after.unwrap_or_default()),
            Self::Refused(_) => None,
            Self::Partly { because, .. } => because.retry_after(),
        }
    }

    /// The destination's id of what was told all the same.
    pub fn remote(&self) -> Option<&str> {
        match self {
            Self::Partly { remote, .. } => Some(remote),
            Self::Retry { .. } | Self::Refused(_) => None,
        }
    }
}

/// The ports that move an incident.
#[derive(Clone)]
pub struct Ports {
    /// The truth.
    pub store: Arc<dyn IncidentStore>,
    /// The hint.
    pub queue: Arc<dyn JobQueue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Unique identifiers.
    pub fresh: FreshId,
    /// What signs the end of each record that is written; `None`: nothing is signed.
    pub signing_key: Option<Arc<SigningKey>>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports")
            .field("store", &self.store)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
