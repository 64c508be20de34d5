//! All single faults.

use std::time::Instant;

use sentinel_testkit::faults::Kind;

use crate::cases::{Plan, Table, on_all_processors, play};
use crate::scenarios::{Scenario, all};
use crate::world::House;

/// Every fault at every call that a run of the scenario without faults makes.
fn plans(scenario: &Scenario) -> Vec<Plan> {
    let calls = play(scenario, vec![], House::Whole).points.len();
    (0..calls).flat_map(|n| Kind::ALL.map(|kind| vec![(n, kind)])).collect()
}

#[test]
fn without_faults_every_scenario_goes_as_it_should() {
    for scenario in all() {
        let clean = play(&scenario, vec![], House::Whole);
        assert!(clean.broken.is_empty(), "{}: {:#?}", scenario.name, clean.broken);
        assert!(clean.points.iter().any(|p| p.writes), "{}: {:?}", scenario.name, clean.points);
    }
}

#[test]
fn every_single_fault_at_every_await_is_survived() {
    let began = Instant::now();
    let mut table = Table::titled("single faults, 7 kinds", &["awaits", "cases", "violations"]);
    for scenario in all() {
        let plans = plans(&scenario);
        let played = on_all_processors(&plans, |plan| play(&scenario, plan.clone(), House::Whole));
        for (plan, played) in plans.iter().zip(&played) {
            assert_eq!(played.injected.len(), 1, "{}: {plan:?} did not happen", scenario.name);
        }
        let broken = table.violations(&scenario, &played);
        table.row(scenario.name, &[plans.len() / Kind::ALL.len(), plans.len(), broken]);
    }
    table.close(began);
}

/// The suite itself is tried out on a design that loses alerts.
#[test]
fn a_house_that_answers_200_on_any_conflict_is_caught_within_a_hundred_cases() {
    let scenarios = all();
    let cases = scenarios.iter().flat_map(|scenario| {
        let plans = plans(scenario);
        plans.into_iter().map(move |plan| (scenario, plan))
    });
    let mut tried = 0;
    let caught = cases.inspect(|_| tried += 1).find_map(|(scenario, plan)| {
        let played = play(scenario, plan, House::OkOnConflict);
        Some(format!("{}: {:?}: {}", scenario.name, played.injected, played.broken.first()?))
    });
    let caught = caught.unwrap_or_else(|| "not at all".to_owned());
    println!("\n200 on any conflict is caught by case {tried}: {caught}");
    assert!(tried <= 100, "case {tried}: {caught}");
}

/// And on two that keep a record which does not hold.
#[test]
fn a_house_whose_record_does_not_hold_is_caught_without_any_fault() {
    for house in [House::LosesEntries, House::ChangesTurns] {
        let caught = all().iter().any(|scenario| {
            let broken = play(scenario, vec![], house).broken;
            broken.iter().any(|what| what.contains("a record does not verify"))
        });
        assert!(caught, "{house:?}");
    }
}
