//! What can happen next, and what comes of it: the scenario as a model that stateright explores.

use sentinel_core::incident::{Event, Head, State};
use sentinel_core::lifecycle::{Abort, Delete};
use stateright::{Model, Property};

use crate::rule::{Asked, Mutant};
use crate::scenario::{Change, Scenario};
use crate::shell::{Start, Step};
use crate::witness::{Promise, certainly_live, is_told, was_sent};
use crate::worker::{Doing, Telling};
use crate::world::{Acked, Call, Phase, Sender, Stand, Truth, Who, World, second};

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// A call of a drive is made.
    Call(Who, Call),
    /// A worker does something else.
    Does(usize, Doing),
    /// A worker takes a message.
    Takes(usize, usize),
    /// A sender sends what it sees; a repeat, where that is nothing new.
    Flush(usize),
    Repeat(usize),
    /// A sender tries again; or sends something else instead.
    Retry(usize),
    Recompose(usize),
    /// The sweeper looks.
    Sweep,
    /// The next line of the script.
    Change,
    /// An operator aborts.
    Abort,
    /// An operator deletes.
    Delete,
    /// A worker puts its run off, or gives it up.
    PutOff(usize),
    GivesUp(usize),
    /// Nothing else is to be done: time goes on.
    Time(i64),

    // Faults.
    /// A process dies between two steps. Of a sender's webhook: it answers 503, or its answer is lost.
    Crash(Who),
    /// A call is made, and its reply is lost.
    ReplyLost(Who, Call),
    /// The queue refuses a job. Only where nobody looks: otherwise it is a crash.
    Refused(Who),
    /// Everybody stands still.
    Stall(i64),
    MessageLost(usize),
    MessageDoubled(usize),
    MessageLate(usize),
    SinkRefuses(usize),
    SinkUnsure(usize),
}

const WORKERS_SWEEPER_OPERATOR: usize = 2;

impl Scenario {
    fn everybody(w: &World) -> Vec<Who> {
        let mut all = Vec::with_capacity(w.senders.len() + w.workers.len() + WORKERS_SWEEPER_OPERATOR);
        all.extend((0..w.senders.len()).map(Who::Sender));
        all.extend((0..w.workers.len()).map(Who::Worker));
        all.extend([Who::Sweeper, Who::Operator]);
        all
    }

    /// Steps that are taken without anything going wrong.
    fn steps(&self, w: &World, to: &mut Vec<Action>) {
        for who in Self::everybody(w) {
            if let Some(drive) = w.drive_of(who) {
                to.extend(self.calls(drive).into_iter().map(|call| Action::Call(who, call)));
            }
        }
        for (n, sender) in w.senders.iter().enumerate() {
            match &sender.post {
                None if self.must_flush(w, n) => to.push(Action::Flush(n)),
                Some(post) if post.drive.is_none() => {
                    let view = self.view(w, n);
                    if view == post.told {
                        to.push(Action::Retry(n));
                    } else {
                        to.extend([Action::Retry(n), Action::Recompose(n)]);
                    }
                }
                None | Some(_) => {}
            }
        }
        for (n, stand) in w.workers.iter().enumerate() {
            to.extend(Self::doing(stand).map(|doing| Action::Does(n, doing)));
        }
        // Idle workers are the same, unless their clocks differ: the first one takes it.
        let idle = (0..self.workers).filter(|n| {
            let halves = [Some(*n), self.other_half(*n)];
            halves.into_iter().flatten().all(|half| w.workers[half] == Stand::Idle)
        });
        for n in idle.take(if self.skewed { usize::MAX } else { 1 }) {
            let mut last = None;
            for (m, message) in w.queue.iter().enumerate().filter(|(_, m)| m.visible <= w.now) {
                if last.replace(message) != Some(message) {
                    to.push(Action::Takes(n, m));
                }
            }
        }
        if self.sweep_due(w).is_some_and(|due| due <= w.now) {
            to.push(Action::Sweep);
        }
    }

    /// The next moments at which something is to be done.
    fn moments(&self, w: &World) -> Vec<i64> {
        let mut moments: Vec<i64> = w.queue.iter().map(|m| m.visible).collect();
        moments.extend(self.sweep_due(w));
        moments.retain(|m| *m > w.now);
        moments
    }

    fn next_change(&self, w: &World) -> Option<(i64, Change)> {
        self.script.get(w.happened).copied()
    }

