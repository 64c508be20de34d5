//! Notifications: rows Notify and Resolve of the table, tried from the top.

use std::collections::BTreeSet;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Decision, Input, Rules, arm, arm_resolved, is_over_unpaid, suppress};
use crate::UnixMs;
use crate::alert::Labels;
use crate::chain::Happened;
use crate::digest::hex;
use crate::incident::{Event, Gen, Head, IncidentId, MemberId, Members, Openings, State};

/// One alert of an arrival, reduced to what the lifecycle needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Member {
    /// Which alert.
    pub id: MemberId,
    /// Whether it fires.
    pub firing: bool,
    /// When it began, by the payload; `None`: unknown.
    pub starts_at: Option<UnixMs>,
    /// When it resolved, by the payload or the time of receipt; `None` while it fires.
    pub ends_at: Option<UnixMs>,
}

/// The alerts of one notification that belong to one incident: a Notify if any of them fires, else a Resolve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// The dedupe key.
    pub id: IncidentId,
    /// The card's name.
    pub card: String,
    /// The key's labels, for people.
    pub labels: Labels,
    /// One member a label set. Not empty.
    pub members: Vec<Member>,
    /// The sender left alerts out of its payload.
    pub truncated: bool,
}

/// What came of an arrival.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Taken {
    /// Nothing new: the same again, or older than what is known.
    Duplicate,
    /// Its end is recorded.
    Resolved,
    /// It resolved before anything was spent: nobody investigates.
    Suppressed,
    /// It is recorded on the incident that is already there.
    Joined,
    /// A generation was opened for it.
    Accepted,
}

impl Arrival {
    fn is_firing(&self) -> bool {
        self.members.iter().any(|m| m.firing)
    }

    /// The latest `startsAt` of what fires.
    fn latest_start(&self) -> Option<UnixMs> {
        self.members.iter().filter(|m| m.firing).filter_map(|m| m.starts_at).max()
    }

    fn latest_end(&self) -> Option<UnixMs> {
        self.members.iter().filter_map(|m| m.ends_at).max()
    }

    fn firing_members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.firing)
    }

    /// Whether its sender knows of the episode that began at `began`: none of its alerts began earlier only. A sender
    /// that has missed a re-fire may speak of an end, but not for the whole incident.
    fn has_seen(&self, began: Option<UnixMs>) -> bool {
        let latest = self.members.iter().filter_map(|m| m.starts_at).max();
        match (began, latest) {
            (Some(began), Some(latest)) => latest >= began,
            _ => true,
        }
    }

    /// What fires once this is told, over all senders.
    fn merge_firing(&self, firing: &Members) -> Members {
        let mut merged = firing.clone();
        for m in &self.members {
            if m.firing {
                merged.insert(m.id);
            } else {
                merged.remove(m.id);
            }
        }
        merged
    }
}

/// Whether this arrival begins a new episode of the head's incident.
///
/// By membership, by the payload's times, and by the card's `reinvestigate-after`. An alert whose payload never
/// says when it began has no times: once its resolve was recorded, firing again is what begins its next episode.
fn is_new_episode(head: &Head, a: &Arrival, rules: &Rules, now: UnixMs) -> bool {
    let stranger = !head.known.is_many() && a.firing_members().any(|m| !head.known.contains(m.id));
    stranger || is_later_episode(head, a, rules, now)
}

/// The part of [`is_new_episode`] that goes by time and status, not by membership.
fn is_later_episode(head: &Head, a: &Arrival, rules: &Rules, now: UnixMs) -> bool {
    let after_end = match (head.resolved_at, a.latest_start()) {
        (Some(end), Some(start)) => start > end,
        (Some(_), None) => a.firing_members().any(|m| !head.firing.contains(m.id)),
        (None, _) => false,
    };
    let after_window = match (head.began, a.latest_start()) {
        (Some(began), Some(start)) => start > began.plus(rules.dedupe_ttl),
        _ => false,
    };
    // A late copy of what has ended is no sign that it goes on.
    let is_over = matches!((head.resolved_at, a.latest_start()), (Some(end), Some(start)) if start <= end);
    let overdue = !is_over
        && rules.reinvestigate_after.is_some_and(|after| UnixMs::new(head.generation.0).plus(after) <= now);
    after_end || after_window || overdue
}

