//! Histories each of which broke an earlier draft of the lifecycle, most of them without any crash, played by the real
//! intake, worker and sweeper. `decide` alone has tests of the same names: `core`, `lifecycle/tests/histories.rs`.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sentinel_core::incident::{ChildName, Event, Head, Job, State};
use sentinel_testkit::faults::{Fate, Faults, Kind, Point};

use crate::cases::in_virtual_time;
use crate::checks::{at_the_end, generations};
use crate::sender::{Fact, Webhook, at, ended, fires};
use crate::world::{Action, House, Setting, World};

const DAY: u64 = 86_400;

/// What came of a history.
#[derive(Debug)]
struct Came {
    /// How each generation ended, in their order.
    ends: Vec<State>,
    /// What a sink that wants everything but the start was told, in its order.
    told: Vec<Event>,
    /// Model turns that were paid for.
    paid: usize,
    /// Every head that was written.
    written: Vec<Head>,
}

/// Calls that go wrong as `choose` says.
fn faults(choose: impl Fn(Point) -> Option<Kind> + Send + Sync + 'static) -> Arc<Faults> {
    Faults::chosen(move |_, point| Fate { latency: Duration::from_millis(2), fault: choose(point) })
}

/// Of the calls of that name that a process makes, those with these numbers go wrong.
fn calls_fail(process: &'static str, call: &'static str, which: Range<usize>, kind: Kind) -> Arc<Faults> {
    let seen = AtomicUsize::new(0);
    faults(move |point| {
        let here = point.process == process && point.call == call;
        (here && which.contains(&seen.fetch_add(1, Ordering::SeqCst))).then_some(kind)
    })
}

fn post(sender: &'static str, alertname: &'static str, facts: Vec<Fact>) -> Action {
    Action::Post(Webhook { sender, alertname, facts })
}

/// An incident that is investigated at once.
fn pods(facts: Vec<Fact>) -> Action {
    post("am-1", "PodDown", facts)
}

/// An incident that waits for a minute first.
fn disks(facts: Vec<Fact>) -> Action {
    post("am-1", "DiskFull", facts)
}

/// What happens, by seconds since the start.
fn script(world: &mut World, actions: impl IntoIterator<Item = (u64, Action)>) {
    world.script(actions.into_iter().map(|(seconds, action)| (seconds * 1000, action)));
}

fn outcome(world: &World) -> Came {
    at_the_end(world, false);
    let broken = world.broken.all();
    assert!(broken.is_empty(), "{broken:#?}");
    let told = world.told().into_iter().filter(|told| told.sink == "hook").map(|told| told.event);
    Came {
        ends: generations(world).into_values().map(|head| head.state).collect(),
        told: told.collect(),
        paid: world.paid().len(),
        written: world.written.lock().unwrap().iter().map(|(_, head)| head.clone()).collect(),
    }
}

fn play_with(faults: Arc<Faults>, actions: Vec<(u64, Action)>) -> Came {
    in_virtual_time(async || {
        let mut world = World::new(Setting::of(faults));
        script(&mut world, actions);
        world.play().await;
        outcome(&world)
    })
}

fn play(actions: Vec<(u64, Action)>) -> Came {
    play_with(faults(|_| None), actions)
}

#[test]
fn a_re_fire_after_suppressed() {
    let came = play(vec![
        (0, disks(vec![fires("a", 0)])),
        (20, disks(vec![ended("a", 0, 15)])),
        (60, disks(vec![fires("a", 50)])),
    ]);
    assert_eq!(came.ends, [State::Suppressed, State::Done]);
    assert_eq!(came.told, [Event::Suppressed, Event::Findings]);
}

#[test]
fn a_re_fire_days_later_whose_resolve_was_never_sent() {
    let came = in_virtual_time(async || {
        let mut world = World::new(Setting::of(faults(|_| None)));
        let again = pods(vec![fires("a", 3 * DAY - 60)]);
        script(&mut world, [(0, pods(vec![fires("a", 0)])), (3 * DAY, again)]);
        world.play_until(at(4 * DAY)).await;
        outcome(&world)
    });
    assert_eq!(came.ends, [State::Done, State::Done]);
    assert_eq!((came.told, came.paid), (vec![Event::Findings, Event::Findings], 4));
}

