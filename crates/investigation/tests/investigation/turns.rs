//! Turns: what is asked, what leaves and what is stored.

use sentinel_core::incident::ChildName;
use sentinel_core::report::{ReportSource, Verdict};
use sentinel_investigation::ports::{Incomplete, Item};
use sentinel_investigation::{CallStatus, evidence_of};
use serde_json::json;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_supported_report_is_what_comes_out() {
    let world = World::new();
    let model = Script::of(vec![calls(&[pod()]), submits("action_required", &[QUOTE])]);
    let report = world.report(&model).await;
    assert_eq!((report.verdict, report.source), (Verdict::ActionRequired, ReportSource::Model));
    assert_eq!(report.hypotheses[0].supported, Some(true));
    assert_eq!(report.hypotheses[0].evidence[0].found, Some(true));
    assert_eq!(
        world.tools.called(),
        ["k8s.events {\"namespace\":\"web\"}", "k8s.pod {\"namespace\":\"web\"}"]
    );
    assert_eq!((report.usage.turns, report.usage.tool_calls), (2, 2));
    assert_eq!(
        (report.usage.input_tokens, report.usage.cached_tokens, report.usage.output_tokens),
        (2000, 800, 100)
    );
    let usd = report.usage.usd.unwrap();
    assert!((usd - (1200.0 * 0.4 + 800.0 * 0.1 + 100.0 * 1.6) / 1e6).abs() < 1e-12, "{usd}");
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_the_card_does_not_list_never_leaves() {
    let mut world = World::new();
    world.card.tools.retain(|t| t.tool == "events");
    let model =
        Script::of(vec![calls(&[pod(), ("kubectl", json!({}))]), submits("action_required", &[QUOTE])]);
    world.report(&model).await;
    assert_eq!(world.tools.called(), ["k8s.events {\"namespace\":\"web\"}"]);
    let requests = model.requests();
    assert!(requests[0].tools.iter().all(|t| t.name != "k8s__pod"));
    for answer in answers(&requests[1]) {
        assert!(
            answer.contains("is not allowed here and was not called. Allowed are: k8s__events,"),
            "{answer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_destructive_tool_never_leaves_although_the_card_lists_it() {
    let mut world = World::new();
    let call = sentinel_core::card::EvidenceCall {
        tool: sentinel_testkit::builders::tool_id("k8s.delete"),
        arguments: json!({"namespace": "web"}).as_object().unwrap().clone(),
    };
    world.card.evidence.push(call);
    let model = Script::of(vec![
        calls(&[("k8s__delete", json!({"namespace": "web"}))]),
        submits("action_required", &[QUOTE]),
    ]);
    let report = world.report(&model).await;
    assert_eq!(world.tools.called(), ["k8s.events {\"namespace\":\"web\"}"]);
    assert!(
        report.gaps.iter().any(|g| g.contains("k8s.delete was not there: its server calls it destructive"))
    );
    assert!(report.gaps.iter().any(|g| g.starts_with("E2 (k8s.delete) was not called")), "{:?}", report.gaps);
}

#[tokio::test(start_paused = true)]
async fn the_cards_own_calls_need_the_cards_leave_too() {
    let mut world = World::new();
    world.card.tools.retain(|t| t.tool == "pod");
    let model = Script::of(vec![calls(&[pod()]), submits("inconclusive", &[("E2", "ContainerCreating")])]);
    let report = world.report(&model).await;
    assert_eq!(world.tools.called(), ["k8s.pod {\"namespace\":\"web\"}"]);
    let evidence = evidence_of(&world.store.bodies());
    assert_eq!(evidence[0].status, CallStatus::Refused);
    assert_eq!(report.usage.tool_calls, 1);
}

#[tokio::test(start_paused = true)]
async fn bad_arguments_go_back_to_the_model_as_errors() {
    let world = World::new();
    let bad = raw_calls(&[
        ("k8s__pod", "{\"namespace\":".into()),
        ("k8s__pod", "[]".into()),
        ("k8s__pod", "{\"namespace\":7}".into()),
    ]);
    let model = Script::of(vec![bad, submits("action_required", &[QUOTE])]);
    world.report(&model).await;
    assert_eq!(world.tools.called().len(), 1);
    let answers = answers(&model.requests()[1]);
    for (answer, want) in answers.iter().zip(["not JSON", "not an object", "/namespace: "]) {
        assert!(answer.starts_with("Error: ") && answer.contains(want), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_turn_with_thousands_of_calls_a_few_are_looked_at() {
    let world = World::new();
    let read = ("read_evidence", json!({"id": "E1", "pattern": ".", "lines": null}));
    let model = Script::of(vec![
        calls(&vec![read.clone(); 2000]),
        calls(&[vec![read; 10], vec![("k8s__pod", json!({"namespace": 7})); 2000]].concat()),
        submits("action_required", &[QUOTE]),
    ]);
    world.report(&model).await;
    let requests = model.requests();
    for (request, before, looked_at) in [(1, 0, 16), (2, 2000, 32)] {
        let answers = answers(&requests[request]).split_off(before);
        let is_skipped =
            |answer: &&String| answer.starts_with("Error: not looked at: in one turn, 32 calls at most");
        assert_eq!(answers.len() - answers.iter().filter(is_skipped).count(), looked_at);
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_too_long_is_told_so_and_problems_are_told_in_part() {
    let world = World::new();
    let long = raw_calls(&[("submit_report", format!("{{\"title\": \"{}\"}}", "x".repeat(200_000)))]);
    let model = Script::of(vec![long, submits("action_required", &[QUOTE])]);
    world.report(&model).await;
    let answer = &answers(&model.requests()[1])[0];
    assert!(answer.contains("the report has 200013 bytes, and 131072 at most are read"), "{answer}");

    let world = World::new();
    let invented = [("E1", "OOMKilled by the kernel"); 300];
    let model = Script::of(vec![submits("action_required", &invented), submits("action_required", &[QUOTE])]);
    world.report(&model).await;
    let answer = &answers(&model.requests()[1])[0];
    assert!(answer.contains("and 261 more") && answer.len() < 12_000, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_report_in_which_a_key_stands_twice_is_refused_and_mended_once() {
    let world = World::new();
    let twice = r#"{"verdict": "no_action", "verdict": "action_required", "title": "t"}"#;
    let twice = raw_calls(&[("submit_report", twice.to_owned())]);
    let model = Script::of(vec![twice, submits("action_required", &[QUOTE])]);
    let report = world.report(&model).await;
    let answer = &answers(&model.requests()[1])[0];
    assert!(answer.contains("the key \"verdict\" stands twice"), "{answer}");
    assert_eq!(report.verdict, Verdict::ActionRequired);
}

#[tokio::test(start_paused = true)]
async fn an_invented_quote_is_caught_after_one_repair() {
    let world = World::new();
    let invented = [("E1", "OOMKilled by the kernel")];
    let model =
        Script::of(vec![submits("action_required", &invented), submits("action_required", &invented)]);
    let report = world.report(&model).await;
    let requests = model.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].force.as_deref(), Some("submit_report"));
    let answer = &answers(&requests[1])[0];
    assert!(answer.contains("E1 \"OOMKilled by the kernel\" does not stand there"), "{answer}");
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert_eq!(report.hypotheses[0].supported, Some(false));
    assert_eq!(report.hypotheses[0].evidence[0].found, Some(false));
    assert!(
        report.gaps.iter().any(|g| g.contains("concluded action_required, but no hypothesis is supported"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_mended_report_counts() {
    let world = World::new();
    let model = Script::of(vec![
        calls(&[("submit_report", submission("maybe", &[QUOTE]))]),
        submits("action_required", &[QUOTE]),
    ]);
    let report = world.report(&model).await;
    assert_eq!(report.verdict, Verdict::ActionRequired);
    let answer = &answers(&model.requests()[1])[0];
    assert!(answer.contains("/verdict: \"maybe\" is not one of"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_invented_quote_is_struck_out_and_a_good_one_carries_its_hypothesis() {
    let world = World::new();
    let both = [QUOTE, ("E7", "something else entirely")];
    let model = Script::of(vec![submits("no_action", &both), submits("no_action", &both)]);
    let report = world.report(&model).await;
    assert!(answers(&model.requests()[1])[0].contains("E7"), "the model may mend it first");
    assert_eq!(report.hypotheses[0].supported, Some(true));
    assert_eq!(report.verdict, Verdict::NoAction);
    let found: Vec<_> = report.hypotheses[0].evidence.iter().map(|c| c.found).collect();
    assert_eq!(found, [Some(true), Some(false)]);
}

#[tokio::test(start_paused = true)]
async fn confidence_is_a_chance() {
    let world = World::new();
    let mut wild = submission("action_required", &[QUOTE]);
    wild["hypotheses"][0]["confidence"] = json!(95);
    let report = world.report(&Script::of(vec![calls(&[("submit_report", wild)])])).await;
    assert_eq!(report.hypotheses[0].confidence, Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn the_last_turn_forces_submit_report() {
    let mut world = World::new();
    world.card.max_iterations = 3;
    let model = Script::of(vec![calls(&[pod()]), says("thinking"), submits("action_required", &[QUOTE])]);
    world.report(&model).await;
    let forced: Vec<_> = model.requests().iter().map(|r| r.force.clone()).collect();
    assert_eq!(forced, [None, None, Some("submit_report".to_owned())]);
    assert_eq!(model.requests()[0].tools, model.requests()[2].tools);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_never_reports_gives_an_evidence_only_report() {
    let mut world = World::new();
    world.card.max_iterations = 2;
    let model = Script::of(vec![says(""), calls(&[pod()]), calls(&[pod()])]);
    let report = world.report(&model).await;
    assert_eq!((report.source, report.verdict), (ReportSource::EvidenceOnly, Verdict::Inconclusive));
    assert!(report.summary.contains("submitted no report within 3 turns"), "{}", report.summary);
    assert_eq!(world.tools.called().len(), 1, "what the last turn asked for is not called");
    assert_eq!(report.usage.turns, 3);
    let offered =
        |n: usize| model.requests()[n].tools.iter().map(|tool| tool.name.clone()).collect::<Vec<_>>();
    assert!(offered(1).len() > 1, "the cached prefix stays as long as it can");
    assert_eq!(offered(2), ["submit_report"]);
    assert!(
        report.notes.iter().any(|note| note.contains("offered nothing but the report")),
        "{:?}",
        report.notes
    );
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_written_as_text_is_a_report_fenced_or_not() {
    let written = submission("action_required", &[QUOTE]).to_string();
    for text in
        [written.clone(), format!("Here it is:\n```json\n{written}\n```\n"), format!("```\n{written}```")]
    {
        let world = World::new();
        let model = Script::of(vec![calls(&[pod()]), says(&text)]);
        let report = world.report(&model).await;
        assert_eq!((report.source, report.verdict), (ReportSource::Model, Verdict::ActionRequired), "{text}");
    }
    // What does not keep the schema is text, and the model is told so.
    let world = World::new();
    let model = Script::of(vec![says(r#"{"verdict": "no_action"}"#), submits("action_required", &[QUOTE])]);
    world.report(&model).await;
    assert_eq!(model.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_report_in_text_whose_quotes_are_not_there_is_mended_as_one_that_was_called() {
    let world = World::new();
    let written = submission("action_required", &[("E1", "nowhere to be found")]).to_string();
    let model = Script::of(vec![says(&written), submits("action_required", &[QUOTE])]);
    let report = world.report(&model).await;
    assert_eq!((report.verdict, model.requests().len()), (Verdict::ActionRequired, 2));
}

#[tokio::test(start_paused = true)]
async fn a_report_that_was_cut_off_is_asked_for_once_more_with_room() {
    let mut world = World::new();
    world.card.max_iterations = 1;
    let mut cut = raw_calls(&[("submit_report", r#"{"verdict": "action_req"#.to_owned())]);
    cut.incomplete = Some(Incomplete::NoRoom);
    let model = Script::of(vec![cut, submits("action_required", &[QUOTE])]);
    let report = world.report(&model).await;
    assert_eq!((report.source, report.verdict), (ReportSource::Model, Verdict::ActionRequired));
    let room: Vec<u32> = model.requests().iter().map(|request| request.max_output_tokens).collect();
    assert_eq!(room[1], room[0] * 2);
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_and_plain_text_are_reminded() {
    let world = World::new();
    let model = Script::of(vec![says(""), says("It is the secret."), submits("action_required", &[QUOTE])]);
    world.report(&model).await;
    let reminders: Vec<String> = model.requests()[2]
        .input
        .iter()
        .skip(1)
        .filter_map(|i| if let Item::User { text } = i { Some(text.clone()) } else { None })
        .collect();
    assert_eq!(reminders.len(), 2);
    assert!(reminders[0].starts_with("Your answer was empty.") && reminders[1].starts_with("Text alone"));
}

#[tokio::test(start_paused = true)]
async fn each_request_begins_with_the_one_before() {
    let world = World::new();
    let model = Script::of(vec![
        calls(&[pod(), ("k8s__log", json!({"namespace": "web"}))]),
        says("hm"),
        calls(&[
            ("read_evidence", json!({"id": "E1", "pattern": "secret", "lines": null})),
            ("nope", json!({})),
        ]),
        submits("no_action", &[("E1", "never said anywhere")]),
        submits("action_required", &[QUOTE]),
    ]);
    world.report(&model).await;
    let requests = model.requests();
    assert_eq!(requests.len(), 5);
    for pair in requests.windows(2) {
        assert_eq!(pair[0].input, pair[1].input[..pair[0].input.len()]);
        assert_eq!((&pair[0].instructions, &pair[0].tools), (&pair[1].instructions, &pair[1].tools));
        assert_eq!(pair[0].cache_key, pair[1].cache_key);
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_are_taken_out_before_anything_is_stored_or_sent() {
    let world = World::new();
    let model = Script::of(vec![
        calls(&[("k8s__log", json!({"namespace": "web"}))]),
        submits("action_required", &[("E2", "token [redacted: configured-secret]")]),
    ]);
    let report = world.report(&model).await;
    assert_eq!(report.verdict, Verdict::ActionRequired);
    for child in world.store.bodies() {
        assert!(!child.body.contains("swordfish"), "{:?}", child.name);
    }
    assert!(!format!("{:?}", model.requests()).contains("swordfish"));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_the_model_writes_itself_is_neither_stored_nor_called_with() {
    let world = World::new();
    let model = Script::of(vec![
        calls(&[("k8s__log", json!({"namespace": "swordfish-1234"}))]),
        submits("action_required", &[QUOTE]),
    ]);
    world.report(&model).await;
    assert!(world.store.bodies().iter().all(|child| !child.body.contains("swordfish")));
    assert!(
        world.tools.called().iter().all(|call| !call.contains("swordfish")),
        "{:?}",
        world.tools.called()
    );
}

#[tokio::test(start_paused = true)]
async fn a_secret_in_the_alert_reaches_neither_the_model_nor_the_store() {
    let mut told = web_alert();
    told.alerts[0].annotations.insert("description".into(), "use swordfish-1234".into());
    let mut card = card();
    card.prompt.text = "{{ annotations.description }}".into();
    card.evidence[0].arguments["namespace"] = json!("{{ annotations.description }}");
    let world = World::of(card, &[told]);
    let model = Script::of(vec![submits("inconclusive", &[])]);
    world.report(&model).await;
    // Nor a tool: what a worker knows for a secret is taken out of the alert before anything is made of it.
    let called = world.tools.called();
    assert_eq!(called, ["k8s.events {\"namespace\":\"use [redacted: configured-secret]\"}"]);
    assert!(!format!("{:?}", model.requests()).contains("swordfish"));
    let ours = world.store.bodies().into_iter().filter(|c| !matches!(c.name, ChildName::Snapshot(_)));
    assert!(ours.map(|c| c.body).all(|body| !body.contains("swordfish")));
}

#[tokio::test(start_paused = true)]
async fn the_same_call_is_answered_from_what_is_held_and_hinted_at_the_third_time() {
    let world = World::new();
    let events = || calls(&[("k8s__events", json!({"namespace": "web"}))]);
    let model = Script::of(vec![events(), events(), submits("action_required", &[QUOTE])]);
    world.report(&model).await;
    assert_eq!(world.tools.called().len(), 1);
    let answers = answers(&model.requests()[2]);
    assert!(
        answers[0].starts_with("[E1] This very call") && !answers[0].contains("three times"),
        "{answers:?}"
    );
    assert!(answers[1].contains("three times"), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_server_did_not_answer_may_be_asked_again() {
    let world = World::new();
    world.tools.fails.lock().unwrap().insert("k8s.pod".into(), 1);
    let model = Script::of(vec![
        calls(&[pod(), pod()]),
        calls(&[pod()]),
        submits("action_required", &[("E3", "ContainerCreating")]),
    ]);
    let report = world.report(&model).await;
    assert_eq!(world.tools.called().len(), 3, "once by the card, once in vain, once more");
    assert_eq!(report.verdict, Verdict::ActionRequired);
    assert!(
        report.gaps.iter().any(|g| g == "E2 (k8s.pod) gave no answer: no answer in time"),
        "{:?}",
        report.gaps
    );
}

#[tokio::test(start_paused = true)]
async fn evidence_is_numbered_by_the_card_first_and_then_in_the_order_of_the_calls() {
    let world = World::new();
    let model = Script::of(vec![
        calls(&[("nope", json!({})), ("k8s__log", json!({"namespace": "web"})), pod()]),
        calls(&[pod(), ("k8s__pod", json!({"namespace": "kube-system"}))]),
        submits("action_required", &[QUOTE]),
    ]);
    world.report(&model).await;
    let evidence = evidence_of(&world.store.bodies());
    let told: Vec<_> = evidence.iter().map(|e| (e.id.as_str(), e.tool.as_str(), e.turn)).collect();
    assert_eq!(
        told,
        [("E1", "k8s.events", 0), ("E2", "k8s.log", 1), ("E3", "k8s.pod", 1), ("E4", "k8s.pod", 2)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_a_gap_and_its_tools_are_absent() {
    let mut world = World::new();
    world.card.tools.insert(sentinel_testkit::builders::tool_id("prom.query"));
    let model = Script::of(vec![submits("action_required", &[QUOTE])]);
    let report = world.report(&model).await;
    assert!(report.gaps.iter().any(|g| g == "The tools of server prom were not there: connection refused"));
    assert!(model.requests()[0].tools.iter().all(|t| !t.name.starts_with("prom")));
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_hangs_is_cut_off_and_the_run_goes_on() {
    let mut world = World::new();
    world.tools.hangs = Some("k8s.pod".into());
    let model = Script::of(vec![calls(&[pod()]), submits("action_required", &[QUOTE])]);
    let report = world.report(&model).await;
    assert!(
        report.gaps.iter().any(|g| g.contains("k8s.pod did not answer within 120 s")),
        "{:?}",
        report.gaps
    );
}

#[tokio::test(start_paused = true)]
async fn a_report_ends_the_turn_whatever_else_it_asks_for() {
    let world = World::new();
    let mut both =
        vec![pod(), ("submit_report", submission("action_required", &[("E1", "never said anywhere")]))];
    both.push(("submit_report", submission("action_required", &[QUOTE])));
    let model = Script::of(vec![calls(&both), submits("action_required", &[QUOTE])]);
    let report = world.report(&model).await;
    assert_eq!(report.verdict, Verdict::ActionRequired);
    assert_eq!(world.tools.called().len(), 1);
    let answers = answers(&model.requests()[1]);
    assert_eq!(answers.len(), 3, "each call is answered, or the next request is refused");
    assert!(answers[0].starts_with("Not called") && answers[2].starts_with("Not called"), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_report_in_the_last_turn_is_not_mended_any_more() {
    let mut world = World::new();
    world.card.max_iterations = 1;
    let model = Script::of(vec![submits("no_action", &[("E1", "never said anywhere")])]);
    let report = world.report(&model).await;
    assert_eq!((report.source, report.verdict), (ReportSource::Model, Verdict::Inconclusive));
    let unreadable = Script::of(vec![raw_calls(&[("submit_report", "{\"verdict\":".into())])]);
    let mut world = World::new();
    world.card.max_iterations = 1;
    let report = world.report(&unreadable).await;
    assert_eq!(report.source, ReportSource::EvidenceOnly);
    assert!(
        report.summary.contains("the model's report could not be read: the report is not JSON"),
        "{}",
        report.summary
    );
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_is_worse_leaves_the_report_before_it() {
    let world = World::new();
    let weak = submits("action_required", &[("E1", "never said anywhere")]);
    let report = world.report(&Script::of(vec![weak.clone(), says("I give up.")])).await;
    assert_eq!(report.title, "The api pod cannot start");
    let world = World::new();
    let broken = calls(&[("submit_report", json!({}))]);
    let report = world.report(&Script::of(vec![weak, broken])).await;
    assert_eq!((report.title.as_str(), report.verdict), ("The api pod cannot start", Verdict::Inconclusive));
}

#[tokio::test(start_paused = true)]
async fn one_turn_does_not_call_more_than_sixteen_tools() {
    let world = World::new();
    let many: Vec<_> = (0..20).map(|i| ("k8s__pod", json!({"namespace": format!("n{i}")}))).collect();
    let model = Script::of(vec![calls(&many), submits("action_required", &[QUOTE])]);
    world.report(&model).await;
    assert_eq!(world.tools.called().len(), 17);
    let refused = answers(&model.requests()[1]).iter().filter(|a| a.contains("at most 16 tools")).count();
    assert_eq!(refused, 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_short_or_only_repeats_the_alert_supports_nothing() {
    let mut world = World::new();
    world.tools.outputs.insert("k8s.events".into(), "Warning: api-7d9 is not ready, code 7".into());
    let cites = [("E1", "code 7"), ("E1", "api-7d9 is not ready")];
    let model = Script::of(vec![submits("no_action", &cites), submits("no_action", &cites)]);
    let report = world.report(&model).await;
    let answer = &answers(&model.requests()[1])[0];
    assert!(answer.contains("shorter than 8") && answer.contains("stands in the alert itself"), "{answer}");
    let found: Vec<_> = report.hypotheses[0].evidence.iter().map(|c| c.found).collect();
    assert_eq!((found, report.hypotheses[0].supported), (vec![Some(true), Some(true)], Some(false)));
    assert_eq!(report.verdict, Verdict::Inconclusive);
}

#[tokio::test(start_paused = true)]
async fn an_honest_inconclusive_needs_no_repair() {
    let world = World::new();
    let model = Script::of(vec![submits("inconclusive", &[])]);
    assert_eq!(world.report(&model).await.verdict, Verdict::Inconclusive);
    assert_eq!(model.requests().len(), 1);
}
