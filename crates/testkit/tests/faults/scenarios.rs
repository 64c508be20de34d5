//! What happens to a house that faults are then added to.

use std::ops::RangeInclusive;

use sentinel_core::UnixMs;
use sentinel_core::incident::{Event, State};
use sentinel_testkit::builders::NOON;

use crate::base::BASE;
use crate::checks::{at_the_end, disturbances, generations};
use crate::parts::Told;
use crate::sender::{Fact, Webhook, at, ended, fires};
use crate::spending;
use crate::world::{Action, Setting, World};

/// A scenario and what has to come of it, with and without faults.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    script: fn() -> Vec<(u64, Action)>,
    incidents: usize,
    /// The states in which generations may end.
    ends: &'static [State],
    /// What every sink is told in any case, …
    told: &'static [Event],
    /// … and what it may be told besides, because a fault changes the order of things.
    perhaps: &'static [Event],
    model_out_until: UnixMs,
    sink_down_until: UnixMs,
    /// Messages that nobody can read.
    garbage: usize,
    /// Incidents that end without a model, because a budget is used up.
    refused: RangeInclusive<usize>,
}

const PLAIN: Scenario = Scenario {
    name: "",
    script: Vec::new,
    incidents: 1,
    ends: &[State::Done],
    told: &[Event::Findings],
    perhaps: &[],
    model_out_until: NOON,
    sink_down_until: NOON,
    garbage: 0,
    refused: 0..=0,
};

fn post(sender: &'static str, alertname: &'static str, facts: Vec<Fact>) -> Action {
    Action::Post(Webhook { sender, alertname, facts })
}

pub(crate) fn pods(facts: Vec<Fact>) -> Action {
    post("am-1", "PodDown", facts)
}

pub(crate) fn disks(facts: Vec<Fact>) -> Action {
    post("am-1", "DiskFull", facts)
}

/// All scenarios. Times are milliseconds; the model answers after 5 s, a tool after 1 s.
pub(crate) fn all() -> Vec<Scenario> {
    arrivals().into_iter().chain(troubles()).collect()
}

/// What senders do.
fn arrivals() -> [Scenario; 7] {
    [
        Scenario { name: "first alert", script: || vec![(0, pods(vec![fires("a", 0)]))], ..PLAIN },
        Scenario {
            name: "duplicate",
            script: || {
                let again = [0, 3_000, 30_000];
                again.map(|ms| (ms, pods(vec![fires("a", 0)]))).into()
            },
            ..PLAIN
        },
        Scenario {
            name: "HA duplicate while claiming",
            script: || {
                let mut all = vec![(0, pods(vec![fires("a", 0)]))];
                let other = [1, 5, 9, 13];
                all.extend(other.map(|ms| (ms, post("am-2", "PodDown", vec![fires("a", 0)]))));
                all
            },
            ..PLAIN
        },
        Scenario {
            name: "regroup",
            script: || {
                vec![
                    (0, pods(vec![fires("a", 0)])),
                    (3_000, pods(vec![fires("a", 0), fires("b", 2)])),
                    (60_000, pods(vec![fires("a", 0), fires("b", 2), fires("c", 50)])),
                ]
            },
            told: &[Event::Findings],
            perhaps: &[Event::Updated],
            ..PLAIN
        },
        Scenario {
            name: "resolve while waiting",
            script: || vec![(0, disks(vec![fires("a", 0)])), (20_000, disks(vec![ended("a", 0, 15)]))],
            // A resolve that is late enough comes when the investigation has begun.
            ends: &[State::Suppressed, State::Done],
            told: &[],
            perhaps: &[Event::Suppressed, Event::Findings, Event::Resolved],
            ..PLAIN
        },
        Scenario {
            name: "resolve while running",
            script: || vec![(0, pods(vec![fires("a", 0)])), (3_000, pods(vec![ended("a", 0, 2)]))],
            ends: &[State::Done, State::Suppressed],
            told: &[],
            perhaps: &[Event::Findings, Event::Resolved, Event::Suppressed],
            ..PLAIN
        },
        Scenario {
            name: "re-opening",
            script: || {
                vec![
                    (0, pods(vec![fires("a", 0)])),
                    (60_000, pods(vec![ended("a", 0, 55)])),
                    (720_000, pods(vec![fires("a", 710)])),
                ]
            },
            ends: &[State::Done, State::Suppressed],
            told: &[Event::Findings],
            perhaps: &[Event::Resolved, Event::Updated, Event::Suppressed],
            ..PLAIN
        },
    ]
}

