//! A real Prometheus and a real Alertmanager: an alert fires, resolves and fires again inside its window, and what people
//! read of it at each step in `show`, in Slack and in a webhook's body.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking, and what was said is printed"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use sentinel_testkit::hook::HookServer;
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{ScriptedOpenAi, function_call};
use sentinel_testkit::process::{Service, alertmanager, prometheus};
use sentinel_testkit::slack::{SlackMessage, SlackServer};
use sentinel_tests::wire::{LOOPBACK, openai, report};
use sentinel_tests::{Home, Sentinel, eventually};
use serde_json::{Value, json};

/// How long the card leaves what fires again alone, in seconds: long enough for all that happens in between.
const WINDOW: u64 = 25;

/// A program with a metric: the queue is too long, or it is not.
async fn program(long: &Arc<AtomicBool>) -> String {
    async fn metrics(State(long): State<Arc<AtomicBool>>) -> String {
        let depth = if long.load(Ordering::SeqCst) { 250 } else { 0 };
        format!("queue_depth{{queue=\"mail\"}} {depth}\n")
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new().route("/metrics", get(metrics)).with_state(Arc::clone(long));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Notifies at once of what is new, and repeats nothing while this test lasts.
async fn notifier(up: &Sentinel) -> Service {
    alertmanager(&format!(
        "route: {{receiver: sentinel, group_by: [alertname], group_wait: 0s, group_interval: 1s, \
         repeat_interval: 4h}}\n\
         receivers: [{{name: sentinel, webhook_configs: [{{url: '{}', send_resolved: true}}]}}]\n",
        up.webhook()
    ))
    .await
}

async fn server(program: &str, notifier: &Service) -> Service {
    let notifier = notifier.base.trim_start_matches("http://").trim_end_matches('/');
    let config = format!(
        "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\n\
         rule_files: [rules.yml]\n\
         scrape_configs: [{{job_name: shop, static_configs: [{{targets: ['{program}']}}]}}]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{notifier}']}}]}}]}}\n"
    );
    let rules = "groups: [{name: shop, rules: [{alert: QueueTooLong, expr: queue_depth > 100}]}]\n";
    prometheus(&config, rules).await
}

/// What each surface says of the incident now.
struct Said {
    show: String,
    main: String,
    reply: Option<String>,
    hook: Value,
}

/// Waits until the `n`-th webhook is of this event and Slack says `words`, and prints what all of them say.
async fn said(
    step: &str,
    home: &Home,
    id: &str,
    hook: &HookServer,
    slack: &SlackServer,
    event: &str,
) -> Said {
    let body = eventually(&format!("{step}: {event} to be told"), async || {
        let last = hook.posted().pop().map(|posted| posted.body).unwrap_or_default();
        if last["event"] == event { Ok(last) } else { Err(format!("{last:#}")) }
    })
    .await;
    let show = eventually(&format!("{step}: {event} to be told to all"), async || {
        let show = home.run(&["incidents", "show", id, "--full"], 0).stdout;
        if show.contains(&format!("{event} to chat:oncall: sent")) { Ok(show) } else { Err(show) }
    })
    .await;
    let messages = slack.messages();
    let main = messages.iter().rfind(|m| m.thread.is_none()).unwrap();
    let reply = messages.iter().rfind(|m| m.thread.as_ref() == Some(&main.ts)).map(SlackMessage::shown);
    let main = main.shown();
    println!("== {step}");
    println!("show:    {}", show.lines().take(4).collect::<Vec<_>>().join(" | "));
    println!("Slack:   {}", main.replace('\n', " | "));
    println!("thread:  {}", reply.as_deref().unwrap_or("–").replace('\n', " | "));
    let of = |alert: &Value| format!("{} {} to {}", alert["status"], alert["startsAt"], alert["endsAt"]);
    let alerts: Vec<String> = body["alerts"].as_array().unwrap().iter().map(of).collect();
    let incident = &body["incident"];
    println!(
        "webhook: {} resolved_at {} again {} alerts [{}]",
        body["event"],
        incident["resolved_at"],
        incident["again"],
        alerts.join(", ")
    );
    Said { show, main, reply, hook: body }
}

#[tokio::test]
async fn what_fires_again_in_its_window_is_never_shown_as_resolved_and_is_investigated_when_it_ends() {
    const QUOTE: &str = "the queue is not drained";
    let (hook, slack) = (HookServer::start([]).await, SlackServer::start("xoxb", &["oncall"], []).await);
    let schema = json!({"type": "object"});
    let mcp = FakeMcp::builder().tool("look", schema, "Looks", |_| Answer::text(QUOTE)).start().await;
    let findings = |n: &str| function_call("submit_report", &report("E1", QUOTE), n);
    let model = ScriptedOpenAi::answering([findings("c1"), findings("c2")]).await;
    let home = Home::with(&format!(
        "{LOOPBACK}{}\
         dispatcher: {{dedupe-ttl-seconds: {WINDOW}}}\n\
         mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         sinks:\n\
         - {{name: hook, type: webhook, url: \"{}\", events: [findings, updated, resolved]}}\n\
         - {{name: chat, type: slack, url: \"{}\", token: xoxb, events: [findings, updated, resolved]}}\n\
         resources: [{{name: queues, filters: {{alertname: QueueTooLong}}}}]\n\
         incident-cards:\n\
         - {{name: queues, resource: queues, prompt: Find out why., tools: [fake.look], evidence: [{{tool: fake.look}}], \
         sinks: [hook, \"chat:oncall\"]}}\n",
        openai(&model.base_url()),
        mcp.url(),
        hook.url(),
        slack.api(),
    ));
    let up = home.up().await;
    let long = Arc::new(AtomicBool::new(true));
    let notifier = notifier(&up).await;
    let _prometheus = server(&program(&long).await, &notifier).await;

    let id = eventually("the alert to open an incident", async || {
        let incidents = up.incidents().await;
        incidents.first().map(|i| i["id"].as_str().unwrap().to_owned()).ok_or_else(|| "none".to_owned())
    })
    .await;
    let fired = said("it fires", &home, &id, &hook, &slack, "findings").await;
    assert!(!fired.show.contains("resolved") && !fired.main.contains("resolved"), "{}", fired.show);
    assert_eq!(fired.hook["incident"]["resolved_at"], Value::Null);

    long.store(false, Ordering::SeqCst);
    let over = said("it resolves", &home, &id, &hook, &slack, "resolved").await;
    assert!(
        over.show.contains("; resolved ") && over.main.contains("; resolved "),
        "{} {}",
        over.show,
        over.main
    );
    let alert = &over.hook["alerts"][0];
    assert_eq!(
        (&alert["status"], &alert["endsAt"]),
        (&json!("resolved"), &over.hook["incident"]["resolved_at"])
    );

    long.store(true, Ordering::SeqCst);
    let again = said("it fires again", &home, &id, &hook, &slack, "updated").await;
    let incident = up.incident(&id).await;
    assert_eq!(
        (&incident["resolved_at"], &incident["gen"]),
        (&Value::Null, &fired.hook["incident"]["generation"])
    );
    let (since, not_before) = (incident["again"]["since"].as_str(), incident["again"]["not_before"].as_str());
    let words = format!("since {}; not investigated again before {}", since.unwrap(), not_before.unwrap());
    let shown = again.show.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        shown.contains("; again since ") && shown.contains("; not investigated again before "),
        "{shown}"
    );
    assert!(!shown.contains("; resolved "), "{shown}");
    assert!(again.main.contains(&words) && !again.main.contains("; resolved "), "{}", again.main);
    assert_eq!(
        again.reply.as_deref().map(|reply| reply.contains(&format!("It fires again {words}."))),
        Some(true)
    );
    let body = &again.hook["incident"];
    assert_eq!((&body["resolved_at"], &body["again"]), (&Value::Null, &incident["again"]));
    let alert = &again.hook["alerts"][0];
    assert_eq!((&alert["status"], &alert["startsAt"]), (&json!("firing"), &incident["again"]["since"]));
    assert_eq!(again.hook["alerts"].as_array().unwrap().len(), 1, "one alert, as it is now");

    // Its sender says nothing more: the window's end is enough.
    let opened = up
        .wait_for(&id, "the next generation", |now| now["gen"] != incident["gen"] && now["state"] == "done")
        .await;
    let investigated = said("the window is over", &home, &id, &hook, &slack, "findings").await;
    assert_eq!((&opened["resolved_at"], &opened["again"]), (&Value::Null, &Value::Null));
    assert_eq!(investigated.hook["incident"]["began"], incident["again"]["since"]);
    assert!(investigated.hook["incident"]["generation"].as_i64() > incident["gen"].as_i64());
    assert_eq!(model.requests().len(), 2, "paid for once an episode");
    let mains = slack.messages().iter().filter(|message| message.thread.is_none()).count();
    assert_eq!(mains, 2, "one message a generation");
}
