//! Secrets on every way in and at every way out of the running service.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;

use sentinel_testkit::hook::HookServer;
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{Scripted, ScriptedOpenAi, function_call, function_calls};
use sentinel_testkit::slack::SlackServer;
use sentinel_tests::wire::{LOOPBACK, alert, openai, report, trouble, webhook};
use sentinel_tests::{Home, Sentinel, client};
use serde_json::{Value, json};

/// A configured token of no known shape.
const TOKEN: &str = "mcptok-without/a+known-shape-5544";
/// One that stands in a program's arguments.
const ARGUMENT: &str = "cmdarg-9f8e7d6c5b4a";
const SLACK: &str = "xoxb-token-that-nobody-may-see";

/// [`TOKEN`] as it stands in a header, a query and a dump.
const ENCODED: [&str; 3] = [
    "bWNwdG9rLXdpdGhvdXQvYStrbm93bi1zaGFwZS01NTQ0",
    "mcptok-without%2Fa%2Bknown-shape-5544",
    "6d6370746f6b2d776974686f75742f612b6b6e6f776e2d73686170652d35353434",
];

/// What is leaked, one of each kind.
fn secrets() -> Vec<String> {
    vec![
        TOKEN.to_owned(),
        ARGUMENT.to_owned(),
        SLACK.to_owned(),
        "AKIAABCDEFGHIJKLMNOP".to_owned(),
        format!("ghp_{}", "a1B2".repeat(9)),
        "s3cr3t-pw-of-the-db".to_owned(),
    ]
}

/// All of them in one text, each as it would turn up.
fn leaking(what: &str) -> String {
    let [token, argument, slack, aws, github, password] = secrets().try_into().unwrap();
    let [base64, url, hex] = ENCODED;
    format!(
        "{what}: {token} {argument} {slack} {aws} {github} postgres://app:{password}@db.example/orders \
         data: {base64} ?t={url}& {hex} end"
    )
}

/// An alert with secrets in values and in names.
fn leaking_alert() -> Value {
    let mut alert = alert("Trouble", &[("instance", "mail")]);
    alert["labels"]["cmd"] = json!(leaking("label value"));
    alert["annotations"]["description"] = json!(leaking("annotation value"));
    for (n, secret) in secrets().iter().enumerate() {
        let named = if n == 5 { format!("postgres://app:{secret}@db.example/x") } else { secret.clone() };
        alert["labels"][&format!("of {named}")] = json!("label name");
        alert["annotations"][&format!("by {named}")] = json!("annotation name");
    }
    alert["generatorURL"] = json!(format!("http://prometheus.example/graph?q={}", leaking("generator")));
    alert
}

/// Where secrets come out: the name of each exit and what was seen there.
type Exits = BTreeMap<&'static str, String>;

