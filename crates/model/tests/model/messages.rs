//! Anthropic's Messages API at the wire: what is sent, and what the service's own errors become.

use sentinel_investigation::ports::{Api, Incomplete, Item, Model, ModelError, TurnResponse};
use sentinel_model::{Auth, ServiceSettings, Services};
use sentinel_testkit::anthropic::{
    error_body, message, redacted_thinking, refusal, text, thinking, tool_use, tool_uses,
};
use sentinel_testkit::openai::{Scripted, ScriptedOpenAi};
use serde_json::{Value, json};

use crate::support::*;

fn service(server: &ScriptedOpenAi, effort: Option<&str>) -> ServiceSettings {
    ServiceSettings {
        auth: Auth::Header { name: "x-api-key".parse().unwrap(), key: KEY.into() },
        reasoning_effort: effort.map(str::to_owned),
        ..settings(Api::Messages, &server.base_url())
    }
}

fn model(server: &ScriptedOpenAi, effort: Option<&str>) -> Services {
    by(service(server, effort), vec![])
}

fn outputs(turn: &TurnResponse) -> Vec<Item> {
    let output = |id: &str| Item::CallOutput { call_id: id.to_owned(), output: format!("[E1] of {id}") };
    turn.calls().map(|call| output(&call.call_id)).collect()
}

#[tokio::test]
async fn a_conversation_with_thoughts_calls_and_a_forced_report_is_on_the_contract() {
    let first = message(
        vec![
            thinking("The pod is pending."),
            redacted_thinking("c2VhbGVk"),
            tool_use("k8s__pods_get", &json!({"name": "a"}), "toolu_1"),
            tool_use("k8s__pods_get", &json!({"name": "b"}), "toolu_2"),
        ],
        "tool_use",
    );
    let server = ScriptedOpenAi::answering([first, text("done")]).await;
    let model = model(&server, Some("medium"));
    let turn = model.respond(&request("claude", task()), LONG).await.unwrap();
    let mut input = task();
    input.push(answered_by("claude", &turn));
    input.extend(outputs(&turn));
    let mut last = request("claude", input);
    last.force = Some("k8s__pods_get".to_owned());
    assert_eq!(model.respond(&last, LONG).await.unwrap().text(), "done");
    let requests = server.finish();
    assert_eq!(requests[0].headers["x-api-key"], KEY);
    insta::assert_json_snapshot!(requests[1].body);
}

#[tokio::test]
async fn thoughts_whose_words_were_changed_and_thoughts_of_another_model_stay_here() {
    let answer = message(
        vec![thinking("The password is hunter2."), tool_use("k8s__pods_get", &json!({}), "toolu_1")],
        "tool_use",
    );
    let server = ScriptedOpenAi::answering([answer, text("x"), text("y"), text("z")]).await;
    let model = model(&server, Some("low"));
    let turn = model.respond(&request("claude", task()), LONG).await.unwrap();
    let conversation =
        |turn: &TurnResponse| [task(), vec![answered_by("claude", turn)], outputs(turn)].concat();
    let mut changed = turn.clone();
    if let sentinel_investigation::ports::Said::Reasoning { text } = &mut changed.outputs[0].said {
        *text = "The password is [secret].".to_owned();
    }
    for (name, turn) in [("claude", &turn), ("claude", &changed), ("another", &turn)] {
        model.respond(&request(name, conversation(turn)), LONG).await.unwrap();
    }
    let kinds: Vec<Vec<Value>> = server.finish()[1..]
        .iter()
        .map(|request| {
            let blocks = request.body["messages"][1]["content"].as_array().unwrap();
            blocks.iter().map(|block| block["type"].clone()).collect()
        })
        .collect();
    assert_eq!(
        kinds,
        [vec![json!("thinking"), json!("tool_use")], vec![json!("tool_use")], vec![json!("tool_use")]]
    );
}

