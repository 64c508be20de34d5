//! What the house finds and did not expect: clocks that are wrong, records of another version, items that are damaged or
//! gone. Each has one outcome, and none is silence.

use std::time::Duration;

use sentinel_core::incident::{ChildName, Event, Head, State};
use sentinel_testkit::faults::{Faults, Kind};

use crate::cases::{LATENCY, in_virtual_time, play};
use crate::checks::at_the_end;
use crate::scenarios::{all, disks, pods};
use crate::sender::{Fact, at, fires};
use crate::world::{Action, House, Setting, World};

const HOUR: i64 = 3_600_000;

fn world(script: Vec<(u64, Action)>) -> World {
    let mut world = World::new(Setting::of(Faults::planned(LATENCY, vec![])));
    world.script(script);
    world
}

fn meddle(act: impl FnOnce(&World) + Send + 'static) -> Action {
    Action::Do(Box::new(act))
}

/// The one incident.
fn head(world: &World) -> Head {
    let [head] = &world.store.heads()[..] else { panic!("not one incident: {:?}", world.store.heads()) };
    head.clone()
}

fn told(world: &World, event: Event) -> usize {
    world.told().iter().filter(|told| told.event == event).count()
}

fn all_is_well(world: &World) {
    assert!(world.broken.all().is_empty(), "{:#?}", world.broken.all());
}

#[test]
fn a_clock_that_is_an_hour_off_delays_but_loses_and_doubles_nothing() {
    let scenarios = all();
    let first_alert = &scenarios[0];
    let points = play(first_alert, vec![], House::Whole).points;
    for who in ["ingest", "worker", "sweeper"] {
        for off in [-HOUR, HOUR] {
            for (n, _) in points.iter().enumerate().filter(|(_, point)| point.process == "worker") {
                in_virtual_time(async || {
                    let faults = Faults::planned(LATENCY, vec![(n, Kind::CrashAfter)]);
                    let setting = Setting {
                        skew: Box::new(move |name, _| if name == who { off } else { 0 }),
                        most_skew: Duration::from_hours(1),
                        ..Setting::of(faults)
                    };
                    let world = first_alert.play(setting).await;
                    let broken = world.broken.all();
                    assert!(broken.is_empty(), "{who} {off} ms off, crash at {n}: {broken:#?}");
                });
            }
        }
    }
}

#[test]
fn a_sender_whose_clock_is_wrong_is_taken_at_its_word_and_nothing_is_lost() {
    let day = Duration::from_hours(24);
    for start in [at(0).plus(day), at(0).minus(day)] {
        in_virtual_time(async || {
            let fact = Fact { pod: "a", starts_at: start, ends_at: None };
            // It even ends before it began.
            let over = Fact { ends_at: Some(start.minus(day)), ..fact.clone() };
            let mut world = world(vec![
                (0, pods(vec![fact.clone()])),
                (60_000, pods(vec![over])),
                (120_000, pods(vec![fact])),
            ]);
            world.play().await;
            at_the_end(&world, false);
            all_is_well(&world);
            assert_eq!((head(&world).state, head(&world).began), (State::Done, Some(start)));
            assert_eq!(world.paid().len(), 2, "once: {:?}", world.paid());
        });
    }
}

#[test]
fn a_record_of_a_newer_sentinel_is_left_alone_until_somebody_upgrades() {
    in_virtual_time(async || {
        // In the middle of a paid call a newer Sentinel writes the record.
        let newer = |world: &World| {
            let head = head(world);
            world.store.put(Head {
                schema: Head::SCHEMA + 1,
                version: head.version + 1,
                writer: "newer".into(),
                ..head
            });
        };
        let upgraded = |world: &World| {
            let head = head(world);
            assert_eq!((&*head.writer, head.schema), ("newer", Head::SCHEMA + 1), "it was overwritten");
            assert_eq!(
                (world.taken.len(), told(world, Event::Findings)),
                (1, 0),
                "200 for what cannot be recorded"
            );
            world.store.put(Head { schema: Head::SCHEMA, ..head });
        };
        let mut world = world(vec![
            (0, pods(vec![fires("a", 0)])),
            (3_000, meddle(newer)),
            (60_000, pods(vec![fires("a", 0), fires("b", 50)])),
            (200_000, meddle(upgraded)),
        ]);
        world.play().await;
        at_the_end(&world, false);
        all_is_well(&world);
        assert_eq!((head(&world).state, world.taken.len()), (State::Done, 2));
        // The one that joined findings is investigated when the window is over.
        assert_eq!(world.paid().len(), 4, "nothing is paid for twice: {:?}", world.paid());
    });
}