#[test]
fn a_late_copy_of_an_old_firing_after_its_resolve() {
    let came = play(vec![
        (0, pods(vec![fires("a", 0)])),
        (60, pods(vec![ended("a", 0, 55)])),
        (700, post("am-2", "PodDown", vec![fires("a", 0)])),
    ]);
    assert_eq!((came.ends, came.paid), (vec![State::Done], 2), "nobody pays for it");
    assert_eq!(
        came.told,
        [Event::Findings, Event::Resolved, Event::Updated],
        "by its sender's word it fires"
    );
    let came = play(vec![
        (0, pods(vec![fires("a", 0)])),
        (60, pods(vec![ended("a", 0, 55)])),
        (700, post("am-2", "PodDown", vec![fires("a", 0)])),
        (800, pods(vec![fires("a", 750)])),
    ]);
    assert_eq!(came.ends, [State::Done, State::Done], "the real next one is investigated");
}

#[test]
fn an_old_resolve_arriving_after_the_next_episode_began() {
    let came = play(vec![
        (0, pods(vec![fires("a", 0)])),
        (700, pods(vec![fires("a", 680)])),
        (703, pods(vec![ended("a", 0, 300)])),
        (760, pods(vec![ended("a", 0, 300)])),
    ]);
    assert_eq!(came.ends, [State::Done, State::Done]);
    assert_eq!(came.told, [Event::Findings, Event::Findings], "it still fires");
}

#[test]
fn two_alertmanagers_that_see_different_members_of_one_group() {
    let part = |end: Option<u64>| {
        let b = end.map_or_else(|| fires("b", 0), |end| ended("b", 0, end));
        post("am-2", "DiskFull", vec![b])
    };
    let came =
        play(vec![(0, disks(vec![fires("a", 0)])), (1, part(None)), (20, disks(vec![ended("a", 0, 15)]))]);
    assert_eq!((came.ends, came.told), (vec![State::Done], vec![Event::Findings]), "b still fires");
    let came = play(vec![
        (0, disks(vec![fires("a", 0)])),
        (1, part(None)),
        (20, disks(vec![ended("a", 0, 15)])),
        (30, part(Some(25))),
    ]);
    assert_eq!((came.ends, came.paid), (vec![State::Suppressed], 0), "nothing fires");
}

#[test]
fn a_resolve_a_yield_then_a_re_fire_before_the_commit() {
    // The model cannot be reached when it is asked for the second turn.
    let came = play_with(
        calls_fail("worker", "respond", 1..3, Kind::Throttled),
        vec![
            (0, pods(vec![fires("a", 0)])),
            (3, pods(vec![ended("a", 0, 2)])),
            (12, pods(vec![fires("a", 10)])),
            (900, pods(vec![ended("a", 10, 890)])),
        ],
    );
    assert!(came.written.iter().any(|head| head.state == State::Pending && head.turn > 0), "it was put off");
    assert_eq!(
        (came.ends, came.paid),
        (vec![State::Done, State::Done], 4),
        "what fired again is investigated, too"
    );
    assert_eq!(
        came.told,
        [Event::Findings, Event::Updated, Event::Findings, Event::Resolved],
        "no end is told while it fires"
    );
}

#[test]
fn the_same_resolve_twice() {
    let came = play(vec![
        (0, pods(vec![fires("a", 0)])),
        (3, pods(vec![ended("a", 0, 2)])),
        (4, post("am-2", "PodDown", vec![ended("a", 0, 2)])),
        (100, pods(vec![ended("a", 0, 2)])),
    ]);
    assert_eq!((came.ends, came.told), (vec![State::Done], vec![Event::Findings, Event::Resolved]));
}

#[test]
fn a_holder_paused_past_its_lease_before_its_call() {
    // Each of a worker's first writes in turn; after the one that grants the call, it believes in its lease.
    let mut overtaken = 0;
    for n in 0..6 {
        let frozen = calls_fail("worker", "swap", n..n + 1, Kind::SlowReply);
        let came = play_with(frozen, vec![(0, pods(vec![fires("a", 0)]))]);
        assert_eq!((&came.ends, &came.told), (&vec![State::Done], &vec![Event::Findings]), "write {n}");
        assert_eq!(came.paid, 2, "write {n}: the call whose time is over is not made");
        overtaken += usize::from(came.written.iter().any(|head| head.epoch > 1));
    }
    assert!(overtaken > 0, "nobody was overtaken");
}

