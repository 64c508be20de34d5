//! Chat Completions at the wire: what is sent, and what services get wrong.

use sentinel_investigation::ports::{Api, Approval, Incomplete, Item, Model, ModelError, TurnResponse};
use sentinel_model::{ServiceSettings, Services};
use sentinel_testkit::openai::{self, Scripted, ScriptedOpenAi, chat_function_calls, chat_message};
use serde_json::{Value, json};

use crate::support::*;

fn model(server: &ScriptedOpenAi) -> Services {
    by(settings(Api::Chat, &server.base_url()), vec![])
}

async fn answered(answer: Scripted) -> Result<TurnResponse, ModelError> {
    let server = ScriptedOpenAi::answering([answer]).await;
    model(&server).respond(&request("llama-3", task()), LONG).await
}

/// An answer that need not be on the contract.
fn off_contract(answer: &Value) -> Scripted {
    Scripted::Garbage(answer.to_string().into())
}

#[tokio::test]
async fn a_turn_its_calls_and_a_forced_report_are_on_the_contract() {
    let calls = [
        ("k8s__pods_get", json!({"name": "a"}), "call_1"),
        ("k8s__pods_get", json!({"name": "b"}), "call_2"),
    ];
    let server = ScriptedOpenAi::answering([chat_function_calls(&calls), chat_message("done")]).await;
    let model = model(&server);
    let first = model.respond(&request("llama-3", task()), LONG).await.unwrap();
    assert_eq!(
        (first.model.as_str(), first.usage.input_tokens, first.usage.output_tokens),
        ("scripted-model", 100, 10)
    );
    let mut input = task();
    input.push(answered_by("llama-3", &first));
    for (call, output) in first.calls().zip(["[E1] Pending", "[E2] Running"]) {
        input.push(Item::CallOutput { call_id: call.call_id.clone(), output: output.to_owned() });
    }
    let mut last = request("llama-3", input);
    last.force = Some("k8s__pods_get".to_owned());
    assert_eq!(model.respond(&last, LONG).await.unwrap().text(), "done");
    let requests = server.finish();
    insta::assert_json_snapshot!(requests[1].body);
    assert_eq!(requests[0].path, "/v1/chat/completions");
    assert_eq!(requests[0].headers["authorization"], format!("Bearer {KEY}"));
}

#[tokio::test]
async fn a_service_that_wants_the_newer_name_of_the_bound_is_sent_that_from_then_on() {
    let told = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    let refused = Scripted::Status(400, vec![], openai::error_body("invalid_request_error", told));
    let server =
        ScriptedOpenAi::answering([refused, chat_message("x").into(), chat_message("y").into()]).await;
    let mut settings = settings(Api::Chat, &server.base_url());
    settings.service_tier = Some("flex".to_owned());
    let model = by(settings, vec![]);
    for _ in 0..2 {
        model.respond(&request("a-deployment", task()), LONG).await.unwrap();
    }
    let bodies: Vec<Value> = server.finish().into_iter().map(|request| request.body).collect();
    assert_eq!((&bodies[0]["max_tokens"], &bodies[0]["service_tier"]), (&json!(4096), &json!("flex")));
    for body in &bodies[1..] {
        assert_eq!(
            (&body["reasoning_effort"], &body["max_completion_tokens"]),
            (&json!("low"), &json!(4096))
        );
        assert!(body.get("max_tokens").is_none(), "{body}");
    }
}

#[tokio::test]
async fn calls_that_a_service_broke_are_put_right_and_their_outputs_pair_up() {
    let message = json!({"role": "assistant", "content": "", "tool_calls": [
        {"index": 0, "function": {"name": "k8s__pods_get", "arguments": {"name": "a"}}},
        {"index": 0, "id": "", "type": "function", "function": {"name": "k8s__pods_get", "arguments": "{\"name\":\"b\"}"}},
        {"id": "same", "type": "function", "function": {"name": "k8s__pods_get"}},
        {"id": "same", "type": "function", "function": {"name": "k8s__pods_get", "arguments": null}},
    ]});
    let broken = json!({"choices": [{"message": message, "finish_reason": "stop"}]});
    let server = ScriptedOpenAi::answering([off_contract(&broken), chat_message("done").into()]).await;
    let model = model(&server);
    let first = model.respond(&request("llama-3", task()), LONG).await.unwrap();
    let arguments: Vec<&str> = first.calls().map(|call| call.arguments.as_str()).collect();
    assert_eq!(arguments, [r#"{"name":"a"}"#, r#"{"name":"b"}"#, "{}", "{}"]);
    let mut input = task();
    input.push(answered_by("llama-3", &first));
    for call in first.calls() {
        input.push(Item::CallOutput { call_id: call.call_id.clone(), output: "x".to_owned() });
    }
    // The server refuses calls without an id of their own, and outputs without a call.
    model.respond(&request("llama-3", input), LONG).await.unwrap();
    server.finish();
}

#[tokio::test]
async fn a_run_that_began_with_the_other_interface_goes_on_here() {
    let server = ScriptedOpenAi::answering([chat_message("x")]).await;
    let mut input = task();
    let items = vec![
        json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}),
        openai::message_item("I look."),
        openai::mcp_approval_request_item("k8s", "get", &json!({}), "mcpr_1"),
        openai::mcp_call_item("k8s", "get", &json!({}), "mcpr_0", Ok("[E1] fine")),
        openai::function_call_item("k8s__pods_get", "{}", "call_1"),
    ];
    let other = ScriptedOpenAi::answering([openai::response(items)]).await;
    let first = responses(&other).respond(&request("gpt-5-mini", task()), LONG).await.unwrap();
    other.finish();
    input.push(answered_by("gpt-5-mini", &first));
    input.push(Item::CallOutput { call_id: "call_1".to_owned(), output: "[E2] y".to_owned() });
    input.push(Item::Approval(Approval {
        request_id: "mcpr_1".to_owned(),
        approve: false,
        reason: None,
        refusal: None,
    }));
    model(&server).respond(&request("llama-3", input), LONG).await.unwrap();
    let body = server.finish().remove(0).body;
    let call =
        json!({"id": "call_1", "type": "function", "function": {"name": "k8s__pods_get", "arguments": "{}"}});
    assert_eq!(
        body["messages"].as_array().unwrap()[2..],
        [
            json!({"role": "user", "content": "k8s.get {} was called:\n[E1] fine"}),
            json!({"role": "assistant", "content": "I look.", "tool_calls": [call]}),
            json!({"role": "tool", "tool_call_id": "call_1", "content": "[E2] y"}),
        ]
    );
}