#[tokio::test]
async fn what_thinks_is_not_forced_and_what_does_not_think_is_until_the_service_refuses_it() {
    let forced = |name: &str| {
        let mut forced = request(name, task());
        forced.force = Some("k8s__pods_get".to_owned());
        forced
    };
    let call = || Scripted::Json(tool_uses(&[("k8s__pods_get", json!({}), "toolu_1")]));
    let refused = |message: &str| Scripted::Status(400, vec![], error_body("invalid_request_error", message));
    let always_thinks = "Thinking may not be enabled when tool_choice forces tool use.";
    let server = ScriptedOpenAi::answering([
        call(),
        call(),
        refused(always_thinks),
        refused(always_thinks),
        call(),
        call(),
    ])
    .await;
    model(&server, Some("low")).respond(&forced("claude"), LONG).await.unwrap();
    let plain = model(&server, None);
    plain.respond(&forced("claude"), LONG).await.unwrap();
    plain.respond(&forced("always-thinks"), LONG).await.unwrap();
    plain.respond(&forced("always-thinks"), LONG).await.unwrap();
    let requests = server.finish();
    let choices: Vec<&str> =
        requests.iter().map(|r| r.body["tool_choice"]["type"].as_str().unwrap()).collect();
    assert_eq!(choices, ["auto", "tool", "tool", "any", "auto", "auto"]);
    let closing = |n: usize| {
        requests[n].body["messages"][0]["content"].as_array().unwrap().last().unwrap()["text"].clone()
    };
    for n in [0, 3, 4, 5] {
        assert_eq!(closing(n), "Call k8s__pods_get now, and nothing else.", "{n}");
    }
    let tools = |n: usize| &requests[n].body["tools"];
    assert!((1..requests.len()).all(|n| tools(n) == tools(0)));
}

#[tokio::test]
async fn a_model_that_does_not_think_this_way_is_asked_without() {
    let refused = |message: &str| Scripted::Status(400, vec![], error_body("invalid_request_error", message));
    let server = ScriptedOpenAi::answering([
        refused("thinking.type: Input tag 'adaptive' found using 'type' does not match any of the expected tags: 'disabled', 'enabled'"),
        refused("This model does not support the effort parameter."),
        text("x").into(),
        text("y").into(),
    ])
    .await;
    let model = model(&server, Some("high"));
    for _ in 0..2 {
        model.respond(&request("older", task()), LONG).await.unwrap();
    }
    let bodies: Vec<Value> = server.finish().into_iter().map(|request| request.body).collect();
    assert_eq!(
        (&bodies[0]["thinking"], &bodies[0]["output_config"]),
        (&json!({"type": "adaptive"}), &json!({"effort": "high"}))
    );
    for body in &bodies[2..] {
        assert!(body.get("thinking").is_none() && body.get("output_config").is_none(), "{body}");
    }
}

#[tokio::test]
async fn an_overloaded_service_is_asked_again_and_a_spent_one_is_not() {
    let failed = |status, kind: &str| Scripted::Status(status, vec![], error_body(kind, "It says why."));
    let in_a_200 = Scripted::Garbage(error_body("overloaded_error", "Overloaded").into());
    let server =
        ScriptedOpenAi::answering([failed(529, "overloaded_error"), in_a_200, text("x").into()]).await;
    assert_eq!(model(&server, None).respond(&request("claude", task()), LONG).await.unwrap().text(), "x");
    assert_eq!(server.finish().len(), 3);
    for (status, kind) in [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
    ] {
        let server = ScriptedOpenAi::answering([failed(status, kind)]).await;
        let told = model(&server, None).respond(&request("claude", task()), LONG).await.unwrap_err();
        assert!(
            matches!(told, ModelError::Refused(_)) && told.to_string().contains("It says why."),
            "{status}: {told}"
        );
        assert_eq!(server.finish().len(), 1, "{status}");
    }
    let too_long = "prompt is too long: 210000 tokens > 200000 maximum";
    for (status, kind) in [(400, "invalid_request_error"), (413, "request_too_large")] {
        let server =
            ScriptedOpenAi::answering([Scripted::Status(status, vec![], error_body(kind, too_long))]).await;
        let told = model(&server, None).respond(&request("claude", task()), LONG).await.unwrap_err();
        assert!(matches!(told, ModelError::TooLong { .. }), "{told:?}");
    }
}

#[tokio::test]
async fn a_refusal_and_a_cut_off_answer_say_what_they_are() {
    let cut = message(vec![json!({"type": "text", "text": "half"})], "max_tokens");
    let server = ScriptedOpenAi::answering([refusal("It could enable harm."), cut]).await;
    let model = model(&server, None);
    let refused = model.respond(&request("claude", task()), LONG).await.unwrap();
    assert_eq!(
        (refused.incomplete.as_ref(), refused.text().as_str()),
        (Some(&Incomplete::Filter), "It could enable harm.")
    );
    let cut = model.respond(&request("claude", task()), LONG).await.unwrap();
    assert_eq!((cut.incomplete.as_ref(), cut.text().as_str()), (Some(&Incomplete::NoRoom), "half"));
}
