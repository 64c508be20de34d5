//! The bounded worlds that are explored, each completely.

use std::time::Duration;

use sentinel_core::card::Subscription;
use sentinel_core::incident::Event;
use sentinel_core::lifecycle::Rules;

use crate::rule::Mutant;
use crate::witness::Witness;
use crate::world::{Budget, Who};

/// Something that happens to an alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Fires(usize),
    Ends(usize),
}

/// Which faults there are.
#[expect(clippy::struct_excessive_bools, reason = "each may be there or not")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) crash: bool,
    pub(crate) reply_lost: bool,
    pub(crate) queue: bool,
    pub(crate) stall: bool,
    pub(crate) sink: bool,
}

impl Faults {
    pub(crate) const ALL: Self = Self { crash: true, reply_lost: true, queue: true, stall: true, sink: true };
}

/// One bounded world.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own about a world")]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) senders: usize,
    pub(crate) workers: usize,
    /// Model turns that an investigation takes.
    pub(crate) turns: u32,
    /// What happens to the alerts, each not before a second, and at any moment from then on.
    pub(crate) script: &'static [(i64, Change)],
    pub(crate) budget: Budget,
    pub(crate) faults: Faults,
    /// Clocks are up to five seconds off.
    pub(crate) skewed: bool,
    /// Each sender sees one of the two alerts.
    pub(crate) partial: bool,
    /// Payloads do not say when an alert began.
    pub(crate) undated: bool,
    /// The head is a storm notice: who fires is refused a model, and is put on it.
    pub(crate) notice: bool,
    pub(crate) rules: Rules,
    pub(crate) mutant: Option<Mutant>,
}

impl Scenario {
    /// How far the clock of `who` is off.
    pub(crate) fn off(&self, who: Who) -> i64 {
        match who {
            _ if !self.skewed => 0,
            Who::Worker(n) if n % self.workers == 0 => -5,
            Who::Sender(0) => -5,
            Who::Worker(_) | Who::Sender(_) | Who::Sweeper => 5,
            Who::Operator => 0,
        }
    }

    /// How far the clock is off that `startsAt` comes from.
    pub(crate) fn prometheus_off(&self) -> i64 {
        if self.skewed { 5 } else { 0 }
    }

    /// Whether a sender sees an alert.
    pub(crate) fn sees(&self, sender: usize, alert: usize) -> bool {
        !self.partial || sender == alert
    }

    pub(crate) fn witness(&self) -> Witness {
        Witness::new(self.skewed || self.partial, self.workers)
    }

    /// Whether a sink is told of starts: then each worker has a second half, which tells while the first investigates.
    pub(crate) fn tells_starts(&self) -> bool {
        self.rules.sinks.iter().any(|sink| sink.events.contains(&Event::Started))
    }

    /// The other half of a worker.
    pub(crate) fn other_half(&self, n: usize) -> Option<usize> {
        self.tells_starts().then(|| if n < self.workers { n + self.workers } else { n - self.workers })
    }
}

fn rules() -> Rules {
    Rules { sinks: vec!["log".into()], ..Rules::of_no_card() }
}

/// Of a sink that is told everything, starts included.
fn told_all() -> Rules {
    let sink = Subscription { sink: "log".into(), events: Event::ALL.into() };
    Rules { sinks: vec![sink], ..Rules::of_no_card() }
}

fn base(name: &'static str) -> Scenario {
    Scenario {
        name,
        senders: 1,
        workers: 1,
        turns: 1,
        script: &[(0, Fires(0))],
        budget: Budget::default(),
        faults: Faults::default(),
        skewed: false,
        partial: false,
        undated: false,
        notice: false,
        rules: rules(),
        mutant: None,
    }
}

use Change::{Ends, Fires};

/// Longer than the window in which an alert that comes again belongs to the incident that is there.
const LATER: i64 = 700;