    /// Moments that make a difference to somebody who was frozen until then.
    fn stalls(&self, w: &World) -> Vec<i64> {
        let mut moments = self.moments(w);
        for (n, stand) in w.workers.iter().enumerate() {
            if let Stand::Granted { until, .. } | Stand::InCall { until, .. } = stand {
                moments.push(second(*until) - self.off(Who::Worker(n)));
            }
        }
        if let Some(until) = w.head.as_ref().and_then(|h| h.lease_until) {
            moments.push(second(until) + self.off(Who::Worker(0)).abs());
        }
        moments.retain(|m| *m > w.now);
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    /// Nothing is to be done any more, unless the world changes.
    fn is_quiet(&self, w: &World) -> bool {
        let mut steps = Vec::new();
        self.steps(w, &mut steps);
        steps.is_empty() && self.moments(w).is_empty()
    }

    fn faults(&self, w: &World, to: &mut Vec<Action>) {
        if w.left.faults == 0 {
            return;
        }
        for who in Self::everybody(w) {
            if let Some(drive) = w.drive_of(who) {
                if self.faults.crash {
                    to.push(Action::Crash(who));
                }
                for call in self.calls(drive) {
                    let telling = matches!(call, Call::Write | Call::Send);
                    if self.faults.reply_lost && telling {
                        to.push(Action::ReplyLost(who, call));
                    }
                    let after = matches!(drive.phase, Phase::After { .. });
                    if self.mutant == Some(Mutant::SendNotChecked) && call == Call::Send && after {
                        to.push(Action::Refused(who));
                    }
                }
            } else if let Who::Worker(n) = who
                && self.faults.crash
                && Self::doing(&w.workers[n]).is_some()
            {
                to.push(Action::Crash(who));
            }
        }
        for m in 0..w.queue.len() {
            if self.faults.queue {
                to.extend([Action::MessageLost(m), Action::MessageDoubled(m), Action::MessageLate(m)]);
            }
        }
        for (n, stand) in w.workers.iter().enumerate() {
            if self.faults.sink && matches!(stand, Stand::Telling { .. }) {
                to.extend([Action::SinkRefuses(n), Action::SinkUnsure(n)]);
            }
        }
    }
}

impl Model for Scenario {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: 0,
            head: None,
            snapshots: vec![],
            turns: vec![],
            reports: vec![],
            queue: vec![],
            truth: [Truth::default(); 2],
            happened: 0,
            senders: vec![Sender::default(); self.senders],
            workers: vec![Stand::default(); if self.tells_starts() { 2 } else { 1 } * self.workers],
            sweep: None,
            next_sweep: 0,
            abort: None,
            left: self.budget,
            witness: self.witness(),
        }]
    }

    fn actions(&self, w: &World, to: &mut Vec<Action>) {
        self.steps(w, to);
        let busy = !to.is_empty();
        if self.next_change(w).is_some_and(|(from, _)| from <= w.now) {
            to.push(Action::Change);
        }
        if w.left.repeats > 0 {
            let free = |n: &usize| w.senders[*n].post.is_none() && !self.must_flush(w, *n);
            to.extend(
                (0..w.senders.len()).filter(free).filter(|n| self.may_repeat(w, *n)).map(Action::Repeat),
            );
        }
        if w.left.aborts > 0 && w.head.as_ref().is_some_and(|h| !h.state.is_terminal()) {
            to.push(Action::Abort);
        }
        let may_delete = |h: &Head| h.state.is_terminal() && h.deleted.is_none();
        if w.left.deletions > 0 && w.abort.is_none() && w.head.as_deref().is_some_and(may_delete) {
            to.push(Action::Delete);
        }
        for (n, stand) in w.workers.iter().enumerate() {
            if matches!(stand, Stand::Paying { drive, .. } if matches!(drive.phase, Phase::Write { .. })) {
                if w.left.yields > 0 {
                    to.push(Action::PutOff(n));
                }
                if w.left.failures > 0 {
                    to.push(Action::GivesUp(n));
                }
            }
        }
        self.faults(w, to);
        if busy {
            if w.left.faults > 0 && self.faults.stall {
                to.extend(self.stalls(w).into_iter().map(Action::Stall));
            }
        } else {
            let mut moments = self.moments(w);
            moments.extend(self.next_change(w).map(|(from, _)| from).filter(|from| *from > w.now));
            to.extend(moments.into_iter().min().map(Action::Time));
        }
    }

    fn next_state(&self, w: &World, action: Action) -> Option<World> {
        let mut w = w.clone();
        match action {
            Action::Call(who, call) => self.calls_port(&mut w, who, call, false),
            Action::Does(n, doing) => self.does(&mut w, n, doing),
            Action::Takes(n, m) => self.take_message(&mut w, n, m),
            Action::Flush(n) | Action::Repeat(n) => {
                if matches!(action, Action::Repeat(_)) {
                    w.left.repeats -= 1;
                }
                let told = self.view(&w, n);
                self.post(&mut w, n, told);
            }
            Action::Retry(n) => {
                let told = w.senders[n].post.take()?.told;
                self.post(&mut w, n, told);
            }
            Action::Recompose(n) => self.recompose(&mut w, n),
            Action::Sweep => self.start_sweep(&mut w),
            Action::Change => self.change(&mut w),
            Action::Abort => {
                w.left.aborts -= 1;
                let asked = Asked::Abort(Abort { who: "operator".into() });
                w.abort = match self.begin(&mut w, Who::Operator, asked, Start::Load) {
                    Step::On(drive) => Some(drive),
                    Step::Finished(_) => None,
                };
            }
            Action::Delete => {
                w.left.deletions -= 1;
                let asked = Asked::Delete(Delete { who: "operator".into() });
                w.abort = match self.begin(&mut w, Who::Operator, asked, Start::Load) {
                    Step::On(drive) => Some(drive),
                    Step::Finished(_) => None,
                };
            }
            Action::PutOff(n) => {
                w.left.yields -= 1;
                let run = w.workers[n].run()?.clone();
                self.put_off(&mut w, n, &run, 60);
            }
            Action::GivesUp(n) => {
                w.left.failures -= 1;
                let run = w.workers[n].run()?.clone();
                self.give_up(&mut w, n, &run);
            }
            Action::Time(to) => w.now = to,
            fault => {
                w.left.faults -= 1;
                self.goes_wrong(&mut w, fault);
            }
        }
        Some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! noted {
            ($($promise:ident),*) => {
                vec![$(Property::always(named(Promise::$promise), |_, w: &World| w.witness.kept(Promise::$promise))),*]
            };
        }
        let mut all = noted![
            StoredBeforeOk,
            OneCommit,
            SpentWithinCap,
            OneCallAtOnce,
            EpochGrows,
            DeliveredMeansCommitted,
            NeverPaidAgain,
            NeverSwallowed,
            TtlOnlyWhenSettled,
            ToldBeforeNext,
            JobAfterHead,
            StartBeforeEnd,
            GenerationsWithinHour,
            OneNoticeAnHour
        ];
        all.push(Property::always(named(Promise::OneLiveLease), Self::one_live_lease));
        all.push(Property::always(named(Promise::EndsAndIsTold), Self::ends_and_is_told));
        all.push(Property::always(
            named(Promise::PaidIsNotSuppressed),
            Self::nothing_that_fires_is_suppressed,
        ));
        all.push(Property::always(named(Promise::ResolveIsTold), Self::resolve_is_told));
        all.push(Property::always(
            named(Promise::NotShownAsResolved),
            Self::nothing_that_fires_is_shown_as_resolved,
        ));
        all.push(Property::always(
            named(Promise::InvestigatedAfterTheWindow),
            Self::what_goes_on_is_investigated,
        ));
        all.push(Property::always(named(Promise::NobodyIsRefusedSilently), |scenario: &Self, w: &World| {
            w.witness.all_listed() || !scenario.is_quiet(w)
        }));
        all
    }
}

