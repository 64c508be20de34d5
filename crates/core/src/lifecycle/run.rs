//! A worker's doings: claim, pay, put off, commit, fail; and a person's: abort.

use std::time::Duration;

use super::{
    Decision, FIRST_LEASE, Input, LEASE_MARGIN, LONGEST_HOP, MOST_REASON, Rules, arm, clip, fail, finish,
    holds, is_over_unpaid, release, suppress, take_in,
};
use crate::UnixMs;
use crate::chain::Happened;
use crate::incident::{DeliveryKey, Event, Fence, Gen, Head, State};
use crate::report::Verdict;

/// A worker took a job from the queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The generation that the job names.
    pub generation: Gen,
    /// Unique to this claim: a claim whose reply was lost recognises itself.
    pub owner: String,
}

/// What came of a claim.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// The lease is the worker's: investigate.
    Investigate(Fence),
    /// Nothing to investigate for this worker, but these are to be told.
    Deliver(Vec<DeliveryKey>),
    /// Nothing to do: it is over, newer than the job, or someone else's.
    Acknowledge,
    /// Too early; the job was sent again, or the sweeper sends it when it is time.
    Deferred,
    /// It is over, and told, and fires again, and its window is over: [`WindowOver`](super::WindowOver) comes next.
    WindowOver,
}

impl Input for Claim {
    type Outcome = Claimed;

    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<Claimed> {
        let Some(head) = head.filter(|h| h.generation == self.generation) else {
            return Decision::keep(Claimed::Acknowledge);
        };
        match head.state {
            State::Done | State::Failed | State::Suppressed | State::Aborted => {
                Decision::keep(deliver(head, now))
            }
            State::Pending if head.not_before > now => {
                let left = super::arrival::until(head.not_before, now);
                let deferred = Decision::keep(Claimed::Deferred);
                // A wait of hours would be a chain of messages: the sweeper sends one when it is time.
                if left > LONGEST_HOP { deferred } else { deferred.and_send(left) }
            }
            State::Running if head.owner.as_ref() == Some(&self.owner) => {
                let fence = Fence { generation: head.generation, epoch: head.epoch };
                Decision::keep(Claimed::Investigate(fence))
            }
            // Its holder goes on; whoever was not told of its start is told meanwhile.
            State::Running if head.lease_until.is_some_and(|until| until > now) => {
                Decision::keep(deliver(head, now))
            }
            State::Pending | State::Running => take(head, &self.owner, rules, now),
        }
    }

    fn happened(&self, _: &Claimed) -> Happened {
        Happened::Claimed { owner: self.owner.clone() }
    }
}

fn deliver(head: &Head, now: UnixMs) -> Claimed {
    let due = head.due_deliveries(now);
    match head.reopens_at() {
        _ if !due.is_empty() => Claimed::Deliver(due),
        Some(at) if at <= now => Claimed::WindowOver,
        _ => Claimed::Acknowledge,
    }
}

fn take(head: &Head, owner: &str, rules: &Rules, now: UnixMs) -> Decision<Claimed> {
    let mut next = head.clone();
    if is_over_unpaid(head) {
        // It resolved while a worker had it that then put it off, or was lost, before its first call.
        suppress(&mut next, rules, now);
        let claimed = deliver(&next, now);
        return Decision::write(next, claimed);
    }
    if head.attempts >= rules.max_attempts {
        let last = head.reason.as_deref().unwrap_or("the worker did not come back");
        fail(&mut next, &format!("gave up after {} attempts: {last}", head.attempts), rules, now);
        let claimed = deliver(&next, now);
        return Decision::write(next, claimed);
    }
    // Neither begun nor put off: the first claim of the generation.
    if head.attempts == 0 && head.slices == 0 {
        arm(&mut next, Event::Started, rules, now);
    }
    if head.turn == 0 {
        take_in(&mut next);
    }
    next.state = State::Running;
    next.epoch = head.epoch.saturating_add(1);
    next.owner = Some(owner.to_owned());
    next.attempts = head.attempts.saturating_add(1);
    next.lease_until = Some(now.plus(FIRST_LEASE));
    let fence = Fence { generation: next.generation, epoch: next.epoch };
    Decision::write(next, Claimed::Investigate(fence))
}

/// A call that costs money or time is about to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paid {
    /// The worker's lease.
    pub fence: Fence,
    /// The model turn; the one before it for calls that are not the model's.
    pub turn: u32,
    /// The longest the call may take.
    pub timeout: Duration,
}

/// What came of asking for a call.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PaidOutcome {
    /// Make it, and cut it off at this instant.
    Granted {
        /// The absolute end of the call: a worker that was frozen meanwhile does not get more.
        until: UnixMs,
    },
    /// The lease is someone else's: stop, publish nothing.
    NotMine,
}

impl Input for Paid {
    type Outcome = PaidOutcome;

