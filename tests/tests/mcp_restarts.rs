//! A server that is replaced while investigations use it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sentinel_testkit::gate::Gate;
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{Scripted, ScriptedOpenAi, function_call, function_calls};
use sentinel_tests::Home;
use sentinel_tests::wire::{config, report, trouble};
use serde_json::json;

/// The server is ended and started again at every point at which an investigation may meet it: before it begins, between
/// its list of tools and its first call, between the card's call and the model's, and after it.
#[tokio::test]
async fn a_server_that_restarts_twenty_times_during_twenty_investigations_costs_none_its_evidence() {
    const RESTARTS: usize = 20;
    let look = json!({
        "name": "look", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true},
    });
    let mcp =
        Arc::new(FakeMcp::builder().tool_defined(look, |_| Answer::text("all is well here")).start().await);
    let restarted = Arc::new(AtomicUsize::new(0));
    // The gate of the investigation that is under way: its model answers when it is open.
    let gates = Arc::new(Mutex::new(Vec::<Gate>::new()));
    let held = Arc::clone(&gates);
    let model = ScriptedOpenAi::with(move |request, _| {
        let asks = request["input"]
            .as_array()
            .is_some_and(|items| items.iter().all(|i| i["type"] != "function_call_output"));
        if !asks {
            return Scripted::Json(function_call("submit_report", &report("E2", "all is well here"), "c2"));
        }
        let call = Scripted::Json(function_calls(&[("fake__look", json!({"turn": 1}), "c1")]));
        let gate = held.lock().unwrap().last().cloned().unwrap();
        Scripted::After(gate, Box::new(call))
    })
    .await;
    let home = Home::with(&config(
        &model,
        &[("fake", &mcp.url(), "")],
        "fake.look",
        "{tool: fake.look, arguments: {turn: 0}}",
    ));
    let up = home.up().await;
    let restart = async |away: Duration| {
        mcp.go_away().await;
        tokio::time::sleep(away).await;
        mcp.come_back().await;
        restarted.fetch_add(1, Ordering::SeqCst);
    };
    let away = Duration::from_millis(400);
    for n in 0..RESTARTS {
        let gate = Gate::new();
        gates.lock().unwrap().push(gate.clone());
        let (asked, called) = (model.requests().len(), mcp.calls().len());
        let instance = n.to_string();
        let id = match n % 4 {
            // Before it begins, and back already: its session is one that the server never heard of.
            0 => {
                restart(Duration::ZERO).await;
                up.open(&trouble(&instance)).await
            }
            // Away when it begins.
            1 => {
                let body = trouble(&instance);
                let (id, ()) = tokio::join!(up.open(&body), restart(away));
                id
            }
            // Between the card's call and the model's answer, or while the former is made.
            2 => {
                let id = up.open(&trouble(&instance)).await;
                mcp.wait_for_calls(called + 1).await;
                restart(away).await;
                id
            }
            // Away when the model's call comes.
            _ => {
                let id = up.open(&trouble(&instance)).await;
                model.wait_for_requests(asked + 1).await;
                mcp.go_away().await;
                gate.open();
                tokio::time::sleep(away).await;
                mcp.come_back().await;
                restarted.fetch_add(1, Ordering::SeqCst);
                id
            }
        };
        gate.open();
        let done = up.ended(&id).await;
        let ok = done["evidence"].as_array().unwrap().iter().filter(|e| e["ok"] == true).count();
        assert_eq!((&done["state"], ok), (&json!("done"), 2), "restart {n}: {done:#}");
        assert_eq!(done["report"]["gaps"], json!([]), "restart {n}: {done:#}");
    }
    assert_eq!(restarted.load(Ordering::SeqCst), RESTARTS);
}
