//! Hosted MCP: the model's service calls, the policy answers, and what comes back is evidence.

use sentinel_core::card::ToolRule;
use sentinel_core::incident::ChildName;
use sentinel_core::report::{Report, Verdict};
use sentinel_core::tools_lock::ToolsLock;
use sentinel_investigation::ports::{Approval, Item, ModelError, TurnRequest, TurnResponse};
use sentinel_investigation::{CallStatus, Forced, evidence_of, turns_of};
use sentinel_testkit::builders::tool_id;
use sentinel_testkit::openai::{mcp_approval_request_item, mcp_call_item, mcp_list_item};
use serde_json::{Value, json};

use crate::support::*;

const LABEL: &str = "k8s-label";

/// What the server shows: three tools that read, and one that destroys.
fn list() -> Value {
    let reads = || json!({"readOnlyHint": true});
    let tools = [
        ("delete", json!({"destructiveHint": true})),
        ("events", reads()),
        ("log", reads()),
        ("pod", reads()),
    ];
    mcp_list_item(LABEL, &tools)
}

fn web() -> Value {
    json!({"namespace": "web"})
}

fn asks(tool: &str, arguments: &Value, id: &str) -> Value {
    mcp_approval_request_item(LABEL, tool, arguments, id)
}

fn made(tool: &str, id: &str, gave: Result<&str, Value>) -> Value {
    mcp_call_item(LABEL, tool, &web(), id, gave)
}

/// A response of these items, as a record of the first version has it.
fn items(items: Vec<Value>) -> TurnResponse {
    let Value::Object(mut stored) = json!(calls(&[])) else { panic!("a turn is an object") };
    stored.remove("api");
    stored.insert("items".to_owned(), Value::Array(items));
    serde_json::from_value(Value::Object(stored)).unwrap()
}

fn script(turns: Vec<TurnResponse>) -> Script {
    Script::of(turns).that_hosts("k8s")
}

fn approvals(request: &TurnRequest) -> Vec<Approval> {
    let approval = |item: &Item| match item {
        Item::Approval(approval) => Some(approval.clone()),
        _ => None,
    };
    request.input.iter().filter_map(approval).collect()
}

fn reasons(request: &TurnRequest) -> Vec<String> {
    let denied = approvals(request).into_iter().filter(|approval| !approval.approve);
    denied.map(|approval| approval.reason.unwrap()).collect()
}

fn gap_with(report: &Report, text: &str) -> bool {
    report.gaps.iter().any(|gap| gap.contains(text))
}

