//! Notifications: rows Notify and Resolve of the table, tried from the top.

use std::collections::BTreeSet;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::opening::{Opening, displayed, flaps_until, has_told_flapping, is_quiet};
use super::{Decision, Input, Rules, arm, is_over_unpaid, suppress};
use crate::UnixMs;
use crate::alert::Labels;
use crate::chain::Happened;
use crate::digest::hex;
use crate::incident::{Again, DeliveryState, Event, Head, IncidentId, MemberId, Members, State};

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

/// What came of one alert of an arrival, and, of all its alerts the greatest, of the arrival.
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
    /// It was not known to fire, or not since then: it is recorded on the incident that is already there.
    Joined,
    /// A generation was opened for it.
    Accepted,
}

/// What came of an arrival.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// The whole.
    pub taken: Taken,
    /// Each of the arrival's members, in its order.
    pub each: Vec<Taken>,
}

impl Received {
    /// The same for all members.
    fn all(a: &Arrival, taken: Taken) -> Self {
        Self { taken, each: vec![taken; a.members.len()] }
    }

    /// Each member as `of` says.
    fn by_member(a: &Arrival, of: impl Fn(&Member) -> Taken) -> Self {
        let each: Vec<Taken> = a.members.iter().map(of).collect();
        Self { taken: each.iter().max().copied().unwrap_or(Taken::Duplicate), each }
    }
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
    is_unknown(head, a) || is_later_episode(head, a, rules, now)
}

/// Whether somebody fires who is no member of the generation.
fn is_unknown(head: &Head, a: &Arrival) -> bool {
    !head.known.is_many() && a.firing_members().any(|m| !head.known.contains(m.id))
}

/// The part of [`is_new_episode`] that goes by time and status, not by membership.
fn is_later_episode(head: &Head, a: &Arrival, rules: &Rules, now: UnixMs) -> bool {
    // A late copy of what has ended is no sign that it goes on.
    let is_over = matches!((head.resolved_at, a.latest_start()), (Some(end), Some(start)) if start <= end);
    let overdue = !is_over
        && rules.reinvestigate_after.is_some_and(|after| UnixMs::new(head.generation.0).plus(after) <= now);
    fires_again(head, a, rules) || overdue
}