/// Every exit shows that something was there, and none shows what.
fn assert_nothing_leaks(exits: &Exits, must_show: &[&str]) {
    let mut leaks = Vec::new();
    for (exit, text) in exits {
        assert!(!text.is_empty(), "nothing was seen at {exit}");
        for secret in secrets().iter().map(String::as_str).chain(ENCODED) {
            if let Some(at) = text.find(secret) {
                let around: String = text.get(at.saturating_sub(200)..at).unwrap_or_default().to_owned();
                leaks.push(format!("{exit}: {secret} behind {around:?}"));
            }
        }
        if must_show.contains(exit) {
            assert!(text.contains("[redacted"), "{exit} shows no placeholder: {text}");
        }
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

async fn tools() -> FakeMcp {
    let schema =
        json!({"type": "object", "properties": {"q": {"type": "string", "description": leaking("schema")}}});
    FakeMcp::builder()
        .tool("look", schema.clone(), &leaking("tool description"), |_| Answer::text(leaking("tool output")))
        .tool("fails", schema.clone(), "Fails", |_| Answer::error(leaking("tool error")))
        .tool("breaks", schema, "Breaks", |_| Answer::RpcError(-32000, leaking("protocol error")))
        .start()
        .await
}

fn config(mcp: &str, broken: &str, model: &str, hook: &str, slack: &str) -> String {
    format!(
        "log-level: trace\n{LOOPBACK}{model}\
         mcp-servers:\n\
         - {{name: fake, server-url: \"{mcp}\", authorization: \"${{TOKEN}}\"}}\n\
         - {{name: broken, server-url: \"{broken}\"}}\n\
         - {{name: program, command: [sh, -c, 'echo \"my token is ${{ARGUMENT}}\" >&2; exit 1']}}\n\
         sinks:\n\
         - {{name: hook, type: webhook, url: \"{hook}\", secret: hook-secret-that-nobody-may-see}}\n\
         - {{name: chat, type: slack, url: \"{slack}\", token: {SLACK}}}\n\
         resources: [{{name: trouble, filters: {{alertname: Trouble}}}}]\n\
         incident-cards:\n\
         - name: trouble\n  \
           resource: trouble\n  \
           dedupe-by: alert\n  \
           prompt: \"Find out why {{{{ labels }}}} {{{{ annotations }}}}.\"\n  \
           tools: [fake.look, fake.fails, fake.breaks, broken.look, program.look]\n  \
           evidence: [{{tool: fake.look}}, {{tool: fake.fails}}, {{tool: broken.look}}, {{tool: program.look}}]\n  \
           sinks: [log, hook, \"chat:oncall\"]\n"
    )
}

fn answers(request: &Value, n: usize) -> Scripted {
    let _ = request;
    if n == 0 {
        let calls = [
            ("fake__look", json!({"q": "all"}), "c1"),
            ("fake__fails", json!({}), "c2"),
            ("fake__breaks", json!({}), "c3"),
            ("fake__unknown", json!({}), "c4"),
        ];
        return Scripted::Json(function_calls(&calls));
    }
    let mut report = report("E1", "tool output");
    // A model is shown none, but it may put one together.
    report["summary"] = json!(leaking("summary"));
    report["gaps"] = json!([leaking("gap")]);
    Scripted::Json(function_call("submit_report", &report, "c9"))
}

// Commands are waited for while the servers that they ask go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_an_alert_a_tool_or_a_model_gets_through_any_exit() {
    let (mcp, hook) = (tools().await, HookServer::start([]).await);
    let broken = FakeMcp::builder()
        .on("initialize", Answer::Status(500, leaking("http error")))
        .on("server/discover", Answer::Status(500, leaking("http error")))
        .start()
        .await;
    let slack = SlackServer::start(SLACK, &["oncall"], []).await;
    let model = ScriptedOpenAi::with(answers).await;
    let openai = openai(&model.base_url());
    let text = config(&mcp.url(), &broken.url(), &openai, &hook.url(), &slack.api());
    let home = Home::with(&text).env("TOKEN", TOKEN).env("ARGUMENT", ARGUMENT).env("PATH", "/usr/bin:/bin");
    let up = home.up().await;
    let mut body = webhook(&[("instance", "mail")], &[leaking_alert()]);
    body["commonAnnotations"] = json!({"summary": leaking("common annotation")});
    body["groupLabels"]["cmd"] = json!(leaking("group label"));
    body["receiver"] = json!(leaking("receiver"));
    body["externalURL"] = json!(leaking("external address"));
    let id = up.open(&body).await;
    let done = up.ended(&id).await;
    assert_eq!(done["report"]["source"], "model", "{done:#}");

    let exits = exits(&home, &up, &id, &body, &hook, &slack, model).await;
    let must_show = [
        "the API's incident",
        "the API's list",
        "the record",
        "the webhook",
        "Slack",
        "show",
        "show as JSON",
        "the model",
        "the log and the progress",
        "render",
    ];
    assert_nothing_leaks(&exits, &must_show);
    for secret in secrets().iter().map(String::as_str).chain(ENCODED) {
        assert_eq!(home.data_files_with(secret), Vec::<std::path::PathBuf>::new(), "{secret} is stored");
    }
    assert!(!home.data_files_with("[redacted").is_empty(), "the store is not read as it is written");
}

async fn exits(
    home: &Home,
    up: &Sentinel,
    id: &str,
    body: &Value,
    hook: &HookServer,
    slack: &SlackServer,
    model: ScriptedOpenAi,
) -> Exits {
    let mut exits = Exits::new();
    let get = async |path: &str| {
        client().get(format!("{}{path}", up.url)).send().await.unwrap().text().await.unwrap()
    };
    exits.insert("the API's list", get("/api/incidents").await);
    exits.insert("the API's incident", get(&format!("/api/incidents/{id}")).await);
    exits.insert("the record", get(&format!("/api/incidents/{id}/record")).await);
    exits.insert("the events", get(&format!("/api/incidents/{id}/events")).await);
    exits.insert("show", home.run(&["incidents", "show", id], 0).stdout);
    exits.insert("show as JSON", home.run(&["incidents", "show", id, "--json"], 0).stdout);
    exits.insert("list", home.run(&["incidents", "list"], 0).stdout);
    exits.insert("the log and the progress", up.child.stdout() + &up.child.stderr());
    let posted: Vec<String> =
        hook.posted().iter().map(|p| String::from_utf8(p.raw.clone()).unwrap()).collect();
    exits.insert("the webhook", posted.concat());
    exits.insert("Slack", slack.calls().iter().map(|(_, body)| body.to_string()).collect());

    home.write("event.json", &body.to_string());
    for (name, args) in [
        ("render", &["render", "event.json"][..]),
        ("render as JSON", &["render", "event.json", "--json"]),
        ("validate", &["validate", "config.yaml"]),
        ("validate as JSON", &["validate", "config.yaml", "--json"]),
    ] {
        let ended = home.run(args, 0);
        exits.insert(name, ended.stdout + &ended.stderr);
    }
    let locked = home.run(&["tools", "lock", "--check"], 1);
    exits.insert("tools lock", locked.stdout + &locked.stderr);
    // Once more, in a process of its own: progress as text, the report on standard output.
    let replayed = home.run(&["replay", "event.json"], 0);
    exits.insert("replay", replayed.stdout + &replayed.stderr);
    let requests = model.requests();
    exits.insert("the model", requests.iter().map(|request| request.body.to_string()).collect());
    exits
}

#[tokio::test]
async fn a_server_that_echoes_its_clients_token_puts_it_into_no_progress_line_and_no_event() {
    let mcp = FakeMcp::builder()
        .on("initialize", Answer::Status(400, format!("bad token {TOKEN}")))
        .on("server/discover", Answer::Status(400, format!("bad token {TOKEN}")))
        .start()
        .await;
    let home = Home::with(&format!(
        "{LOOPBACK}mcp-servers: [{{name: a, server-url: \"{}\", authorization: \"${{TOKEN}}\"}}]\n\
         incident-cards: [{{name: any, resource: Trouble, prompt: p, tools: [a.look], evidence: [{{tool: a.look}}]}}]\n",
        mcp.url()
    ))
    .env("TOKEN", TOKEN);
    let up = home.up().await;
    let id = up.open(&trouble("mail")).await;
    up.ended(&id).await;
    let url = format!("{}/api/incidents/{id}/events", up.url);
    let events = client().get(url).send().await.unwrap().text().await.unwrap();
    let told = up.child.stderr();
    assert!(told.contains("a.look") && events.contains("a.look"), "{told}\n{events}");
    for (place, text) in [("the progress", &told), ("the events", &events)] {
        assert!(!text.contains(TOKEN), "{place}: {text}");
    }
}

#[tokio::test]
async fn two_pods_whose_names_look_like_keys_are_two_incidents() {
    let home = Home::with(
        "incident-cards: [{name: any, resource: any, dedupe-by: alert, prompt: p}]\n\
                           resources: [{name: any}]\n",
    );
    let up = home.up().await;
    let pods = ["sk-bratislava-gateway-7d9f8c6b5-x2x4q", "sk-bratislava-billing-5c7d8f9b6-k8k2z"];
    let alerts = pods.map(|pod| alert("KubePodNotReady", &[("namespace", "web"), ("pod", pod)]));
    let (status, answer) = up.post(&webhook(&[("namespace", "web")], &alerts)).await;
    assert_eq!(
        (status.as_u16(), &answer["accepted"], &answer["duplicates"]),
        (200, &json!(2), &json!(0)),
        "{answer}"
    );
    assert_eq!(up.incidents().await.len(), 2);
}

#[tokio::test]
async fn the_environment_of_a_pod_reaches_neither_the_model_nor_the_store() {
    let output = "    env:\n    - name: DB_PASSWORD\n      value: Zq8vTn3KpWmR5xL2Ab\n    - name: STRIPE_KEY\n      \
                  value: Pq7-not-a-known-shape-2b9";
    let schema = json!({"type": "object"});
    let mcp = FakeMcp::builder().tool("look", schema, "Looks", move |_| Answer::text(output)).start().await;
    let model = ScriptedOpenAi::answering([
        function_call("fake__look", &json!({"namespace": "web"}), "c1"),
        function_call("submit_report", &report("E1", "name: STRIPE_KEY"), "c2"),
    ])
    .await;
    let home = with_one_server(&mcp, &model, "");
    let up = home.up().await;
    let id = up.open(&trouble("mail")).await;
    let done = up.ended(&id).await;
    let asked: String = model.requests().iter().map(|request| request.body.to_string()).collect();
    assert!(asked.contains("name: DB_PASSWORD") && asked.contains("name: STRIPE_KEY"), "{asked}");
    for secret in ["Zq8vTn3KpWmR5xL2Ab", "Pq7-not-a-known-shape-2b9"] {
        assert!(!asked.contains(secret) && !done.to_string().contains(secret), "{secret}: {asked}\n{done:#}");
        assert_eq!(home.data_files_with(secret), Vec::<std::path::PathBuf>::new(), "{secret} is stored");
    }
}

/// A configuration with one server, one card, and these evidence calls.
fn with_one_server(mcp: &FakeMcp, model: &ScriptedOpenAi, evidence: &str) -> Home {
    Home::with(&format!(
        "{LOOPBACK}{}mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         incident-cards: [{{name: any, resource: Trouble, prompt: p, tools: [fake.look], evidence: [{evidence}]}}]\n",
        openai(&model.base_url()),
        mcp.url()
    ))
}

#[tokio::test]
async fn a_report_that_speaks_of_a_password_stays_readable_and_is_not_lost() {
    const SAYS: &str =
        "The client said \"password: required\", the probe has \"password=changeme\" and waits.";
    let schema = json!({"type": "object"});
    let mcp = FakeMcp::builder().tool("look", schema, "Looks", move |_| Answer::text(SAYS)).start().await;
    let mut said = report("E1", "The client said");
    said["summary"] = json!(SAYS);
    said["hypotheses"][0]["statement"] = json!(SAYS);
    let model = ScriptedOpenAi::answering([function_call("submit_report", &said, "c1")]).await;
    let home = with_one_server(&mcp, &model, "{tool: fake.look}");
    let up = home.up().await;
    let id = up.open(&trouble("mail")).await;
    let done = up.ended(&id).await;
    let told = &done["report"];
    assert_eq!(
        (&told["source"], &told["hypotheses"][0]["supported"]),
        (&json!("model"), &json!(true)),
        "{done:#}"
    );
    let summary = told["summary"].as_str().unwrap();
    assert!(summary.starts_with("The client said \"password: required\", the probe has"), "{summary}");
    assert!(summary.ends_with("and waits."), "{summary}");
}
