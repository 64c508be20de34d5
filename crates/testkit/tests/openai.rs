//! The scripted service notices what a real one would refuse.
#![expect(clippy::unwrap_used, reason = "a helper that cannot do its work fails the test")]

use std::time::Duration;

use sentinel_testkit::gate::Gate;
use sentinel_testkit::openai::{Scripted, ScriptedOpenAi, error_body, function_call, message};
use serde_json::{Value, json};

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn ask(server: &ScriptedOpenAi, body: &Value) -> reqwest::Result<reqwest::Response> {
    client().post(format!("{}/responses", server.base_url())).bearer_auth("k").json(body).send().await
}

fn request() -> Value {
    json!({"model": "m", "input": "why?"})
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_script_and_requests_are_kept() {
    let server =
        ScriptedOpenAi::answering([function_call("q", &json!({"a": 1}), "c1"), message("done")]).await;
    let first: Value = ask(&server, &request()).await.unwrap().json().await.unwrap();
    assert_eq!(first.pointer("/output/0/arguments"), Some(&json!("{\"a\":1}")));
    let second: Value = ask(&server, &request()).await.unwrap().json().await.unwrap();
    assert_eq!(second.pointer("/output/0/content/0/text"), Some(&json!("done")));
    let requests = server.finish();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].headers["authorization"], "Bearer k");
    assert_eq!(requests[1].body, request());
}

#[tokio::test]
async fn requests_off_the_contract_orphans_and_surplus_are_refused_and_kept() {
    let server = ScriptedOpenAi::answering([message("never sent")]).await;
    let orphan = json!([{"type": "function_call_output", "call_id": "c1", "output": "x"}]);
    for body in [json!({"model": "m", "input": "x", "max_tokens": 9}), json!({"model": "m", "input": orphan})]
    {
        assert_eq!(ask(&server, &body).await.unwrap().status(), 400);
    }
    let violations = server.take_violations();
    assert_eq!(violations.len(), 2, "{violations:#?}");
    assert!(
        violations[0].starts_with("request 0 ") && violations[0].contains("max_tokens"),
        "{violations:#?}"
    );
    assert!(violations[1].starts_with("request 1 /input/0: an output of call \"c1\""), "{violations:#?}");
    // The script was not used up by them.
    assert_eq!(ask(&server, &request()).await.unwrap().status(), 200);
    server.assert_on_contract();
    assert_eq!(ask(&server, &request()).await.unwrap().status(), 400);
    assert_eq!(server.take_violations(), ["request 3 /: the script has no answer left"]);
}

#[tokio::test]
#[should_panic(expected = "off the contract")]
async fn a_violation_that_nobody_looked_at_fails_the_test_when_the_server_is_dropped() {
    let server = ScriptedOpenAi::answering([message("x")]).await;
    let _ = ask(&server, &json!({"input": 5})).await;
}

#[tokio::test]
async fn a_scripted_answer_off_the_contract_is_a_violation_too() {
    let server = ScriptedOpenAi::answering([json!({"output": []})]).await;
    assert_eq!(ask(&server, &request()).await.unwrap().status(), 400);
    assert!(server.take_violations().iter().all(|v| v.starts_with("answer 0 ")));
}

#[tokio::test]
async fn it_can_fail_in_every_scripted_way() {
    let server = ScriptedOpenAi::with(|_, n| match n {
        0 => Scripted::Status(
            429,
            vec![("retry-after", "7".to_owned())],
            error_body("rate_limit", "slow down"),
        ),
        1 => Scripted::Garbage(b"<html>".to_vec()),
        2 => Scripted::Close,
        _ => Scripted::Hang,
    })
    .await;
    let limited = ask(&server, &request()).await.unwrap();
    assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(ask(&server, &request()).await.unwrap().text().await.unwrap(), "<html>");
    let closed = async { ask(&server, &request()).await?.text().await };
    assert!(closed.await.is_err());
    let body = request();
    let hanging = ask(&server, &body);
    let stopping = async {
        server.wait_for_requests(4).await;
        assert_eq!(server.requests().len(), 4);
    };
    tokio::select! {
        answer = hanging => panic!("answered: {answer:?}"),
        () = stopping => {}
    }
}

#[tokio::test]
async fn a_gate_holds_an_answer_back_until_it_is_opened() {
    let gate = Gate::new();
    let held = Scripted::After(gate.clone(), Box::new(message("late").into()));
    let server = ScriptedOpenAi::answering([held]).await;
    let body = request();
    let mut asked = std::pin::pin!(ask(&server, &body));
    tokio::select! {
        biased;
        _ = &mut asked => panic!("answered before the gate was opened"),
        () = server.wait_for_requests(1) => gate.open(),
    }
    assert_eq!(asked.await.unwrap().status(), 200);
}

#[tokio::test]
async fn dropping_the_server_ends_what_hangs() {
    let server = ScriptedOpenAi::answering([Scripted::Hang]).await;
    let url = format!("{}/responses", server.base_url());
    let asked = tokio::spawn(async move { client().post(url).json(&request()).send().await?.text().await });
    server.wait_for_requests(1).await;
    drop(server);
    assert!(tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap().unwrap().is_err());
}
