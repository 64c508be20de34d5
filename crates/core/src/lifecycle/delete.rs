//! A person deletes an incident: what is left is a tombstone, which knows only that it was there.

use super::{Decision, Input, MOST_WHO, Rules, clip, release};
use crate::UnixMs;
use crate::alert::Labels;
use crate::chain::Happened;
use crate::incident::{Deleted, Gen, Head, State};

/// A person deletes what is over and told.
///
/// What says which alerts were investigated stays, without their labels: an alert that goes on is no new incident, and is
/// not paid for again. The tombstone is a generation of its own, so that everything stored of those before it can go, and
/// what is stored after it stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delete {
    /// Who, for the record.
    pub who: String,
}

/// What came of a deletion.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deletion {
    /// A tombstone stands there, now or from before.
    Deleted,
    /// It is not over, or somebody is still to be told of it, or a call of it may still be under way.
    NotOver(State),
    /// A storm notice holds no more than who was refused a model, and goes by itself.
    Notice,
    /// There is no such incident.
    Unknown,
}

impl Input for Delete {
    type Outcome = Deletion;

    fn rows(&self, head: Option<&Head>, _: &Rules, now: UnixMs) -> Decision<Deletion> {
        let Some(head) = head else { return Decision::keep(Deletion::Unknown) };
        if head.is_notice() {
            return Decision::keep(Deletion::Notice);
        }
        if head.deleted.is_some() {
            return Decision::keep(Deletion::Deleted);
        }
        let lease_over = head.lease_until.is_none_or(|until| until <= now);
        if !(head.state.is_terminal() && head.is_settled() && head.again.is_none() && lease_over) {
            return Decision::keep(Deletion::NotOver(head.state));
        }
        let mut next = Head {
            generation: Gen(now.get().max(head.generation.0.saturating_add(1))),
            labels: Labels::new(),
            deliveries: Vec::new(),
            verdict: None,
            reason: None,
            ttl: None,
            deleted: Some(Deleted { at: now, who: clip(&self.who, MOST_WHO) }),
            ..head.clone()
        };
        release(&mut next);
        Decision::write(next, Deletion::Deleted)
    }

    fn happened(&self, _: &Deletion) -> Happened {
        Happened::Deleted { who: self.who.clone() }
    }
}
