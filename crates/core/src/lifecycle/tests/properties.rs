//! What no sequence of inputs may break, at whatever time each of them comes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

/// What happens next. Times are seconds before the present, so that senders are late and out of order.
#[derive(Clone, Debug)]
enum Step {
    Arrive {
        members: Vec<(u64, bool, Option<i64>)>,
        truncated: bool,
    },
    Claim {
        worker: usize,
    },
    Pay {
        worker: usize,
        seconds: u64,
    },
    PutOff {
        worker: usize,
        seconds: i64,
    },
    Commit {
        worker: usize,
    },
    Fail {
        worker: usize,
    },
    Abort,
    /// A teller tells what is due first, from the claim to the record.
    Tell {
        teller: usize,
    },
    ClaimDelivery {
        teller: usize,
        event: Event,
    },
    Delivered {
        teller: usize,
        event: Event,
    },
    Missed {
        teller: usize,
        event: Event,
        retry: bool,
    },
    Sweep,
    Delete,
    WindowOver,
    Restart,
    Pass {
        seconds: i64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop::sample::select(Event::ALL.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    let ago = prop::option::weighted(0.9, prop::sample::select(vec![-5_i64, 0, 1, 30, 300, 700, 4000]));
    let members = prop::collection::vec((1..4_u64, any::<bool>(), ago), 1..3);
    prop_oneof![
        6 => (members, prop::bool::weighted(0.05)).prop_map(|(members, truncated)| Step::Arrive { members, truncated }),
        4 => (0..2_usize).prop_map(|worker| Step::Claim { worker }),
        2 => (0..2_usize, 1..200_u64).prop_map(|(worker, seconds)| Step::Pay { worker, seconds }),
        1 => (0..2_usize, 0..300_i64).prop_map(|(worker, seconds)| Step::PutOff { worker, seconds }),
        3 => (0..2_usize).prop_map(|worker| Step::Commit { worker }),
        1 => (0..2_usize).prop_map(|worker| Step::Fail { worker }),
        1 => Just(Step::Abort),
        3 => (0..2_usize).prop_map(|teller| Step::Tell { teller }),
        2 => Just(Step::WindowOver),
        5 => (0..2_usize, event()).prop_map(|(teller, event)| Step::ClaimDelivery { teller, event }),
        5 => (0..2_usize, event()).prop_map(|(teller, event)| Step::Delivered { teller, event }),
        1 => (0..2_usize, event(), any::<bool>())
            .prop_map(|(teller, event, retry)| Step::Missed { teller, event, retry }),
        1 => Just(Step::Sweep),
        1 => Just(Step::Delete),
        1 => Just(Step::Restart),
        4 => prop::sample::select(vec![1_i64, 40, 130, 650, 3700]).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// The two workers' fences, as each of them believes, and the calls that were granted to them.
#[derive(Default)]
struct Worker {
    fence: Option<Fence>,
    call_until: Option<UnixMs>,
    claims: u32,
}

struct Run {
    story: Story,
    workers: [Worker; 2],
    commits: Vec<Gen>,
}

fn member(now: UnixMs, (id, firing, ago): (u64, bool, Option<i64>)) -> Member {
    let then = ago.map(|s| UnixMs::new(now.get() - s * 1000));
    if firing {
        Member { id: MemberId(id), firing, starts_at: then, ends_at: None }
    } else {
        Member { id: MemberId(id), firing, starts_at: None, ends_at: Some(then.unwrap_or(now)) }
    }
}

impl Run {
    fn step(&mut self, step: Step) {
        let before = self.story.head.clone();
        let now = self.story.now;
        match step {
            Step::Arrive { members, truncated } => {
                let folded = strongest(members.into_iter().map(|m| member(now, m)));
                let a = Arrival { truncated, ..arrival(&folded) };
                let taken = self.story.take(&a);
                self.check_arrival(before.as_ref(), &a, taken.taken);
            }
            Step::Pass { seconds } => self.story.now = now.plus(secs(seconds.unsigned_abs())),
            _ if before.is_none() => {}
            Step::Claim { worker } => self.claim(worker),
            Step::Pay { worker, seconds } => {
                let Some(fence) = self.workers[worker].fence else { return };
                match self.story.pay(fence, 1, seconds) {
                    PaidOutcome::Granted { until } => {
                        let call = self.workers[worker].call_until.max(Some(until));
                        self.workers[worker].call_until = call;
                        assert!(
                            self.story.head().lease_until >= call.map(|c| c.plus(LEASE_MARGIN)),
                            "a lease outlives every call granted under it"
                        );
                    }
                    PaidOutcome::NotMine => {
                        self.workers[worker] =
                            Worker { claims: self.workers[worker].claims, ..Worker::default() }
                    }
                }
            }
            Step::PutOff { worker, seconds } => {
                let until = (now.get() - START) / 1000 + seconds;
                self.end(worker, |story, fence| story.put_off(fence, until) == Yielded::NotMine);
            }
            Step::Commit { worker } => {
                let generation = self.story.head().generation;
                if self.end(worker, |story, fence| story.commit(fence) == Ended::NotMine) {
                    assert!(!self.commits.contains(&generation), "one commit a generation");
                    self.commits.push(generation);
                }
            }
            Step::Fail { worker } => {
                self.end(worker, |story, fence| story.give_up(fence) == Ended::NotMine);
            }
            Step::Abort => {
                let _ = self.story.abort();
            }
            Step::Tell { teller } => {
                let Some(due) = self.story.head().due_deliveries(now).into_iter().next() else { return };
                let _ = self.story.claim_delivery(due.event, &format!("d{teller}"));
                self.check_heads(before.as_ref());
                let _ = self.story.delivered(due.event, &format!("d{teller}"));
            }
            Step::ClaimDelivery { teller, event } => {
                let _ = self.story.claim_delivery(event, &format!("d{teller}"));
            }
            Step::Delivered { teller, event } => {
                let _ = self.story.delivered(event, &format!("d{teller}"));
            }
            Step::Missed { teller, event, retry } => {
                let _ = self.story.missed(event, &format!("d{teller}"), retry.then_some(Duration::ZERO));
            }
            Step::Sweep => {
                let _ = self.story.take(&Sweep);
            }
            Step::Delete => {
                let before = self.story.head();
                let is_deleted = before.deleted.is_some();
                let settled = is_deleted || before.state.is_terminal() && before.is_settled();
                let deleted = self.story.take(&Delete { who: "an operator".into() }) == Deletion::Deleted;
                assert!(settled || !deleted, "what is owed is not deleted");
                assert_eq!(deleted, self.story.head().deleted.is_some());
            }
            Step::WindowOver => {
                let due = self.story.head().reopens_at().is_some_and(|at| at <= now);
                let opened = self.story.window_over() == Reopened::Reopened;
                assert!(due || !opened, "not before its time");
                assert!(!opened || self.story.appended && self.story.sent.is_some(), "a worker will find it");
            }
            Step::Restart => {
                // The process that held them is gone, and its calls with it.
                self.workers = Default::default();
                let _ = self.story.take(&Restart);
            }
        }
        self.check_heads(before.as_ref());
    }

    fn claim(&mut self, worker: usize) {
        let now = self.story.now;
        self.workers[worker].claims += 1;
        let owner = format!("w{worker}-{}", self.workers[worker].claims);
        if let Claimed::Investigate(fence) = self.story.claim(&owner) {
            let other = &self.workers[1 - worker];
            assert!(
                other.call_until.is_none_or(|until| until <= now),
                "a call that was granted to the one is still under way while the other begins"
            );
            self.workers[worker].fence = Some(fence);
            self.workers[worker].call_until = None;
        }
    }

    /// A worker stops, and says whether it still was the holder.
    fn end(&mut self, worker: usize, stop: impl FnOnce(&mut Story, Fence) -> bool) -> bool {
        let Some(fence) = self.workers[worker].fence.take() else { return false };
        self.workers[worker].call_until = None;
        !stop(&mut self.story, fence)
    }

    fn check_arrival(&self, before: Option<&Head>, a: &Arrival, taken: Taken) {
        let now = self.story.now;
        let firing = a.members.iter().any(|m| m.firing);
        if firing {
            let head = self.story.head();
            if taken == Taken::Accepted {
                assert_eq!(head.state, State::Pending);
            }
            if head.state == State::Pending {
                assert!(self.story.appended && self.story.sent.is_some(), "a pending one is always sent");
            }
        }
        let Some(before) = before else { return };
        let settled = before.state.is_terminal() && before.is_settled();
        let lease_over = before.lease_until.is_none_or(|until| until <= now);
        let latest = a.members.iter().filter(|m| m.firing).filter_map(|m| m.starts_at).max();
        let goes_on = |m: &Member| before.firing.contains(m.id) && m.starts_at <= before.began;
        let after_end = before
            .resolved_at
            .is_some_and(|end| a.members.iter().any(|m| m.firing && m.starts_at > Some(end) && !goes_on(m)));
        let after_window =
            matches!((latest, before.began), (Some(s), Some(b)) if s > b.plus(self.story.rules.dedupe_ttl));
        let stranger = !before.known.is_many()
            && a.members
                .iter()
                .any(|m| m.firing && !before.known.contains(m.id) && !before.firing.contains(m.id));
        if settled && (after_end || after_window || stranger) {
            let head = self.story.head();
            let tells = |event| head.deliveries.iter().any(|d| d.key.event == event);
            // Of what was deleted nobody hears any more.
            let told = tells(Event::Updated) || tells(Event::Flapping) || head.deleted.is_some();
            assert!(
                head.state == State::Pending || told || self.story.rules.sinks.is_empty(),
                "never swallowed"
            );
            let flaps = tells(Event::Flapping)
                || opening::flaps_until(before, &self.story.rules, now).is_some() && head.deleted.is_some();
            if before.reopen_after <= now && lease_over && !flaps {
                assert_eq!(taken, Taken::Accepted);
            }
            assert!(
                head.state == State::Pending || head.again.is_some(),
                "it is investigated when its time comes"
            );
        }
    }

    fn check_heads(&self, before: Option<&Head>) {
        let (Some(before), Some(after)) = (before, &self.story.head) else { return };
        assert!(after.epoch >= before.epoch, "epochs only grow");
        assert!(after.generation >= before.generation, "generations only grow");
        let reopened = before.state.is_terminal() && !after.state.is_terminal();
        let deleted = after.deleted.is_some() && before.deleted.is_none();
        assert_eq!(
            reopened || deleted,
            after.generation > before.generation,
            "a generation opens where one has ended"
        );
        if before.state != State::Running && after.state == State::Running {
            assert!(after.epoch > before.epoch);
        }
        if after.generation == before.generation {
            assert!(after.attempts <= self.story.rules.max_attempts);
            assert!(
                after.turn >= before.turn && after.slices >= before.slices && after.sends >= before.sends
            );
            assert!(after.began >= before.began);
        }
        assert!(after.seen >= before.seen, "what was seen stays seen");
        let settled = after.state.is_terminal() && after.is_settled() && after.again.is_none();
        assert!(after.again.is_none() || !after.firing.is_empty(), "what has ended waits for no window");
        assert_eq!(
            after.ttl.is_some(),
            settled,
            "a time to live stands on what is over and told, and only there"
        );
        assert_eq!(due_at(after).is_none(), settled, "what is owed is always swept");
        assert!(after.state != State::Running || after.lease_until.is_some(), "a run has a lease");
        assert!(
            after.known.iter().count() <= Members::LIMIT && after.firing.iter().count() <= Members::LIMIT
        );
        assert!(after.deliveries.len() <= 4 * self.story.rules.sinks.len(), "four events a sink");
        let claimed = after.deliveries.iter().filter(|d| d.state == DeliveryState::Claimed);
        assert!(claimed.count() <= 1, "one sink is told one thing at a time");
        let ending = after.deliveries.iter().find(|d| d.key.event.is_ending());
        let start = after.deliveries.iter().find(|d| d.key.event == Event::Started);
        assert!(
            after.attempts + after.slices > 0 || start.is_none(),
            "nothing starts before its first claim"
        );
        if let Some((start, ending)) = start.zip(ending) {
            assert!(start.state != DeliveryState::Due, "an end overtakes a start that is still to be told");
            let both = start.state == DeliveryState::Claimed && ending.state == DeliveryState::Claimed;
            assert!(!both, "a start that is being told is waited for");
        }
        if !after.state.is_terminal() {
            let mut told = after.deliveries.iter().filter(|d| d.key.event != Event::Started);
            assert!(told.all(|d| d.state == DeliveryState::Due), "nothing else is told before the end");
        }
        assert!(after.deliveries.iter().all(|d| d.tries <= self.story.rules.max_tries));
        if after.state == State::Suppressed {
            assert_eq!(after.turn, 0, "what was paid for is not suppressed");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_sequence_breaks_a_promise(
        steps in prop::collection::vec(step(), 1..120),
        sinks in 0..2_usize,
        wait in prop::sample::select(vec![0_u64, 60]),
        again in prop::option::of(Just(secs(7200))),
    ) {
        let rules = Rules {
            sinks: vec![of_all("log"); sinks],
            wait: secs(wait),
            reinvestigate_after: again,
            max_slices: 2,
            max_tries: 3,
            ..rules()
        };
        let mut run = Run { story: Story::with(rules), workers: Default::default(), commits: vec![] };
        for step in steps {
            run.step(step);
        }
    }

    #[test]
    fn a_crowd_leaves_a_head_bounded(
        crowds in prop::collection::vec(prop::collection::vec((0..200_u64, any::<bool>()), 1..150), 1..6),
    ) {
        let mut s = Story::new();
        for crowd in crowds {
            let folded = strongest(crowd.into_iter().map(|(id, firing)| if firing { fires(id, 0) } else { ended(id, 0, 5) }));
            let _ = s.tell(&folded);
            if let Some(head) = &s.head {
                prop_assert!(head.known.iter().count() <= Members::LIMIT);
                prop_assert!(head.firing.iter().count() <= Members::LIMIT);
            }
        }
    }

    #[test]
    fn whatever_stands_there_an_input_twice_is_as_good_as_once(steps in prop::collection::vec(step(), 1..60), last in step()) {
        let mut run = Run { story: Story::new(), workers: Default::default(), commits: vec![] };
        for step in steps {
            run.step(step);
        }
        let Step::Arrive { members, truncated } = last else { return Ok(()) };
        let now = run.story.now;
        let folded = strongest(members.into_iter().map(|m| member(now, m)));
        let a = Arrival { truncated, ..arrival(&folded) };
        let _ = run.story.take(&a);
        let once = run.story.head.clone();
        let taken = run.story.take(&a);
        let due = once.as_ref().is_some_and(|h| h.state.is_terminal() && h.is_settled());
        if !due {
            prop_assert_eq!(taken.taken, Taken::Duplicate);
            prop_assert_eq!(&run.story.head, &once);
        }
    }
}

/// Random sequences prove little where they never come to the point.
#[test]
fn the_sequences_reach_every_state_and_every_outcome() {
    let mut runner = TestRunner::deterministic();
    let sequences = prop::collection::vec(step(), 60..120);
    let mut reached = BTreeSet::new();
    for n in 0..600 {
        let steps = sequences.new_tree(&mut runner).unwrap().current();
        let story = Story::with(Rules {
            sinks: vec![of_all("log")],
            generations_per_hour: (n % 2 == 0).then_some(1),
            ..rules()
        });
        let mut run = Run { story, workers: Default::default(), commits: vec![] };
        for step in steps {
            let before = run.story.head.clone();
            run.step(step);
            let Some(after) = &run.story.head else { continue };
            reached.insert(after.state.to_string());
            if after.deleted.is_some() {
                reached.insert("deleted".into());
            } else if before.as_ref().is_some_and(|b| b.deleted.is_some()) {
                reached.insert("opened after a deletion".into());
            }
            if before.as_ref().is_some_and(|b| b.generation < after.generation && !after.state.is_terminal())
            {
                reached.insert(format!("reopened {}", before.unwrap().state));
            }
            if after.lease_until.is_some_and(|until| until > run.story.now) && after.state == State::Aborted {
                reached.insert("aborted beside a live lease".into());
            }
            if after.epoch > u64::from(after.attempts) {
                reached.insert("yielded or taken over".into());
            }
            for d in &after.deliveries {
                reached.insert(format!("{} {:?}", d.key.event, d.state));
                if d.rearmed {
                    reached.insert("rearmed".into());
                }
            }
        }
    }
    let states = ["pending", "running", "done", "failed", "suppressed", "aborted"].map(str::to_owned);
    let reopened = ["done", "failed", "suppressed", "aborted"].map(|s| format!("reopened {s}"));
    let others = [
        "aborted beside a live lease",
        "yielded or taken over",
        "rearmed",
        "deleted",
        "opened after a deletion",
    ];
    let others = others.map(str::to_owned);
    // A storm is told of a notice, which is no incident.
    let events = Event::ALL.into_iter().filter(|e| *e != Event::Storm);
    let told = events.flat_map(|e| ["Due", "Claimed", "Sent"].map(|s| format!("{e} {s}")));
    for wanted in states.into_iter().chain(reopened).chain(others).chain(told) {
        assert!(reached.contains(&wanted), "never {wanted}");
    }
}
