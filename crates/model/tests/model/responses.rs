//! The Responses API at the wire: what is sent, and what every kind of bad answer becomes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_investigation::ports::{Api, Incomplete, Item, Model, ModelError, TurnRequest, TurnResponse};
use sentinel_model::{Auth, ServiceSettings, Services};
use sentinel_testkit::openai::{self, Scripted, ScriptedOpenAi};
use serde_json::{Value, json};

use crate::support::*;

async fn ask(model: &Services) -> Result<TurnResponse, ModelError> {
    model.respond(&request("gpt-4.1-mini", task()), LONG).await
}

/// Answers with each of these in turn, and gives what the model port made of it and how many requests came.
async fn answered<S: Into<Scripted>>(
    answers: impl IntoIterator<Item = S>,
) -> (Result<TurnResponse, ModelError>, usize) {
    let server = ScriptedOpenAi::answering(answers).await;
    let answer = ask(&responses(&server)).await;
    (answer, server.finish().len())
}

fn status(status: u16, headers: Vec<(&'static str, String)>, body: String) -> Scripted {
    Scripted::Status(status, headers, body)
}

#[tokio::test]
async fn a_first_turn_is_on_the_contract() {
    let server = ScriptedOpenAi::answering([openai::message("hello")]).await;
    let answer = ask(&responses(&server)).await.unwrap();
    assert_eq!(answer.text(), "hello");
    assert_eq!((answer.usage.input_tokens, answer.usage.output_tokens), (100, 10));
    let requests = server.finish();
    assert_eq!(requests[0].path, "/v1/responses");
    assert_eq!(requests[0].headers["authorization"], format!("Bearer {KEY}"));
    insta::assert_json_snapshot!(requests[0].body);
}

#[tokio::test]
async fn a_second_turn_sends_the_first_ones_items_back_as_they_came() {
    let first = openai::function_call("k8s__pods_get", &json!({"name": "a"}), "call_1");
    let server = ScriptedOpenAi::answering([first.clone(), openai::message("done")]).await;
    let model = responses(&server);
    let answer = ask(&model).await.unwrap();
    assert_eq!(answer.calls().next().unwrap().arguments, r#"{"name":"a"}"#);
    let mut input = task();
    input.push(answered_by("gpt-4.1-mini", &answer));
    input.push(Item::CallOutput {
        call_id: answer.calls().next().unwrap().call_id.clone(),
        output: "[E1] phase: Pending".to_owned(),
    });
    let mut second = request("gpt-4.1-mini", input);
    second.force = Some("k8s__pods_get".to_owned());
    model.respond(&second, LONG).await.unwrap();
    let requests = server.finish();
    // The prefix stays the same to the byte: what the model's cache goes by.
    for same in ["model", "instructions", "tools", "prompt_cache_key"] {
        assert_eq!(requests[0].body[same], requests[1].body[same], "{same}");
    }
    assert_eq!(requests[0].body["input"][0], requests[1].body["input"][0]);
    assert_eq!(requests[1].body["input"][1], first["output"][0]);
    insta::assert_json_snapshot!(
        json!({"input": requests[1].body["input"], "tool_choice": requests[1].body["tool_choice"]})
    );
}

#[tokio::test]
async fn effort_and_sealed_reasoning_are_asked_for_whatever_the_model_is_called_and_it_goes_back() {
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"});
    let call = openai::function_call_item("k8s__pods_get", "{}", "call_1");
    let server =
        ScriptedOpenAi::answering([openai::response(vec![reasoning.clone(), call]), openai::message("x")])
            .await;
    let model = responses(&server);
    let answer = ask(&model).await.unwrap();
    let mut input = task();
    input.push(answered_by("gpt-4.1-mini", &answer));
    input.push(Item::CallOutput { call_id: "call_1".to_owned(), output: "x".to_owned() });
    model.respond(&request("gpt-4.1-mini", input), LONG).await.unwrap();
    let requests = server.finish();
    assert_eq!(requests[0].body["reasoning"], json!({"effort": "low"}));
    assert_eq!(requests[0].body["include"], json!(["reasoning.encrypted_content"]));
    assert_eq!(requests[1].body["input"][1], reasoning);
}

#[tokio::test]
async fn a_request_without_tools_chooses_none() {
    let server = ScriptedOpenAi::answering([openai::message("x")]).await;
    let without = TurnRequest { tools: vec![], ..request("gpt-4.1-mini", task()) };
    responses(&server).respond(&without, LONG).await.unwrap();
    let body = &server.finish()[0].body;
    assert!(body.get("tool_choice").is_none() && body.get("tools").is_none());
}

#[tokio::test]
async fn a_refusal_is_told_with_the_apis_reason_and_without_the_key() {
    for code in [400, 401, 403, 404] {
        let message = format!("Incorrect API key provided: {KEY} (sk-test-****7890). You can find yours.");
        let (answer, requests) =
            answered([status(code, vec![], openai::error_body("invalid_request_error", &message))]).await;
        let Err(ModelError::Refused(told)) = answer else { panic!("{code}: {answer:?}") };
        assert_eq!(requests, 1);
        assert!(told.contains("Incorrect API key provided: [key] [key] You can find yours."), "{told}");
        assert_eq!(told.contains("POST /v1/responses"), code == 404, "{told}");
    }
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_as_long_as_it_asks() {
    let limited = status(
        429,
        vec![("retry-after-ms", "300".to_owned())],
        openai::error_body("rate_limit_exceeded", "slow down"),
    );
    let began = Instant::now();
    let (answer, requests) = answered([limited, openai::message("x").into()]).await;
    assert_eq!((answer.unwrap().text().as_str(), requests), ("x", 2));
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_rate_limit_beyond_the_time_given_is_left_to_the_caller() {
    let limited = status(
        429,
        vec![("retry-after", "20".to_owned())],
        openai::error_body("rate_limit_exceeded", "slow"),
    );
    let server = ScriptedOpenAi::answering([limited]).await;
    let began = Instant::now();
    let answer = responses(&server).respond(&request("gpt-4.1-mini", task()), Duration::from_secs(10)).await;
    assert!(
        matches!(answer, Err(ModelError::Unavailable { retry_after: Some(after), .. }) if after == Duration::from_secs(20)),
        "{answer:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(server.finish().len(), 1);
}

#[tokio::test]
async fn an_exhausted_quota_is_refused_at_once() {
    let body = json!({"error": {"message": "You exceeded your quota.", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}});
    let (answer, requests) = answered([status(429, vec![], body.to_string())]).await;
    assert_eq!(
        answer.unwrap_err().to_string(),
        "the model refused the request: HTTP 429: You exceeded your quota."
    );
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn a_servers_fault_is_tried_again() {
    let page = "<html>\n<b>bad   gateway</b></html>".to_owned();
    let (answer, requests) = answered([
        status(502, vec![("content-type", "text/html".to_owned())], page.clone()),
        Scripted::Close,
        openai::message("x").into(),
    ])
    .await;
    assert_eq!((answer.unwrap().text().as_str(), requests), ("x", 3));

    let (answer, requests) = answered(vec![status(503, vec![], page); 3]).await;
    assert_eq!(
        answer.unwrap_err().to_string(),
        "the model did not answer: HTTP 503: <html> <b>bad gateway</b></html>, 3 times"
    );
    assert_eq!(requests, 3);
}

/// Long enough for a loaded machine to answer in, and what the tests below wait for in full.
const CUT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_try_that_hangs_is_cut_off_and_the_next_one_may_answer() {
    // The first answer warms both sides up, so that the time measures the hanging one only.
    let answers = [openai::message("warm").into(), Scripted::Hang, openai::message("x").into()];
    let server = ScriptedOpenAi::answering(answers).await;
    let short = ServiceSettings { timeout: CUT, ..settings(Api::Responses, &server.base_url()) };
    let model = by(short, vec![]);
    assert_eq!(ask(&model).await.unwrap().text(), "warm");
    assert_eq!(ask(&model).await.unwrap().text(), "x");
    assert_eq!(server.finish().len(), 3);
}

#[tokio::test]
async fn a_model_that_hangs_costs_no_more_than_the_time_given() {
    let server = ScriptedOpenAi::answering([openai::message("warm").into(), Scripted::Hang]).await;
    let model = responses(&server);
    ask(&model).await.unwrap();
    let answer = model.respond(&request("gpt-4.1-mini", task()), CUT).await;
    assert_eq!(answer.unwrap_err().to_string(), "the model did not answer: no answer in time");
    assert_eq!(server.finish().len(), 2);
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let address = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let model = by(settings(Api::Responses, &format!("http://{address}/v1")), vec![]);
    let answer = ask(&model).await.unwrap_err();
    assert!(matches!(answer, ModelError::Unavailable { retry_after: None, billed: false, .. }), "{answer}");
    assert!(answer.to_string().contains("no connection"), "{answer}");
}

#[tokio::test]
async fn only_what_may_have_been_answered_may_be_billed() {
    let says = |code| status(code, vec![], openai::error_body("server_error", "no"));
    let limited = status(429, vec![("retry-after", "60".to_owned())], openai::error_body("slow", "down"));
    for (answers, billed) in [
        (vec![says(503), says(503), says(503)], false),
        (vec![limited], false),
        (vec![says(401)], false),
        // The connection broke once: that try may have been answered.
        (vec![Scripted::Close, says(503), says(503)], true),
        (vec![says(503), says(503), says(504)], true),
        (vec![Scripted::Garbage(b"<html>".to_vec())], true),
    ] {
        let told = format!("{answers:?}");
        let (answer, _) = answered(answers).await;
        assert_eq!(answer.unwrap_err().may_be_billed(), billed, "{told}");
    }
}

#[tokio::test]
async fn what_is_no_response_is_unreadable_and_not_bought_again() {
    let whole = openai::message("x").to_string();
    for (answer, told) in [
        (Scripted::Garbage(b"<html>".to_vec()), "it is not JSON"),
        (Scripted::Garbage(vec![]), "it is not JSON, 0 bytes"),
        (Scripted::Garbage(vec![0xff, 0xfe]), "it is not JSON"),
        (Scripted::Garbage(whole.as_bytes()[..whole.len() / 2].to_vec()), "it is not JSON"),
        (Scripted::Garbage(b"{}".to_vec()), "no list `output`"),
        (Scripted::Garbage(vec![b' '; 17 << 20]), "larger than 16 MB"),
        (
            status(200, vec![("content-type", "text/html".to_owned())], "<html>".to_owned()),
            "it is not JSON, 6 bytes of type text/html",
        ),
    ] {
        let (answer, requests) = answered([answer]).await;
        assert!(
            matches!(&answer, Err(ModelError::Unreadable(reason)) if reason.contains(told)),
            "{told}: {answer:?}"
        );
        assert_eq!(requests, 1);
    }
}

#[tokio::test]
async fn a_response_that_failed_is_tried_again_where_that_helps() {
    let failed = |code: &str| {
        let mut answer = openai::response(vec![]);
        answer["status"] = json!("failed");
        answer["error"] = json!({"code": code, "message": "m"});
        answer
    };
    let (answer, requests) = answered([failed("server_error"), openai::message("x")]).await;
    assert_eq!((answer.unwrap().text().as_str(), requests), ("x", 2));
    let (answer, requests) = answered([failed("invalid_prompt")]).await;
    assert!(matches!(answer, Err(ModelError::Refused(_))), "{answer:?}");
    assert_eq!(requests, 1);
}

#[tokio::test]
async fn an_empty_output_is_an_answer_that_says_nothing() {
    let (answer, _) = answered([openai::response(vec![])]).await;
    let answer = answer.unwrap();
    assert!(answer.outputs.is_empty());
}

#[tokio::test]
async fn an_answer_that_was_cut_off_says_why() {
    let (answer, _) = answered([openai::cut_off(openai::message("half"))]).await;
    assert_eq!(answer.unwrap().incomplete, Some(Incomplete::NoRoom));
}

#[tokio::test]
async fn an_item_of_an_unknown_kind_is_kept_and_the_next_request_is_on_the_contract() {
    let unknown = json!({"type": "hologram_call", "id": "h1", "beam": {"mw": 7}});
    let answer =
        openai::response(vec![unknown.clone(), openai::function_call_item("k8s__pods_get", "{}", "call_1")]);
    let server = ScriptedOpenAi::answering([
        Scripted::Garbage(answer.to_string().into()),
        openai::message("x").into(),
    ])
    .await;
    let model = responses(&server);
    let first = ask(&model).await.unwrap();
    assert_eq!(json!(first.outputs[0].raw), unknown);
    assert_eq!(first.calls().count(), 1);
    let mut input = task();
    input.push(answered_by("gpt-4.1-mini", &first));
    input.push(Item::CallOutput { call_id: "call_1".to_owned(), output: "x".to_owned() });
    model.respond(&request("gpt-4.1-mini", input), LONG).await.unwrap();
    let sent: Vec<Value> = server.finish()[1].body["input"].as_array().unwrap().clone();
    assert_eq!(sent.len(), 3);
}

#[tokio::test]
async fn an_address_that_is_not_allowed_and_a_key_that_cannot_be_sent_are_refused_before_anything_is_sent() {
    let strict = Arc::new(HttpClient::new(AddressPolicy::default()));
    let new = |settings, http: &Arc<HttpClient>| Services::new(vec![settings], vec![], http).unwrap_err();
    let of = |url| settings(Api::Responses, url);
    let refused = new(of("http://api.example/v1"), &strict);
    assert!(refused.to_string().contains("allow-insecure-hosts"), "{refused}");
    let refused = new(of("https://127.0.0.1/v1"), &strict);
    assert!(refused.to_string().contains("allow-private-hosts"), "{refused}");
    let two_lines = ServiceSettings { auth: Auth::Bearer("sk-a\nb".into()), ..of("https://api.example/v1") };
    let refused = new(two_lines.clone(), &loopback());
    assert!(!refused.to_string().contains("sk-a"), "{refused}");
    assert!(!format!("{two_lines:?}").contains("sk-a"));
    let model = by(settings(Api::Responses, "https://user:hunter2@api.example/v1"), vec![]);
    assert!(!format!("{model:?}").contains("hunter2") && !format!("{model:?}").contains(KEY));
}

#[tokio::test]
async fn an_option_that_a_model_does_not_take_is_left_out_from_then_on_and_a_refused_request_is_refused() {
    let unsupported = |param: &str| {
        let error = json!({"error": {
            "message": format!("Unsupported parameter: '{param}' is not supported with this model."),
            "type": "invalid_request_error", "param": param, "code": "unsupported_parameter",
        }});
        status(400, vec![], error.to_string())
    };
    let server = ScriptedOpenAi::answering([
        unsupported("temperature"),
        unsupported("service_tier"),
        openai::message("x").into(),
        openai::message("y").into(),
        unsupported("input"),
        unsupported("temperature"),
    ])
    .await;
    let model = responses(&server);
    assert_eq!(ask(&model).await.unwrap().text(), "x");
    assert_eq!(ask(&model).await.unwrap().text(), "y");
    // What is asked is never left out, and the same is not left out twice.
    assert!(matches!(ask(&model).await, Err(ModelError::Refused(_))));
    assert!(matches!(ask(&model).await, Err(ModelError::Refused(_))));
    let requests = server.finish();
    let has = |n: usize, option: &str| requests[n].body.get(option).is_some();
    assert!(has(0, "temperature") && !has(1, "temperature") && has(1, "service_tier"));
    assert!(!has(3, "temperature") && !has(3, "service_tier") && has(3, "prompt_cache_key"));
}
