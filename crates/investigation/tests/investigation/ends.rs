//! How a run ends: reports, failures, pauses.

use std::time::Duration;

use sentinel_core::card::Otherwise;
use sentinel_core::incident::ChildName;
use sentinel_core::report::{ReportSource, Verdict};
use sentinel_investigation::ports::ModelError;
use sentinel_investigation::{Outcome, Progress, evidence_of, told_before, turns_of};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_fatal_tool_error_fails_the_incident() {
    let mut world = World::new();
    world.tools.fatal = Some("k8s.events".into());
    let outcome = world.run(Some(&Script::of(vec![]))).await.unwrap();
    let Outcome::Fail { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason, "k8s.events: the tool box is broken");
}

#[tokio::test(start_paused = true)]
async fn a_model_that_refuses_costs_the_conclusion_and_not_what_was_found() {
    let world = World::new();
    let model = Script::new(|_| Err(ModelError::Refused("401: incorrect API key".into())));
    let report = world.report(&model).await;
    assert_eq!(report.source, ReportSource::EvidenceOnly);
    assert!(
        report.summary.contains("the model refused the request: 401: incorrect API key"),
        "{}",
        report.summary
    );
    assert_eq!((model.requests().len(), evidence_of(&world.store.bodies()).len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_out_puts_the_run_off_and_at_last_the_evidence_is_all_there_is() {
    let world = World::new();
    let out = || ModelError::Unavailable { reason: "503".into(), retry_after: None, billed: false };
    let model = Script::new(move |_| Err(out()));
    let mut waits = Vec::new();
    let report = loop {
        let before = world.clock_now();
        match world.run(Some(&model)).await.unwrap() {
            Outcome::Yield { not_before, .. } => waits.push(not_before.since(before).as_secs()),
            outcome => break report_of(outcome),
        }
    };
    assert_eq!(waits, [30, 60, 120]);
    assert_eq!(report.source, ReportSource::EvidenceOnly);
    assert!(
        report.summary.contains("the model did not answer: 503, also after 3 pauses"),
        "{}",
        report.summary
    );
    assert!(report.next_steps[0].action.starts_with("Read E1 (k8s.events"), "{:?}", report.next_steps);
    assert_eq!(world.tools.called().len(), 1, "the evidence is gathered once");
    assert_eq!(report.usage.turns, 0);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_kept_to() {
    let world = World::new();
    let after = Some(Duration::from_secs(200));
    let model = Script::new(move |_| {
        Err(ModelError::Unavailable { reason: "429".into(), retry_after: after, billed: false })
    });
    let before = world.clock_now();
    let Outcome::Yield { not_before, .. } = world.run(Some(&model)).await.unwrap() else {
        panic!("no yield")
    };
    assert_eq!((not_before.since(before).as_secs(), model.requests().len()), (200, 1));
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_answer_is_asked_for_once_more() {
    let world = World::new();
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let model = Script::new(move |_| match tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Err(ModelError::Unreadable("not JSON".into())),
        _ => Ok(submits("action_required", &[QUOTE])),
    });
    assert_eq!(world.report(&model).await.verdict, Verdict::ActionRequired);
}

#[tokio::test(start_paused = true)]
async fn a_model_call_is_cut_off_at_its_grant() {
    let world = World::new();
    let model = Script::of(vec![]).that_hangs();
    let before = tokio::time::Instant::now();
    let Outcome::Yield { reason, .. } = world.run(Some(&model)).await.unwrap() else { panic!("no yield") };
    assert_eq!((before.elapsed().as_secs(), model.requests().len()), (90, 1));
    assert_eq!(reason, "the model did not answer: no answer within 90 s");
}

#[tokio::test(start_paused = true)]
async fn without_a_model_the_report_holds_the_evidence_and_says_why() {
    let world = World::new();
    let report = report_of(world.run(None).await.unwrap());
    assert_eq!((report.source, report.verdict), (ReportSource::EvidenceOnly, Verdict::Inconclusive));
    assert!(report.summary.starts_with("Evidence only: no model was asked: no key is configured."));
    assert_eq!(report.usage.usd, Some(0.0));
    assert_eq!(world.tools.called().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_that_cannot_end_before_the_deadline() {
    let mut world = World::new();
    world.invocation = Duration::from_secs(80);
    let model = Script::of(vec![submits("action_required", &[QUOTE])]);
    let outcome = world.run(Some(&model)).await.unwrap();
    let Outcome::Yield { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason, "the deadline of the invocation is near");
    assert_eq!(model.requests().len(), 0);
    world.invocation = Duration::from_mins(14);
    world.report(&model).await;
    assert_eq!(world.tools.called().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_card_whose_time_is_over_reports_what_there_is() {
    let mut world = World::new();
    world.card.timeout = Duration::from_mins(5);
    let clock = world.clock.clone();
    let model = Script::new(move |_| {
        clock.advance(Duration::from_mins(6));
        Ok(calls(&[pod()]))
    });
    let report = world.report(&model).await;
    assert_eq!(report.source, ReportSource::EvidenceOnly);
    assert!(
        report.summary.contains("the card's time-out of 300 s was over after 1 model turns"),
        "{}",
        report.summary
    );
    assert_eq!(report.usage.ms, 360_000);
}

#[tokio::test(start_paused = true)]
async fn a_turn_after_which_no_time_is_left_has_to_report() {
    let world = World::new();
    let clock = world.clock.clone();
    let model = Script::new(move |turn| {
        clock.advance(Duration::from_mins(9));
        Ok(if turn == 1 { calls(&[pod()]) } else { submits("action_required", &[QUOTE]) })
    });
    let report = world.report(&model).await;
    assert_eq!(model.requests()[1].force.as_deref(), Some("submit_report"));
    assert_eq!(report.verdict, Verdict::ActionRequired);
}

#[tokio::test(start_paused = true)]
async fn without_a_snapshot_the_run_looks_again_and_then_waits() {
    let world = World::of(card(), &[]);
    let outcome = world.run(Some(&Script::of(vec![]))).await.unwrap();
    let Outcome::Yield { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason, "the alert's snapshot cannot be read yet");
    assert_eq!(world.tools.called().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_stops_the_run_before_the_next_call() {
    let world = World::new();
    let store = world.store.clone();
    let model = Script::new(move |_| {
        store.change(|head| {
            head.epoch += 1;
            head.version += 1;
        });
        Ok(calls(&[pod()]))
    });
    let outcome = world.run(Some(&model)).await.unwrap();
    assert!(matches!(outcome, Outcome::LeaseLost), "{outcome:?}");
    assert_eq!((world.tools.called().len(), model.requests().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_somebody_else_stored_stands() {
    let world = World::new();
    let store = world.store.clone();
    let model = Script::new(move |_| {
        store.put(ChildName::Turn(1), "{}".into());
        Ok(submits("action_required", &[QUOTE]))
    });
    let outcome = world.run(Some(&model)).await.unwrap();
    assert!(matches!(outcome, Outcome::LeaseLost), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn rules_are_shown_and_change_the_verdict() {
    let mut world = World::new();
    let rule = |name: &str, rule: &str, otherwise| sentinel_core::card::CheckRule {
        name: name.into(),
        rule: rule.into(),
        otherwise,
    };
    world.card.checklist = vec![
        rule(
            "events were read",
            r#"evidence.exists(e, e.tool == "k8s.events" && e.ok)"#,
            Otherwise::Inconclusive,
        ),
        rule("the team is known", r#"labels.team == "web""#, Otherwise::Inconclusive),
    ];
    let report = world.report(&Script::of(vec![submits("action_required", &[QUOTE])])).await;
    let told: Vec<_> = report.checklist.iter().map(|c| (c.passed, c.detail.is_some())).collect();
    assert_eq!(told, [(true, false), (false, true)], "a rule that errors has not passed");
    assert_eq!(report.verdict, Verdict::Inconclusive);
}

#[tokio::test(start_paused = true)]
async fn alerts_that_the_sender_left_out_are_a_gap() {
    let mut told = web_alert();
    told.envelope.truncated_alerts = 7;
    let world = World::of(card(), &[told]);
    let report = world.report(&Script::of(vec![submits("action_required", &[QUOTE])])).await;
    assert_eq!(report.truncated_alerts, 7);
    assert!(report.gaps.contains(&"7 alerts were left out by the sender.".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_recorded_run_says_so() {
    let world = World::new();
    let model = Script::of(vec![submits("action_required", &[QUOTE])]).that_is_recorded();
    assert_eq!(world.report(&model).await.source, ReportSource::Recorded);
}

#[tokio::test(start_paused = true)]
async fn progress_tells_the_steps_in_order() {
    let world = World::new();
    let events = sentinel_investigation::events();
    let mut told = events.subscribe();
    let model = Script::of(vec![calls(&[pod()]), submits("action_required", &[QUOTE])]);
    let _ = world.run_watched(Some(&model), Some(&events)).await.unwrap();
    drop(events);
    let mut names = Vec::new();
    while let Ok(event) = told.recv().await {
        let name = event.name();
        assert_eq!(serde_json::to_value(&event).unwrap()["event"], name);
        assert_eq!(event.incident(), &id());
        names.push(name);
    }
    assert_eq!(
        names.join(" "),
        "started listed calling evidence asking answered calling called asking answered checked concluded"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_can_be_shown() {
    let world = World::new();
    world.report(&Script::of(vec![calls(&[pod()]), submits("action_required", &[QUOTE])])).await;
    let children = world.store.bodies();
    assert_eq!(turns_of(&children).len(), 2);
    assert_eq!(evidence_of(&children).len(), 2);
    assert!(turns_of(&children)[0].opening.is_some() && turns_of(&children)[1].opening.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_is_told_what_is_stored_and_each_step_of_it_is_the_one_that_was_told() {
    let world = World::new();
    let events = sentinel_investigation::events();
    let mut live = events.subscribe();
    let model = Script::of(vec![calls(&[pod()]), submits("action_required", &[QUOTE])]);
    let _ = world.run_watched(Some(&model), Some(&events)).await.unwrap();
    drop(events);
    let mut told = Vec::new();
    while let Ok(event) = live.recv().await {
        told.push(event);
    }
    let stored = told_before(&world.store.head(), &world.store.bodies());
    let names: Vec<&str> = stored.iter().map(Progress::name).collect();
    assert_eq!(names, ["started", "evidence", "answered", "called", "answered"]);
    for step in &stored[1..] {
        assert_eq!(told.iter().filter(|t| t.is_same_as(step)).collect::<Vec<_>>(), [step]);
    }
}
