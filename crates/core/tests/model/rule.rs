//! The production rules under one type, and the wrong designs that are put in their place.

use std::time::Duration;

use crate::scenario::{DELETED, ENDS_AGAIN, FIRES_AGAIN, FLAPS, STORM, TWO_AND_TWO, TWO_FAULTS, YIELD};
use sentinel_core::UnixMs;
use sentinel_core::incident::{DeliveryKey, Event, Fence, Head, Members, State};
use sentinel_core::lifecycle::{
    Abort, Aborted, Arrival, Claim, ClaimDelivery, Claimed, Commit, Decision, Delete, Deletion, Delivered,
    DeliveryClaimed, DeliveryRecorded, Ended, Fail, Input, Missed, Note, Paid, PaidOutcome, Received,
    Reopened, Rules, Sweep, Swept, Taken, WindowOver, Yield, Yielded, decide,
};

/// Any input.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Asked {
    Arrival(Arrival),
    Note(Note),
    Claim(Claim),
    Paid(Paid),
    Yield(Yield),
    Commit(Commit),
    Fail(Fail),
    Abort(Abort),
    Delete(Delete),
    ClaimDelivery(ClaimDelivery),
    Delivered(Delivered),
    Missed(Missed),
    WindowOver(WindowOver),
    Sweep,
}

/// Any outcome.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Answer {
    Taken(Taken),
    Noted,
    Claimed(Claimed),
    Paid(PaidOutcome),
    Yielded(Yielded),
    Ended(Ended),
    Aborted(Aborted),
    Deletion(Deletion),
    DeliveryClaimed(DeliveryClaimed),
    Recorded(DeliveryRecorded),
    Reopened(Reopened),
    Swept(Swept),
}

/// A design that is known to be wrong. The model has to reject each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// Whoever finds the incident there answers 200 at once.
    OkOnAnyConflict,
    /// A duplicate of a waiting incident mends its snapshot and job only for the sender that wrote it.
    ResendForOwnTokenOnly,
    /// The job goes out before the head is written.
    SendBeforeSwap,
    /// Nobody sends again what a crash left.
    NoSweeper,
    /// A granted call may outlive its lease.
    LeaseShorterThanCall,
    /// A commit counts whoever holds the lease.
    UnfencedCommit,
    /// A queue that refused the job is not noticed.
    SendNotChecked,
    /// A resolve suppresses a waiting incident although a model was paid for it.
    SuppressPaid,
    /// Who created a notice does not look whether it was told before its list was written.
    NotedOnce,
    /// What a notice lists is read before it is claimed.
    ListedBeforeClaim,
    /// What flaps joins, and nobody is told.
    FlapsSilently,
    /// What fires again after its end was told is left to the next generation, and nobody is told.
    FiresAgainSilently,
    /// An end that was to be told is told although it fires again.
    TellsAnEndThatWas,
    /// What fires again in the window waits for its sender to say so once more.
    WaitsForARepeat,
    /// The window's end opens a generation, whether or not it still fires.
    ReopensWhatHasEnded,
    /// What fires again before anything was paid for waits for the window, although it is investigated now.
    PaysForWhatItReads,
    /// What has ended can be deleted before it is told.
    DeletesWhatIsOwed,
    /// What is deleted is forgotten whole.
    DeletesWithoutATombstone,
}

impl Mutant {
    /// Each with its name and the world in which it shows.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 18] = [
        (Self::OkOnAnyConflict, "200 on any conflict", TWO_AND_TWO),
        (Self::ResendForOwnTokenOnly, "re-send only for one's own token", TWO_AND_TWO),
        (Self::SendBeforeSwap, "send before the swap", TWO_FAULTS),
        (Self::NoSweeper, "no sweeper", TWO_FAULTS),
        (Self::LeaseShorterThanCall, "a lease shorter than the call", TWO_AND_TWO),
        (Self::UnfencedCommit, "unfenced commit", TWO_AND_TWO),
        (Self::SendNotChecked, "send result not checked", TWO_FAULTS),
        (Self::SuppressPaid, "suppressing what was already paid for", YIELD),
        (Self::NotedOnce, "a new notice's list written after it, and not looked at again", STORM),
        (Self::ListedBeforeClaim, "a notice's list read before its claim", STORM),
        (Self::FlapsSilently, "what flaps told to nobody", FLAPS),
        (Self::FiresAgainSilently, "what fires again told to nobody", FIRES_AGAIN),
        (Self::TellsAnEndThatWas, "an end told although it fires again", FIRES_AGAIN),
        (Self::WaitsForARepeat, "what fires again left to its next repeat", FIRES_AGAIN),
        (Self::ReopensWhatHasEnded, "a window's end that opens what has ended", ENDS_AGAIN),
        (Self::PaysForWhatItReads, "what is investigated left to wait for the window", FIRES_AGAIN),
        (Self::DeletesWhatIsOwed, "what has ended deleted before it is told", DELETED),
        (Self::DeletesWithoutATombstone, "what is deleted forgotten whole", DELETED),
    ];
}