pub(crate) const TWO_FAULTS: &str = "one sender, one worker: any two faults";
pub(crate) const TWO_AND_TWO: &str = "two senders, two workers: any fault";
pub(crate) const YIELD: &str = "a yield and a resolve: any fault";
pub(crate) const FIRES_AGAIN: &str = "a resolve and a re-fire at any time: any fault";
pub(crate) const ENDS_AGAIN: &str = "a re-fire that ends before its window: a crash, a lost reply, a refusal";
pub(crate) const FLAPS: &str = "more generations than its hour has: any fault";
pub(crate) const DELETED: &str = "a deletion, a resolve, a repeat: a crash, a lost reply";
pub(crate) const STORM: &str = "two that are refused a model at once, and one later: any fault";

const GROWS: &[(i64, Change)] = &[(0, Fires(0)), (0, Fires(1))];
const ENDS: &[(i64, Change)] = &[(0, Fires(0)), (0, Ends(0))];
const AGAIN: &[(i64, Change)] = &[(0, Fires(0)), (0, Ends(0)), (0, Fires(0))];
const AGAIN_AND_OVER: &[(i64, Change)] = &[(0, Fires(0)), (0, Ends(0)), (0, Fires(0)), (0, Ends(0))];
const LATER_AGAIN: &[(i64, Change)] = &[(0, Fires(0)), (0, Ends(0)), (LATER, Fires(0))];
/// It comes again within its hour, and goes on when that is over and another comes.
const FLAPPING: &[(i64, Change)] = &[(0, Fires(0)), (0, Ends(0)), (LATER, Fires(0)), (4_000, Fires(1))];
/// A third is refused while the notice of the first two is told.
const REFUSED: &[(i64, Change)] = &[(0, Fires(0)), (0, Fires(1)), (60, Ends(0)), (60, Fires(0))];
const TWO_END: &[(i64, Change)] = &[(0, Fires(0)), (0, Fires(1)), (0, Ends(0)), (0, Ends(1))];
const TWO_END_LATER: &[(i64, Change)] = &[(0, Fires(0)), (0, Fires(1)), (LATER, Ends(0)), (LATER, Ends(1))];