#[tokio::test(start_paused = true)]
async fn an_approved_call_becomes_evidence_like_any_other() {
    let world = World::new();
    let output = "phase: Pending, token swordfish-1234";
    let model = script(vec![
        items(vec![list(), asks("pod", &web(), "mcpr_1")]),
        items(vec![made("pod", "mcpr_1", Ok(output))]),
        submits("action_required", &[("E2", "phase: Pending")]),
    ]);
    let report = world.report(&model).await;
    assert_eq!((report.verdict, report.hypotheses[0].supported), (Verdict::ActionRequired, Some(true)));
    assert_eq!(world.tools.called().len(), 1, "only the card's own call is Sentinel's");
    assert_eq!((report.usage.turns, report.usage.tool_calls), (3, 2));

    let requests = model.requests();
    assert!(requests[0].tools.iter().all(|tool| !tool.name.starts_with("k8s__")), "no function for it");
    assert_eq!((requests[0].hosted[0].label.as_str(), requests[0].max_hosted_calls), (LABEL, 16));
    assert_eq!(requests[0].hosted[0].tools, ["delete", "events", "log", "pod"]);
    let approved = Approval { request_id: "mcpr_1".into(), approve: true, reason: None, refusal: None };
    assert_eq!(approvals(&requests[1]), [approved]);
    assert_eq!(requests[2].input[..requests[1].input.len()], requests[1].input, "a stable prefix");
    let Some(Item::User { text }) = requests[2].input.last() else { panic!("no word about E2") };
    assert_eq!(text, "[E2] is the output of mcp call mcp_mcpr_1 (k8s.pod).");

    let evidence = evidence_of(&world.store.bodies());
    assert_eq!((evidence[1].tool.as_str(), evidence[1].status), ("k8s.pod", CallStatus::Answered));
    assert_eq!(evidence[1].text, "phase: Pending, token [redacted: configured-secret]");
    let bodies: String = world.store.bodies().into_iter().map(|child| child.body).collect();
    assert!(!bodies.contains("swordfish"), "nothing stored holds a secret");
    assert!(report.notes[0].contains("k8s were called by the model's own service"), "{:?}", report.notes);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_policy_denies_is_answered_with_the_reason_and_never_made() {
    let mut world = World::new();
    world.card.policy = vec![ToolRule {
        tool: tool_id("k8s.pod"),
        allow: "args.namespace == labels.namespace".into(),
        allowed: vec![],
        denied: vec![],
    }];
    let model = script(vec![
        items(vec![
            list(),
            asks("delete", &web(), "mcpr_1"),
            asks("exec", &web(), "mcpr_2"),
            asks("pod", &json!({"namespace": "kube-system"}), "mcpr_3"),
            mcp_approval_request_item("elsewhere", "pod", &web(), "mcpr_4"),
            asks("log", &json!("no object"), "mcpr_5"),
        ]),
        submits("action_required", &[QUOTE]),
    ]);
    let report = world.report(&model).await;
    let denied = reasons(&model.requests()[1]);
    for (reason, want) in denied.iter().zip([
        "k8s.delete was not called: its server calls it destructive",
        "\"k8s.exec\" is not allowed here and was not called. Allowed are: k8s.delete, k8s.events,",
        "the card's policy does not allow it: args.namespace == labels.namespace",
        "there is no server \"elsewhere\" here",
        "the arguments of k8s.log are not an object",
    ]) {
        assert!(reason.contains(want), "{reason}");
    }
    assert_eq!(denied.len(), 5);
    assert!(gap_with(&report, "Tool k8s.delete was not there: its server calls it destructive"));
    let turns = turns_of(&world.store.bodies());
    assert_eq!(turns[1].approvals, approvals(&model.requests()[1]), "the record says what was answered");
    assert_eq!(evidence_of(&world.store.bodies()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_is_evidence_of_what_went_wrong() {
    let world = World::new();
    let down = json!({"type": "http_error", "code": 502, "message": "bad gateway"});
    let content = json!([{"type": "text", "text": "no such pod"}]);
    let tool = json!({"type": "mcp_tool_execution_error", "content": content});
    let model = script(vec![
        items(vec![list(), asks("pod", &web(), "mcpr_1"), asks("log", &web(), "mcpr_2")]),
        items(vec![made("pod", "mcpr_1", Err(down)), made("log", "mcpr_2", Err(tool))]),
        submits("action_required", &[("E3", "no such pod")]),
    ]);
    let report = world.report(&model).await;
    let evidence = evidence_of(&world.store.bodies());
    assert_eq!((evidence[1].status, evidence[2].status), (CallStatus::NoAnswer, CallStatus::ToolError));
    assert!(evidence[1].text.contains("bad gateway (http_error 502)"), "{}", evidence[1].text);
    assert_eq!(report.hypotheses[0].supported, Some(true), "the tool's own words are evidence");
    assert!(gap_with(&report, "E2 (k8s.pod)"), "{:?}", report.gaps);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_out_costs_its_tools_and_not_the_investigation() {
    let world = World::new();
    let out = || ModelError::ServersOut { labels: vec![LABEL.into()], reason: "status code: 502".into() };
    let answer = move |request: &TurnRequest| {
        if request.hosted.is_empty() { Ok(submits("action_required", &[QUOTE])) } else { Err(out()) }
    };
    let model = Script::by(answer).that_hosts("k8s");
    let report = world.report(&model).await;
    assert_eq!((report.verdict, model.requests().len()), (Verdict::ActionRequired, 2));
    assert!(gap_with(&report, "Hosted server k8s was out and its tools were not there: status code: 502"));

    let error =
        json!({"type": "mcp_list_tools", "id": "l", "server_label": LABEL, "tools": [], "error": "401"});
    let model =
        script(vec![items(vec![error, asks("pod", &web(), "mcpr_1")]), submits("action_required", &[QUOTE])]);
    let report = World::new().report(&model).await;
    assert!(gap_with(&report, "The tools of hosted server k8s were not there: 401"), "{:?}", report.gaps);
    assert!(reasons(&model.requests()[1])[0].contains("its server never listed it"));
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_changes_during_the_run_or_is_not_the_pinned_one_is_not_called() {
    let changed = mcp_list_item(LABEL, &[("pod", json!({"readOnlyHint": false}))]);
    let model = script(vec![
        items(vec![list(), asks("pod", &web(), "mcpr_1")]),
        items(vec![made("pod", "mcpr_1", Ok("Pending")), changed, asks("pod", &json!({}), "mcpr_2")]),
        submits("action_required", &[QUOTE]),
    ]);
    let report = World::new().report(&model).await;
    let denied = reasons(&model.requests()[2]);
    assert!(denied[0].contains("changed its definition during the investigation"), "{denied:?}");
    assert!(gap_with(&report, "Tool k8s.pod was not there any more"), "{:?}", report.gaps);

    let mut world = World::new();
    // Only what the card itself calls is pinned.
    let mut lock = ToolsLock::default();
    let events = world.tools.definitions["k8s"].iter().find(|d| d.tool == "events").unwrap();
    lock.pin(&tool_id("k8s.events"), events.said());
    world.card.lock = Some(lock.into());
    let model = script(vec![
        items(vec![list(), asks("pod", &web(), "mcpr_1")]),
        submits("action_required", &[QUOTE]),
    ]);
    world.report(&model).await;
    assert!(reasons(&model.requests()[1])[0].contains("it is not in tools.lock"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_made_without_having_been_allowed_is_told() {
    let model = script(vec![
        items(vec![list(), made("pod", "mcpr_9", Ok("Pending"))]),
        submits("action_required", &[QUOTE]),
    ]);
    let report = World::new().report(&model).await;
    assert!(gap_with(&report, "says that it called k8s-label.pod, and no such call was approved"));
}

#[tokio::test(start_paused = true)]
async fn what_asks_at_the_end_is_denied_because_the_report_is_due() {
    let mut world = World::new();
    world.card.max_iterations = 2;
    let model = script(vec![
        items(vec![list(), asks("pod", &web(), "mcpr_1")]),
        submits("action_required", &[QUOTE]),
    ]);
    world.report(&model).await;
    let last = &model.requests()[1];
    assert_eq!(last.force.as_deref(), Some("submit_report"));
    assert_eq!(reasons(last), ["Not called: the report is due now."]);
}

#[tokio::test(start_paused = true)]
async fn the_same_hosted_call_again_and_again_gets_a_hint_and_then_a_forced_report() {
    let elsewhere = json!({"namespace": "kube-system"});
    let mut world = World::new();
    world.card.tools.remove(&tool_id("k8s.log"));
    world.card.max_iterations = 12;
    let again = move |n: usize| asks("log", &elsewhere, &format!("mcpr_{n}"));
    let model = Script::by(move |request| {
        let turn = turn_of(request);
        match (&request.force, turn) {
            (Some(_), _) => Ok(submits("action_required", &[QUOTE])),
            (None, 1) => Ok(items(vec![list(), again(1)])),
            (None, n) => Ok(items(vec![again(n)])),
        }
    })
    .that_hosts("k8s");
    world.report(&model).await;
    let requests = model.requests();
    assert_eq!(requests.len(), 5);
    let told = reasons(&requests[3]);
    assert!(!told[1].contains("Ask something else") && told[2].ends_with("Ask something else, or conclude."));
    assert_eq!(turns_of(&world.store.bodies())[4].forced, Some(Forced::Looping));

    // What was made already is answered from the evidence.
    let model = script(vec![
        items(vec![list(), asks("pod", &web(), "mcpr_1")]),
        items(vec![made("pod", "mcpr_1", Ok("Pending")), asks("pod", &web(), "mcpr_2")]),
        submits("action_required", &[QUOTE]),
    ]);
    World::new().report(&model).await;
    let told = reasons(&model.requests()[2]);
    assert!(told[0].contains("This very call was made before: its output is E2 above"), "{told:?}");
}

/// Every kind of hosted turn: a call approved, one denied, one that failed, a function beside them, a rejected report.
fn every_kind() -> Vec<TurnResponse> {
    let down = json!({"type": "http_error", "code": 502, "message": "bad gateway"});
    vec![
        items(vec![list(), asks("pod", &web(), "mcpr_1"), asks("delete", &web(), "mcpr_2")]),
        items(vec![made("pod", "mcpr_1", Ok("phase: Pending")), asks("log", &web(), "mcpr_3")]),
        items(vec![made("log", "mcpr_3", Err(down))]),
        submits("action_required", &[("E2", "nobody ever said this")]),
        submits("action_required", &[("E2", "phase: Pending")]),
    ]
}

/// All of them, the process dying as it is said.
async fn every_kind_dying(dies: impl Fn(&World)) -> (World, Script, Report, usize) {
    run_through(script(every_kind()), dies).await
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_an_approval_and_its_answer_asks_the_very_same_again() {
    // The answer to the request that approved was lost: the call may run twice, its evidence exists once.
    let (world, model, report, crashes) = every_kind_dying(|w| w.store.die_before(ChildName::Turn(2))).await;
    let requests = model.requests();
    assert_eq!((crashes, requests.len()), (1, 6), "one paid turn was in flight");
    assert_eq!(requests[1], requests[2]);
    assert_eq!(approvals(&requests[2]).len(), 2);
    assert_eq!((turns_of(&world.store.bodies()).len(), evidence_of(&world.store.bodies()).len()), (5, 3));
    assert_eq!(report.hypotheses[0].supported, Some(true));
    assert!(report.notes[0].contains("may have been made twice"), "{:?}", report.notes);

    // Once that answer is stored, nothing is asked again, although its evidence is not stored yet.
    let (_, model, again, _) = every_kind_dying(|w| w.store.die_before(ChildName::Output(2))).await;
    assert_eq!(model.requests().len(), 5);
    assert_eq!(again.hypotheses, report.hypotheses);
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_write_changes_no_request_and_no_report() {
    let (_, model, mut expected, _) = every_kind_dying(|_| ()).await;
    let requests = model.requests();
    expected.usage.ms = 0;
    for at in 1.. {
        let (world, again, mut report, crashes) = every_kind_dying(|w| w.store.die_at(Some(at))).await;
        if crashes == 0 {
            assert!(at > 10, "a run has more than {at} writes");
            break;
        }
        report.usage.ms = 0;
        assert_eq!(report, expected, "died at write {at}");
        let mut distinct = again.requests();
        assert!(distinct.len() <= requests.len() + 1, "died at write {at}");
        distinct.dedup();
        assert_eq!(distinct, requests, "died at write {at}");
        assert_eq!(evidence_of(&world.store.bodies()).len(), 3, "died at write {at}");
    }
}
