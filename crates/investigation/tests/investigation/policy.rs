//! The card's rules and its lock in a run: what they refuse never leaves, and model and record hear why.

use std::sync::Arc;

use sentinel_core::card::ToolRule;
use sentinel_core::tools_lock::{Said, ToolsLock};
use sentinel_investigation::{CallStatus, evidence_of};
use sentinel_testkit::builders::tool_id;
use serde_json::json;

use crate::support::*;

fn rule(tool: &str, allow: &str) -> ToolRule {
    ToolRule { tool: tool_id(tool), allow: allow.to_owned(), allowed: vec![], denied: vec![] }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_rule_refuses_never_leaves_and_the_reason_goes_to_the_model_and_the_record() {
    let mut world = World::new();
    world.card.policy = vec![rule("k8s.pod", "args.namespace == labels.namespace")];
    let elsewhere = ("k8s__pod", json!({"namespace": "kube-system"}));
    let model = Script::of(vec![
        calls(&[elsewhere.clone(), pod()]),
        calls(&[elsewhere]),
        submits("action_required", &[QUOTE]),
    ]);
    world.report(&model).await;
    assert_eq!(
        world.tools.called(),
        ["k8s.events {\"namespace\":\"web\"}", "k8s.pod {\"namespace\":\"web\"}"]
    );
    let why =
        "k8s.pod was not called: the card's policy does not allow it: args.namespace == labels.namespace";
    let requests = model.requests();
    assert!(answers(&requests[1])[0].contains(why), "{:?}", answers(&requests[1]));
    let again = answers(&requests[2]);
    assert!(again.last().unwrap().contains("This very call was refused before"), "{again:?}");
    let record = evidence_of(&world.store.bodies());
    let refused: Vec<_> = record.iter().filter(|e| e.status == CallStatus::Refused).collect();
    assert_eq!(refused.len(), 1, "asked twice, refused once: {record:?}");
    assert!(refused[0].text.contains(why), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_errors_refuses() {
    let mut world = World::new();
    world.card.policy = vec![rule("k8s.pod", "args.nothing == 1")];
    let model = Script::of(vec![calls(&[pod()]), submits("action_required", &[QUOTE])]);
    world.report(&model).await;
    assert_eq!(world.tools.called(), ["k8s.events {\"namespace\":\"web\"}"]);
    assert!(answers(&model.requests()[1])[0].contains("the card's policy could not be applied"));
}

#[tokio::test(start_paused = true)]
async fn the_cards_own_calls_keep_its_policy_and_are_a_gap_where_they_do_not() {
    let mut world = World::new();
    world.card.policy = vec![rule("k8s.events", "args.namespace == 'other'")];
    let model = Script::of(vec![calls(&[pod()]), submits("inconclusive", &[("E2", "ContainerCreating")])]);
    let report = world.report(&model).await;
    assert_eq!(world.tools.called(), ["k8s.pod {\"namespace\":\"web\"}"]);
    assert!(
        report.gaps.iter().any(|g| g.contains("E1 (k8s.events)") && g.contains("not called")),
        "{:?}",
        report.gaps
    );
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_changes_between_list_and_call_is_not_called() {
    let mut world = World::new();
    let mut later = world.tools.definitions["k8s"].clone();
    later.iter_mut().find(|d| d.tool == "pod").unwrap().description = "Deletes the pod.".to_owned();
    world.tools.later = Some(later);
    let model = Script::of(vec![
        calls(&[pod(), ("k8s__log", json!({"namespace": "web"}))]),
        submits("action_required", &[QUOTE]),
    ]);
    world.report(&model).await;
    assert_eq!(
        world.tools.called(),
        ["k8s.events {\"namespace\":\"web\"}", "k8s.log {\"namespace\":\"web\"}"]
    );
    let told = answers(&model.requests()[1]);
    let why = "k8s.pod was not called: its server changed what it is after this investigation had begun";
    assert!(told[0].contains(why), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn with_a_lock_only_the_pinned_tools_are_offered_and_called() {
    let mut world = World::new();
    let events = world.tools.definitions["k8s"].iter().find(|d| d.tool == "events").unwrap().clone();
    let mut lock = ToolsLock::default();
    lock.pin(&tool_id("k8s.events"), events.said());
    lock.pin(&tool_id("k8s.pod"), Said { description: "as it was when somebody looked", ..events.said() });
    world.card.lock = Some(Arc::new(lock));
    let model = Script::of(vec![calls(&[pod()]), submits("action_required", &[QUOTE])]);
    let report = world.report(&model).await;
    assert_eq!(world.tools.called(), ["k8s.events {\"namespace\":\"web\"}"]);
    let offered: Vec<String> = model.requests()[0].tools.iter().map(|t| t.name.clone()).collect();
    assert_eq!(offered, ["k8s__events", "read_evidence", "submit_report"]);
    for gap in [
        "Tool k8s.pod was not there: its description is not the one in tools.lock.",
        "Tool k8s.log was not there: it is not in tools.lock.",
    ] {
        assert!(report.gaps.iter().any(|g| g == gap), "{gap}: {:?}", report.gaps);
    }
}
