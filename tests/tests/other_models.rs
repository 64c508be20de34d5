//! Other interfaces and other models than the first: Chat Completions, and fallback models, through the real program.

use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{
    Scripted, ScriptedOpenAi, chat_answer, chat_function_calls, error_body, function_call,
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
    assert!(summary.contains("no report within 2 turns; it said: I cannot help with that."), "{summary}");
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
