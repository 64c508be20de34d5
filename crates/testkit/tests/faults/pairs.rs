//! Pairs of faults at write boundaries: the second one at the writes that are left after the first, every fifth of them,
//! and not the same ones after each. `SENTINEL_PAIRS=all` plays all.
//!
//! `SENTINEL_PAIR_KINDS=all` takes every kind of fault instead of those that cut at the boundary itself.

use std::time::Instant;

use sentinel_testkit::faults::{Kind, MOVED, Point};

use crate::cases::{Played, Table, on_all_processors, play, switch};
use crate::scenarios::{Scenario, all};
use crate::world::House;

/// Cut off before the write, after it, and with the writer alive but in the dark about it.
const BOUNDARY: &[Kind] = &[Kind::CrashBefore, Kind::CrashAfter, Kind::ReplyLost];

/// What came of all pairs that begin with one fault.
#[derive(Default)]
struct Tally {
    cases: usize,
    broken: Vec<Played>,
}

fn kinds() -> &'static [Kind] {
    match switch("SENTINEL_PAIR_KINDS").as_deref() {
        None => BOUNDARY,
        Some("all") => &Kind::ALL,
        Some(other) => panic!("SENTINEL_PAIR_KINDS is {other}: it is `all`, or not set"),
    }
}

/// Whether a fault of a pair is put here. Entries that leave a head are the same whoever stores them, and each head is
/// whole without: a fault there is one at the write after it. Alone it is among the single faults.
fn counts(point: &Point) -> bool {
    point.writes && point.call != MOVED
}

/// Of so many writes one is played.
fn every() -> usize {
    match switch("SENTINEL_PAIRS").as_deref() {
        None => 5,
        Some("all") => 1,
        Some(other) => panic!("SENTINEL_PAIRS is {other}: it is `all`, or not set"),
    }
}

fn after(scenario: &Scenario, first: (usize, Kind)) -> Tally {
    let left = play(scenario, vec![first], House::Lean).points;
    let mut tally = Tally::default();
    let (of, every) = (first.0, every());
    for (n, _) in
        left.iter().enumerate().filter(|(n, point)| *n > of && (n + of) % every == 0 && counts(point))
    {
        for kind in kinds() {
            let played = play(scenario, vec![first, (n, *kind)], House::Lean);
            assert_eq!(played.injected.len(), 2, "{}: {first:?}, {n}: {kind}", scenario.name);
            tally.cases += 1;
            if !played.broken.is_empty() {
                tally.broken.push(played);
            }
        }
    }
    tally
}

#[test]
fn every_pair_of_faults_at_the_writes_of_every_scenario_is_survived() {
    let began = Instant::now();
    let title = format!("pairs of faults, {0} × {0} kinds", kinds().len());
    let mut table = Table::titled(&title, &["writes", "pairs", "cases", "violations"]);
    for scenario in &all() {
        let points = play(scenario, vec![], House::Lean).points;
        let writes = || points.iter().enumerate().filter(|(_, point)| counts(point));
        let firsts: Vec<_> = writes().flat_map(|(n, _)| kinds().iter().map(move |kind| (n, *kind))).collect();
        let tallies = on_all_processors(&firsts, |first| after(scenario, *first));
        let cases = tallies.iter().map(|tally| tally.cases).sum::<usize>();
        let broken: Vec<Played> = tallies.into_iter().flat_map(|tally| tally.broken).collect();
        let pairs = cases / kinds().len().pow(2);
        let violations = table.violations(scenario, &broken);
        table.row(scenario.name, &[writes().count(), pairs, cases, violations]);
    }
    table.close(began);
}