fn run<I: Input>(
    head: Option<&Head>,
    input: &I,
    rules: &Rules,
    now: UnixMs,
    answer: impl FnOnce(I::Outcome) -> Answer,
) -> Decision<Answer> {
    let Decision { next, append, send, outcome } = decide(head, input, rules, now);
    Decision { next, append, send, outcome: answer(outcome) }
}

#[expect(clippy::too_many_lines, reason = "one list, an entry an input, with its mutants")]
/// What the production rules decide; with a mutant, what they would decide if they were wrong in that way. `mine` says
/// whether the head's last writer is the one who asks.
pub(crate) fn rule(
    head: Option<&Head>,
    asked: &Asked,
    rules: &Rules,
    now: UnixMs,
    mutant: Option<Mutant>,
    mine: bool,
) -> Decision<Answer> {
    let taken = |received: Received| Answer::Taken(received.taken);
    match asked {
        Asked::Arrival(arrival) => match (mutant, head) {
            (Some(Mutant::ResendForOwnTokenOnly), Some(head)) if head.state == State::Pending && !mine => {
                let decision = run(Some(head), arrival, rules, now, taken);
                if decision.next.is_none() {
                    Decision { append: false, send: None, ..decision }
                } else {
                    decision
                }
            }
            (Some(Mutant::SuppressPaid), Some(head)) if head.state == State::Pending => {
                let unpaid = Head { turn: 0, ..head.clone() };
                let mut decision = run(Some(&unpaid), arrival, rules, now, taken);
                if let Some(next) = decision.next.as_mut().filter(|n| n.generation == head.generation) {
                    next.turn = head.turn;
                }
                decision
            }
            (Some(Mutant::FlapsSilently), _) => {
                let mut decision = run(head, arrival, rules, now, taken);
                if let Some(next) = &mut decision.next {
                    next.deliveries.retain(|d| d.key.event != Event::Flapping);
                    if next.state.is_terminal() && next.is_settled() && next.again.is_none() {
                        next.ttl = next.ttl.or(Some(now.plus(rules.retention)));
                    }
                }
                decision
            }
            (Some(Mutant::FiresAgainSilently), Some(head)) if head.resolved().is_some() => {
                let mut decision = run(Some(head), arrival, rules, now, taken);
                if let Some(next) = &mut decision.next {
                    next.deliveries.retain(|d| d.key.event != Event::Updated);
                }
                decision
            }
            (Some(Mutant::TellsAnEndThatWas), Some(head)) => {
                let mut decision = run(Some(head), arrival, rules, now, taken);
                if let Some(next) = decision.next.as_mut().filter(|n| n.generation == head.generation) {
                    let end = head.deliveries.iter().find(|d| d.key.event == Event::Resolved);
                    let gone = next.deliveries.iter().all(|d| d.key.event != Event::Resolved);
                    next.deliveries.extend(end.filter(|_| gone).cloned());
                }
                decision
            }
            (Some(Mutant::WaitsForARepeat), _) => {
                let mut decision = run(head, arrival, rules, now, taken);
                if let Some(next) = &mut decision.next {
                    next.again = None;
                    if next.state.is_terminal() && next.is_settled() {
                        next.ttl = next.ttl.or(Some(now.plus(rules.retention)));
                    }
                }
                decision
            }
            (Some(Mutant::ReopensWhatHasEnded), Some(head)) => {
                let mut decision = run(Some(head), arrival, rules, now, taken);
                if let Some(next) = decision.next.as_mut().filter(|n| n.generation == head.generation) {
                    next.again = next.again.or(head.again);
                    next.ttl = next.ttl.filter(|_| next.again.is_none());
                }
                decision
            }
            _ => run(head, arrival, rules, now, taken),
        },
        Asked::Note(note) => run(head, note, rules, now, |()| Answer::Noted),
        Asked::Claim(input) => {
            let mut decision = run(head, input, rules, now, Answer::Claimed);
            if mutant == Some(Mutant::PaysForWhatItReads)
                && let (Some(next), Some(head)) = (decision.next.as_mut(), head)
            {
                (next.again, next.began) = (head.again, head.began);
            }
            decision
        }
        Asked::Paid(input) => {
            let mut decision = run(head, input, rules, now, Answer::Paid);
            if mutant == Some(Mutant::LeaseShorterThanCall)
                && let (Some(next), Some(head)) = (decision.next.as_mut(), head)
            {
                next.lease_until = head.lease_until;
            }
            decision
        }
        Asked::Yield(input) => run(head, input, rules, now, Answer::Yielded),
        Asked::Commit(input) => match (mutant, head) {
            (Some(Mutant::UnfencedCommit), Some(head)) => {
                let running = Head { state: State::Running, ..head.clone() };
                let fence = Fence { generation: head.generation, epoch: head.epoch };
                run(Some(&running), &Commit { fence, ..*input }, rules, now, Answer::Ended)
            }
            _ => run(head, input, rules, now, Answer::Ended),
        },
        Asked::Fail(input) => run(head, input, rules, now, Answer::Ended),
        Asked::Abort(input) => run(head, input, rules, now, Answer::Aborted),
        Asked::Delete(input) => match (mutant, head) {
            (Some(Mutant::DeletesWhatIsOwed), Some(head)) if head.state.is_terminal() => {
                let settled = Head { deliveries: vec![], again: None, lease_until: None, ..head.clone() };
                run(Some(&settled), input, rules, now, Answer::Deletion)
            }
            (Some(Mutant::DeletesWithoutATombstone), Some(head)) => {
                let mut decision = run(Some(head), input, rules, now, Answer::Deletion);
                if let Some(next) = &mut decision.next {
                    // As if nothing had been there: whatever comes opens it.
                    (next.known, next.firing) = (Members::default(), Members::default());
                    (next.began, next.seen, next.resolved_at) = (None, None, None);
                    next.reopen_after = now;
                }
                decision
            }
            _ => run(head, input, rules, now, Answer::Deletion),
        },
        Asked::ClaimDelivery(input) => match (mutant, head) {
            (Some(Mutant::TellsAnEndThatWas), Some(head)) if input.key.event == Event::Resolved => {
                let firing = head.firing.clone();
                let over = Head { firing: Members::default(), ..head.clone() };
                let mut decision = run(Some(&over), input, rules, now, Answer::DeliveryClaimed);
                if let Some(next) = &mut decision.next {
                    next.firing = firing;
                }
                decision
            }
            _ => run(head, input, rules, now, Answer::DeliveryClaimed),
        },
        Asked::Delivered(input) => run(head, input, rules, now, Answer::Recorded),
        Asked::Missed(input) => run(head, input, rules, now, Answer::Recorded),
        Asked::WindowOver(input) => run(head, input, rules, now, Answer::Reopened),
        Asked::Sweep => run(head, &Sweep, rules, now, Answer::Swept),
    }
}

/// How long one call may take.
pub(crate) const CALL: Duration = Duration::from_mins(2);

/// The deliveries that a worker goes on to make after this answer.
pub(crate) fn owed(answer: &Answer, head: Option<&Head>, now: UnixMs) -> Vec<DeliveryKey> {
    match answer {
        Answer::Claimed(Claimed::Deliver(due)) | Answer::Ended(Ended::Ended(due)) => due.clone(),
        Answer::Yielded(Yielded::Failed) => head.map(|h| h.due_deliveries(now)).unwrap_or_default(),
        _ => Vec::new(),
    }
}
