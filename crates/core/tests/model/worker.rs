//! Workers: claim, read, pay, call, store, commit, tell. One call of the outside world a step.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::incident::{DeliveryKey, Event, Gen, Head};
use sentinel_core::lifecycle::{
    Claim, ClaimDelivery, Claimed, Commit, Delivered, DeliveryClaimed, Fail, Missed, Paid, PaidOutcome,
    WindowOver, Yield,
};
use sentinel_core::report::Verdict;

use crate::rule::{Answer, Asked, CALL, Mutant, owed};
use crate::scenario::Scenario;
use crate::shell::{Finished, Start, Step};
use crate::witness::Promise;
use crate::world::{Call, Run, Stand, Who, World, at, second};

/// A step of a worker that is no part of a drive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Doing {
    ReadChildren,
    StartCall,
    EndCall,
    StoreAnswer,
    StoreReport,
    ReadList,
    Tell,
    LookAgain,
    ReadAgain,
}

/// How telling a sink went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Telling {
    Told,
    Refused,
    /// It was told, and its answer lost.
    Unsure,
}

impl Scenario {
    pub(crate) fn take_message(&self, w: &mut World, n: usize, message: usize) {
        let message = w.queue.remove(message);
        let asked = Asked::Claim(Claim { generation: message.generation, owner: fresh(w, n) });
        let step = self.begin(w, Who::Worker(n), asked, Start::Load);
        self.claim_went(w, n, step);
    }

    /// What a worker can do next, beside the calls of its drive.
    pub(crate) fn doing(stand: &Stand) -> Option<Doing> {
        match stand {
            Stand::Reading { .. } => Some(Doing::ReadChildren),
            Stand::Granted { .. } => Some(Doing::StartCall),
            Stand::InCall { .. } => Some(Doing::EndCall),
            Stand::Answered { .. } => Some(Doing::StoreAnswer),
            Stand::Reporting { .. } => Some(Doing::StoreReport),
            Stand::Listing { .. } => Some(Doing::ReadList),
            Stand::Telling { .. } => Some(Doing::Tell),
            Stand::LookingAgain => Some(Doing::LookAgain),
            Stand::ReadingAgain { .. } => Some(Doing::ReadAgain),
            _ => None,
        }
    }

    pub(crate) fn worker_calls(&self, w: &mut World, n: usize, call: Call, lost: bool) {
        let stand = std::mem::take(&mut w.workers[n]);
        let Some(drive) = stand.drive().cloned() else { return };
        // The world has to know that this worker is in the middle of something while its write is noted.
        w.workers[n] = stand.clone();
        let step = self.call(w, Who::Worker(n), drive, call, lost);
        match stand {
            Stand::Claiming { .. } => self.claim_went(w, n, step),
            Stand::Paying { run, .. } => self.pay_went(w, n, run, step),
            Stand::Ending { .. } => self.end_went(w, n, step),
            Stand::Reopening { .. } => self.reopen_went(w, n, step),
            Stand::ClaimingDelivery { key, claimer, rest, listed, .. } => {
                self.delivery_claim_went(w, n, (key, claimer, rest, listed), step);
            }
            Stand::Recording { rest, .. } => self.record_went(w, n, rest, step),
            _ => unreachable!("only these have a drive"),
        }
    }

    fn claim_went(&self, w: &mut World, n: usize, step: Step) {
        w.workers[n] = match step {
            Step::On(drive) => Stand::Claiming { drive },
            Step::Finished((Answer::Claimed(Claimed::Investigate(fence)), Some(head))) => {
                let due = head.due_deliveries(at(self.clock(w, Who::Worker(n))));
                w.workers[n] = Stand::Reading { run: Run { fence, head: Arc::clone(&head), turn: 0 } };
                if let (Some(teller), false) = (self.other_half(n), due.is_empty()) {
                    self.tell_next(w, teller, due, head);
                }
                return;
            }
            Step::Finished((Answer::Claimed(Claimed::WindowOver), Some(head))) => {
                Stand::ReadingAgain { head }
            }
            Step::Finished(finished) => return self.tell_owed(w, n, &finished),
        };
    }

    fn reopen_went(&self, w: &mut World, n: usize, step: Step) {
        match step {
            Step::On(drive) => w.workers[n] = Stand::Reopening { drive },
            Step::Finished(_) => self.done(w, n),
        }
    }

    /// A worker, or one half of it, has nothing left to do.
    fn done(&self, w: &mut World, n: usize) {
        w.workers[n] = match self.other_half(n).map(|other| (other, &w.workers[other])) {
            None | Some((_, Stand::Idle)) => Stand::Idle,
            Some((other, Stand::HalfDone)) => {
                w.workers[other] = Stand::Idle;
                w.workers[n] = Stand::Idle;
                w.workers[n % self.workers] = Stand::LookingAgain;
                return;
            }
            Some(_) => Stand::HalfDone,
        };
    }