/// Whether it fires again: one began after the recorded end, or later than the window allows. An alert that the
/// generation is about goes on, whatever ended before that.
fn fires_again(head: &Head, a: &Arrival, rules: &Rules) -> bool {
    let is_about = |m: &Member| head.firing.contains(m.id) && m.starts_at <= head.began;
    let after_end = match (head.resolved_at, a.latest_start()) {
        (Some(end), Some(_)) => a.firing_members().any(|m| m.starts_at > Some(end) && !is_about(m)),
        (Some(_), None) => a.firing_members().any(|m| !head.firing.contains(m.id)),
        (None, _) => false,
    };
    let after_window = match (head.began, a.latest_start()) {
        (Some(began), Some(start)) => start > began.plus(rules.dedupe_ttl),
        _ => false,
    };
    after_end || after_window
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

/// What comes of a member that joins: it is new by its fingerprint, or by when it began.
fn joined(head: &Head, m: &Member) -> Taken {
    let fires = head.firing.contains(m.id) || head.firing.is_many();
    let unknown = !head.known.is_many() && !head.known.contains(m.id) && !fires;
    let later = m.starts_at.zip(head.seen).is_some_and(|(start, seen)| start > seen);
    // Its end was recorded. A copy from before that is no news.
    let back = !fires && m.starts_at.zip(head.resolved_at).is_none_or(|(start, end)| start > end);
    match m.firing {
        true if unknown || later || back => Taken::Joined,
        false if head.firing.contains(m.id) => Taken::Resolved,
        _ => Taken::Duplicate,
    }
}

/// Hash of the members, their status and when they began, on the head as it will be written: a repeat has the same
/// digest, whatever its annotations say. The end of all has one for each end that is recorded.
fn digest(head: &Head, a: &Arrival) -> String {
    let mut members: Vec<&Member> = a.members.iter().collect();
    members.sort();
    let mut hash = Sha256::new();
    for m in members {
        hash.update(m.id.0.to_be_bytes());
        hash.update([u8::from(m.firing), u8::from(m.starts_at.is_some())]);
        hash.update(m.starts_at.map_or(0, UnixMs::get).to_be_bytes());
    }
    if let Some(end) = head.resolved() {
        hash.update(end.get().to_be_bytes());
    }
    let mut name = hex(&hash.finalize());
    name.truncate(32);
    name
}

impl Input for Arrival {
    type Outcome = Received;

    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<Received> {
        let mut decision = match (head, self.is_firing()) {
            (None, true) => open(None, self, rules, now),
            (None, false) => Decision::keep(Received::all(self, Taken::Duplicate)),
            (Some(head), true) => wake_for_deliveries(head, notify(head, self, rules, now), now),
            (Some(head), false) => wake_for_deliveries(head, resolve(head, self, rules, now), now),
        };
        // What was deleted and has more to tell, or fires again, needs a name for that.
        let speaks = |n: &&mut Head| n.deleted.is_some() && (n.again.is_some() || !n.is_settled());
        if let Some(next) = decision.next.as_mut().filter(speaks) {
            next.labels = displayed(&self.labels);
        }
        decision
    }

    fn happened(&self, outcome: &Received) -> Happened {
        match outcome.taken {
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
fn wake_for_deliveries(head: &Head, decision: Decision<Received>, now: UnixMs) -> Decision<Received> {
    let before = head.due_deliveries(now);
    let more = decision
        .next
        .as_ref()
        .is_some_and(|next| next.due_deliveries(now).iter().any(|key| !before.contains(key)));
    if more && decision.send.is_none() { decision.and_send(Duration::ZERO) } else { decision }
}

fn notify(head: &Head, a: &Arrival, rules: &Rules, now: UnixMs) -> Decision<Received> {
    let episode = is_new_episode(head, a, rules, now);
    let terminal = head.state.is_terminal();
    let received = Received::by_member(a, |m| joined(head, m));

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

    if head.state == State::Pending && head.turn == 0 {
        let mut next = head.clone();
        join(&mut next, a, true);
        next.again = None;
        next.digest = digest(&next, a);
        // Snapshot and message again, even where nothing changed: the first ones may have been lost.
        let delay = head.not_before.since(now);
        return Decision::write(next, received).and_append().and_send(delay);
    }

    let lease_over = head.lease_until.is_none_or(|until| until <= now);
    // A repeat that gives no start, of what has waited for the window's end.
    let waited = head.again.is_some() && a.latest_start().is_none();
    if terminal && head.reopen_after <= now && lease_over && head.is_settled() && (episode || waited) {
        return reopen(head, a, rules, now);
    }

    // Paid for, or over: a new digest joins. What was paid for says nothing of an episode that began meanwhile, and
    // what is over says nothing of anybody new: that waits for the end of the window.
    let mut next = head.clone();
    let over = terminal || head.reopen_after <= now;
    let waits = fires_again(head, a, rules) || (over && is_unknown(head, a));
    join(&mut next, a, !over && !waits);
    if waits {
        wait_for_the_window(&mut next, head, a, rules, now);
    } else {
        forget_what_is_over(&mut next, rules);
    }
    next.digest = digest(&next, a);
    let pending = head.state == State::Pending;
    if next.digest != head.digest {
        // What was suppressed is over by itself, and opens again for all but what is certainly old.
        let told_of_ends = terminal && head.state != State::Suppressed;
        let was_told_as_over = told_of_ends && head.resolved().is_some() && next.resolved().is_none();
        if (is_news(head, a, rules, now) || was_told_as_over) && !is_quiet(head, rules, now) {
            arm(&mut next, Event::Updated, rules, now);
        }
        if next.resolved().is_none() {
            // It is not true any more.
            next.deliveries.retain(|d| d.key.event != Event::Resolved || d.state != DeliveryState::Due);
        }
        next.ttl = None;
        let decision = Decision::write(next, received).and_append();
        return if pending { decision.and_send(head.not_before.since(now)) } else { decision };
    }

    // A duplicate. A later start is recorded all the same: a late resolve of what was before it has to be stale. And
    // a head that is still spoken of is kept: a ttl past its half-life is renewed.
    let half = rules.retention / 2;
    let ttl = head.ttl.filter(|ttl| ttl.since(now) >= half);
    let decision = Decision::write(
        Head { seen: next.seen, began: next.began, again: next.again, ttl, ..head.clone() },
        received,
    );
    if pending {
        // Snapshot and message again, as above.
        return decision.and_append().and_send(head.not_before.since(now));
    }
    decision
}

/// Opens the next generation, unless its hour has had as many as the card allows.
fn reopen(head: &Head, a: &Arrival, rules: &Rules, now: UnixMs) -> Decision<Received> {
    if flaps_until(head, rules, now).is_none() {
        return open(Some(head), a, rules, now);
    }
    // It joins as what comes too early does, and is opened when the hour is over. One notice stands for all of this
    // hour.
    let received = Received::by_member(a, |m| joined(head, m));
    let mut next = head.clone();
    join(&mut next, a, false);
    wait_for_the_window(&mut next, head, a, rules, now);
    next.digest = digest(&next, a);
    next.deliveries.retain(|d| d.key.event != Event::Resolved || d.state != DeliveryState::Due);
    if !has_told_flapping(head) {
        arm(&mut next, Event::Flapping, rules, now);
    }
    if next.digest == head.digest && next.deliveries == head.deliveries {
        let next = Head { seen: next.seen, again: next.again, ..head.clone() };
        return Decision::write(next, received);
    }
    next.ttl = None;
    Decision::write(next, received).and_append()
}

/// Records who fires. `whole`: the arrival also belongs to the generation's own members and beginning.
fn join(next: &mut Head, a: &Arrival, whole: bool) {
    next.firing = a.merge_firing(&next.firing);
    next.seen = next.seen.max(a.latest_start());
    next.truncated |= a.truncated;
    if whole {
        next.began = next.began.max(a.latest_start());
        next.known.extend(&a.members.iter().map(|m| m.id).collect());
    }
}

/// Notes that what fires now is to be investigated when the window is over, and since when it does.
fn wait_for_the_window(next: &mut Head, head: &Head, a: &Arrival, rules: &Rules, now: UnixMs) {
    let new = a.firing_members().filter(|m| joined(head, m) == Taken::Joined);
    let since = new.filter_map(|m| m.starts_at).min().or(a.latest_start()).unwrap_or(now);
    let since = head.again.map_or(since, |again| again.since);
    let not_before = head.reopen_after.max(flaps_until(head, rules, now).unwrap_or(head.reopen_after));
    next.again = Some(Again { since, not_before });
}

/// Whatever waited for the window's end does so no more where it has ended meanwhile, and only what was investigated
/// still fires.
fn forget_what_is_over(next: &mut Head, rules: &Rules) {
    let strangers = next.known.is_many() || next.firing.iter().any(|id| !next.known.contains(id));
    let after_window =
        next.began.zip(next.seen).is_some_and(|(began, seen)| seen > began.plus(rules.dedupe_ttl));
    let later = next.resolved_at.is_some() || after_window;
    if next.firing.is_empty() || !(strangers || later) {
        next.again = None;
    }
}

/// Opens a generation for an arrival: the first one, or the next one of an incident that has ended.
fn open(old: Option<&Head>, a: &Arrival, rules: &Rules, now: UnixMs) -> Decision<Received> {
    let before = old.map(|h| h.firing.clone()).unwrap_or_default();
    let mut known: Members = a.members.iter().map(|m| m.id).collect();
    known.extend(&before);
    // "Many" never empties: carried on, it would keep every later generation from ending. Who fires is counted anew.
    let firing = a.merge_firing(&if before.is_many() { Members::default() } else { before });
    known.extend(&firing);
    let opening = Opening {
        id: a.id.clone(),
        card: a.card.clone(),
        labels: displayed(&a.labels),
        known,
        firing,
        began: a.latest_start(),
        truncated: a.truncated,
    };
    let mut next = opening.head(old, rules, now);
    next.digest = digest(&next, a);
    let of_end = |m: &Member| old.map_or(Taken::Resolved, |head| joined(head, m));
    let received = Received::by_member(a, |m| if m.firing { Taken::Accepted } else { of_end(m) });
    Decision::write(next, received).and_append().and_send(rules.wait)
}

fn resolve(head: &Head, a: &Arrival, rules: &Rules, now: UnixMs) -> Decision<Received> {
    let nothing = || Decision::keep(Received::all(a, Taken::Duplicate));
    let Some(end) = a.latest_end() else {
        // Unreachable through intake, which gives every resolved alert an end; nothing can be said without one.
        return nothing();
    };
    if head.seen.is_some_and(|seen| end < seen) {
        return nothing();
    }
    let mut next = head.clone();
    next.firing = a.merge_firing(&head.firing);
    next.truncated |= a.truncated;
    let later = head.resolved_at.is_none_or(|at| end > at);
    // Who has missed the latest episode may not say that all is over, as long as that could leave it uninvestigated.
    let knows = a.has_seen(head.began) || head.turn > 0 || head.state.is_terminal();
    if !(next.firing.is_empty() && knows) {
        // A part of it is over.
        forget_what_is_over(&mut next, rules);
        next.digest = digest(&next, a);
        if next.firing == head.firing && (next.digest == head.digest || !later) {
            return nothing();
        }
        next.ttl = None;
        let many = head.firing.is_many();
        let received = Received::by_member(a, |m| if many { Taken::Resolved } else { joined(head, m) });
        return Decision::write(next, received).and_append();
    }
    next.again = None;
    next.resolved_at = head.resolved_at.max(Some(end));
    if head.resolved().is_some() {
        // Another sender, or the same once more. Who looks at the end sees the latest; nothing else is new.
        let taken = if later { Taken::Resolved } else { Taken::Duplicate };
        return Decision::write(next, Received::all(a, taken));
    }
    next.digest = digest(&next, a);
    let received = Received::all(a, Taken::Resolved);
    match head.state {
        State::Pending if is_over_unpaid(&next) => {
            suppress(&mut next, rules, now);
            Decision::write(next, Received::all(a, Taken::Suppressed)).and_append()
        }
        State::Done | State::Failed | State::Aborted => {
            if !is_quiet(head, rules, now) {
                arm(&mut next, Event::Resolved, rules, now);
            }
            next.ttl = None;
            Decision::write(next, received).and_append()
        }
        State::Pending | State::Running | State::Suppressed => Decision::write(next, received).and_append(),
    }
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