#[test]
fn a_head_that_expired_under_a_continuing_alert() {
    let came = in_virtual_time(async || {
        let mut world = World::new(Setting::of(faults(|_| None)));
        let repeated = [0, 3_600, 7_200].map(|at| (at, pods(vec![fires("a", 0)])));
        script(&mut world, repeated);
        world.play_until(at(8_000)).await;
        let head = world.store.heads().remove(0);
        assert!(head.ttl.is_some(), "it may be collected");
        let (id, generation) = (&head.id, head.generation);
        let report = world.store.body(id, generation, &ChildName::Report).unwrap();
        world.store.delete(id);
        // Children outlive their head.
        world.store.rewrite(id, generation, ChildName::Report, &report);
        // A job of the old record is still on its way.
        let job = Job { incident: head.id, generation: head.generation };
        world.queue.put(serde_json::to_string(&job).unwrap(), 0, Duration::ZERO);
        script(&mut world, [(10_800, pods(vec![fires("a", 0)]))]);
        world.play().await;
        outcome(&world)
    });
    assert_eq!((came.ends, came.paid), (vec![State::Done, State::Done], 4), "as if it were new");
}

#[test]
fn a_crash_between_create_and_snapshot_then_a_retry() {
    let crashed = calls_fail("ingest", "create", 0..1, Kind::CrashAfter);
    let came = play_with(crashed, vec![(0, pods(vec![fires("a", 0)]))]);
    assert_eq!((came.ends, came.told), (vec![State::Done], vec![Event::Findings]));
    assert_eq!(came.paid, 2);
}

#[test]
fn a_re_fire_joined_to_a_finished_incident_then_a_late_copy_of_the_first_resolve() {
    let came = play(vec![
        (0, pods(vec![fires("a", 0)])),
        (30, pods(vec![ended("a", 0, 20)])),
        (60, pods(vec![fires("a", 50)])),
        (70, post("am-2", "PodDown", vec![ended("a", 0, 21)])),
        (700, pods(vec![fires("a", 50)])),
    ]);
    assert_eq!(came.ends, [State::Done, State::Done]);
    assert_eq!(came.told, [Event::Findings, Event::Resolved, Event::Updated, Event::Findings]);
}

#[test]
fn two_resolves_whose_ends_differ_by_sender() {
    let came = play(vec![
        (0, pods(vec![fires("a", 0)])),
        (30, pods(vec![ended("a", 0, 20)])),
        (31, post("am-2", "PodDown", vec![ended("a", 0, 23)])),
        (700, pods(vec![fires("a", 22)])),
    ]);
    assert_eq!((came.ends, came.paid), (vec![State::Done], 2));
    assert_eq!(came.told, [Event::Findings, Event::Resolved, Event::Updated], "its end is told once");
}

#[test]
fn an_abort_in_the_middle_of_a_paid_call_then_a_re_fire() {
    let came = play(vec![
        (640, pods(vec![fires("a", 0)])),
        (643, Action::Abort),
        (650, pods(vec![fires("a", 645)])),
        (1_300, pods(vec![fires("a", 645)])),
    ]);
    assert_eq!(came.ends, [State::Aborted, State::Done]);
    assert_eq!(came.told, [Event::Aborted, Event::Updated, Event::Findings]);
    assert_eq!(came.paid, 3, "one call was in the middle, and nothing of it is published");
}

#[test]
fn a_claim_whose_reply_was_lost_at_the_last_attempt() {
    let (crashes, lost) = (AtomicUsize::new(0), AtomicBool::new(false));
    let faults = faults(move |point| match (point.process, point.call) {
        ("worker", "respond") => (crashes.fetch_add(1, Ordering::SeqCst) < 2).then_some(Kind::CrashBefore),
        ("worker", "swap") if crashes.load(Ordering::SeqCst) == 2 => {
            (!lost.swap(true, Ordering::SeqCst)).then_some(Kind::ReplyLost)
        }
        _ => None,
    });
    // With one sink, that wants no start: nothing but the claim is written before the run's first call.
    let came = in_virtual_time(async || {
        let mut world = World::new(Setting { house: House::Lean, ..Setting::of(faults) });
        script(&mut world, [(0, pods(vec![fires("a", 0)]))]);
        world.play().await;
        outcome(&world)
    });
    let third = came.written.iter().position(|head| head.epoch == 3).unwrap();
    let (claimed, next) = (&came.written[third], &came.written[third + 1]);
    assert_eq!((claimed.state, claimed.attempts), (State::Running, 3), "the last attempt");
    assert_eq!((&claimed.owner, claimed.epoch), (&next.owner, next.epoch), "the claim found itself there");
    assert_eq!((came.ends, came.told), (vec![State::Done], vec![Event::Findings]));
}