    pub(crate) fn does(&self, w: &mut World, n: usize, doing: Doing) {
        let who = Who::Worker(n);
        let stand = std::mem::take(&mut w.workers[n]);
        match (doing, stand) {
            (Doing::ReadChildren, Stand::Reading { mut run }) => {
                let generation = run.fence.generation;
                run.turn = stored_turns(w, generation);
                if w.snapshots.iter().any(|(g, _)| *g == generation) {
                    self.go_on(w, n, run);
                } else {
                    self.put_off(w, n, &run, 30);
                }
            }
            (Doing::StartCall, Stand::Granted { run, until }) => {
                if at(self.clock(w, who)) >= until {
                    // It was frozen for so long that the call would not be cut off in time.
                    return self.put_off(w, n, &run, 30);
                }
                let others = w.workers.iter().enumerate().filter(|(other, _)| *other != n);
                let beside = others.into_iter().any(|(other, stand)| match stand {
                    Stand::InCall { until, .. } => second(*until) - self.off(Who::Worker(other)) > w.now,
                    _ => false,
                });
                if beside {
                    w.witness.broke(Promise::OneCallAtOnce);
                }
                w.witness.paid(run.fence.generation, self.turns);
                w.workers[n] = Stand::InCall { run, until };
            }
            (Doing::EndCall, Stand::InCall { run, until }) => {
                if at(self.clock(w, who)) >= until {
                    w.witness.wasted(run.fence.generation);
                    self.put_off(w, n, &run, 30);
                } else {
                    w.workers[n] = Stand::Answered { run };
                }
            }
            (Doing::StoreAnswer, Stand::Answered { mut run }) => {
                let generation = run.fence.generation;
                let turn = (generation, run.turn + 1);
                if !w.turns.contains(&turn) {
                    w.turns.push(turn);
                    w.turns.sort_unstable();
                }
                run.turn += 1;
                self.go_on(w, n, run);
            }
            (Doing::StoreReport, Stand::Reporting { run }) => {
                let generation = run.fence.generation;
                if !w.reports.contains(&generation) {
                    w.reports.push(generation);
                }
                let asked = Asked::Commit(Commit { fence: run.fence, verdict: Verdict::NoAction });
                let step = self.begin(w, who, asked, Start::Known(run.head));
                self.end_went(w, n, step);
            }
            (Doing::ReadList, Stand::Listing { key, claimer, rest, head }) => {
                let listed = listed(w, head.generation);
                w.workers[n] = Stand::Telling { key, claimer, rest, listed, head };
            }
            (Doing::ReadAgain, Stand::ReadingAgain { head }) => {
                let asked = Asked::WindowOver(WindowOver { generation: head.generation, firing: vec![] });
                let step = self.begin(w, who, asked, Start::Known(head));
                self.reopen_went(w, n, step);
            }
            (Doing::LookAgain, Stand::LookingAgain) => {
                let Some(head) = w.head.clone() else { return };
                let due = head.due_deliveries(at(self.clock(w, who)));
                self.tell_next(w, n, due, head);
            }
            (Doing::Tell, stand) => {
                w.workers[n] = stand;
                self.tell(w, n, Telling::Told);
            }
            (doing, stand) => unreachable!("{doing:?} in {stand:?}"),
        }
    }

    /// Asks for the next call, or reports.
    fn go_on(&self, w: &mut World, n: usize, run: Run) {
        if w.reports.contains(&run.fence.generation) || run.turn >= self.turns {
            w.workers[n] = Stand::Reporting { run };
            return;
        }
        let asked = Asked::Paid(Paid { fence: run.fence, turn: run.turn + 1, timeout: CALL });
        let step = self.begin(w, Who::Worker(n), asked, Start::Known(Arc::clone(&run.head)));
        self.pay_went(w, n, run, step);
    }

    fn pay_went(&self, w: &mut World, n: usize, mut run: Run, step: Step) {
        w.workers[n] = match step {
            Step::On(drive) => Stand::Paying { run, drive },
            Step::Finished((Answer::Paid(PaidOutcome::Granted { until }), Some(head))) => {
                run.head = head;
                Stand::Granted { run, until }
            }
            Step::Finished(_) => return self.done(w, n),
        };
    }

    /// The run is put off for so many seconds.
    pub(crate) fn put_off(&self, w: &mut World, n: usize, run: &Run, seconds: i64) {
        let not_before = at(self.clock(w, Who::Worker(n)) + seconds);
        let asked = Asked::Yield(Yield { fence: run.fence, not_before, reason: "later".into() });
        let step = self.begin(w, Who::Worker(n), asked, Start::Known(Arc::clone(&run.head)));
        self.end_went(w, n, step);
    }

    /// The run cannot succeed.
    pub(crate) fn give_up(&self, w: &mut World, n: usize, run: &Run) {
        let asked = Asked::Fail(Fail { fence: run.fence, reason: "no".into() });
        let step = self.begin(w, Who::Worker(n), asked, Start::Known(Arc::clone(&run.head)));
        self.end_went(w, n, step);
    }

    fn end_went(&self, w: &mut World, n: usize, step: Step) {
        match step {
            Step::On(drive) => w.workers[n] = Stand::Ending { drive },
            Step::Finished(finished) => self.tell_owed(w, n, &finished),
        }
    }

