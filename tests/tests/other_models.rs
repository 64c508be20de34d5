//! Other interfaces and other models than the first: Chat Completions, the Messages API, and fallback models, through the
//! real program.

use sentinel_testkit::anthropic;
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{
    Scripted, ScriptedOpenAi, chat_answer, chat_function_calls, error_body, function_call, with_usage,
};
use sentinel_tests::Home;
use sentinel_tests::wire::{LOOPBACK, MODEL_KEY, report, trouble};
use serde_json::{Value, json};

async fn tools() -> FakeMcp {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    FakeMcp::builder().tool("look", schema, "Looks", |_| Answer::text("all is well here")).start().await
}

fn home(openai: &str, card: &str, mcp: &FakeMcp) -> Home {
    Home::with(&format!(
        "{LOOPBACK}openai: {{api-key: \"{MODEL_KEY}\", {openai}}}\n\
         mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         incident-cards:\n- {{name: trouble, resource: Trouble, prompt: Find out why., tools: [fake.look]{card}}}\n",
        mcp.url()
    ))
}

#[tokio::test]
async fn chat_completions_investigates_and_broken_parallel_calls_are_put_right() {
    // Two calls without ids of their own, with arguments as objects: not on the contract, and what services send.
    let calls = json!([
        {"index": 0, "function": {"name": "fake__look", "arguments": {"n": 1}}},
        {"index": 0, "function": {"name": "fake__look", "arguments": {"n": 2}}},
    ]);
    let broken = json!({
        "model": "local-model", "usage": {"prompt_tokens": 70, "completion_tokens": 7},
        "choices": [{"message": {"role": "assistant", "content": null, "tool_calls": calls}}],
    });
    let ends = [("submit_report", report("E2", "all is well here"), "c9")];
    let model = ScriptedOpenAi::answering([
        Scripted::Garbage(broken.to_string().into()),
        chat_function_calls(&ends).into(),
    ])
    .await;
    let mcp = tools().await;
    let home = home(&format!("api: chat, model: local-model, base-url: \"{}\"", model.base_url()), "", &mcp);
    let up = home.up().await;
    let done = up.ended(&up.open(&trouble("one")).await).await;
    assert_eq!((&done["state"], &done["verdict"]), (&json!("done"), &json!("action_required")), "{done:#}");
    assert_eq!(mcp.calls().len(), 2);
    let usage = &done["report"]["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(170), &json!(17)), "{done:#}");
    let requests = model.finish();
    assert_eq!(requests[1].path, "/v1/chat/completions");
    let roles: Vec<&str> = requests[1].body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "tool"]);
}

#[tokio::test]
async fn a_chat_model_that_only_refuses_is_forced_and_its_words_are_told() {
    let refusal = json!({"role": "assistant", "content": null, "refusal": "I cannot help with that."});
    let model = ScriptedOpenAi::with(move |_, _| chat_answer(&refusal, "stop").into()).await;
    let mcp = tools().await;
    let home = home(
        &format!("api: chat, model: local-model, base-url: \"{}\"", model.base_url()),
        ", max-iterations: 2",
        &mcp,
    );
    let up = home.up().await;
    let done = up.ended(&up.open(&trouble("one")).await).await;
    assert_eq!((&done["state"], &done["verdict"]), (&json!("done"), &json!("inconclusive")), "{done:#}");
    let summary = done["report"]["summary"].as_str().unwrap();
    assert!(summary.contains("no report within 3 turns; it said: I cannot help with that."), "{summary}");
    let forced = &model.finish().pop().unwrap().body["tool_choice"];
    assert_eq!(forced, &json!({"type": "function", "function": {"name": "submit_report"}}));
}

