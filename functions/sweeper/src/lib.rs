//! Sends again what a crash left behind.
//!
//! The store plus this is the truth; the queue is only a hint. Every minute [`sweep`] asks the store which incidents
//! are due (pending and not begun, a lease that ended, a delivery not made) and sends their jobs again: losing,
//! doubling or delaying a queue message therefore never matters. [`restart`] does it for everything at once, when the
//! one process that owns a data folder has started and knows that nobody else holds anything.

pub mod lambda;

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use sentinel_core::UnixMs;
use sentinel_core::drive::{DriveError, Start, drive};
use sentinel_core::incident::{Head, IncidentId};
use sentinel_core::lifecycle::{Input, Owed, Restart, Rules, Sweep, Swept as Looked, waits_since};
use sentinel_core::ports::{Ports, StoreError};
use thiserror::Error;

/// Incidents that are driven at once.
const CONCURRENCY: usize = 16;
/// Incidents that are read at once.
const PAGE: usize = 512;

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

/// What a sweep looks at, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct When {
    /// What was due before is left.
    pub from: UnixMs,
    /// No page is begun from then on. The next sweep comes to the rest.
    pub end: UnixMs,
}

impl When {
    /// Everything that is due, until then.
    pub const fn until(end: UnixMs) -> Self {
        Self { from: UnixMs::new(0), end }
    }
}

/// Sends the jobs of incidents that are due: first of those for which nobody else may come, then of those that wait to be
/// begun, each the longest overdue first. `rules` gives the rules of a card by its name; [`Rules::of_no_card`] for one that is no longer configured.
///
/// # Errors
/// The store does not say what is due, or some incidents failed; one failure does not stop the others.
pub async fn sweep<R>(ports: &Ports, rules: R, when: When) -> Result<Swept, SweepError>
where
    R: Fn(&str) -> Rules + Send + Sync,
{
    each_due(ports, &Sweep, when.from..=ports.clock.now(), rules, when.end).await
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
    each_due(ports, &Restart, UnixMs::new(0)..=UnixMs::new(i64::MAX), rules, UnixMs::new(i64::MAX)).await
}

async fn each_due<I, R>(
    ports: &Ports,
    input: &I,
    within: RangeInclusive<UnixMs>,
    rules: R,
    end: UnixMs,
) -> Result<Swept, SweepError>
where
    I: Input<Outcome = Looked>,
    R: Fn(&str) -> Rules + Send + Sync,
{
    let mut seen: HashSet<IncidentId> = HashSet::new();
    let mut swept = Swept::default();
    let mut failed = 0usize;
    let mut first = None;
    let now = ports.clock.now();
    for owed in Owed::ALL {
        let (mut from, mut limit) = (*within.start(), PAGE);
        while ports.clock.now() < end {
            let page = ports.store.due(owed, from..=*within.end(), limit).await;
            let page = page.map_err(SweepError::Due)?;
            let new: Vec<Head> = page.heads.into_iter().filter(|head| seen.insert(head.id.clone())).collect();
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
            let Some(next) = page.next else { break };
            // A page whose heads are all due at one time leads nowhere but to a larger one.
            limit = if next > from { PAGE } else { limit.saturating_mul(2) };
            from = next;
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
