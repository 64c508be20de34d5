//! What a crash left behind: the sweeper's look at one head, and a restart's.

use std::time::Duration;

use super::{Decision, Input, Rules, due_at};
use crate::UnixMs;
use crate::chain::Happened;
use crate::incident::{DeliveryState, Head, State};

/// The sweeper looks at a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sweep;

/// What came of a sweep.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Swept {
    /// Its job was sent again.
    Sent,
    /// It is not its time.
    Left,
}

impl Input for Sweep {
    type Outcome = Swept;

    fn rows(&self, head: Option<&Head>, _: &Rules, now: UnixMs) -> Decision<Swept> {
        let Some(head) = head.filter(|h| due_at(h).is_some_and(|due| due <= now)) else {
            return Decision::keep(Swept::Left);
        };
        if head.state == State::Pending {
            let next = Head { sent_at: Some(now), sends: head.sends.saturating_add(1), ..head.clone() };
            return Decision::write(next, Swept::Sent).and_send(Duration::ZERO);
        }
        Decision::keep(Swept::Sent).and_send(Duration::ZERO)
    }

    fn happened(&self, _: &Swept) -> Happened {
        Happened::Swept
    }
}

/// The one process that owns the store has started: whoever held a lease or a claim is gone, and so is the queue.
///
/// Only the embedded service may say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restart;

impl Input for Restart {
    type Outcome = Swept;

    fn rows(&self, head: Option<&Head>, _: &Rules, now: UnixMs) -> Decision<Swept> {
        let Some(head) = head.filter(|h| due_at(h).is_some()) else {
            return Decision::keep(Swept::Left);
        };
        let mut next = head.clone();
        next.lease_until = next.lease_until.map(|until| until.min(now));
        for d in &mut next.deliveries {
            if d.state == DeliveryState::Claimed {
                d.at = d.at.min(now);
            }
        }
        let delay = match head.state {
            State::Pending => head.not_before.since(now),
            State::Running => Duration::ZERO,
            _ => due_at(&next).map_or(Duration::ZERO, |due| due.since(now)),
        };
        Decision::write(next, Swept::Sent).and_send(delay)
    }

    fn happened(&self, _: &Swept) -> Happened {
        Happened::Restarted
    }
}