    fn rows(&self, head: Option<&Head>, _: &Rules, now: UnixMs) -> Decision<PaidOutcome> {
        let Some(head) = head.filter(|h| holds(h, self.fence)) else {
            return Decision::keep(PaidOutcome::NotMine);
        };
        let until = now.plus(self.timeout);
        // Never shorter than it is: a longer call may be under way beside this one.
        let lease_until = head.lease_until.max(Some(until.plus(LEASE_MARGIN)));
        let next = Head { turn: head.turn.max(self.turn), lease_until, ..head.clone() };
        Decision::write(next, PaidOutcome::Granted { until })
    }

    fn happened(&self, _: &PaidOutcome) -> Happened {
        Happened::Granted { turn: self.turn }
    }
}

/// The run is put off: the deadline is near, or the model is out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Yield {
    /// The worker's lease.
    pub fence: Fence,
    /// Nobody goes on before.
    pub not_before: UnixMs,
    /// Why.
    pub reason: String,
}

/// What came of putting a run off.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Yielded {
    /// It waits; the job was sent again.
    Yielded,
    /// It was put off too often and has failed.
    Failed,
    /// The lease is someone else's.
    NotMine,
}

impl Input for Yield {
    type Outcome = Yielded;

    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<Yielded> {
        let Some(head) = head.filter(|h| holds(h, self.fence)) else {
            return Decision::keep(Yielded::NotMine);
        };
        let mut next = head.clone();
        if head.slices >= rules.max_slices {
            let reason = format!("put off {} times, the last time because: {}", head.slices, self.reason);
            fail(&mut next, &reason, rules, now);
            return Decision::write(next, Yielded::Failed);
        }
        next.state = State::Pending;
        next.attempts = head.attempts.saturating_sub(1);
        next.slices = head.slices.saturating_add(1);
        next.sent_at = None;
        // Where nothing is left to investigate, nothing is to be waited for.
        next.not_before = if is_over_unpaid(head) { now } else { self.not_before };
        next.reason = Some(clip(&self.reason, MOST_REASON));
        release(&mut next);
        let delay = super::arrival::until(next.not_before, now);
        Decision::write(next, Yielded::Yielded).and_send(delay)
    }

    fn happened(&self, _: &Yielded) -> Happened {
        Happened::PutOff { reason: self.reason.clone() }
    }
}

/// The report is stored; the incident is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commit {
    /// The worker's lease.
    pub fence: Fence,
    /// The report's verdict.
    pub verdict: Verdict,
}

/// What came of ending a run.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It has ended, and these are to be told.
    Ended(Vec<DeliveryKey>),
    /// The lease is someone else's: publish nothing.
    NotMine,
}

impl Input for Commit {
    type Outcome = Ended;

    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<Ended> {
        let Some(head) = head.filter(|h| holds(h, self.fence)) else {
            return Decision::keep(Ended::NotMine);
        };
        let mut next = head.clone();
        next.verdict = Some(self.verdict);
        next.reason = None;
        release(&mut next);
        finish(&mut next, State::Done, Event::Findings, rules, now);
        let due = next.due_deliveries(now);
        Decision::write(next, Ended::Ended(due))
    }

    fn happened(&self, _: &Ended) -> Happened {
        Happened::Committed { verdict: self.verdict }
    }
}

/// The run cannot succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fail {
    /// The worker's lease.
    pub fence: Fence,
    /// Why, for people.
    pub reason: String,
}

impl Input for Fail {
    type Outcome = Ended;

    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<Ended> {
        let Some(head) = head.filter(|h| holds(h, self.fence)) else {
            return Decision::keep(Ended::NotMine);
        };
        let mut next = head.clone();
        fail(&mut next, &self.reason, rules, now);
        let due = next.due_deliveries(now);
        Decision::write(next, Ended::Ended(due))
    }

    fn happened(&self, _: &Ended) -> Happened {
        Happened::Failed { reason: self.reason.clone() }
    }
}

/// A person stops it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Abort {
    /// Who, for the record.
    pub who: String,
}

/// What came of an abort.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aborted {
    /// It is stopped; a call in flight is not published.
    Aborted,
    /// It had ended before.
    AlreadyEnded(State),
    /// There is no such incident.
    Unknown,
}

impl Input for Abort {
    type Outcome = Aborted;

    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<Aborted> {
        let Some(head) = head else {
            return Decision::keep(Aborted::Unknown);
        };
        if head.state.is_terminal() {
            return Decision::keep(Aborted::AlreadyEnded(head.state));
        }
        let mut next = head.clone();
        // The lease stays: nobody begins the next generation beside a call that is still being paid for.
        next.epoch = head.epoch.saturating_add(1);
        next.reason = Some(clip(&format!("aborted by {}", self.who), MOST_REASON));
        finish(&mut next, State::Aborted, Event::Aborted, rules, now);
        // The job wakes a worker for the delivery.
        Decision::write(next, Aborted::Aborted).and_send(Duration::ZERO)
    }

    fn happened(&self, _: &Aborted) -> Happened {
        Happened::Aborted { who: self.who.clone() }
    }
}
