//! Telling sinks: claim, tell, record. A destination is never called under someone else's claim.

use std::time::Duration;

use super::{DELIVERY_LEASE, Decision, Input, Rules};
use crate::UnixMs;
use crate::incident::{Delivery, DeliveryKey, DeliveryState, Gen, Head};

/// A worker is about to tell a sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimDelivery {
    /// The generation that it belongs to.
    pub generation: Gen,
    /// Which delivery.
    pub key: DeliveryKey,
    /// Unique to this try.
    pub claimer: String,
}

/// What came of claiming a delivery.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeliveryClaimed {
    /// Tell it. The destination's id of an earlier telling of the same event is given, where there was one.
    Tell {
        /// The destination's own id.
        remote: Option<String>,
    },
    /// Not due, not of this generation, or someone else's.
    NotDue,
}

fn mine<'a>(head: &'a Head, generation: Gen, key: &DeliveryKey) -> Option<(usize, &'a Delivery)> {
    if head.generation != generation || !head.state.is_terminal() {
        return None;
    }
    head.deliveries.iter().enumerate().find(|(_, d)| d.key == *key)
}

/// `head` with its `at`-th delivery replaced.
fn with(head: &Head, at: usize, delivery: Delivery) -> Head {
    let mut next = head.clone();
    if let Some(slot) = next.deliveries.get_mut(at) {
        *slot = delivery;
    }
    next
}

impl Input for ClaimDelivery {
    type Outcome = DeliveryClaimed;

    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<DeliveryClaimed> {
        let Some((head, (at, d))) = head.and_then(|h| Some((h, mine(h, self.generation, &self.key)?))) else {
            return Decision::keep(DeliveryClaimed::NotDue);
        };
        if d.state == DeliveryState::Claimed && d.claimer.as_ref() == Some(&self.claimer) {
            return Decision::keep(DeliveryClaimed::Tell { remote: d.remote.clone() });
        }
        if !d.is_due(now) {
            return Decision::keep(DeliveryClaimed::NotDue);
        }
        if d.tries >= rules.max_tries && !d.rearmed {
            // Its tellers never came back to say how it went. Owed for ever, it would keep the head from settling, and
            // so every later episode from being investigated.
            return Decision::write(with(head, at, given_up(d, now)), DeliveryClaimed::NotDue);
        }
        // What came up while somebody else held it is told now.
        let tries = if d.rearmed { 0 } else { d.tries };
        let claimed = Delivery {
            state: DeliveryState::Claimed,
            at: now.plus(DELIVERY_LEASE),
            tries: tries.saturating_add(1),
            claimer: Some(self.claimer.clone()),
            rearmed: false,
            ..d.clone()
        };
        let remote = d.remote.clone();
        Decision::write(with(head, at, claimed), DeliveryClaimed::Tell { remote })
    }
}

/// What came of recording how a telling went.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryRecorded {
    /// It is recorded.
    Recorded,
    /// The claim was someone else's meanwhile.
    NotMine,
}

/// The sink was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivered {
    /// The generation that it belongs to.
    pub generation: Gen,
    /// Which delivery.
    pub key: DeliveryKey,
    /// The claim's id.
    pub claimer: String,
    /// The destination's id of what was told.
    pub remote: Option<String>,
}

impl Input for Delivered {
    type Outcome = DeliveryRecorded;

    fn rows(&self, head: Option<&Head>, _: &Rules, now: UnixMs) -> Decision<DeliveryRecorded> {
        record(head, self.generation, &self.key, &self.claimer, |d| {
            let remote = self.remote.clone().or_else(|| d.remote.clone());
            if d.rearmed {
                return again(d, now, remote);
            }
            Delivery { state: DeliveryState::Sent, at: now, claimer: None, remote, ..d.clone() }
        })
    }
}

/// The sink was not told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missed {
    /// The generation that it belongs to.
    pub generation: Gen,
    /// Which delivery.
    pub key: DeliveryKey,
    /// The claim's id.
    pub claimer: String,
    /// Whether trying again is worth it, and not before how long; `None`: it is not.
    pub retry: Option<Duration>,
}

impl Input for Missed {
    type Outcome = DeliveryRecorded;

    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<DeliveryRecorded> {
        record(head, self.generation, &self.key, &self.claimer, |d| match self.retry {
            Some(after) if d.tries < rules.max_tries => Delivery {
                state: DeliveryState::Due,
                at: now.plus(after.max(Rules::delivery_backoff(d.tries))),
                claimer: None,
                rearmed: false,
                ..d.clone()
            },
            // Given up, but more came up meanwhile: that has its own tries.
            _ if d.rearmed => again(d, now, d.remote.clone()),
            _ => given_up(d, now),
        })
    }
}

/// The same delivery, never to be tried again.
fn given_up(d: &Delivery, now: UnixMs) -> Delivery {
    Delivery { state: DeliveryState::Failed, at: now, claimer: None, ..d.clone() }
}

/// The same delivery, due at once with all its tries.
fn again(d: &Delivery, now: UnixMs, remote: Option<String>) -> Delivery {
    Delivery {
        state: DeliveryState::Due,
        at: now,
        tries: 0,
        claimer: None,
        rearmed: false,
        remote,
        ..d.clone()
    }
}

fn record(
    head: Option<&Head>,
    generation: Gen,
    key: &DeliveryKey,
    claimer: &str,
    change: impl FnOnce(&Delivery) -> Delivery,
) -> Decision<DeliveryRecorded> {
    let delivery = head.and_then(|h| Some((h, mine(h, generation, key)?)));
    match delivery {
        Some((head, (at, d)))
            if d.state == DeliveryState::Claimed && d.claimer.as_deref() == Some(claimer) =>
        {
            Decision::write(with(head, at, change(d)), DeliveryRecorded::Recorded)
        }
        _ => Decision::keep(DeliveryRecorded::NotMine),
    }
}