/// What goes wrong around them.
fn troubles() -> [Scenario; 8] {
    [
        Scenario {
            name: "batch with a poison message",
            script: || {
                vec![
                    (0, Action::Garbage),
                    (0, post("am-1", "PodDown", vec![fires("a", 0)])),
                    (0, post("am-1", "PodSlow", vec![fires("a", 0)])),
                ]
            },
            incidents: 2,
            garbage: 1,
            ..PLAIN
        },
        Scenario {
            name: "budget exhausted",
            script: || {
                vec![
                    (0, post("am-1", "MeteredPod", vec![fires("a", 0)])),
                    (0, post("am-1", "MeteredDisk", vec![fires("a", 0)])),
                    // Its notice has to wait for an hour after the first one.
                    (300_000, post("am-1", "MeteredNode", vec![fires("a", 295)])),
                ]
            },
            incidents: 3,
            perhaps: &[Event::Storm],
            refused: 2..=2,
            ..PLAIN
        },
        Scenario {
            name: "money used up",
            script: || {
                vec![
                    (0, post("am-1", "DearPod", vec![fires("a", 0)])),
                    (0, post("am-1", "DearDisk", vec![fires("a", 0)])),
                ]
            },
            incidents: 2,
            perhaps: &[Event::Storm],
            // What a crash leaves reserved is missing to both.
            refused: 0..=2,
            ..PLAIN
        },
        Scenario {
            name: "sink down",
            script: || vec![(0, pods(vec![fires("a", 0)]))],
            sink_down_until: at(150),
            ..PLAIN
        },
        Scenario {
            name: "model out",
            script: || vec![(0, pods(vec![fires("a", 0)]))],
            model_out_until: at(20),
            ..PLAIN
        },
        Scenario {
            name: "abort, then a re-fire",
            script: || {
                vec![
                    (0, pods(vec![fires("a", 0)])),
                    (3_000, Action::Abort),
                    (60_000, pods(vec![ended("a", 0, 55)])),
                    (720_000, pods(vec![fires("a", 710)])),
                ]
            },
            ends: &[State::Done, State::Aborted, State::Suppressed],
            told: &[Event::Findings],
            perhaps: &[Event::Aborted, Event::Resolved, Event::Updated, Event::Suppressed],
            ..PLAIN
        },
        Scenario {
            name: "deletion, then a repeat and the end",
            script: || {
                vec![
                    (0, pods(vec![fires("a", 0)])),
                    (300_000, Action::Delete),
                    (310_000, pods(vec![fires("a", 0)])),
                    (360_000, pods(vec![ended("a", 0, 355)])),
                ]
            },
            // Where it could not be deleted yet.
            perhaps: &[Event::Resolved, Event::Updated],
            ..PLAIN
        },
        Scenario {
            name: "restart of the embedded service",
            script: || vec![(0, pods(vec![fires("a", 0)])), (3_000, Action::Restart)],
            ..PLAIN
        },
    ]
}

/// Whether each attempt that a card has may have been cut off: then an incident may end as failed, having said so.
fn attempts_used_up(world: &World) -> bool {
    let most = BASE.cards.iter().map(|card| card.attempts).min().unwrap_or_default();
    disturbances(world) >= usize::try_from(most).unwrap_or(usize::MAX)
}

impl Scenario {
    /// Plays it, and gives the world as it then stands, with what is wrong written down in it.
    pub(crate) async fn play(&self, mut setting: Setting) -> World {
        setting.model_out_until = self.model_out_until;
        setting.sink_down_until = self.sink_down_until;
        let mut world = World::new(setting);
        world.script((self.script)());
        world.play().await;
        at_the_end(&world, attempts_used_up(&world));
        self.hold(&world);
        world
    }

    fn hold(&self, world: &World) {
        let broken = &world.broken;
        let gave_up = attempts_used_up(world);
        let heads = world.incidents();
        broken.unless(heads.len() == self.incidents, || format!("{} incidents: {heads:?}", heads.len()));
        let generations = generations(world);
        let refused = spending::refused(world, generations.values()).len();
        broken.unless(self.refused.contains(&refused), || format!("{refused} were refused: {heads:?}"));
        for head in generations.values() {
            let good = self.ends.contains(&head.state) || gave_up && head.state == State::Failed;
            broken.unless(good, || format!("ended otherwise: {head:?}"));
        }
        let told = world.told();
        for sink in world.sinks() {
            for head in &heads {
                for event in self.told {
                    let instead = gave_up && head.state == State::Failed && *event == Event::Findings;
                    let event = if instead { &Event::Failed } else { event };
                    let good =
                        told.iter().any(|t| (t.sink, &t.incident, &t.event) == (*sink, &head.id, event));
                    broken.unless(good, || format!("{sink} was never told of {event}: {told:?}"));
                }
            }
        }
        // That it starts is told to those who asked for it, where the end has not overtaken it.
        let may_resolve = self.told.contains(&Event::Resolved) || self.perhaps.contains(&Event::Resolved);
        let foreseen = |t: &Told| match t.event {
            Event::Started => t.sink == "chat",
            Event::Failed if gave_up => true,
            // A sender that tries again after another has told the end says that it fires.
            Event::Updated if may_resolve => true,
            event => self.told.contains(&event) || self.perhaps.contains(&event),
        };
        broken.unless(told.iter().all(foreseen), || format!("told otherwise: {told:?}"));
        broken.unless(world.dead.len() == self.garbage, || format!("dead letters: {:?}", world.dead));
    }
}
