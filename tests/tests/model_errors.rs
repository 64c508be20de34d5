//! Models that refuse, are out, or answer nonsense, through the real program.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;

use sentinel_testkit::hook::HookServer;
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{
    Scripted, ScriptedOpenAi, error_body, function_call, function_call_item, message, response, with_usage,
};
use sentinel_tests::wire::{LOOPBACK, MODEL_KEY, openai, output_of, report, trouble};
use sentinel_tests::{Home, Sentinel};
use serde_json::{Value, json};

/// One tool, whose argument has to be a number.
async fn tools() -> FakeMcp {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    FakeMcp::builder().tool("look", schema, "Looks", |_| Answer::text("all is well here")).start().await
}

fn home(model: &ScriptedOpenAi, mcp: &FakeMcp) -> Home {
    Home::with(&format!(
        "{LOOPBACK}{}mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         incident-cards:\n\
         - name: trouble\n  resource: Trouble\n  prompt: Find out why.\n  tools: [fake.look]\n  evidence: \
         [{{tool: fake.look, arguments: {{n: 1}}}}]\n",
        openai(&model.base_url()),
        mcp.url()
    ))
}

fn good_report(call: &str) -> Scripted {
    function_call("submit_report", &report("E1", "all is well here"), call).into()
}

fn status(code: u16, headers: &[(&'static str, &str)], message: &str) -> Scripted {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Scripted::Status(code, headers, error_body("an_error", message))
}

/// Runs one incident with a model that answers like this, and gives its end and the requests.
async fn investigated(answers: Vec<Scripted>) -> (Value, Vec<Value>) {
    let (mcp, model) = (tools().await, ScriptedOpenAi::answering(answers).await);
    let home = home(&model, &mcp);
    let up = home.up().await;
    let ended = up.ended(&up.open(&trouble("one")).await).await;
    (ended, model.finish().into_iter().map(|request| request.body).collect())
}

/// Refusals that no other try would change: the answer, and what people are told of it.
fn refusals() -> Vec<(Scripted, &'static str)> {
    let quota = json!({"error": {
        "message": "You exceeded your current quota", "type": "insufficient_quota", "param": null,
        "code": "insufficient_quota",
    }});
    vec![
        (status(401, &[], &format!("Incorrect API key provided: {MODEL_KEY}")), "Incorrect API key provided"),
        (status(403, &[], &format!("{MODEL_KEY} may not do that")), "may not do that"),
        (Scripted::Status(429, vec![], quota.to_string()), "You exceeded your current quota"),
        (status(404, &[], "The model has been retired"), "POST /v1/responses: The model has been retired"),
    ]
}

#[tokio::test]
async fn a_wrong_key_a_used_up_quota_and_a_retired_model_cost_the_conclusion_and_a_webhook_is_told_why() {
    for (refusal, told) in refusals() {
        let (mcp, hook) = (tools().await, HookServer::start([]).await);
        let model = ScriptedOpenAi::answering([refusal]).await;
        let home = home(&model, &mcp);
        let config = fs::read_to_string(home.path().join("config.yaml")).unwrap();
        let sinks = format!("sinks: [{{name: hook, type: webhook, url: \"{}\"}}]\n", hook.url());
        home.write("config.yaml", &format!("{sinks}{config}  sinks: [hook]\n"));
        let up = home.up().await;
        let id = up.open(&trouble("one")).await;
        let done = up.ended(&id).await;
        assert_eq!(
            (&done["state"], &done["report"]["source"], &done["report"]["usage"]["usd"]),
            (&json!("done"), &json!("evidence_only"), &json!(0.0)),
            "{done:#}"
        );
        assert_eq!(done["evidence"].as_array().unwrap().len(), 1, "what was found out is kept: {done:#}");
        up.wait_for(&id, "the report to be told", |i| {
            Sentinel::told(i).iter().any(|told| told.starts_with("findings") && told.ends_with("sent"))
        })
        .await;
        let posted = hook.taken().iter().map(|posted| posted.body.to_string()).collect::<String>();
        assert!(posted.contains(told) && !posted.contains(MODEL_KEY), "{told}: {posted}");
        assert!(!done.to_string().contains(MODEL_KEY), "{done:#}");
        assert_eq!(model.finish().len(), 1);
    }
}

#[tokio::test]
async fn a_limit_an_outage_a_broken_connection_and_nonsense_are_tried_again() {
    let (done, requests) = investigated(vec![
        status(429, &[("retry-after", "0")], "Rate limit reached"),
        status(500, &[], "The server had an error"),
        Scripted::Close,
        good_report("c1"),
    ])
    .await;
    assert_eq!((&done["state"], &done["attempts"]), (&json!("done"), &json!(1)), "{done:#}");
    assert_eq!((&done["report"]["source"], requests.len()), (&json!("model"), 4));
    assert!(requests.iter().all(|request| request == &requests[0]), "a retry says something else");

    let (done, requests) = investigated(vec![Scripted::Garbage(b"<html>".to_vec()), good_report("c1")]).await;
    assert_eq!((&done["state"], &done["report"]["source"]), (&json!("done"), &json!("model")), "{done:#}");
    assert_eq!(requests.len(), 2);
}

#[tokio::test]
async fn a_model_that_stays_out_puts_the_incident_off_and_the_service_goes_on() {
    let (mcp, model) = (tools().await, ScriptedOpenAi::with(|_, _| status(503, &[], "Overloaded")).await);
    let home = home(&model, &mcp);
    let up = home.up().await;
    let id = up.open(&trouble("one")).await;
    let put_off = up.wait_for(&id, "a yield", |i| i["state"] == "pending" && !i["reason"].is_null()).await;
    assert!(put_off["reason"].as_str().unwrap().contains("Overloaded"), "{put_off:#}");
    assert_eq!(
        (&put_off["attempts"], &put_off["report"]),
        (&json!(0), &Value::Null),
        "a pause is no failed attempt"
    );
    assert_eq!(Sentinel::told(&put_off), Vec::<String>::new());
    assert!(model.requests().len() >= 4, "it was tried only {} times", model.requests().len());
    let evidence = put_off["evidence"].as_array().unwrap();
    assert_eq!((evidence.len(), mcp.calls().len()), (1, 1), "what was found out is kept: {put_off:#}");
    up.open(&trouble("two")).await;
}

#[tokio::test]
async fn an_answer_that_is_cut_off_on_its_way_each_time_puts_the_incident_off_with_that_reason() {
    let (mcp, model) = (tools().await, ScriptedOpenAi::with(|_, _| Scripted::Close).await);
    let home = home(&model, &mcp);
    let up = home.up().await;
    let id = up.open(&trouble("one")).await;
    let put_off = up.wait_for(&id, "a yield", |i| i["state"] == "pending" && !i["reason"].is_null()).await;
    let reason = put_off["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("the model did not answer: ") && reason.contains("the connection broke"),
        "{reason}"
    );
    assert_eq!(put_off["evidence"].as_array().unwrap().len(), 1, "what was found out is kept: {put_off:#}");
}

#[tokio::test]
async fn a_model_that_asks_for_more_time_than_a_call_has_is_not_asked_again_before() {
    let answer = |_: &Value, _| status(429, &[("retry-after", "3600")], "Come back later");
    let (mcp, model) = (tools().await, ScriptedOpenAi::with(answer).await);
    let home = home(&model, &mcp);
    let config = fs::read_to_string(home.path().join("config.yaml")).unwrap();
    home.write("config.yaml", &config.replace("openai: {", "openai: {timeout: 10s, "));
    let up = home.up().await;
    let id = up.open(&trouble("one")).await;
    let put_off = up.wait_for(&id, "a yield", |i| i["state"] == "pending" && !i["reason"].is_null()).await;
    assert!(put_off["reason"].as_str().unwrap().contains("Come back later"), "{put_off:#}");
    assert_eq!(model.requests().len(), 1);
}

#[tokio::test]
async fn what_a_model_gets_wrong_is_told_to_it_and_the_investigation_ends_nevertheless() {
    let wrong = response(vec![
        function_call_item("fake__fly", "{}", "c1"),
        function_call_item("fake__look", "no JSON", "c2"),
        function_call_item("fake__look", r#"{"n": "one"}"#, "c3"),
    ]);
    let bad_report = response(vec![function_call_item("submit_report", r#"{"verdict": "perhaps"}"#, "c4")]);
    let (done, requests) = investigated(vec![wrong.into(), bad_report.into(), good_report("c5")]).await;
    assert_eq!((&done["state"], &done["report"]["source"]), (&json!("done"), &json!("model")), "{done:#}");
    for (call, says) in
        [("c1", "not allowed"), ("c2", "not JSON"), ("c3", "break its schema"), ("c4", "was not accepted")]
    {
        let told = output_of(&requests[2], call).unwrap();
        assert!(told.contains(says), "{call}: {told}");
    }
    assert_eq!(done["report"]["usage"]["tool_calls"], 1, "only the card's own call left: {done:#}");
}

#[tokio::test]
async fn a_model_that_only_talks_or_says_nothing_is_asked_to_conclude_and_the_incident_ends() {
    let (done, requests) =
        investigated(vec![response(vec![]).into(), message("I wonder.").into(), good_report("c1")]).await;
    assert_eq!((&done["state"], &done["report"]["source"]), (&json!("done"), &json!("model")), "{done:#}");
    assert_eq!(requests.len(), 3);

    // One that never concludes is not asked for ever: `max-iterations` is 6.
    let (mcp, model) = (tools().await, ScriptedOpenAi::with(|_, _| message("I wonder.").into()).await);
    let home = home(&model, &mcp);
    let up = home.up().await;
    let ended = up.ended(&up.open(&trouble("one")).await).await;
    assert_eq!(ended["state"], "done", "{ended:#}");
    assert_eq!(ended["verdict"], "inconclusive", "{ended:#}");
    let requests = model.finish();
    assert_eq!(requests.len(), 7, "the last turn, and once more where nothing else is offered");
    for forced in &requests[5..] {
        assert_eq!(forced.body["tool_choice"]["name"], "submit_report", "a last turn is not forced");
    }
    let offered = |n: usize| requests[n].body["tools"].as_array().unwrap().len();
    assert!(offered(5) > 1 && offered(6) == 1, "{} and {}", offered(5), offered(6));
}

#[tokio::test]
async fn of_one_true_and_one_invented_quote_the_invented_one_is_caught_also_on_the_command_line() {
    let both = |call: &str| {
        let mut both = report("E1", "all is well here");
        both["hypotheses"].as_array_mut().unwrap().push(json!({
            "statement": "The disk burns.", "confidence": 0.9,
            "evidence": [{"id": "E1", "quote": "the disk is on fire"}],
        }));
        function_call("submit_report", &both, call)
    };
    let (mcp, model) = (tools().await, ScriptedOpenAi::answering([both("c1"), both("c2")]).await);
    let home = home(&model, &mcp);
    let up = home.up().await;
    let id = up.open(&trouble("one")).await;
    let done = up.ended(&id).await;
    assert_eq!(done["verdict"], "action_required", "one hypothesis is supported: {done:#}");
    let repair = output_of(&model.finish()[1].body, "c1").unwrap();
    assert!(repair.contains("\"the disk is on fire\" does not stand there"), "{repair}");
    assert!(!repair.contains("all is well here"), "{repair}");

    let shown = home.run(&["incidents", "show", &id, "--json"], 0).json();
    for (whose, report) in [("API", &done["report"]), ("command line", &shown["report"])] {
        let marks: Vec<_> = (0..2)
            .map(|n| &report["hypotheses"][n])
            .map(|h| (h["supported"].as_bool().unwrap(), h["evidence"][0]["found"].as_bool().unwrap()))
            .collect();
        assert_eq!(marks, [(true, true), (false, false)], "{whose}: {report:#}");
    }
    let text = home.run(&["incidents", "show", &id], 0).stdout;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("The disk burns. (90 %, NOT SUPPORTED, 0 of 1 quote found)"), "{text}");
    assert!(text.contains("“the disk is on fire” does not stand in E1"), "{text}");
}

#[tokio::test]
async fn an_invented_quote_may_be_mended_once_and_is_unsupported_after_that() {
    let invented =
        |call: &str| function_call("submit_report", &report("E1", "the disk is on fire"), call).into();
    let (done, requests) = investigated(vec![invented("c1"), invented("c2")]).await;
    assert_eq!((requests.len(), &done["verdict"]), (2, &json!("inconclusive")), "{done:#}");
    let hypothesis = &done["report"]["hypotheses"][0];
    assert_eq!(
        (&hypothesis["supported"], &hypothesis["evidence"][0]["found"]),
        (&json!(false), &json!(false))
    );
    assert!(output_of(&requests[1], "c1").unwrap().contains("does not stand there"));

    let (mended, requests) = investigated(vec![invented("c1"), good_report("c2")]).await;
    assert_eq!((requests.len(), &mended["verdict"]), (2, &json!("action_required")), "{mended:#}");
    assert_eq!(mended["report"]["hypotheses"][0]["supported"], true);
}

/// What the report of an incident says whose model always answers like this, and how often it was asked.
async fn always(answer: impl Fn() -> Scripted + Send + 'static) -> (Value, usize) {
    let (mcp, model) = (tools().await, ScriptedOpenAi::with(move |_, _| answer()).await);
    let home = home(&model, &mcp);
    let config = fs::read_to_string(home.path().join("config.yaml")).unwrap();
    home.write("config.yaml", &format!("{config}  max-iterations: 2\n"));
    let up = home.up().await;
    let ended = up.ended(&up.open(&trouble("one")).await).await;
    (ended, model.finish().len())
}

#[tokio::test]
async fn a_refusal_a_filtered_answer_and_silence_end_in_a_report_that_says_so() {
    let refusal = json!({
        "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "refusal", "refusal": "I cannot help with that."}],
    });
    let mut filtered = response(vec![]);
    filtered["status"] = json!("incomplete");
    filtered["incomplete_details"] = json!({"reason": "content_filter"});
    for (answer, told) in [
        (response(vec![refusal]), "it said: I cannot help with that."),
        (filtered, "its last answer ended early (content_filter)"),
        (response(vec![]), "its last answer was empty"),
    ] {
        let (ended, asked) = always(move || answer.clone().into()).await;
        assert_eq!(
            (&ended["state"], &ended["verdict"]),
            (&json!("done"), &json!("inconclusive")),
            "{ended:#}"
        );
        let summary = ended["report"]["summary"].as_str().unwrap();
        assert!(
            summary.contains("the model submitted no report within 3 turns") && summary.contains(told),
            "{summary}"
        );
        assert_eq!((&ended["report"]["source"], asked), (&json!("evidence_only"), 3));
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_bought_once_more_and_then_the_reason_is_told() {
    let whole = message("x").to_string();
    let html = vec![("content-type", "text/html".to_owned())];
    for (bad, told) in [
        (Scripted::Garbage(whole.as_bytes()[..whole.len() / 2].to_vec()), "it is not JSON"),
        (Scripted::Garbage(vec![b' '; 17 << 20]), "larger than 16 MB"),
        (
            Scripted::Status(200, html, "<html>Sign in</html>".into()),
            "it is not JSON, 20 bytes of type text/html",
        ),
    ] {
        let (mcp, model) = (tools().await, ScriptedOpenAi::with(move |_, _| bad.clone()).await);
        let home = home(&model, &mcp);
        let up = home.up().await;
        let id = up.open(&trouble("one")).await;
        let done = up.ended(&id).await;
        assert_eq!(done["report"]["source"], "evidence_only", "{done:#}");
        let summary = done["report"]["summary"].as_str().unwrap();
        assert!(summary.contains("the model's answer cannot be read") && summary.contains(told), "{summary}");
        assert_eq!(
            model.finish().len(),
            2,
            "an answer that was paid for is bought once more, not again and again"
        );
    }
}

#[tokio::test]
async fn an_error_in_an_answer_with_status_200_is_told_as_what_it_is() {
    let refused =
        json!({"error": {"message": "no such model", "type": "invalid_request_error", "code": 404}});
    let (done, requests) = investigated(vec![Scripted::Garbage(refused.to_string().into())]).await;
    let ended = (&done["state"], &done["report"]["source"], requests.len());
    assert_eq!(ended, (&json!("done"), &json!("evidence_only"), 1), "{done:#}");
    assert!(done["report"]["summary"].as_str().unwrap().contains("HTTP 404: no such model"), "{done:#}");

    let passing = json!({"error": {"message": "upstream is gone", "code": 502}});
    let (done, requests) =
        investigated(vec![Scripted::Garbage(passing.to_string().into()), good_report("c1")]).await;
    assert_eq!((&done["state"], requests.len()), (&json!("done"), 2), "{done:#}");
}

#[tokio::test]
async fn the_same_call_again_and_again_is_answered_with_a_hint_and_then_has_to_be_the_report() {
    let looks = |call: &str| function_call("fake__look", &json!({"n": 7}), call).into();
    let (done, requests) =
        investigated(vec![looks("c1"), looks("c2"), looks("c3"), looks("c4"), good_report("c5")]).await;
    assert_eq!((&done["state"], &done["report"]["source"]), (&json!("done"), &json!("model")), "{done:#}");
    assert_eq!(done["report"]["usage"]["tool_calls"], 2, "the card's call and the first of these: {done:#}");
    assert!(output_of(&requests[3], "c3").unwrap().contains("You have asked this three times or more"));
    assert_eq!(requests[3]["tool_choice"], "auto");
    assert_eq!(requests[4]["tool_choice"]["name"], "submit_report", "the fourth time it has to report");
}

#[tokio::test]
async fn tokens_and_dollars_of_one_investigation_force_its_report_and_the_gaps_say_which() {
    for (bound, told) in [
        ("max-tokens: 60000", "`max-tokens` (60000) were nearly used up"),
        ("max-usd: 0.025", "`max-usd` ($0.025) was nearly used up"),
    ] {
        let mcp = tools().await;
        let model = ScriptedOpenAi::with(|request, n| {
            let n = u64::try_from(n).unwrap();
            let turn = if request["tool_choice"]["name"] == "submit_report" {
                function_call("submit_report", &report("E1", "all is well here"), "last")
            } else {
                function_call("fake__look", &json!({"n": n + 2}), &format!("c{n}"))
            };
            // $0.0048 a turn.
            with_usage(turn, 11_000, 0, 250).into()
        })
        .await;
        let home = home(&model, &mcp);
        let config = fs::read_to_string(home.path().join("config.yaml")).unwrap();
        home.write("config.yaml", &format!("{config}  max-iterations: 20\n  {bound}\n"));
        let up = home.up().await;
        let done = up.ended(&up.open(&trouble("one")).await).await;
        assert_eq!(
            (&done["verdict"], &done["report"]["source"]),
            (&json!("action_required"), &json!("model"))
        );
        let usage = &done["report"]["usage"];
        assert!(usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap() <= 60_000);
        assert!(usage["usd"].as_f64().unwrap() <= 0.025, "{usage}");
        let turns = usage["turns"].as_u64().unwrap();
        assert!((2..20).contains(&turns), "{usage}");
        assert!(done["report"]["gaps"].to_string().contains(told), "{done:#}");
        assert_eq!(model.finish().len() as u64, turns);
    }
}