/// Whether someone should hear of it: a member never seen, or a later episode.
///
/// A member that has joined the firing is not news again: two senders that see different parts of a group would
/// otherwise arm an update with every repeat, until the window is over.
fn is_news(head: &Head, a: &Arrival, rules: &Rules, now: UnixMs) -> bool {
    let seen = |m: &Member| head.known.contains(m.id) || head.firing.contains(m.id);
    let stranger = !head.known.is_many() && a.members.iter().any(|m| !seen(m));
    stranger || is_later_episode(head, a, rules, now)
}

/// Hash of the members and their status, and of `startsAt` where it tells a new episode, on the head as it will be
/// written: a repeat has the same digest, whatever its annotations say.
fn digest(head: &Head, a: &Arrival, rules: &Rules) -> String {
    let mut members: Vec<&Member> = a.members.iter().collect();
    members.sort();
    let mut hash = Sha256::new();
    for m in members {
        hash.update(m.id.0.to_be_bytes());
        hash.update([u8::from(m.firing)]);
        let telling = m.starts_at.filter(|s| {
            head.resolved_at.is_some_and(|end| *s > end)
                || head.began.is_some_and(|b| *s > b.plus(rules.dedupe_ttl))
        });
        if let Some(start) = telling {
            hash.update(start.get().to_be_bytes());
        }
    }
    let mut name = hex(&hash.finalize());
    name.truncate(32);
    name
}

impl Input for Arrival {
    type Outcome = Taken;

    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<Taken> {
        match (head, self.is_firing()) {
            (None, true) => open(None, self, rules, now),
            (None, false) => Decision::keep(Taken::Duplicate),
            (Some(head), true) => wake_for_deliveries(head, notify(head, self, rules, now), now),
            (Some(head), false) => wake_for_deliveries(head, resolve(head, self, rules, now), now),
        }
    }

    fn happened(&self, outcome: &Taken) -> Happened {
        match outcome {
            Taken::Accepted => Happened::Received,
            Taken::Joined => Happened::Joined,
            Taken::Resolved => Happened::Resolved,
            Taken::Suppressed => Happened::Suppressed,
            Taken::Duplicate => Happened::Repeated,
        }
    }
}

/// Sends the job of an incident that has ended and now has more to tell: people should not have to wait for the
/// sweeper.
fn wake_for_deliveries(head: &Head, decision: Decision<Taken>, now: UnixMs) -> Decision<Taken> {
    let before = head.due_deliveries(now);
    let more = decision
        .next
        .as_ref()
        .is_some_and(|next| next.due_deliveries(now).iter().any(|key| !before.contains(key)));
    if more && decision.send.is_none() { decision.and_send(Duration::ZERO) } else { decision }
}