#[test]
fn an_incident_that_is_deleted_mid_run_is_published_nowhere_and_begins_anew_with_the_next_repeat() {
    in_virtual_time(async || {
        let delete = |world: &World| world.store.delete(&head(world).id);
        let gone = |world: &World| {
            assert_eq!(world.store.heads(), [], "it came back");
            assert_eq!(told(world, Event::Findings), 0, "{:?}", world.told());
        };
        let alert = || pods(vec![fires("a", 0)]);
        let mut world =
            world(vec![(0, alert()), (3_000, meddle(delete)), (60_000, meddle(gone)), (240_000, alert())]);
        world.play().await;
        all_is_well(&world);
        assert_eq!((head(&world).state, told(&world, Event::Findings)), (State::Done, 2));
    });
}

#[test]
fn a_notification_that_cannot_be_read_ends_the_incident_and_says_so() {
    in_virtual_time(async || {
        let damage = |world: &World| {
            let head = head(world);
            let name = ChildName::Snapshot(head.digest.clone());
            world.store.rewrite(&head.id, head.generation, name, "{\"card\":");
        };
        let mut world = world(vec![(0, disks(vec![fires("a", 0)])), (20_000, meddle(damage))]);
        world.play().await;
        at_the_end(&world, true);
        all_is_well(&world);
        let head = head(&world);
        assert_eq!((head.state, told(&world, Event::Failed)), (State::Failed, 2), "{head:?}");
        assert!(head.reason.as_ref().is_some_and(|reason| reason.contains("cannot be read")), "{head:?}");
        assert_eq!(world.paid(), []);
    });
}

#[test]
fn a_generation_whose_items_are_half_gone_ends_and_says_so() {
    in_virtual_time(async || {
        let damage = |world: &World| world.store.damage(&head(world).id, head(world).generation);
        let mut world = world(vec![(0, disks(vec![fires("a", 0)])), (20_000, meddle(damage))]);
        world.play().await;
        at_the_end(&world, true);
        all_is_well(&world);
        let head = head(&world);
        assert_eq!((head.state, told(&world, Event::Failed)), (State::Failed, 2), "{head:?}");
        assert_eq!(world.paid(), []);
    });
}

#[test]
fn a_report_that_is_gone_when_it_is_to_be_told_is_told_without_it() {
    in_virtual_time(async || {
        let damage = |world: &World| world.store.damage(&head(world).id, head(world).generation);
        let mut setting = Setting::of(Faults::planned(LATENCY, vec![]));
        setting.sink_down_until = at(60);
        let mut world = World::new(setting);
        world.script(vec![(0, pods(vec![fires("a", 0)])), (50_000, meddle(damage))]);
        world.play().await;
        assert_eq!(
            (head(&world).state, told(&world, Event::Findings)),
            (State::Done, 2),
            "{:?}",
            head(&world)
        );
        assert!(head(&world).is_settled());
    });
}

/// As version 0.1 wrote them: they are read for ever.
const HEAD_1: &str = include_str!("records/head.json");
const SNAPSHOT_1: &str = include_str!("records/snapshot.json");
const TURN_1: &str = include_str!("records/turn.json");
const OUTPUT_1: &str = include_str!("records/output.json");

#[test]
fn a_run_that_the_first_version_left_behind_is_gone_on_with() {
    in_virtual_time(async || {
        let head_1: Head = serde_json::from_str(HEAD_1).unwrap();
        let mut world = world(vec![]);
        let digest = head_1.digest.clone();
        let children = [
            (ChildName::Snapshot(digest), SNAPSHOT_1),
            (ChildName::Turn(1), TURN_1),
            (ChildName::Output(1), OUTPUT_1),
        ];
        for (name, body) in children {
            world.store.rewrite(&head_1.id, head_1.generation, name, body);
        }
        world.store.put(head_1);
        world.play().await;
        all_is_well(&world);
        assert_eq!(
            (head(&world).state, told(&world, Event::Findings)),
            (State::Done, 2),
            "{:?}",
            head(&world)
        );
        let paid: Vec<u32> = world.paid().iter().map(|turn| turn.number).collect();
        assert_eq!(paid, [2], "the first turn had been paid for");
    });
}
