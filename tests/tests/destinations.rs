//! The running service tells a webhook and a Slack channel: what, how often, and what never.

#![expect(clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use sentinel_testkit::gate::Gate;
use sentinel_testkit::hook::{HookServer, Receives};
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{ScriptedOpenAi, function_call};
use sentinel_testkit::slack::{Fails, SlackMessage, SlackServer};
use sentinel_tests::wire::{LOOPBACK, MODEL_KEY, alert, openai, report, trouble, webhook};
use sentinel_tests::{Home, Sentinel, eventually};
use serde_json::{Value, json};

const TOKEN: &str = "xoxb-token-that-nobody-may-see";
const SECRET: &str = "hook-secret-that-nobody-may-see";
/// A credential that stands in an alert and in a tool's output.
const LEAKED: &str = "AKIAABCDEFGHIJKLMNOP";

async fn tools() -> FakeMcp {
    let schema = json!({"type": "object"});
    let output = format!("the queue is not drained, key {LEAKED}, token {TOKEN}");
    FakeMcp::builder().tool("look", schema, "Looks", move |_| Answer::text(output.clone())).start().await
}

/// A tool that answers once the gate is open.
async fn held_tools(gate: &Gate) -> FakeMcp {
    let held = gate.clone();
    let tool =
        move |_: &Value| Answer::After(held.clone(), Box::new(Answer::text("the queue is not drained")));
    FakeMcp::builder().tool("look", json!({"type": "object"}), "Looks", tool).start().await
}

fn home(mcp: &FakeMcp, hook: &HookServer, slack: &SlackServer, model: &str) -> Home {
    Home::with(&format!(
        "log-level: warn\n{LOOPBACK}{model}\
         mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         sinks:\n\
         - {{name: hook, type: webhook, url: \"{}\", secret: {SECRET}}}\n\
         - {{name: chat, type: slack, url: \"{}\", token: {TOKEN}}}\n\
         resources: [{{name: trouble, filters: {{alertname: Trouble}}}}]\n\
         incident-cards:\n\
         - name: trouble\n  \
           resource: trouble\n  \
           prompt: Find out why.\n  \
           tools: [fake.look]\n  \
           evidence: [{{tool: fake.look}}]\n  \
           sinks: [hook, \"chat:oncall\"]\n",
        mcp.url(),
        hook.url(),
        slack.api(),
    ))
}

fn resolved(mut webhook: Value) -> Value {
    webhook["status"] = json!("resolved");
    webhook["alerts"][0]["status"] = json!("resolved");
    webhook["alerts"][0]["endsAt"] = json!("2026-01-05T09:00:00Z");
    webhook
}