#[test]
fn an_episode_that_begins_after_the_window_while_the_run_goes_on() {
    let came = in_virtual_time(async || {
        // Messages are so late that the run begins when the window is nearly over.
        let late = || vec![Duration::from_secs(597)];
        let mut world = World::new(Setting { carry: Box::new(late), ..Setting::of(faults(|_| None)) });
        script(
            &mut world,
            [
                (0, pods(vec![fires("a", 0)])),
                (603, pods(vec![fires("a", 601)])),
                (1_400, pods(vec![fires("a", 601)])),
            ],
        );
        world.play_until(at(602)).await;
        assert_eq!(world.store.heads()[0].state, State::Running);
        world.play().await;
        outcome(&world)
    });
    assert_eq!(came.ends, [State::Done, State::Done], "its next repeat is investigated");
    assert_eq!(came.told, [Event::Findings, Event::Updated, Event::Findings]);
}

#[test]
fn two_senders_that_see_different_parts_of_a_group_for_ever() {
    let came = play(
        (0..500u64)
            .map(|n| {
                let part = if n % 2 == 0 { ("am-1", "a") } else { ("am-2", "b") };
                (n * 20, post(part.0, "PodDown", vec![fires(part.1, 0)]))
            })
            .collect(),
    );
    assert_eq!(came.ends, [State::Done, State::Done], "the part that joined is investigated once");
    assert_eq!(came.told, [Event::Findings, Event::Updated, Event::Findings]);
    assert_eq!(came.paid, 4);
}

#[test]
fn a_re_fire_in_the_window_that_nobody_repeats() {
    let came = play(vec![
        (0, pods(vec![fires("a", 0)])),
        (30, pods(vec![ended("a", 0, 20)])),
        (60, pods(vec![fires("a", 50)])),
    ]);
    assert_eq!((came.ends, came.paid), (vec![State::Done, State::Done], 4));
    assert_eq!(came.told, [Event::Findings, Event::Resolved, Event::Updated, Event::Findings]);
    let opened: Vec<_> =
        came.written.iter().filter(|head| head.version == 1 || head.state == State::Pending).collect();
    let opened = opened.last().map(|head| head.generation.0.div_euclid(1000));
    assert_eq!(opened, Some(at(600).get() / 1000), "when the window ends, to the second");
}

#[test]
fn a_re_fire_in_the_window_whose_worker_is_lost_when_it_ends() {
    // Each call of the worker that opens it, lost before or after.
    for (call, kind) in
        [("children", Kind::CrashAfter), ("append", Kind::CrashAfter), ("swap", Kind::CrashAfter)]
    {
        let (at_the_end_of_it, crashed) = (AtomicBool::new(false), AtomicBool::new(false));
        let seen = faults(move |point| {
            if point.process == "sweeper" {
                at_the_end_of_it.store(true, Ordering::SeqCst);
            }
            let here =
                point.process == "worker" && point.call == call && at_the_end_of_it.load(Ordering::SeqCst);
            (here && !crashed.swap(true, Ordering::SeqCst)).then_some(kind)
        });
        let came = in_virtual_time(async || {
            let mut world = World::new(Setting::of(seen));
            script(
                &mut world,
                [
                    (0, pods(vec![fires("a", 0)])),
                    (30, pods(vec![ended("a", 0, 20)])),
                    (60, pods(vec![fires("a", 50)])),
                ],
            );
            world.play_until(at(590)).await;
            // The message that would open it is lost: the sweeper comes.
            let _ = world.queue.take(at(10_000));
            world.play().await;
            outcome(&world)
        });
        assert_eq!((came.ends, came.paid), (vec![State::Done, State::Done], 4), "{call}");
    }
}