/// A promise's name.
fn named(promise: Promise) -> &'static str {
    Promise::ALL.iter().find(|(p, _)| *p == promise).map_or("", |(_, name)| name)
}

impl Scenario {
    fn calls_port(&self, w: &mut World, who: Who, call: Call, lost: bool) {
        match who {
            Who::Sender(n) => self.sender_calls(w, n, call, lost),
            Who::Worker(n) => self.worker_calls(w, n, call, lost),
            Who::Sweeper | Who::Operator => {
                let Some(drive) = w.drive_of(who).cloned() else { return };
                let left = match self.call(w, who, drive, call, lost) {
                    Step::On(drive) => Some(drive),
                    Step::Finished(_) => None,
                };
                *if who == Who::Sweeper { &mut w.sweep } else { &mut w.abort } = left;
            }
        }
    }

    fn change(&self, w: &mut World) {
        let Some((_, change)) = self.next_change(w) else { return };
        w.happened += 1;
        match change {
            Change::Fires(alert) => {
                let episode = w.truth[alert].episode + 1;
                w.truth[alert] = Truth { episode, start: w.now + self.prometheus_off(), end: None };
            }
            Change::Ends(alert) => {
                // An alert does not end in the moment in which it began.
                let from = w.truth[alert].start + 1;
                w.truth[alert].end = Some((w.now + self.prometheus_off()).max(from));
            }
        }
    }