#[tokio::test]
async fn people_get_a_checked_report_where_they_look_and_no_secret_with_it() {
    let (mcp, hook) = (tools().await, HookServer::start([]).await);
    let slack = SlackServer::start(TOKEN, &["oncall"], []).await;
    let quote = "the queue is not drained";
    let model = ScriptedOpenAi::answering([function_call("submit_report", &report("E1", quote), "c1")]).await;
    let home = home(&mcp, &hook, &slack, &openai(&model.base_url()));
    let up = home.up().await;
    let mut firing = trouble("mail");
    firing["alerts"][0]["annotations"]["summary"] = json!(format!("password=hunter22 {LEAKED}"));
    let id = up.open(&firing).await;
    up.ended(&id).await;
    let (status, answer) = up.post(&resolved(firing)).await;
    assert_eq!((status.as_u16(), &answer["resolved"]), (200, &json!(1)), "{answer}");
    let incident = up
        .wait_for(&id, "the resolve to be told", |incident| {
            Sentinel::told(incident)
                .iter()
                .filter(|told| told.starts_with("resolved") && told.ends_with("sent"))
                .count()
                == 2
        })
        .await;
    assert!(Sentinel::told(&incident).contains(&"findings to chat:oncall: sent".to_owned()), "{incident:#}");

    let events: Vec<String> =
        hook.taken().iter().map(|posted| posted.body["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(events, ["started", "findings", "resolved"]);
    assert_eq!(hook.taken()[1].body["report"]["hypotheses"][0]["supported"], json!(true));
    let messages = slack.messages();
    let (mains, replies): (Vec<_>, Vec<_>) = messages.iter().partition(|m| m.thread.is_none());
    assert_eq!((mains.len(), replies.len()), (1, 2), "{messages:#?}");
    let main = mains[0].shown();
    for part in [
        "ACTION REQUIRED",
        "The queue is not drained. (80 %, 1 of 1 quote found)",
        quote,
        "Look at the consumer.",
        "; resolved ",
    ] {
        assert!(main.contains(part), "{part}: {main}");
    }
    let remote =
        incident["deliveries"].as_array().unwrap().iter().find(|d| d["sink"] == "chat:oncall").unwrap();
    assert_eq!(remote["remote"], format!("{}:{}", mains[0].channel, mains[0].ts));

    let sent: String = slack.calls().iter().map(|(_, body)| body.to_string()).collect();
    let posted: String = hook.posted().iter().map(|p| String::from_utf8(p.raw.clone()).unwrap()).collect();
    let shown = home.run(&["incidents", "show", &id, "--json"], 0).stdout;
    for secret in [LEAKED, TOKEN, SECRET, MODEL_KEY, "hunter22"] {
        for (place, text) in [("Slack", &sent), ("the webhook", &posted), ("show", &shown)] {
            assert!(!text.contains(secret), "{secret} in {place}");
        }
    }
}

#[tokio::test]
async fn a_kill_between_telling_and_recording_tells_nobody_twice_who_looks_at_the_id() {
    let gate = Gate::new();
    let mcp = held_tools(&gate).await;
    // The start is taken and answered, the findings are taken and never answered.
    let hook = HookServer::start([Receives::Takes, Receives::TakesAndHangs]).await;
    let slack = SlackServer::start(TOKEN, &["oncall"], []).await;
    let home = home(&mcp, &hook, &slack, "");
    let up = home.up().await;
    let id = up.open(&trouble("mail")).await;
    // Slack looks at no id: what it was told has to be on record by then.
    let is_start = |told: &&String| told.starts_with("started") && told.ends_with("sent");
    up.wait_for(&id, "both starts on record", |i| Sentinel::told(i).iter().filter(is_start).count() == 2)
        .await;
    gate.open();
    hook.wait_for(2).await;
    drop(up);
    let up = home.up().await;
    let incident = up.ended(&id).await;
    let told = Sentinel::told(&incident);
    assert!(told.contains(&"findings to hook: sent".to_owned()), "{told:?}");
    assert!(told.contains(&"findings to chat:oncall: sent".to_owned()), "{told:?}");
    let taken: Vec<_> = hook.taken().iter().map(|p| p.body["event"].clone()).collect();
    assert_eq!(taken, [json!("started"), json!("findings")]);
    let ids: Vec<String> = hook.posted().iter().map(|p| p.id().to_owned()).collect();
    assert_eq!((ids.len(), &ids[1]), (3, &ids[2]));
    let messages = slack.messages();
    assert_eq!(messages.iter().filter(|m| m.thread.is_none()).count(), 1, "{messages:#?}");
}

#[tokio::test]
async fn a_kill_between_posting_in_slack_and_recording_posts_that_one_message_twice_and_no_other() {
    // The investigation is held up until the start has been told: one that is not told by the end is told no more.
    let (gate, hook) = (Gate::new(), HookServer::start([]).await);
    let mcp = held_tools(&gate).await;
    let slack = SlackServer::start(TOKEN, &["oncall"], [Fails::Hangs]).await;
    let home = home(&mcp, &hook, &slack, "");
    let up = home.up().await;
    let id = up.open(&trouble("mail")).await;
    slack.wait_for(1).await;
    drop(up);
    let up = home.up().await;
    slack.wait_for(2).await;
    gate.open();
    let incident = up.ended(&id).await;
    assert!(Sentinel::told(&incident).contains(&"findings to chat:oncall: sent".to_owned()), "{incident:#}");
    let messages = slack.messages();
    let (mains, replies): (Vec<_>, Vec<_>) = messages.iter().partition(|m| m.thread.is_none());
    assert_eq!((mains.len(), replies.len()), (2, 1), "{messages:#?}");
    // What was posted unheard stands as it was; the other one is the incident's.
    assert_eq!((mains[0].updates, replies[0].thread.as_ref()), (0, Some(&mains[1].ts)));
}

#[tokio::test]
async fn alerts_that_join_an_incident_reach_its_sinks_as_updates_and_are_not_paid_for_again() {
    let (gate, hook) = (Gate::new(), HookServer::start([]).await);
    let mcp = held_tools(&gate).await;
    let slack = SlackServer::start(TOKEN, &["oncall"], []).await;
    let findings = function_call("submit_report", &report("E1", "the queue is not drained"), "c1");
    let model = ScriptedOpenAi::answering([findings]).await;
    let home = home(&mcp, &hook, &slack, &openai(&model.base_url()));
    let up = home.up().await;
    let group = |instances: &[&str]| {
        let alerts: Vec<Value> =
            instances.iter().map(|instance| alert("Trouble", &[("instance", instance)])).collect();
        webhook(&[], &alerts)
    };
    let updates = |incident: &Value| {
        Sentinel::told(incident).iter().filter(|t| t.starts_with("updated") && t.ends_with("sent")).count()
    };
    let joined = |n: usize| {
        let taken = hook.taken();
        let updates: Vec<_> = taken.iter().filter(|posted| posted.body["event"] == "updated").collect();
        assert_eq!(updates.len(), n);
        let alerts = updates[n - 1].body["alerts"].as_array().unwrap();
        alerts.iter().map(|a| a["labels"]["instance"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };

    // One joins while the investigation runs, one when it is over.
    let id = up.open(&group(&["one"])).await;
    mcp.wait_for_calls(1).await;
    let (_, answer) = up.post(&group(&["one", "two"])).await;
    assert_eq!(answer["incidents"][0]["id"], json!(id), "{answer}");
    gate.open();
    up.ended(&id).await;
    up.wait_for(&id, "the first update to be told", |incident| updates(incident) == 2).await;
    assert_eq!(joined(1), ["one", "two"]);
    up.post(&group(&["one", "two", "three"])).await;
    eventually("the second update to be told", async || match hook.posted().len() {
        4.. if slack.messages().len() >= 4 => Ok(()),
        n => Err(format!("{n} webhooks, {} messages", slack.messages().len())),
    })
    .await;
    // In the order of their labels.
    assert_eq!(joined(2), ["one", "three", "two"]);

    assert_eq!((model.requests().len(), up.incidents().await.len()), (1, 1));
    let shown: Vec<String> =
        slack.messages().iter().filter(|m| m.thread.is_some()).map(SlackMessage::shown).collect();
    assert_eq!(shown.iter().filter(|text| text.contains("More alerts joined")).count(), 2, "{shown:#?}");
    assert!(shown.iter().any(|text| text.contains("instance=three")), "{shown:#?}");
}

#[tokio::test]
async fn a_destination_that_will_never_take_it_is_shown_with_its_reason_and_holds_nobody_up() {
    let (mcp, hook) = (tools().await, HookServer::start([]).await);
    let slack = SlackServer::start("another", &["oncall"], [Fails::Not]).await;
    let home = home(&mcp, &hook, &slack, "");
    let up = home.up().await;
    let id = up.open(&trouble("mail")).await;
    let incident = up.ended(&id).await;
    let told = Sentinel::told(&incident);
    assert!(told.contains(&"findings to hook: sent".to_owned()), "{told:?}");
    assert!(told.contains(&"findings to chat:oncall: failed".to_owned()), "{told:?}");
    let shown = home.run(&["incidents", "show", &id], 0).stdout;
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("the token is no longer good"), "{shown}");
}
