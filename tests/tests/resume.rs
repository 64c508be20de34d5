//! A run that is killed in each of its turns pays for each turn once, and asks what it would have asked anyhow.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{Request, Scripted, ScriptedOpenAi, function_call, function_calls};
use sentinel_tests::Home;
use sentinel_tests::wire::{LOOPBACK, openai, report, trouble};
use serde_json::{Value, json};

/// Turns of the run; the last one is its report.
const TURNS: usize = 6;

/// Which turn a request asks for, told from the conversation as a model would.
fn turn_of(request: &Value) -> usize {
    let items = request["input"].as_array().unwrap();
    items.iter().filter(|item| item["type"] == "function_call").count() + 1
}

/// Looks at something new in each turn, and reports in the last.
fn answer(turn: usize) -> Scripted {
    let call_id = format!("call_{turn}");
    Scripted::Json(if turn < TURNS {
        function_call("fake__look", &json!({"at": turn}), &call_id)
    } else {
        function_call("submit_report", &report("E1", "all is well at 1"), &call_id)
    })
}

fn home(model: &ScriptedOpenAi, mcp: &FakeMcp) -> Home {
    // An interrupted attempt counts.
    Home::with(&format!(
        "{LOOPBACK}{}\
         defaults: {{max-iterations: 10, retry-policy: {{attempts: 10}}}}\n\
         mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         resources: [{{name: trouble, filters: {{alertname: Trouble}}}}]\n\
         incident-cards:\n\
         - {{name: trouble, resource: trouble, prompt: Find out why., tools: [fake.look]}}\n",
        openai(&model.base_url()),
        mcp.url()
    ))
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]})
}

/// True for the first of each.
#[derive(Clone, Default)]
struct First(Arc<Mutex<BTreeSet<String>>>);

impl First {
    fn is(&self, of: &impl ToString) -> bool {
        self.0.lock().unwrap().insert(of.to_string())
    }
}

fn check(done: &Value) {
    assert_eq!((&done["state"], &done["report"]["source"]), (&json!("done"), &json!("model")), "{done:#}");
    assert_eq!(done["report"]["usage"]["turns"], TURNS, "{done:#}");
    assert_eq!(done["report"]["hypotheses"][0]["supported"], true, "{done:#}");
    let evidence: Vec<&str> =
        done["evidence"].as_array().unwrap().iter().map(|e| e["text"].as_str().unwrap()).collect();
    let wanted: Vec<String> = (1..TURNS).map(|at| format!("all is well at {at}")).collect();
    assert_eq!(evidence, wanted);
}

#[tokio::test]
async fn a_crash_after_each_turn_pays_for_six_turns_and_no_more() {
    let first = First::default();
    // The first call of each turn is never answered: the process dies while it waits, with its turn stored.
    let mcp = FakeMcp::builder()
        .tool("look", schema(), "Looks", move |arguments| {
            let at = &arguments["at"];
            if first.is(at) { Answer::Hang } else { Answer::text(format!("all is well at {at}")) }
        })
        .start()
        .await;
    let model = ScriptedOpenAi::with(|request, _| answer(turn_of(request))).await;
    let home = home(&model, &mcp);
    let mut up = home.up().await;
    let id = up.open(&trouble("mail-1")).await;
    for turn in 1..TURNS {
        // One call for each crash that went before and its repetition, and the one that hangs now.
        mcp.wait_for_calls(2 * turn - 1).await;
        assert_eq!(model.requests().len(), turn, "the turn is paid for before its calls leave");
        up.child.kill();
        up = home.up().await;
    }
    check(&up.ended(&id).await);
    // The end is stored as well: nobody asks again.
    up.child.kill();
    up = home.up().await;
    check(&up.ended(&id).await);

    assert_eq!(model.finish().len(), TURNS);
    assert_eq!(
        mcp.calls().len(),
        2 * (TURNS - 1),
        "each call that was in flight is made again, and no other"
    );
}

#[tokio::test]
async fn a_crash_while_the_model_is_asked_pays_again_for_that_turn_only_and_asks_the_same() {
    let mcp = FakeMcp::builder()
        .tool("look", schema(), "Looks", |arguments| {
            Answer::text(format!("all is well at {}", arguments["at"]))
        })
        .start()
        .await;
    let first = First::default();
    let model = ScriptedOpenAi::with(move |request, _| {
        let turn = turn_of(request);
        if first.is(&turn) { Scripted::Hang } else { answer(turn) }
    })
    .await;
    let home = home(&model, &mcp);
    let mut up = home.up().await;
    let id = up.open(&trouble("mail-1")).await;
    for turn in 1..=TURNS {
        model.wait_for_requests(2 * turn - 1).await;
        up.child.kill();
        up = home.up().await;
    }
    check(&up.ended(&id).await);

    let requests = model.finish();
    assert_eq!(requests.len(), 2 * TURNS, "six turns, and the one in flight at each of six crashes");
    for (turn, pair) in requests.chunks(2).enumerate() {
        assert_eq!(pair[0].bytes, pair[1].bytes, "turn {} is asked for again as it was", turn + 1);
    }
    assert_eq!(mcp.calls().len(), TURNS - 1, "what is stored is not called again");
}

