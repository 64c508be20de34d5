//! A crash at any point pays for nothing twice and ends in the same report.

use sentinel_core::incident::ChildName;
use sentinel_core::report::Report;
use sentinel_investigation::ports::TurnResponse;
use sentinel_investigation::{Outcome, evidence_of, turns_of};
use serde_json::json;

use crate::support::*;

/// Every kind of turn: calls, a call that is refused, text, an empty answer, a rejected report, its repair.
fn script() -> Vec<TurnResponse> {
    vec![
        calls(&[pod(), ("k8s__log", json!({"namespace": "web"})), ("kubectl", json!({}))]),
        says(""),
        calls(&[("k8s__pod", json!({"namespace": "kube-system"})), pod()]),
        submits("action_required", &[("E1", "nobody ever said this")]),
        submits("action_required", &[QUOTE]),
    ]
}

/// The run, the process dying at the `at`-th write.
async fn dying_at(at: Option<usize>) -> (World, Script, Report, usize) {
    run_through(Script::of(script()), |world| world.store.die_at(at)).await
}

/// What of a report does not depend on the time.
fn timeless(report: &Report) -> Report {
    let mut report = report.clone();
    report.usage.ms = 0;
    report
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_write_pays_for_nothing_twice_but_the_call_in_flight() {
    let (world, model, expected, _) = dying_at(None).await;
    let requests = model.requests();
    let tools = world.tools.called();
    assert_eq!((requests.len(), tools.len()), (5, 4));
    for at in 1.. {
        let (world, again, report, crashes) = dying_at(Some(at)).await;
        if crashes == 0 {
            assert!(at > 15, "a run has more than {at} writes");
            break;
        }
        assert_eq!(timeless(&report), timeless(&expected), "died at write {at}");
        // What was lost is what was in flight: an answer that could not be stored.
        let asked = again.requests();
        assert!(asked.len() <= requests.len() + 1, "died at write {at}");
        let stored = turns_of(&world.store.bodies()).len();
        assert_eq!(stored, 5);
        let mut distinct: Vec<_> = asked.clone();
        distinct.dedup();
        assert_eq!(distinct, requests, "died at write {at}: the conversation is the same");
        let mut called = world.tools.called();
        assert!(called.len() <= tools.len() + 2, "died at write {at}");
        called.sort();
        called.dedup();
        let mut all = tools.clone();
        all.sort();
        assert_eq!(called, all, "died at write {at}");
        assert_eq!(evidence_of(&world.store.bodies()).len(), 4);
    }
}

/// Dies before this child is stored, and goes on; gives the world and how often the model was asked.
async fn run_through_death_before(name: ChildName) -> (World, usize) {
    let world = World::new();
    let model = Script::of(script());
    world.store.die_before(name);
    assert!(world.run(Some(&model)).await.is_err());
    world.store.die_at(None);
    world.report(&model).await;
    let asked = model.requests().len();
    (world, asked)
}

#[tokio::test(start_paused = true)]
async fn a_stored_turn_is_not_asked_for_again() {
    let (_, asked) = run_through_death_before(ChildName::Output(2)).await;
    assert_eq!(asked, 5);
    let (_, asked) = run_through_death_before(ChildName::Turn(1)).await;
    assert_eq!(asked, 6, "the answer that was lost is asked for again");
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_two_outputs_makes_only_the_missing_call() {
    let (world, _) = run_through_death_before(ChildName::Output(3)).await;
    let called = world.tools.called();
    let times = |tool: &str| called.iter().filter(|c| c.starts_with(tool) && c.contains("web")).count();
    assert_eq!((times("k8s.pod"), times("k8s.log")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_resumed_run_sends_arguments_that_look_like_secrets_as_the_first_would_have() {
    let looks_like = [
        json!({"namespace": "password: incorrect"}),
        json!({"namespace": "token=changeme-1234 user=postgres://app:hunter22@db/app"}),
    ];
    let script = || {
        let asked: Vec<_> = looks_like.iter().map(|arguments| ("k8s__log", arguments.clone())).collect();
        Script::of(vec![calls(&asked), submits("action_required", &[QUOTE])])
    };
    let whole = World::new();
    whole.report(&script()).await;
    let sent = whole.tools.called();
    for arguments in &looks_like {
        assert!(sent.contains(&format!("k8s.log {arguments}")), "{sent:?}");
    }
    // The turn is stored, then the process dies before the first of its outputs is.
    let world = World::new();
    let model = script();
    world.store.die_before(ChildName::Output(2));
    assert!(world.run(Some(&model)).await.is_err());
    let before = world.tools.called().len();
    world.store.die_at(None);
    world.report(&model).await;
    let again = world.tools.called().split_off(before);
    assert_eq!(again, sent[sent.len() - 2..], "the same bytes");
    assert_eq!(model.requests().len(), 2, "from the stored turn");
}

#[tokio::test(start_paused = true)]
async fn alerts_that_join_do_not_change_a_conversation_that_has_begun() {
    let world = World::new();
    let model = Script::of(script());
    world.store.die_before(ChildName::Output(3));
    assert!(world.run(Some(&model)).await.is_err());
    world.store.die_at(None);
    let mut joined = web_alert();
    joined.alerts[0].labels.insert("pod".into(), "api-other".into());
    let name = ChildName::Snapshot("joined".into());
    world.store.put(name, serde_json::to_string(&joined).unwrap());
    world.report(&model).await;
    let requests = model.requests();
    for pair in requests.windows(2) {
        assert_eq!(pair[0].input, pair[1].input[..pair[0].input.len()]);
    }
    assert!(!format!("{requests:?}").contains("api-other"));
}

#[tokio::test(start_paused = true)]
async fn a_stored_report_is_handed_out_again() {
    let (world, _, report, _) = dying_at(None).await;
    world.store.put(ChildName::Report, serde_json::to_string(&report).unwrap());
    let silent = Script::of(vec![]);
    assert_eq!(world.report(&silent).await, report);
    assert_eq!(silent.requests().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_this_version_cannot_read_fails_instead_of_being_paid_for_again() {
    let world = World::new();
    world.store.put(ChildName::Turn(1), "{\"newer\":true}".into());
    let outcome = world.run(Some(&Script::of(vec![]))).await.unwrap();
    let Outcome::Fail { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("Turn(1): missing field"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_the_card_lost_meanwhile_does_not_leave_and_moves_no_number() {
    let mut world = World::new();
    let model = Script::of(vec![
        calls(&[pod(), ("k8s__log", json!({"namespace": "web"}))]),
        submits("action_required", &[("E3", "the container has not started")]),
        submits("action_required", &[("E3", "the container has not started")]),
    ]);
    world.store.die_before(ChildName::Output(3));
    assert!(world.run(Some(&model)).await.is_err());
    world.store.die_at(None);
    world.card.tools.retain(|t| t.tool != "log");
    let report = world.report(&model).await;
    let logs = world.tools.called().iter().filter(|c| c.starts_with("k8s.log")).count();
    assert_eq!(logs, 1, "only before the card lost it");
    assert!(report.gaps.iter().any(|g| g.contains("E3 (k8s.log) was not called")), "{:?}", report.gaps);
    assert_eq!(report.hypotheses[0].supported, Some(false));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_card_lost_meanwhile_keeps_its_number() {
    let mut world = World::new();
    let model = Script::of(vec![calls(&[pod()]), submits("action_required", &[("E2", "ContainerCreating")])]);
    world.store.die_before(ChildName::Turn(1));
    assert!(world.run(Some(&model)).await.is_err());
    world.store.die_at(None);
    world.card.evidence.clear();
    assert_eq!(world.report(&model).await.hypotheses[0].supported, Some(true));
    let told: Vec<_> = evidence_of(&world.store.bodies()).into_iter().map(|e| (e.id, e.tool)).collect();
    assert_eq!(told, [("E1".into(), "k8s.events".into()), ("E2".into(), "k8s.pod".to_owned())]);
}
