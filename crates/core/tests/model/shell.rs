//! `sentinel_core::drive`, one call of a port at a time, so that a crash can come between any two.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::incident::{Head, State};
use sentinel_core::lifecycle::{Decision, Reopened, Swept, Taken};

use crate::rule::{Answer, Asked, Mutant, rule};
use crate::scenario::Scenario;
use crate::witness::Promise;
use crate::world::{Call, Drive, Phase, Who, World, at, second};

/// What an input starts from.
pub(crate) enum Start {
    Absent,
    Load,
    Known(Arc<Head>),
}

/// How an input ended.
pub(crate) type Finished = (Answer, Option<Arc<Head>>);

/// Where an input stands after a call.
pub(crate) enum Step {
    On(Drive),
    Finished(Finished),
}

impl Scenario {
    /// Begins an input. What can be decided at once is.
    pub(crate) fn begin(&self, w: &mut World, who: Who, asked: Asked, start: Start) -> Step {
        match start {
            Start::Load => Step::On(Drive { asked, phase: Phase::Load }),
            Start::Absent => self.decided(w, who, asked, None),
            Start::Known(head) => self.decided(w, who, asked, Some(head)),
        }
    }

    fn decided(&self, w: &mut World, who: Who, asked: Asked, found: Option<Arc<Head>>) -> Step {
        let mine = found.as_ref().is_some_and(|h| h.writer.starts_with(&name(who)));
        let now = at(self.clock(w, who));
        let Decision { next, append, send, outcome } =
            rule(found.as_deref(), &asked, &self.rules, now, self.mutant, mine);
        let append = append && matches!(asked, Asked::Arrival(_) | Asked::Note(_) | Asked::WindowOver(_));
        let phase = match next {
            None => {
                let some = found.is_some();
                Phase::After {
                    append: append && some,
                    send: send.filter(|_| some),
                    head: found,
                    answer: outcome,
                }
            }
            Some(mut next) => {
                next.version += 1;
                next.writer = format!("{}-{}", name(who), next.version);
                if w.head.as_ref().is_some_and(|h| h.writer == next.writer) {
                    // Every try has an id of its own.
                    next.writer.push('+');
                }
                let creating = found.is_none();
                Phase::Write { next: Arc::new(next), creating, append, send, answer: outcome }
            }
        };
        settled(Drive { asked, phase })
    }

    /// The calls that are next; where there are several, each may come first.
    pub(crate) fn calls(&self, drive: &Drive) -> Vec<Call> {
        match &drive.phase {
            Phase::Load => vec![Call::Load],
            Phase::Write { send: Some(_), .. } if self.mutant == Some(Mutant::SendBeforeSwap) => {
                vec![Call::Send]
            }
            Phase::Write { creating: false, append: true, .. } => vec![Call::Append],
            Phase::Write { .. } => vec![Call::Write],
            Phase::After { append, send, .. } => {
                let mut calls = Vec::new();
                if *append {
                    calls.push(Call::Append);
                }
                if send.is_some() {
                    calls.push(Call::Send);
                }
                calls
            }
        }
    }

    /// Makes a call. `lost`: it is made, and its reply is lost, so that the adapter makes it again.
    pub(crate) fn call(&self, w: &mut World, who: Who, mut drive: Drive, call: Call, lost: bool) -> Step {
        let before = drive.clone();
        match (call, &mut drive.phase) {
            (Call::Load, _) => {
                let found = w.head.clone();
                return self.decided(w, who, drive.asked, found);
            }
            (
                Call::Append,
                Phase::Write { next: head, append, .. } | Phase::After { head: Some(head), append, .. },
            ) => {
                *append = false;
                let head = Arc::clone(head);
                store_snapshot(w, who, &head);
            }
            (
                Call::Send,
                Phase::Write { next: head, send, .. } | Phase::After { head: Some(head), send, .. },
            ) => {
                let (head, delay) = (Arc::clone(head), send.take());
                send_job(w, who, &head, delay);
            }
            (Call::Write, Phase::Write { .. }) => return self.write(w, who, drive, lost),
            _ => unreachable!("a call that is not next"),
        }
        if lost { Step::On(before) } else { settled(drive) }
    }

    fn write(&self, w: &mut World, who: Who, drive: Drive, lost: bool) -> Step {
        let Phase::Write { next, creating, append, send, answer } = drive.phase.clone() else {
            unreachable!("only a decided head is written")
        };
        let stored = w.head.clone();
        let fits = if creating {
            stored.is_none()
        } else {
            stored.as_ref().is_some_and(|h| h.version + 1 == next.version)
        };
        let own = stored.as_ref().is_some_and(|h| h.writer == next.writer);
        if fits {
            self.note(w, who, stored.as_deref(), &next, &drive.asked, &answer);
            w.head = Some(Arc::clone(&next));
            if lost {
                return Step::On(drive);
            }
        } else if !own {
            // Another writer was faster: decide again on what it left.
            if creating && matches!(who, Who::Sender(_)) && self.mutant == Some(Mutant::OkOnAnyConflict) {
                return Step::Finished((Answer::Taken(Taken::Duplicate), stored));
            }
            return self.decided(w, who, drive.asked, stored);
        }
        let append = append && creating;
        settled(Drive { asked: drive.asked, phase: Phase::After { head: Some(next), append, send, answer } })
    }