fn notify(head: &Head, a: &Arrival, rules: &Rules, now: UnixMs) -> Decision<Taken> {
    let episode = is_new_episode(head, a, rules, now);
    let terminal = head.state.is_terminal();

    if head.state == State::Suppressed {
        // Nothing was spent on what was suppressed, so whatever is not certainly old opens it again. A start that
        // the payload does not give is not certainly old.
        let not_old = match (a.latest_start(), head.began) {
            (Some(start), Some(began)) => start >= began,
            _ => true,
        };
        let stranger = a.members.iter().any(|m| !head.known.contains(m.id));
        if not_old || stranger {
            return reopen(head, a, rules, now);
        }
    }

    if head.state == State::Pending {
        let mut next = head.clone();
        // What was paid for before it was put off says nothing of what comes now: people hear of it as of an update.
        let paid = head.turn > 0;
        join(&mut next, a, episode, !paid || head.reopen_after > now);
        next.digest = digest(&next, a, rules);
        let taken = if next.digest == head.digest { Taken::Duplicate } else { Taken::Joined };
        if taken == Taken::Joined && paid && is_news(head, a, rules, now) {
            arm(&mut next, Event::Updated, rules, now);
        }
        // Snapshot and message again, even where nothing changed: the first ones may have been lost.
        let delay = head.not_before.since(now);
        return Decision::write(next, taken).and_append().and_send(delay);
    }

    let lease_over = head.lease_until.is_none_or(|until| until <= now);
    if terminal && head.reopen_after <= now && lease_over && head.is_settled() && episode {
        return reopen(head, a, rules, now);
    }

    // RUNNING or terminal: a new digest joins.
    let mut next = head.clone();
    join(&mut next, a, episode && !terminal, !terminal && head.reopen_after > now);
    next.digest = digest(&next, a, rules);
    if next.digest != head.digest {
        if is_news(head, a, rules, now) && !is_quiet(head, rules, now) {
            arm(&mut next, Event::Updated, rules, now);
        }
        next.ttl = None;
        return Decision::write(next, Taken::Joined).and_append();
    }

    // A duplicate. A later start is recorded all the same: a late resolve of what was before it has to be stale. And
    // a head that is still spoken of is kept: a ttl past its half-life is renewed.
    let half = rules.retention / 2;
    let ttl = head.ttl.filter(|ttl| ttl.since(now) >= half);
    Decision::write(Head { seen: next.seen, ttl, ..head.clone() }, Taken::Duplicate)
}

/// Opens the next generation, unless its hour has had as many as the card allows.
fn reopen(head: &Head, a: &Arrival, rules: &Rules, now: UnixMs) -> Decision<Taken> {
    if !is_flapping(head, rules, now) {
        return open(Some(head), a, rules, now);
    }
    // It joins as what comes too early does, so that its next repeat after the hour opens it. One notice stands for
    // all of this hour.
    let mut next = head.clone();
    join(&mut next, a, false, false);
    next.digest = digest(&next, a, rules);
    if !has_told_flapping(head) {
        arm(&mut next, Event::Flapping, rules, now);
    }
    if next.digest == head.digest && next.deliveries == head.deliveries {
        return Decision::write(Head { seen: next.seen, ..head.clone() }, Taken::Duplicate);
    }
    next.ttl = None;
    Decision::write(next, Taken::Joined).and_append()
}

/// Whether this hour has had as many generations as the card allows.
fn is_flapping(head: &Head, rules: &Rules, now: UnixMs) -> bool {
    rules
        .generations_per_hour
        .zip(head.openings)
        .is_some_and(|(most, openings)| openings.count >= most && openings.since.plus(Openings::WINDOW) > now)
}

fn has_told_flapping(head: &Head) -> bool {
    head.deliveries.iter().any(|d| d.key.event == Event::Flapping)
}

/// Whether the flapping notice stands for whatever else this hour brings.
fn is_quiet(head: &Head, rules: &Rules, now: UnixMs) -> bool {
    has_told_flapping(head) && is_flapping(head, rules, now)
}

/// Records who fires. `whole`: the arrival also belongs to the generation's own members and beginning.
fn join(next: &mut Head, a: &Arrival, clear_resolved: bool, whole: bool) {
    next.firing = a.merge_firing(&next.firing);
    next.seen = next.seen.max(a.latest_start());
    next.truncated |= a.truncated;
    if whole {
        next.began = next.began.max(a.latest_start());
        next.known.extend(&a.members.iter().map(|m| m.id).collect());
    }
    if clear_resolved {
        next.resolved_at = None;
    }
}