/// The worlds. `large`: with one fault more in each.
#[expect(clippy::too_many_lines, reason = "one list, an entry a world")]
pub(crate) fn all(large: bool) -> Vec<Scenario> {
    let faults = |n: u8| Budget { faults: if large { n + 1 } else { n }, ..Budget::default() };
    let two = |name| Scenario { senders: 2, workers: 2, ..base(name) };
    let waits = Rules { wait: Duration::from_mins(1), ..rules() };
    vec![
        Scenario { faults: Faults::ALL, budget: faults(2), ..base(TWO_FAULTS) },
        Scenario { faults: Faults::ALL, budget: faults(1), ..two(TWO_AND_TWO) },
        Scenario {
            faults: Faults::ALL,
            skewed: true,
            budget: faults(1),
            ..two("two senders, two workers, clocks five seconds off: any fault")
        },
        Scenario {
            script: GROWS,
            faults: Faults::ALL,
            budget: faults(1),
            ..base("a group grows: any fault")
        },
        Scenario { script: GROWS, ..two("a group grows, two senders, two workers") },
        Scenario {
            script: ENDS,
            faults: Faults::ALL,
            budget: faults(1),
            ..base("a resolve at any time: any fault")
        },
        Scenario { script: ENDS, ..two("a resolve at any time, two senders, two workers") },
        Scenario { script: AGAIN, faults: Faults::ALL, budget: faults(1), ..base(FIRES_AGAIN) },
        Scenario {
            script: AGAIN_AND_OVER,
            faults: Faults { stall: false, queue: false, ..Faults::ALL },
            budget: faults(1),
            ..base(ENDS_AGAIN)
        },
        Scenario {
            script: LATER_AGAIN,
            faults: Faults::ALL,
            budget: faults(1),
            ..base("a re-fire after the window: any fault")
        },
        Scenario {
            script: AGAIN,
            rules: waits.clone(),
            budget: Budget { yields: 1, ..faults(0) },
            ..two("a card that waits, a resolve, a re-fire, a yield")
        },
        Scenario { script: TWO_END, ..base("two alerts that end one after the other") },
        Scenario {
            script: TWO_END_LATER,
            faults: Faults::ALL,
            budget: faults(0),
            workers: 1,
            ..two("two alerts that end after the report, two senders")
        },
        Scenario { script: GROWS, partial: true, ..two("two senders that see different parts of a group") },
        Scenario {
            script: AGAIN,
            undated: true,
            workers: 2,
            budget: Budget { repeats: 1, ..faults(0) },
            ..base("payloads without a beginning: a resolve, a re-fire and a repeat")
        },
        Scenario {
            script: ENDS,
            faults: Faults::ALL,
            budget: Budget { aborts: 1, ..faults(1) },
            ..base("an abort and a resolve: any fault")
        },
        Scenario {
            script: ENDS,
            faults: Faults::ALL,
            budget: Budget { yields: 1, ..faults(1) },
            ..base(YIELD)
        },
        Scenario {
            script: ENDS,
            faults: Faults { crash: true, reply_lost: true, ..Faults::default() },
            budget: Budget { deletions: 1, repeats: 1, ..faults(1) },
            ..base(DELETED)
        },
        Scenario {
            script: AGAIN,
            faults: Faults { crash: true, reply_lost: true, ..Faults::default() },
            budget: Budget { deletions: 1, repeats: 1, ..faults(1) },
            ..base("a deletion, a resolve, a re-fire, a repeat: a crash, a lost reply")
        },
        Scenario {
            script: AGAIN,
            budget: Budget { aborts: 1, yields: 1, repeats: 1, ..faults(0) },
            ..base("an abort, a yield, a resolve, a re-fire and a repeat")
        },
        Scenario {
            turns: 2,
            faults: Faults::ALL,
            budget: Budget { failures: 1, yields: 1, ..faults(1) },
            workers: 2,
            ..base("two turns, a yield, a run that gives up: any fault")
        },
        Scenario {
            budget: Budget { repeats: 2, ..faults(0) },
            rules: Rules { reinvestigate_after: Some(Duration::from_secs(LATER.unsigned_abs())), ..rules() },
            script: LATER_AGAIN,
            ..two("a continuing alert is repeated, and investigated again where the card wants it")
        },
        Scenario {
            rules: told_all(),
            faults: Faults { stall: false, ..Faults::ALL },
            budget: Budget { failures: 1, ..faults(1) },
            ..base("a sink that is told of the start, a run that gives up: any fault but standing still")
        },
        Scenario {
            rules: told_all(),
            script: ENDS,
            faults: Faults { stall: false, queue: false, ..Faults::ALL },
            budget: faults(1),
            ..base("a sink that is told of the start, a resolve: a crash, a lost reply, a refusal")
        },
        Scenario {
            rules: told_all(),
            script: ENDS,
            budget: Budget { aborts: 1, yields: 1, ..faults(0) },
            ..base("a sink that is told of the start, an abort, a yield, a resolve")
        },
        Scenario {
            rules: Rules { generations_per_hour: Some(1), ..rules() },
            script: FLAPPING,
            faults: Faults::ALL,
            budget: faults(1),
            ..base(FLAPS)
        },
        Scenario {
            rules: Rules { generations_per_hour: Some(1), ..waits },
            script: FLAPPING,
            budget: Budget { repeats: 1, ..faults(0) },
            ..two("more generations than its hour has, of a card that waits")
        },
        Scenario {
            notice: true,
            rules: Rules::of_no_card(),
            script: REFUSED,
            faults: Faults::ALL,
            partial: true,
            budget: faults(1),
            workers: 1,
            ..two(STORM)
        },
        Scenario {
            notice: true,
            rules: Rules::of_no_card(),
            script: REFUSED,
            partial: true,
            ..two("refused a model, two workers")
        },
    ]
}