    /// Tells the witness of a write that is about to be made.
    fn note(
        &self,
        w: &mut World,
        who: Who,
        before: Option<&Head>,
        after: &Head,
        asked: &Asked,
        answer: &Answer,
    ) {
        w.witness.wrote(before, after, asked, answer);
        if let Some(most) = self.rules.generations_per_hour {
            w.witness.began(most);
        }
        if let (Answer::Taken(taken), Who::Sender(n)) = (answer, who) {
            let told = w.senders[n].post.as_ref().map(|p| p.told.clone()).unwrap_or_default();
            let goes_on = told.iter().any(|t| t.end.is_none() && w.truth[t.alert].fires());
            let again = self.rules.reinvestigate_after.is_some() && goes_on;
            w.witness.took(before, after, &told, *taken, again);
        }
        if matches!(answer, Answer::Reopened(Reopened::Reopened)) {
            w.witness.reopened(after);
        }
        if before.is_some_and(|b| after.epoch > b.epoch) {
            // Whoever was in the middle of a call, or had its answer in hand, was overtaken.
            let late: Vec<_> = w.workers.iter().filter(|s| s.would_waste()).filter_map(|s| s.run()).collect();
            let late: Vec<_> = late.iter().map(|run| run.fence.generation).collect();
            late.into_iter().filter(|g| *g == after.generation).for_each(|g| w.witness.wasted(g));
        }
    }

    /// What the clock of `who` shows.
    pub(crate) fn clock(&self, w: &World, who: Who) -> i64 {
        w.now + self.off(who)
    }
}

fn send_job(w: &mut World, who: Who, head: &Head, delay: Option<Duration>) {
    let delay = i64::try_from(delay.unwrap_or_default().as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
    let known = w.head.as_ref().is_some_and(|h| h.generation >= head.generation);
    if !known {
        w.witness.broke(Promise::JobAfterHead);
    }
    w.send(head.generation, w.now + delay);
    if let Who::Sender(n) = who
        && let Some(post) = &mut w.senders[n].post
    {
        post.sent = true;
    }
}

fn store_snapshot(w: &mut World, who: Who, head: &Head) {
    let snapshot = (head.generation, head.digest.clone());
    if !w.snapshots.contains(&snapshot) {
        w.snapshots.push(snapshot);
        w.snapshots.sort();
    }
    if let Who::Sender(n) = who
        && let Some(post) = &mut w.senders[n].post
    {
        post.stored = true;
    }
}

/// An input with nothing left to do has ended.
fn settled(drive: Drive) -> Step {
    match drive.phase {
        Phase::After { head, append: false, send: None, answer } => Step::Finished((answer, head)),
        _ => Step::On(drive),
    }
}

/// How writers of `who` begin.
pub(crate) fn name(who: Who) -> String {
    match who {
        Who::Sender(n) => format!("s{n}"),
        Who::Worker(n) => format!("w{n}"),
        Who::Sweeper => "sweeper".into(),
        Who::Operator => "operator".into(),
    }
}

impl Scenario {
    /// Whether the sweeper has something to do, and from when on.
    pub(crate) fn sweep_due(&self, w: &World) -> Option<i64> {
        if self.mutant == Some(Mutant::NoSweeper) || w.sweep.is_some() {
            return None;
        }
        let due = sentinel_core::lifecycle::due_at(w.head.as_deref()?)?;
        Some((second(due) - self.off(Who::Sweeper)).max(w.next_sweep))
    }

    pub(crate) fn start_sweep(&self, w: &mut World) {
        w.next_sweep = w.now + 60;
        let Some(head) = w.head.clone() else { return };
        match self.begin(w, Who::Sweeper, Asked::Sweep, Start::Known(head)) {
            Step::On(drive) => w.sweep = Some(drive),
            Step::Finished((answer, _)) => debug_assert_eq!(answer, Answer::Swept(Swept::Left)),
        }
    }

    /// Whether a notification's 200 would be a lie.
    pub(crate) fn check_ok(w: &mut World, n: usize, answer: &Answer, head: Option<&Head>) {
        let Some(post) = &w.senders[n].post else { return };
        let fires = post.told.iter().any(|t| t.end.is_none());
        let stands = w.head.is_some();
        let waits = head.is_some_and(|h| h.state == State::Pending);
        let opened = matches!(answer, Answer::Taken(Taken::Accepted));
        let joined = matches!(answer, Answer::Taken(Taken::Joined));
        let found = w.head.as_ref().map(|h| h.generation);
        // Whoever opened it may be about to store what it is about. A worker that runs it meanwhile puts it off, and if
        // nobody ever stores it the incident ends as FAILED, which is told: a duplicate stays as cheap as one write.
        let begun = head.is_some_and(|h| h.state != State::Pending);
        // What was deleted meanwhile had been stored, and investigated, and told.
        let deleted = w.head.as_ref().is_some_and(|h| h.deleted.is_some());
        let has_any = begun || deleted || w.snapshots.iter().any(|(g, _)| Some(*g) == found);
        let honest = !fires
            || (stands
                && has_any
                && (!(opened || waits) || (post.stored && post.sent))
                && (!joined || post.stored));
        if !honest {
            w.witness.broke(Promise::StoredBeforeOk);
        }
    }
}
