//! Single steps: how often one is taken, what is begun with little time, what counts from the first attempt, and whose
//! answer is whose.

use std::time::Duration;

use sentinel_core::incident::ChildName;
use sentinel_core::report::ReportSource;
use sentinel_investigation::ports::ModelError;
use sentinel_investigation::{Forced, Outcome, turns_of};
use serde_json::json;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn the_same_call_for_the_fourth_time_forces_the_report() {
    let mut world = World::new();
    world.card.max_iterations = 12;
    let model = Script::by(|request| {
        Ok(match request.force {
            Some(_) => submits("action_required", &[QUOTE]),
            // As the card's own call was.
            None => calls(&[("k8s__events", json!({"namespace": "web"}))]),
        })
    });
    world.report(&model).await;
    let forced: Vec<_> = turns_of(&world.store.bodies()).iter().map(|turn| turn.forced).collect();
    assert_eq!(forced, [None, None, None, Some(Forced::Looping)]);
    assert_eq!(world.tools.called().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slice_with_little_time_that_did_nothing_yet_begins_so_that_the_run_gets_somewhere() {
    let mut world = World::new();
    // Shorter than a batch of calls or a turn may take.
    world.invocation = Duration::from_secs(20);
    let model = Script::of(vec![calls(&[pod()]), submits("action_required", &[QUOTE])]);
    let mut slices = 0;
    let report = loop {
        slices += 1;
        assert!(slices < 20, "it is put off for ever: {:?}", world.tools.called());
        match world.run(Some(&model)).await.unwrap() {
            Outcome::Report { report, .. } => break *report,
            Outcome::Yield { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((report.source, report.usage.turns), (ReportSource::Model, 2));
    assert!(slices > 1, "one step a slice");
    assert_eq!(world.tools.called().len(), 2, "and no step is made twice");
}

#[tokio::test(start_paused = true)]
async fn the_cards_time_out_counts_from_the_first_attempt() {
    let mut world = World::new();
    // Shorter than the lease that whoever takes it up has to wait for.
    world.card.timeout = Duration::from_mins(1);
    let model = Script::of(vec![calls(&[pod()]), submits("action_required", &[QUOTE])]);
    // It dies before the output of its first turn is stored.
    world.store.die_before(ChildName::Output(2));
    let error = world.run(Some(&model)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    world.store.die_at(None);
    let report = world.report(&model).await;
    assert_eq!((report.source, model.requests().len()), (ReportSource::EvidenceOnly, 1));
    assert!(report.summary.contains("the card's time-out of 60 s was over"), "{}", report.summary);
    assert!(report.usage.ms > 60_000, "{}", report.usage.ms);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stays_unreadable_is_paid_for_twice_and_no_more() {
    let world = World::new();
    let model = Script::new(|_| Err(ModelError::Unreadable("not JSON".into())));
    let report = world.report(&model).await;
    assert_eq!((report.source, model.requests().len()), (ReportSource::EvidenceOnly, 2));
    assert!(report.summary.contains("not JSON"), "{}", report.summary);
}

#[tokio::test(start_paused = true)]
async fn each_call_of_a_turn_is_answered_with_its_own_evidence() {
    let world = World::new();
    let asked = [("k8s__log", json!({"namespace": "web"})), pod(), ("k8s__log", json!({"namespace": "db"}))];
    let model = Script::of(vec![calls(&asked), submits("action_required", &[QUOTE])]);
    world.report(&model).await;
    let answers = answers(&model.requests()[1]);
    let [log, pod, other] = &answers[..] else { panic!("{answers:?}") };
    assert!(log.starts_with("[E2] k8s.log {\"namespace\":\"web\"}") && log.contains("no log:"), "{log}");
    assert!(pod.starts_with("[E3] k8s.pod") && pod.contains("ContainerCreating"), "{pod}");
    assert!(other.starts_with("[E4] k8s.log {\"namespace\":\"db\"}") && other.contains("no log:"), "{other}");
}