#[tokio::test]
async fn a_refusal_a_filter_and_an_answer_that_was_cut_off_are_told_apart() {
    let said = |message: &Value, reason: &str| Scripted::from(openai::chat_answer(message, reason));
    let refusal = json!({"role": "assistant", "content": null, "refusal": "I cannot help with that."});
    assert_eq!(answered(said(&refusal, "stop")).await.unwrap().text(), "I cannot help with that.");
    let half = json!({"role": "assistant", "content": "half", "refusal": null});
    for (reason, why) in [("length", Incomplete::NoRoom), ("content_filter", Incomplete::Filter)] {
        assert_eq!(answered(said(&half, reason)).await.unwrap().incomplete, Some(why));
    }
    let nothing = json!({"role": "assistant", "content": null, "refusal": null});
    assert!(answered(said(&nothing, "stop")).await.unwrap().outputs.is_empty());
}

#[tokio::test]
async fn an_error_with_status_200_is_what_it_says_it_is() {
    for (body, retryable, told) in [
        (
            json!({"error": {"message": "Provider returned error", "code": 502}}),
            true,
            "HTTP 502: Provider returned error",
        ),
        (json!({"error": {"message": "no such model", "code": 404}}), false, "HTTP 404: no such model"),
        (
            json!({"error": {"message": "gone", "code": "insufficient_quota"}}),
            false,
            "gone (insufficient_quota)",
        ),
    ] {
        // One that passes is tried again.
        let server = ScriptedOpenAi::with(move |_, _| off_contract(&body)).await;
        let error = model(&server).respond(&request("llama-3", task()), LONG).await.unwrap_err();
        assert_eq!(error.is_retryable(), retryable, "{error}");
        assert!(error.to_string().contains(told), "{error}");
        assert_eq!(server.finish().len(), if retryable { 3 } else { 1 });
    }
}

#[tokio::test]
async fn what_is_no_answer_is_unreadable_and_not_bought_again() {
    let whole = chat_message("x").to_string();
    let html = vec![("content-type", "text/html".to_owned())];
    for (answer, told) in [
        (Scripted::Garbage(b"<html>".to_vec()), "it is not JSON"),
        (Scripted::Garbage(whole.as_bytes()[..whole.len() / 2].to_vec()), "it is not JSON"),
        (Scripted::Garbage(b"{}".to_vec()), "no `choices`"),
        (Scripted::Garbage(b"{\"choices\":[{}]}".to_vec()), "no `message`"),
        (Scripted::Garbage(vec![b' '; 17 << 20]), "larger than 16 MB"),
        (Scripted::Status(200, html, "<html>".to_owned()), "it is not JSON, 6 bytes of type text/html"),
    ] {
        let error = answered(answer).await.unwrap_err();
        assert!(matches!(&error, ModelError::Unreadable(r) if r.contains(told)), "{told}: {error}");
    }
}

#[tokio::test]
async fn a_service_that_fails_again_and_again_is_left_alone_for_a_while() {
    let down = |_: &Value, _| Scripted::Status(503, vec![], openai::error_body("server_error", "Overloaded"));
    let server = ScriptedOpenAi::with(down).await;
    let one_try = ServiceSettings { attempts: 1, ..settings(Api::Chat, &server.base_url()) };
    let model = by(one_try, vec![]);
    let ask = async |name: &str| model.respond(&request(name, task()), LONG).await.unwrap_err();
    for _ in 0..5 {
        assert!(!ask("llama-3").await.to_string().contains("left alone"));
    }
    let ModelError::Unavailable { reason, retry_after, .. } = ask("llama-3").await else { panic!("not out") };
    assert_eq!(reason, "it is left alone after 5 failures in a row, the last: HTTP 503: Overloaded");
    assert!(retry_after.is_some(), "the run can plan with it");
    assert_eq!(server.requests().len(), 5);
    // Another model at the same place may be well.
    ask("llama-4").await;
    assert_eq!(server.finish().len(), 6);
}
