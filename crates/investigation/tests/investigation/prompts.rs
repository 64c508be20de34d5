//! Prompts and calls of a card over alerts that do not have, or do not share, what they ask for.

use sentinel_core::report::Verdict;
use sentinel_investigation::{Progress, Why, events, evidence_of, turns_of};
use sentinel_testkit::builders::{alert, notification};
use serde_json::json;

use crate::support::*;

fn of_queues(queues: &[&str]) -> World {
    let alerts = queues
        .iter()
        .map(|queue| alert("QueueBacklog").label("namespace", "web").label("pod", "a").label("queue", queue));
    let mut card = card();
    card.prompt.text = "Queue {{ labels.queue }} of {{ labels.namespace }} in {{ labels.zone }}.".into();
    for call in &mut card.evidence {
        call.arguments.insert("namespace".to_owned(), json!("{{ labels.queue }}"));
    }
    World::of(card, &[notification("card", alerts.collect::<Vec<_>>())])
}

#[tokio::test(start_paused = true)]
async fn what_a_prompt_does_not_get_is_seen_in_it_and_noted_in_the_report() {
    let world = of_queues(&["mail", "pay"]);
    let events = events();
    let mut heard = events.subscribe();
    let model = Script::of(vec![submits("inconclusive", &[])]);
    let outcome = world.run_watched(Some(&model), Some(&events)).await.unwrap();
    let report = report_of(outcome);
    let asked = format!("{:?}", model.requests()[0].input[0]);
    assert!(
        asked.contains("Queue (the alerts differ in it: labels.queue) of web in (missing: labels.zone)."),
        "{asked}"
    );
    assert_eq!(
        &report.notes[..2],
        [
            "In the card's prompt, line 1: the alerts differ in labels.queue: label_values.queue has all of its values.",
            "In the card's prompt, line 1: labels.zone is missing.",
        ]
    );
    let mut told = Vec::new();
    while let Ok(step) = heard.try_recv() {
        if let Progress::Unshown { card, line, variable, .. } = step {
            told.push((card, line, variable));
        }
    }
    assert_eq!(
        told,
        [("card".to_owned(), 1, "labels.queue".to_owned()), ("card".to_owned(), 1, "labels.zone".to_owned())]
    );
    // The run that is gone on with says the same.
    let opening = turns_of(&world.store.bodies()).into_iter().find_map(|turn| turn.opening).unwrap();
    assert_eq!(
        opening.unshown.iter().map(|u| u.why.clone()).collect::<Vec<_>>(),
        [Why::Differs, Why::Missing]
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_is_made_once_for_each_value_in_which_the_alerts_differ_and_for_five_at_most() {
    let world = of_queues(&["mail", "pay"]);
    let model = Script::of(vec![calls(&[pod()]), submits("action_required", &[("E3", "ContainerCreating")])]);
    let report = world.report(&model).await;
    assert_eq!(
        world.tools.called(),
        [
            "k8s.events {\"namespace\":\"mail\"}",
            "k8s.events {\"namespace\":\"pay\"}",
            "k8s.pod {\"namespace\":\"web\"}",
        ]
    );
    assert_eq!(report.verdict, Verdict::ActionRequired, "{report:#?}");

    let world = of_queues(&["a", "b", "c", "d", "e", "f", "g"]);
    let report = world.report(&Script::of(vec![submits("inconclusive", &[])])).await;
    assert_eq!(world.tools.called().len(), 5);
    let gap = "The card's call 1 (k8s.events) asks for what differs between the alerts: it was made for 5 of 7 groups of them.";
    assert!(report.gaps.iter().any(|g| g == gap), "{:?}", report.gaps);
}

#[tokio::test(start_paused = true)]
async fn a_crash_among_the_calls_of_several_values_makes_none_of_them_again() {
    for at in 0..9 {
        let world = of_queues(&["mail", "pay", "sms"]);
        world.store.die_at(Some(at));
        let model = Script::of(vec![submits("inconclusive", &[])]);
        loop {
            match world.run(Some(&model)).await {
                Ok(outcome) => {
                    report_of(outcome);
                    break;
                }
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    world.store.die_at(None);
                }
            }
        }
        let stored = evidence_of(&world.store.bodies());
        let mut stored: Vec<_> =
            stored.iter().map(|e| format!("{} {}", e.tool, json!(e.arguments))).collect();
        stored.sort();
        let want = ["mail", "pay", "sms"].map(|queue| format!("k8s.events {{\"namespace\":\"{queue}\"}}"));
        assert_eq!(stored, want, "died at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_asks_for_what_is_missing_is_not_made_and_says_which_variable_it_was() {
    let mut world = World::new();
    world.card.prompt.text = "{{ labels.nope }}".into();
    world.card.evidence[0].arguments["namespace"] = json!("{{ labels.nope }}");
    let model = Script::of(vec![calls(&[pod()]), submits("action_required", &[("E2", "ContainerCreating")])]);
    let report = world.report(&model).await;
    assert_eq!(report.verdict, Verdict::ActionRequired);
    assert_eq!(report.notes[0], "In the card's prompt, line 1: labels.nope is missing.");
    let gap = |g: &String| {
        g.contains("its arguments cannot be rendered") && g.contains("undefined value: labels.nope (line 1)")
    };
    assert!(report.gaps.iter().any(gap), "{:?}", report.gaps);
}
