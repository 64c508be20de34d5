//! What the model is shown, and what comes out, whole.

use std::fmt::Write as _;

use sentinel_investigation::ports::Item;
use serde_json::json;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn one_whole_conversation() {
    let world = World::new();
    let model = Script::of(vec![
        calls(&[pod(), ("k8s__log", json!({"namespace": "web"}))]),
        submits("action_required", &[("E1", "OOMKilled by the kernel")]),
        submits("action_required", &[QUOTE]),
    ]);
    world.report(&model).await;
    let requests = model.requests();
    let last = requests.last().unwrap();
    let mut shown = format!("model {}, force {:?}\n", last.model, last.force);
    for tool in &last.tools {
        writeln!(shown, "tool {}: {}", tool.name, tool.description).unwrap();
    }
    for item in &last.input {
        match item {
            Item::User { text } => writeln!(shown, "--- user\n{text}"),
            Item::Response { outputs, .. } => {
                writeln!(shown, "--- model\n{}", serde_json::json!(outputs))
            }
            Item::Approval(approval) => writeln!(shown, "--- {approval:?}"),
            Item::CallOutput { call_id, output } => writeln!(shown, "--- {call_id}\n{output}"),
        }
        .unwrap();
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test(start_paused = true)]
async fn one_whole_report() {
    let mut world = World::new();
    world.card.tools.insert(sentinel_testkit::builders::tool_id("prom.query"));
    let model = Script::of(vec![calls(&[pod()]), submits("action_required", &[QUOTE])]);
    let report = world.report(&model).await;
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap());
}

#[tokio::test(start_paused = true)]
async fn one_whole_report_without_a_model() {
    let world = World::new();
    let report = report_of(world.run(None).await.unwrap());
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap());
}
