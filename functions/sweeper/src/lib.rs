//! Sends again what a crash left behind.
//!
//! The store plus this is the truth; the queue is only a hint. Every minute [`sweep`] asks the store which incidents
//! are due (pending and not begun, a lease that ended, a delivery not made) and sends their jobs again: losing,
//! doubling or delaying a queue message therefore never matters. [`restart`] does it for everything at once, when the
//! one process that owns a data folder has started and knows that nobody else holds anything.

pub mod lambda;

use std::collections::HashSet;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use sentinel_core::UnixMs;
use sentinel_core::drive::{DriveError, Start, drive};
use sentinel_core::incident::{Head, IncidentId};
use sentinel_core::lifecycle::{Input, Restart, Rules, Sweep, Swept as Looked, waits_since};
use sentinel_core::ports::{Ports, StoreError};
use thiserror::Error;

/// Incidents that are driven at once.
const CONCURRENCY: usize = 16;
/// Incidents that are read at once.
const PAGE: usize = 128;

/// What came of a sweep.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Incidents that were due.
    pub looked: usize,
    /// Jobs that were sent again.
    pub sent: usize,
    /// How long the one of them that waits longest has waited.
    pub longest: Duration,
}

/// Why a sweep is not complete. What was sent stands; the next sweep comes to the rest.
#[derive(Debug, Error)]
pub enum SweepError {
    /// The store did not say what is due.
    #[error("what is due is not known: {0}")]
    Due(#[source] StoreError),
    /// Some incidents could not be driven; all others were.
    #[error("{failed} of {} incidents were not swept, the first: {first}", .swept.looked)]
    Some {
        /// How many.
        failed: usize,
        /// What was done all the same.
        swept: Swept,
        /// The first error. Each is in the log.
        #[source]
        first: DriveError,
    },
}

impl SweepError {
    /// Whether the same sweep may work later. The next one is due in a minute anyway.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Due(error) => error.is_retryable(),
            Self::Some { first, .. } => first.is_retryable(),
        }
    }
}

/// Sends the jobs of incidents that are due, the longest overdue first, of at most `limit` incidents (and the rest of
/// a page). `rules` gives the rules of a card by its name; [`Rules::of_no_card`] for one that is no longer configured.
///
/// # Errors
/// The store does not say what is due, or some incidents failed; one failure does not stop the others.
pub async fn sweep<R>(ports: &Ports, rules: R, limit: usize) -> Result<Swept, SweepError>
where
    R: Fn(&str) -> Rules + Send + Sync,
{
    each_due(ports, &Sweep, ports.clock.now(), rules, limit).await
}

/// Ends every lease and claim and sends the job of every incident that still needs one, not before its time.
///
/// Only for the one process that owns the store, at its start, before anything else works on it.
///
/// # Errors
/// As [`sweep`].
pub async fn restart<R>(ports: &Ports, rules: R) -> Result<Swept, SweepError>
where
    R: Fn(&str) -> Rules + Send + Sync,
{
    each_due(ports, &Restart, UnixMs::new(i64::MAX), rules, usize::MAX).await
}

async fn each_due<I, R>(
    ports: &Ports,
    input: &I,
    until: UnixMs,
    rules: R,
    limit: usize,
) -> Result<Swept, SweepError>
where
    I: Input<Outcome = Looked>,
    R: Fn(&str) -> Rules + Send + Sync,
{
    let mut seen: HashSet<IncidentId> = HashSet::new();
    let mut swept = Swept::default();
    let now = ports.clock.now();
    let mut failed = 0usize;
    let mut first = None;
    while seen.len() < limit {
        // What was sent may stay due until a worker takes it, so the page grows by what was seen: otherwise a page
        // of incidents that nobody can finish would hide all others.
        let due = ports.store.due(until, seen.len().saturating_add(PAGE)).await.map_err(SweepError::Due)?;
        let new: Vec<Head> = due.into_iter().filter(|head| seen.insert(head.id.clone())).collect();
        if new.is_empty() {
            break;
        }
        swept.looked += new.len();
        let waited = |head: &Head| waits_since(head).map(|since| now.since(since));
        swept.longest = new.iter().filter_map(waited).max().unwrap_or_default().max(swept.longest);
        let mut results = stream::iter(new)
            .map(|head| look(ports, input, rules(&head.card), head))
            .buffer_unordered(CONCURRENCY);
        while let Some(result) = results.next().await {
            match result {
                Ok(Looked::Sent) => swept.sent += 1,
                Ok(Looked::Left) => {}
                Err(error) => {
                    failed += 1;
                    first.get_or_insert(error);
                }
            }
        }
    }
    match first {
        Some(first) => Err(SweepError::Some { failed, swept, first }),
        None => Ok(swept),
    }
}

async fn look<I: Input<Outcome = Looked>>(
    ports: &Ports,
    input: &I,
    rules: Rules,
    head: Head,
) -> Result<Looked, DriveError> {
    let id = head.id.clone();
    let generation = head.generation;
    let driven = drive(ports, &id, input, &rules, Start::Known(Box::new(head)), None).await;
    match driven {
        Ok(driven) => {
            if driven.outcome == Looked::Sent {
                tracing::info!(incident = %id, gen = %generation, "job sent again");
            }
            Ok(driven.outcome)
        }
        Err(error) => {
            tracing::warn!(incident = %id, gen = %generation, %error, "incident not swept");
            Err(error)
        }
    }
}