    fn goes_wrong(&self, w: &mut World, fault: Action) {
        match fault {
            Action::Crash(Who::Sender(n)) => Self::refuse(w, n),
            Action::Crash(Who::Worker(n)) => self.kill_worker(w, n),
            Action::Crash(Who::Sweeper) => w.sweep = None,
            Action::Crash(Who::Operator) => w.abort = None,
            Action::ReplyLost(who, call) => self.calls_port(w, who, call, true),
            Action::Refused(who) => {
                let Some(mut drive) = w.drive_of(who).cloned() else { return };
                let Phase::After { head, append, send, answer } = &mut drive.phase else { return };
                *send = None;
                let step =
                    if *append { Step::On(drive) } else { Step::Finished((answer.clone(), head.clone())) };
                if let Who::Sender(n) = who {
                    self.sender_went(w, n, step);
                }
            }
            Action::Stall(to) => w.now = to,
            Action::MessageLost(m) => drop(w.queue.remove(m)),
            Action::MessageDoubled(m) => {
                let message = w.queue[m];
                w.send(message.generation, message.visible);
            }
            Action::MessageLate(m) => {
                w.queue[m].visible = w.now.max(w.queue[m].visible) + 900;
                w.queue.sort_unstable();
            }
            Action::SinkRefuses(n) => self.tell(w, n, Telling::Refused),
            Action::SinkUnsure(n) => self.tell(w, n, Telling::Unsure),
            _ => unreachable!("no fault"),
        }
    }

    /// Of two workers that believe in their leases one at least has one that is over.
    fn one_live_lease(&self, w: &World) -> bool {
        let off = if self.skewed { 5 } else { 0 };
        let runs = w.workers.iter().filter_map(Stand::run);
        runs.filter(|run| certainly_live(run.head.lease_until, w.now, off)).count() <= 1
    }

    /// Quiescence stands for "eventually": the graph of each scenario is finite and has no cycle without time, so a
    /// run in which nothing more goes wrong comes to a quiet state.
    fn ends_and_is_told(&self, w: &World) -> bool {
        !w.witness.answered || !self.is_quiet(w) || w.head.as_deref().is_some_and(is_told)
    }

    fn nothing_that_fires_is_suppressed(&self, w: &World) -> bool {
        if !w.witness.kept(Promise::PaidIsNotSuppressed) {
            return false;
        }
        // Of what flaps, the notice that says so stands for the rest of its hour.
        let flaps = w.head.as_deref().is_some_and(|h| was_sent(h, Event::Flapping));
        let suppressed = !flaps && w.head.as_ref().is_some_and(|h| h.state == State::Suppressed);
        !(suppressed && Self::told_to_fire(w).next().is_some() && self.is_quiet(w))
    }

    /// Alerts that fire, and whose senders were told that this is stored.
    fn told_to_fire(w: &World) -> impl Iterator<Item = (usize, u8)> + '_ {
        let firing = w.truth.iter().enumerate().filter(|(_, truth)| truth.fires());
        let told = |(alert, truth): &(usize, &Truth)| {
            w.senders.iter().any(|s| s.acked[*alert] == Acked::Fires(truth.episode))
        };
        firing.filter(told).map(|(alert, truth)| (alert, truth.episode))
    }

    fn nothing_that_fires_is_shown_as_resolved(&self, w: &World) -> bool {
        if !w.witness.kept(Promise::NotShownAsResolved) {
            return false;
        }
        let shown = w.witness.told_as_resolved || w.head.as_deref().is_some_and(|h| h.resolved().is_some());
        !(shown && Self::told_to_fire(w).next().is_some() && self.is_quiet(w))
    }

    fn what_goes_on_is_investigated(&self, w: &World) -> bool {
        let left = |(alert, episode)| w.witness.is_left(alert, episode);
        !(Self::told_to_fire(w).any(left) && self.is_quiet(w))
    }

    fn resolve_is_told(&self, w: &World) -> bool {
        let over = w.truth.iter().all(|t| !t.fires());
        let told = w.senders.iter().all(|s| s.acked.iter().all(|a| !matches!(a, Acked::Fires(_))));
        if !w.witness.answered || w.witness.unsure || !over || !told || !self.is_quiet(w) {
            return true;
        }
        w.head.as_deref().is_none_or(|h| {
            // The notice that it flaps stands for that.
            let told = was_sent(h, Event::Resolved) || was_sent(h, Event::Flapping);
            // Of what was deleted nobody hears any more.
            h.firing.is_empty() && (h.state == State::Suppressed || told || h.deleted.is_some())
        })
    }
}