/// The conversation as it was sent: everything before the end of `input`, and everything after it but for the choice of
/// a tool, which is no part of what a model reads.
fn sent(request: &Request) -> (String, Value) {
    let text = String::from_utf8(request.bytes.to_vec()).unwrap();
    let (input, _) = text.split_once("],\"instructions\":").unwrap();
    let mut rest = request.body.clone();
    let rest_fields = rest.as_object_mut().unwrap();
    rest_fields.remove("input");
    rest_fields.remove("tool_choice");
    (input.to_owned(), rest)
}

/// Each request's conversation begins with the bytes of the one before, and nothing else of it changes: what the
/// model's service holds in its cache stays good.
fn assert_stable(requests: &[Request]) {
    for (n, pair) in requests.windows(2).enumerate() {
        let ((before, rest), (after, same)) = (sent(&pair[0]), sent(&pair[1]));
        assert!(after.len() > before.len(), "request {n} adds nothing");
        assert_eq!(after.get(..before.len()), Some(before.as_str()), "request {} begins otherwise", n + 1);
        assert_eq!(rest.to_string(), same.to_string(), "request {} changes what should stay", n + 1);
    }
}

/// The output of a tool: `size` bytes of log lines.
fn log(of: &Value, size: usize) -> String {
    let lines =
        (0..).map(|n| format!("2026-01-05T08:00:00Z {of} line {n}: connection refused by 10.0.0.7\n"));
    let mut text: String = lines.take(size / 40).collect();
    text.truncate(size);
    text
}

#[tokio::test]
async fn the_prefix_of_each_request_is_the_one_before_byte_by_byte() {
    let mcp = FakeMcp::builder()
        .tool("look", schema(), "Looks", |arguments| match arguments["at"].as_u64() {
            Some(2) => Answer::error("no such place"),
            _ => Answer::text(log(&arguments["at"], 20_000)),
        })
        .start()
        .await;
    // Every way in which a conversation grows: calls, some of them refused or repeated, text without a call, evidence
    // that is read again, a report that is rejected, its repair.
    let model = ScriptedOpenAi::with(|_, n| {
        Scripted::Json(match n {
            0 => function_calls(&[
                ("fake__look", json!({"at": 1}), "call_a"),
                ("fake__look", json!({"at": 2}), "call_b"),
                ("fake__destroy", json!({}), "call_c"),
            ]),
            1 => sentinel_testkit::openai::message("I think that it is the network."),
            2 => function_calls(&[
                ("fake__look", json!({"at": 1}), "call_d"),
                ("read_evidence", json!({"id": "E1", "pattern": "line 7:", "lines": null}), "call_e"),
            ]),
            3 => function_call("submit_report", &report("E1", "nobody ever said this"), "call_f"),
            _ => function_call("submit_report", &report("E1", "connection refused by 10.0.0.7"), "call_g"),
        })
    })
    .await;
    let home = home(&model, &mcp);
    let up = home.up().await;
    let id = up.open(&trouble("mail-1")).await;
    let done = up.ended(&id).await;

    assert_eq!(done["report"]["hypotheses"][0]["supported"], true, "{done:#}");
    let requests = model.finish();
    assert_eq!(requests.len(), 5);
    assert_stable(&requests);
}

#[tokio::test]
async fn ten_turns_over_outputs_of_20_kb_send_at_most_two_fifths_of_the_outputs_sent_whole() {
    const SIZE: usize = 20_000;
    const MANY: usize = 10;
    let mcp = FakeMcp::builder()
        .tool("look", schema(), "Looks", |arguments| Answer::text(log(&arguments["at"], SIZE)))
        .start()
        .await;
    let model = ScriptedOpenAi::with(|request, _| {
        let turn = turn_of(request);
        let call_id = format!("call_{turn}");
        Scripted::Json(if turn < MANY {
            function_call("fake__look", &json!({"at": turn}), &call_id)
        } else {
            function_call("submit_report", &report("E1", "connection refused by 10.0.0.7"), &call_id)
        })
    })
    .await;
    let home = home(&model, &mcp);
    let up = home.up().await;
    let id = up.open(&trouble("mail-1")).await;
    let done = up.ended(&id).await;

    assert_eq!(done["report"]["usage"]["turns"], MANY);
    let requests = model.finish();
    assert_stable(&requests);
    let (mut sent, mut whole) = (0, 0);
    for request in &requests {
        let outputs = request.body["input"].as_array().unwrap().iter().filter_map(|i| i["output"].as_str());
        let (count, shown) = outputs.fold((0, 0), |(n, sum), output| (n + 1, sum + output.len()));
        sent += request.bytes.len();
        whole += request.bytes.len() - shown + count * SIZE;
    }
    assert!(sent * 5 <= whole * 2, "{sent} bytes are sent, {whole} would be with the outputs whole");
}