/// Opens a generation: the first one, or the next one of an incident that has ended.
fn open(old: Option<&Head>, a: &Arrival, rules: &Rules, now: UnixMs) -> Decision<Taken> {
    let generation = Gen(old.map_or(now.get(), |h| now.get().max(h.generation.0.saturating_add(1))));
    let before = old.map(|h| h.firing.clone()).unwrap_or_default();
    let mut known: Members = a.members.iter().map(|m| m.id).collect();
    known.extend(&before);
    // "Many" never empties: carried on, it would keep every later generation from ending. Who fires is counted anew.
    let still_firing = a.merge_firing(&if before.is_many() { Members::default() } else { before });
    known.extend(&still_firing);
    let began = a.latest_start();
    let mut next = Head {
        schema: Head::SCHEMA,
        id: a.id.clone(),
        card: a.card.clone(),
        labels: displayed(&a.labels),
        version: old.map_or(0, |h| h.version),
        writer: old.map_or_else(String::new, |h| h.writer.clone()),
        state: State::Pending,
        generation,
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
        digest: String::new(),
        known,
        firing: still_firing,
        truncated: a.truncated,
        deliveries: Vec::new(),
        verdict: None,
        reason: None,
        openings: rules.generations_per_hour.map(|_| Openings::after(old.and_then(|h| h.openings), now)),
        ttl: None,
        chain: old.map(|h| h.chain.clone()).unwrap_or_default(),
        signed: old.and_then(|h| h.signed.clone()),
    };
    next.digest = digest(&next, a, rules);
    Decision::write(next, Taken::Accepted).and_append().and_send(rules.wait)
}

fn resolve(head: &Head, a: &Arrival, rules: &Rules, now: UnixMs) -> Decision<Taken> {
    let Some(end) = a.latest_end() else {
        // Unreachable through intake, which gives every resolved alert an end; nothing can be said without one.
        return Decision::keep(Taken::Duplicate);
    };
    if head.seen.is_some_and(|seen| end < seen) {
        return Decision::keep(Taken::Duplicate);
    }
    let mut next = head.clone();
    next.firing = a.merge_firing(&head.firing);
    next.truncated |= a.truncated;
    if head.resolved_at.is_some_and(|at| end <= at) {
        next.digest = digest(&next, a, rules);
        return Decision::write(next, Taken::Duplicate);
    }
    // Who has missed the latest episode may not say that all is over, as long as that could leave it uninvestigated.
    let knows = a.has_seen(head.began) || head.turn > 0 || head.state.is_terminal();
    if !(next.firing.is_empty() && knows) {
        next.digest = digest(&next, a, rules);
        if next.digest == head.digest && next.firing == head.firing {
            return Decision::keep(Taken::Duplicate);
        }
        next.ttl = None;
        return Decision::write(next, Taken::Joined).and_append();
    }
    next.resolved_at = Some(end);
    next.digest = digest(&next, a, rules);
    match head.state {
        State::Pending if is_over_unpaid(&next) => {
            suppress(&mut next, rules, now);
            Decision::write(next, Taken::Suppressed)
        }
        State::Done | State::Failed | State::Aborted => {
            if !is_quiet(head, rules, now) {
                arm_resolved(&mut next, rules, now);
            }
            next.ttl = None;
            Decision::write(next, Taken::Resolved)
        }
        State::Pending | State::Running | State::Suppressed => Decision::write(next, Taken::Resolved),
    }
}

/// The key's labels as the head shows them: at most 16, each value at most 120 bytes, so that a head stays small
/// whatever an alert carries. The whole labels are in the snapshot.
fn displayed(labels: &Labels) -> Labels {
    /// Bytes of names and values together.
    const BUDGET: usize = 400;
    let mut left = BUDGET;
    let mut shown = Labels::new();
    for (name, value) in labels.iter().take(16) {
        let value = cut(value, 120);
        let name = cut(name, 120);
        let size = name.len() + value.len();
        if size > left {
            break;
        }
        left -= size;
        shown.insert(name, value);
    }
    shown
}

/// The first `most` bytes of whole characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

/// Folds members that name the same alert: firing wins, then the later start, then the later end.
pub(crate) fn strongest(members: impl IntoIterator<Item = Member>) -> Vec<Member> {
    let mut seen = BTreeSet::new();
    let mut all: Vec<Member> = members.into_iter().collect();
    all.sort_by_key(|m| (m.id, std::cmp::Reverse((m.firing, m.starts_at, m.ends_at))));
    all.retain(|m| seen.insert(m.id));
    all
}

/// How long until `at`; zero when it has passed.
pub(super) fn until(at: UnixMs, now: UnixMs) -> Duration {
    at.since(now)
}
