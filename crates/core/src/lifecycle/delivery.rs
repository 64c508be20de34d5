//! Telling sinks: claim, tell, record. A destination is never called under someone else's claim.

use std::time::Duration;

use super::{DELIVERY_LEASE, Decision, Input, MOST_ERROR, MOST_REMOTE, Rules, clip};
use crate::UnixMs;
use crate::chain::Happened;
use crate::incident::{Delivery, DeliveryKey, DeliveryState, Event, Gen, Head};

/// The longest that a destination may ask to be left alone. An incident opens again only when everybody is told: one
/// `Retry-After` of a year would keep later episodes from being investigated.
const MOST_WAIT: Duration = Duration::from_hours(1);

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
    /// Not due, not next, not of this generation, or someone else's.
    NotDue,
}

fn find<'a>(head: Option<&'a Head>, generation: Gen, key: &DeliveryKey) -> Option<(&'a Head, &'a Delivery)> {
    let head = head.filter(|h| h.generation == generation)?;
    Some((head, head.deliveries.iter().find(|d| d.key == *key)?))
}

/// `head` with the delivery of this key replaced, or taken out.
fn with(head: &Head, key: &DeliveryKey, delivery: Option<Delivery>) -> Head {
    let mut next = head.clone();
    if let Some(delivery) = delivery {
        if delivery.error.is_some() {
            let others = next.deliveries.iter_mut().filter(|d| d.key.sink == key.sink);
            others.for_each(|d| d.error = None);
        }
        next.deliveries.iter_mut().filter(|d| d.key == *key).for_each(|d| *d = delivery.clone());
    } else {
        next.deliveries.retain(|d| d.key != *key);
    }
    next
}

/// Whether this tells of a start whose end the same sink is owed, or was told; or of an end, and it fires again.
fn is_overtaken(head: &Head, key: &DeliveryKey) -> bool {
    let ending = |d: &Delivery| d.key.event.is_ending() && d.key.sink == key.sink;
    match key.event {
        Event::Started => head.deliveries.iter().any(ending),
        Event::Resolved => head.resolved().is_none(),
        _ => false,
    }
}

impl Input for ClaimDelivery {
    type Outcome = DeliveryClaimed;

    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<DeliveryClaimed> {
        let Some((head, d)) = find(head, self.generation, &self.key) else {
            return Decision::keep(DeliveryClaimed::NotDue);
        };
        if d.state == DeliveryState::Claimed && d.claimer.as_ref() == Some(&self.claimer) {
            return Decision::keep(DeliveryClaimed::Tell { remote: d.remote.clone() });
        }
        if !d.is_due(now) || !head.next_deliveries().any(|next| next.key == d.key) {
            return Decision::keep(DeliveryClaimed::NotDue);
        }
        if is_overtaken(head, &d.key) {
            // Whoever was telling it never came back. What is true by now is told beside it.
            return Decision::write(with(head, &d.key, None), DeliveryClaimed::NotDue);
        }
        if d.tries >= rules.max_tries && !d.rearmed {
            // Its tellers never came back to say how it went. Owed for ever, it would keep the head from settling, and
            // so every later episode from being investigated.
            let error = d.error.clone().or_else(|| Some("its tellers did not come back".to_owned()));
            let failed = Delivery { error, ..given_up(d, now) };
            return Decision::write(with(head, &d.key, Some(failed)), DeliveryClaimed::NotDue);
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
        Decision::write(with(head, &d.key, Some(claimed)), DeliveryClaimed::Tell { remote })
    }

    fn happened(&self, _: &DeliveryClaimed) -> Happened {
        Happened::Telling { what: self.key.event, sink: self.key.sink.clone() }
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
    /// The destination's id of what was told. One longer than [`MOST_REMOTE`] is not kept.
    pub remote: Option<String>,
    /// Why it was told in another form than it was meant to be, for people.
    pub amiss: Option<String>,
}

impl Input for Delivered {
    type Outcome = DeliveryRecorded;

    fn rows(&self, head: Option<&Head>, _: &Rules, now: UnixMs) -> Decision<DeliveryRecorded> {
        record(head, self.generation, &self.key, &self.claimer, |_, d| {
            let error = self.amiss.as_ref().map(|amiss| clip(amiss, MOST_ERROR));
            let d = &Delivery { remote: kept(self.remote.as_ref(), d), error, ..d.clone() };
            Some(if d.rearmed {
                again(d, now)
            } else {
                Delivery { state: DeliveryState::Sent, at: now, claimer: None, ..d.clone() }
            })
        })
    }

    fn happened(&self, _: &DeliveryRecorded) -> Happened {
        Happened::Told { what: self.key.event, sink: self.key.sink.clone() }
    }
}

/// The sink was not told, or not all of it.
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
    /// Why, for people.
    pub error: String,
    /// The destination's id of what was told in part.
    pub remote: Option<String>,
}

impl Input for Missed {
    type Outcome = DeliveryRecorded;

    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<DeliveryRecorded> {
        record(head, self.generation, &self.key, &self.claimer, |head, d| {
            let error = Some(clip(&self.error, MOST_ERROR));
            let d = &Delivery { remote: kept(self.remote.as_ref(), d), error, ..d.clone() };
            match self.retry {
                // What is true by now is told instead.
                Some(_) if is_overtaken(head, &d.key) => None,
                Some(after) if d.tries < rules.max_tries => Some(Delivery {
                    state: DeliveryState::Due,
                    at: now.plus(after.min(MOST_WAIT).max(Rules::delivery_backoff(d.tries))),
                    claimer: None,
                    rearmed: false,
                    ..d.clone()
                }),
                // Given up, but more came up meanwhile: that has its own tries.
                _ if d.rearmed => Some(again(d, now)),
                _ => Some(given_up(d, now)),
            }
        })
    }

    fn happened(&self, _: &DeliveryRecorded) -> Happened {
        let DeliveryKey { event, sink } = self.key.clone();
        Happened::Missed { what: event, sink, error: self.error.clone() }
    }
}

/// The destination's id as it is now known: the new one, or that of an earlier telling.
fn kept(remote: Option<&String>, d: &Delivery) -> Option<String> {
    remote.filter(|r| r.len() <= MOST_REMOTE).or(d.remote.as_ref()).cloned()
}

/// The same delivery, never to be tried again.
fn given_up(d: &Delivery, now: UnixMs) -> Delivery {
    Delivery { state: DeliveryState::Failed, at: now, claimer: None, ..d.clone() }
}

/// The same delivery, due at once with all its tries.
fn again(d: &Delivery, now: UnixMs) -> Delivery {
    Delivery { state: DeliveryState::Due, at: now, tries: 0, claimer: None, rearmed: false, ..d.clone() }
}

fn record(
    head: Option<&Head>,
    generation: Gen,
    key: &DeliveryKey,
    claimer: &str,
    change: impl FnOnce(&Head, &Delivery) -> Option<Delivery>,
) -> Decision<DeliveryRecorded> {
    match find(head, generation, key) {
        Some((head, d)) if d.state == DeliveryState::Claimed && d.claimer.as_deref() == Some(claimer) => {
            Decision::write(with(head, key, change(head, d)), DeliveryRecorded::Recorded)
        }
        _ => Decision::keep(DeliveryRecorded::NotMine),
    }
}