#[tokio::test]
async fn a_fallback_model_takes_over_when_the_first_is_out_and_the_report_says_why() {
    let quota = json!({"error": {
        "message": "You exceeded your current quota", "type": "insufficient_quota", "param": null,
        "code": "insufficient_quota",
    }});
    let out = [
        (Scripted::Status(429, vec![], quota.to_string()), 1, "You exceeded your current quota"),
        (
            Scripted::Status(
                503,
                vec![("retry-after-ms", "1".into())],
                error_body("server_error", "Overloaded"),
            ),
            4,
            "Overloaded",
        ),
    ];
    for (answer, tries, told) in out {
        let model = ScriptedOpenAi::with(move |request: &Value, _| match request["model"].as_str() {
            Some("first") => answer.clone(),
            _ => function_call("submit_report", &report("E1", "all is well here"), "c1").into(),
        })
        .await;
        let mcp = tools().await;
        let home = home(
            &format!("model: first, base-url: \"{}\"", model.base_url()),
            ", fallback-models: [second], evidence: [{tool: fake.look, arguments: {n: 1}}]",
            &mcp,
        );
        let up = home.up().await;
        let done = up.ended(&up.open(&trouble("one")).await).await;
        assert_eq!((&done["state"], &done["attempts"]), (&json!("done"), &json!(1)), "{done:#}");
        let note = done["report"]["notes"][0].as_str().unwrap();
        assert!(
            note.starts_with("Turn 1 was answered by the fallback model second: first was out: "),
            "{note}"
        );
        assert!(note.contains(told), "{note}");
        let asked: Vec<Value> =
            model.finish().into_iter().map(|request| request.body["model"].clone()).collect();
        assert_eq!(asked.len(), tries + 1, "{asked:?}");
        let shown =
            home.run(&["incidents", "show", done["id"].as_str().unwrap(), "--data-dir", ".sentinel"], 0);
        assert!(shown.stdout.contains("fallback model second"), "{}", shown.stdout);
    }
}

#[tokio::test]
async fn a_run_that_begins_on_responses_and_ends_on_chat_by_way_of_messages_is_one_report_with_the_sum_of_the_costs()
 {
    let spent = || error_body("insufficient_quota", "Nothing is left on the account.");
    let first = ScriptedOpenAi::with(move |_, n| {
        if n > 0 {
            return Scripted::Status(402, vec![], spent());
        }
        with_usage(function_call("fake__look", &json!({"n": 1}), "call_1"), 1000, 0, 100).into()
    })
    .await;
    let second = ScriptedOpenAi::with(move |_, n| {
        if n > 0 {
            return Scripted::Status(
                402,
                vec![],
                anthropic::error_body("billing_error", "No credit is left."),
            );
        }
        let blocks = vec![
            anthropic::thinking("The queue, then."),
            anthropic::tool_use("fake__look", &json!({"n": 2}), "toolu_1"),
        ];
        anthropic::with_usage(anthropic::message(blocks, "tool_use"), 2000, 500, 1000, 100).into()
    })
    .await;
    let ends = [("submit_report", report("E1", "all is well here"), "c9")];
    let third = ScriptedOpenAi::answering([chat_function_calls(&ends)]).await;
    let mcp = tools().await;
    let home = Home::with(&format!(
        "{LOOPBACK}openai: {{api-key: \"{MODEL_KEY}\", model: first, base-url: \"{}\", prices: {{first: {{input: 1, output: 10}}}}}}\n\
         model-services:\n\
         - {{name: anthropic, api: messages, api-key: \"{MODEL_KEY}\", base-url: \"{}\", models: {{second: {{prices: {{input: 3, cached-input: 0.3, cache-write: 3.75, output: 15}}}}}}}}\n\
         - {{name: local, api: chat, auth: none, base-url: \"{}\", models: {{third: {{prices: {{input: 1, output: 1}}}}}}}}\n\
         mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         incident-cards:\n- {{name: trouble, resource: Trouble, prompt: Find out why., tools: [fake.look], \
         fallback-models: [{{service: anthropic, name: second}}, {{service: local, name: third}}]}}\n",
        first.base_url(),
        second.base_url(),
        third.base_url(),
        mcp.url()
    ));
    let up = home.up().await;
    let done = up.ended(&up.open(&trouble("one")).await).await;
    assert_eq!((&done["state"], &done["verdict"]), (&json!("done"), &json!("action_required")), "{done:#}");
    let usage = &done["report"]["usage"];
    assert_eq!(
        (&usage["turns"], &usage["input_tokens"], &usage["cached_tokens"], &usage["output_tokens"]),
        (&json!(3), &json!(3100), &json!(500), &json!(210)),
        "{done:#}"
    );
    // 0.002 on Responses, 0.0069 on Messages (500 read from the cache, 1,000 written to it), 0.00011 on Chat.
    let usd = usage["usd"].as_f64().unwrap();
    assert!((usd - 0.00901).abs() < 1e-9, "{usd}");
    assert_eq!(mcp.calls().len(), 2);
    // What the first two found is what the third reads, and what the report quotes.
    let asked = third.finish().pop().unwrap().body;
    let roles: Vec<&str> =
        asked["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant", "tool"]);
    let asked = second.finish().remove(0);
    assert_eq!(asked.path, "/v1/messages");
    assert_eq!(asked.body["messages"][2]["content"][0]["tool_use_id"], "call_1");
    let notes = done["report"]["notes"].to_string();
    assert!(
        notes.contains("Nothing is left on the account.") && notes.contains("No credit is left."),
        "{notes}"
    );
}