    fn tell_owed(&self, w: &mut World, n: usize, (answer, head): &Finished) {
        let due = owed(answer, head.as_deref(), at(self.clock(w, Who::Worker(n))));
        match head {
            Some(head) => self.tell_next(w, n, due, Arc::clone(head)),
            None => self.done(w, n),
        }
    }

    fn tell_next(&self, w: &mut World, n: usize, mut rest: Vec<DeliveryKey>, head: Arc<Head>) {
        if rest.is_empty() {
            return self.done(w, n);
        }
        let key = rest.remove(0);
        let early = key.event == Event::Storm && self.mutant == Some(Mutant::ListedBeforeClaim);
        let listed = if early { listed(w, head.generation) } else { vec![] };
        let claimer = fresh(w, n);
        let input = ClaimDelivery { generation: head.generation, key: key.clone(), claimer: claimer.clone() };
        let step = self.begin(w, Who::Worker(n), Asked::ClaimDelivery(input), Start::Known(head));
        self.delivery_claim_went(w, n, (key, claimer, rest, listed), step);
    }

    fn delivery_claim_went(
        &self,
        w: &mut World,
        n: usize,
        (key, claimer, rest, listed): (DeliveryKey, String, Vec<DeliveryKey>, Vec<String>),
        step: Step,
    ) {
        match step {
            Step::On(drive) => w.workers[n] = Stand::ClaimingDelivery { key, claimer, rest, listed, drive },
            Step::Finished((Answer::DeliveryClaimed(DeliveryClaimed::Tell { .. }), Some(head))) => {
                let lists = key.event == Event::Storm && self.mutant != Some(Mutant::ListedBeforeClaim);
                w.workers[n] = if lists {
                    Stand::Listing { key, claimer, rest, head }
                } else {
                    Stand::Telling { key, claimer, rest, listed, head }
                };
            }
            Step::Finished((_, Some(head))) => self.tell_next(w, n, rest, head),
            Step::Finished((_, None)) => self.done(w, n),
        }
    }

    /// Calls the sink.
    pub(crate) fn tell(&self, w: &mut World, n: usize, telling: Telling) {
        let Stand::Telling { key, claimer, rest, listed, head } = std::mem::take(&mut w.workers[n]) else {
            return;
        };
        // The other half has to know that this one is in the middle of something.
        w.workers[n] = Stand::Telling {
            key: key.clone(),
            claimer: claimer.clone(),
            rest: rest.clone(),
            listed: listed.clone(),
            head: Arc::clone(&head),
        };
        let generation = head.generation;
        let committed = w.witness.commits(generation) > 0 && w.reports.contains(&generation);
        if telling != Telling::Refused && key.event == Event::Findings && !committed {
            w.witness.broke(Promise::DeliveredMeansCommitted);
        }
        if telling != Telling::Refused {
            // Who was frozen under its claim may tell of a start at any time.
            w.witness.told(&head, key.event, &listed, w.now, !self.faults.stall);
        }
        let asked = if telling == Telling::Told {
            Asked::Delivered(Delivered { generation, key, claimer, remote: None, amiss: None })
        } else {
            Asked::Missed(Missed {
                generation,
                key,
                claimer,
                retry: Some(Duration::ZERO),
                error: "refused".into(),
                remote: None,
            })
        };
        let step = self.begin(w, Who::Worker(n), asked, Start::Known(head));
        self.record_went(w, n, rest, step);
    }

    fn record_went(&self, w: &mut World, n: usize, rest: Vec<DeliveryKey>, step: Step) {
        match step {
            Step::On(drive) => w.workers[n] = Stand::Recording { rest, drive },
            Step::Finished((_, Some(head))) => self.tell_next(w, n, rest, head),
            Step::Finished((_, None)) => self.done(w, n),
        }
    }

    /// The worker's process dies, and its message with it: the sweeper has to come.
    pub(crate) fn kill_worker(&self, w: &mut World, n: usize) {
        if let Some(other) = self.other_half(n) {
            Self::kill_half(w, other);
        }
        Self::kill_half(w, n);
    }

    fn kill_half(w: &mut World, n: usize) {
        let stand = std::mem::take(&mut w.workers[n]);
        if stand.would_waste()
            && let Some(run) = stand.run()
        {
            w.witness.wasted(run.fence.generation);
        }
    }
}

/// What stands on a notice's list.
fn listed(w: &World, notice: Gen) -> Vec<String> {
    w.snapshots.iter().filter(|(g, _)| *g == notice).map(|(_, entry)| entry.clone()).collect()
}

fn stored_turns(w: &World, generation: Gen) -> u32 {
    w.turns.iter().filter(|(g, _)| *g == generation).map(|(_, turn)| *turn).max().unwrap_or(0)
}

/// A name that stands nowhere: owners and claimers are unique.
fn fresh(w: &World, n: usize) -> String {
    let head = w.head.as_deref();
    let taken = |name: &str| {
        head.is_some_and(|h| {
            h.owner.as_deref() == Some(name)
                || h.deliveries.iter().any(|d| d.claimer.as_deref() == Some(name))
        })
    };
    (0..=u8::MAX).map(|k| format!("w{n}.{k}")).find(|name| !taken(name)).unwrap_or_default()
}
