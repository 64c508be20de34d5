//! Storm notices: what ended on its evidence alone, because the budget is used up, is gathered and told once an hour.
//!
//! A notice is a head of its own, one a sink, with one delivery and a snapshot for each incident that it lists: so it
//! is delivered, retried and found again after a crash as every other event is. Each incident is on one notice (on two
//! where it is noted again after a crash, which lists it twice and loses nothing).

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Decision, Input, MOST_REASON, Rules, clip};
use crate::UnixMs;
use crate::alert::Labels;
use crate::chain::Happened;
use crate::digest::hex;
use crate::incident::{Delivery, DeliveryKey, DeliveryState, Event, Gen, Head, IncidentId, Members, State};

/// How long the first notice waits for others that the same storm brings.
pub const GATHER: Duration = Duration::from_mins(1);
/// The shortest time between two notices to one sink.
pub const BETWEEN_NOTICES: Duration = Duration::from_hours(1);

/// An incident is to be listed on a sink's next notice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The sink's notice: [`notice_id`].
    pub id: IncidentId,
    /// The sink.
    pub sink: String,
    /// Names the incident and its generation.
    pub entry: String,
    /// What is used up.
    pub reason: String,
}

/// The head of a sink's storm notices.
pub fn notice_id(sink: &str) -> IncidentId {
    let mut hash = Sha256::new();
    // No dedupe key begins so: its first part is the length of a card's name, and no card's name is empty.
    hash.update([0; 8]);
    hash.update("storm notice");
    hash.update(sink);
    IncidentId::new(hex(&hash.finalize()))
}

impl Head {
    /// Whether it is a notice, which belongs to no card.
    pub fn is_notice(&self) -> bool {
        self.card.is_empty()
    }
}

impl Input for Note {
    type Outcome = ();

    fn rows(&self, head: Option<&Head>, _: &Rules, now: UnixMs) -> Decision<()> {
        let Some(head) = head else { return open(self, None, now.plus(GATHER), now) };
        let told = head.deliveries.iter().find(|d| d.key.event == Event::Storm);
        let mut next = head.clone();
        next.digest.clone_from(&self.entry);
        next.reason = Some(clip(&self.reason, MOST_REASON));
        next.ttl = None;
        match told.map(|d| (d.state, d.at)) {
            // Whoever claims it reads the list after that.
            Some((DeliveryState::Due, _)) => Decision::write(next, ()).and_append(),
            // Being told, perhaps without this one: once more when that ends.
            Some((DeliveryState::Claimed, _)) => {
                next.deliveries.iter_mut().for_each(|d| d.rearmed = true);
                Decision::write(next, ()).and_append()
            }
            Some((DeliveryState::Sent | DeliveryState::Failed, at)) => {
                open(self, Some(head), at.plus(BETWEEN_NOTICES).max(now.plus(GATHER)), now)
            }
            None => open(self, Some(head), now.plus(GATHER), now),
        }
    }

    fn happened(&self, (): &()) -> Happened {
        Happened::Noted
    }
}

/// The next notice, to be told at `at`.
fn open(note: &Note, old: Option<&Head>, at: UnixMs, now: UnixMs) -> Decision<()> {
    let generation = Gen(old.map_or(now.get(), |h| now.get().max(h.generation.0.saturating_add(1))));
    let next = Head {
        schema: Head::SCHEMA,
        id: note.id.clone(),
        card: String::new(),
        labels: Labels::new(),
        version: old.map_or(0, |h| h.version),
        writer: old.map_or_else(String::new, |h| h.writer.clone()),
        state: State::Done,
        generation,
        epoch: 0,
        owner: None,
        lease_until: None,
        attempts: 0,
        slices: 0,
        turn: 0,
        not_before: now,
        sent_at: None,
        sends: 0,
        reopen_after: now,
        began: None,
        seen: None,
        resolved_at: None,
        again: None,
        digest: note.entry.clone(),
        known: Members::default(),
        firing: Members::default(),
        truncated: false,
        deliveries: vec![Delivery {
            key: DeliveryKey { event: Event::Storm, sink: note.sink.clone() },
            state: DeliveryState::Due,
            at,
            tries: 0,
            claimer: None,
            remote: None,
            rearmed: false,
            armed: None,
            error: None,
        }],
        verdict: None,
        reason: Some(clip(&note.reason, MOST_REASON)),
        openings: None,
        ttl: None,
        deleted: None,
        chain: old.map(|h| h.chain.clone()).unwrap_or_default(),
        signed: old.and_then(|h| h.signed.clone()),
    };
    Decision::write(next, ()).and_append().and_send(at.since(now))
}
