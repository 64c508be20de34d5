//! How a generation begins: for a notification, or because what fires again has waited for the window's end. And how
//! often it may.

use super::{Decision, Input, Rules};
use crate::UnixMs;
use crate::alert::Labels;
use crate::chain::Happened;
use crate::incident::{Again, Event, Gen, Head, IncidentId, MemberId, Members, Openings, State};

/// What a generation begins with.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) id: IncidentId,
    pub(super) card: String,
    pub(super) labels: Labels,
    pub(super) known: Members,
    pub(super) firing: Members,
    pub(super) began: Option<UnixMs>,
    pub(super) truncated: bool,
}

impl Opening {
    /// The head, still without a digest: of the first generation, or of the next one of an incident that has ended.
    pub(super) fn head(self, old: Option<&Head>, rules: &Rules, now: UnixMs) -> Head {
        let Self { id, card, labels, known, firing, began, truncated } = self;
        Head {
            schema: Head::SCHEMA,
            id,
            card,
            labels,
            version: old.map_or(0, |h| h.version),
            writer: old.map_or_else(String::new, |h| h.writer.clone()),
            state: State::Pending,
            generation: Gen(old.map_or(now.get(), |h| now.get().max(h.generation.0.saturating_add(1)))),
            epoch: old.map_or(0, |h| h.epoch),
            owner: None,
            lease_until: None,
            attempts: 0,
            slices: 0,
            turn: 0,
            not_before: now.plus(rules.wait),
            sent_at: None,
            sends: 0,
            reopen_after: now.plus(rules.dedupe_ttl),
            began,
            seen: old.and_then(|h| h.seen).max(began),
            resolved_at: None,
            again: None,
            digest: String::new(),
            known,
            firing,
            truncated,
            deliveries: Vec::new(),
            verdict: None,
            reason: None,
            openings: rules.generations_per_hour.map(|_| Openings::after(old.and_then(|h| h.openings), now)),
            ttl: None,
            deleted: None,
            chain: old.map(|h| h.chain.clone()).unwrap_or_default(),
            signed: old.and_then(|h| h.signed.clone()),
        }
    }
}

/// The window is over in which an incident that fires again is not investigated again: its next generation begins,
/// without waiting for its sender to say so once more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WindowOver {
    /// The generation that has ended.
    pub generation: Gen,
    /// Who fires by what is stored of it: for a head that does not tell its members apart.
    pub firing: Vec<MemberId>,
}

/// What came of the end of a window.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reopened {
    /// The next generation waits for a worker.
    Reopened,
    /// It is not its time, or nothing fires any more.
    Left,
}

impl Input for WindowOver {
    type Outcome = Reopened;

    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<Reopened> {
        let mine = |h: &&Head| h.generation == self.generation;
        let Some((head, again)) = head.filter(mine).and_then(|head| Some((head, head.again?))) else {
            return Decision::keep(Reopened::Left);
        };
        if head.reopens_at().is_none_or(|at| at > now) {
            return Decision::keep(Reopened::Left);
        }
        if let Some(not_before) = flaps_until(head, rules, now) {
            // The card allows fewer generations an hour than when this was noted.
            let again = Some(Again { not_before, ..again });
            return Decision::write(Head { again, ..head.clone() }, Reopened::Left);
        }
        let mut firing = head.firing.clone();
        if firing.is_many() {
            firing = self.firing.iter().copied().collect();
        }
        let opening = Opening {
            id: head.id.clone(),
            card: head.card.clone(),
            labels: head.labels.clone(),
            known: firing.clone(),
            firing,
            began: head.seen,
            truncated: head.truncated,
        };
        let mut next = opening.head(Some(head), rules, now);
        // What it is about is what was told last.
        next.digest.clone_from(&head.digest);
        Decision::write(next, Reopened::Reopened).and_append().and_send(rules.wait)
    }

    fn happened(&self, _: &Reopened) -> Happened {
        Happened::Reopened
    }
}

/// Until when this hour lasts, where it has had as many generations as the card allows.
pub(super) fn flaps_until(head: &Head, rules: &Rules, now: UnixMs) -> Option<UnixMs> {
    let (most, openings) = rules.generations_per_hour.zip(head.openings)?;
    let until = openings.since.plus(Openings::WINDOW);
    (openings.count >= most && until > now).then_some(until)
}

pub(super) fn has_told_flapping(head: &Head) -> bool {
    head.deliveries.iter().any(|d| d.key.event == Event::Flapping)
}

/// Whether the flapping notice stands for whatever else this hour brings.
pub(super) fn is_quiet(head: &Head, rules: &Rules, now: UnixMs) -> bool {
    has_told_flapping(head) && flaps_until(head, rules, now).is_some()
}

/// The key's labels as the head shows them: at most 16, each value at most 120 bytes, so that a head stays small
/// whatever an alert carries. The whole labels are in the snapshot.
pub(super) fn displayed(labels: &Labels) -> Labels {
    /// Bytes of names and values together.
    const BUDGET: usize = 320;
    let mut left = BUDGET;
    let mut shown = Labels::new();
    for (name, value) in labels.iter().take(16) {
        let value = super::arrival::cut(value, 120);
        let name = super::arrival::cut(name, 120);
        let size = name.len() + value.len();
        if size > left {
            break;
        }
        left -= size;
        shown.insert(name, value);
    }
    shown
}
