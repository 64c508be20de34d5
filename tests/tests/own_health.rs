//! What a running `up` says of itself: `/metrics` as it changes, and `/readyz` with its reasons.

#![expect(clippy::panic, clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

use sentinel_telemetry::FAMILIES;
use sentinel_testkit::hook::{HookServer, Receives};
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{ScriptedOpenAi, function_call};
use sentinel_testkit::process::command;
use sentinel_tests::wire::{LOOPBACK, MODEL_KEY, alert, openai, report, trouble, webhook};
use sentinel_tests::{Home, Sentinel, client};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const SECRET: &str = "hook-secret-that-nobody-may-see";

/// The values of `/metrics` by their names with labels.
fn values(text: &str) -> BTreeMap<&str, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}")))
        .map(|(name, value)| (name, value.parse().unwrap_or_else(|e| panic!("{name} {value}: {e}"))))
        .collect()
}

/// What grew between two looks, and by how much; times, sums, dollars and gauges aside.
fn grown(before: &str, after: &str) -> BTreeMap<String, u64> {
    let counts = |text: &str| -> BTreeMap<String, u64> {
        let is_count = |name: &str| {
            let name = name.split('{').next().unwrap_or_default();
            (name.ends_with("_total") && !name.contains("usd")) || name.ends_with("_count")
        };
        let samples =
            text.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(name, _)| is_count(name));
        let whole = |value: &str| value.parse().unwrap_or_else(|e| panic!("{value}: {e}"));
        samples
            .filter(|(name, _)| !name.starts_with('#'))
            .map(|(name, value)| (name.to_owned(), whole(value)))
            .collect()
    };
    let before = counts(before);
    let by = counts(after).into_iter().map(|(name, count)| {
        let by = count - before.get(&name).copied().unwrap_or_default();
        (name, by)
    });
    by.filter(|(_, by)| *by > 0).collect()
}

/// Prometheus's own linter takes the text.
fn assert_takes(text: &str) {
    let mut promtool = command("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool: bash tests/setup.sh");
    promtool.stdin.take().expect("its input").write_all(text.as_bytes()).expect("a reader");
    let ended = promtool.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert!(ended.status.success() && said.trim().is_empty(), "{said}\n{text}");
}

async fn tools() -> FakeMcp {
    FakeMcp::builder()
        .tool("look", json!({"type": "object"}), "Looks", |_| Answer::text("all is well here"))
        .start()
        .await
}

fn home(model: &str, servers: &str, hook: &HookServer) -> Home {
    Home::with(&format!(
        "{LOOPBACK}{model}budget: {{per-hour: 5}}\n\
         mcp-servers: [{servers}]\n\
         sinks: [{{name: hook, type: webhook, url: \"{}\", secret: {SECRET}}}]\n\
         incident-cards:\n\
         - {{name: trouble, resource: Trouble, prompt: Find out why., tools: [fake.look], evidence: [{{tool: fake.look}}], sinks: [log, hook]}}\n",
        hook.url()
    ))
}

fn server(url: &str) -> String {
    format!("{{name: fake, server-url: \"{url}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_is_posted_investigated_and_told_changes_the_counters_as_documented() {
    let (mcp, hook) = (tools().await, HookServer::start([]).await);
    let model = ScriptedOpenAi::answering([
        function_call("fake__look", &json!({"namespace": "web"}), "c1"),
        function_call("submit_report", &report("E1", "all is well here"), "c2"),
    ])
    .await;
    let home = home(&openai(&model.base_url()), &server(&mcp.url()), &hook);
    let up = home.up().await;
    let before = up.text("/metrics").await;
    assert_takes(&before);
    assert!(values(&before)["sentinel_alerts_received_total"] == 0.0, "{before}");

    let id = up.open(&trouble("one")).await;
    up.ended(&id).await;
    let (status, answer) = up.post(&webhook(&[], &[alert("Unheard", &[])])).await;
    assert_eq!((status.as_u16(), &answer["unmatched"]), (200, &json!(1)), "{answer}");
    let (status, _) = up.post(&trouble("one")).await;
    assert_eq!(status.as_u16(), 200);
    let refused = client().post(up.webhook()).header("content-type", "application/json").body("{");
    assert_eq!(refused.send().await.unwrap().status().as_u16(), 400);

    let after = up.text("/metrics").await;
    assert_takes(&after);
    let grown = grown(&before, &after);
    let told = |sink: &str| format!("sentinel_sink_results_total{{sink=\"{sink}\",result=\"sent\"}}");
    for (name, by) in [
        ("sentinel_webhooks_total", 3),
        ("sentinel_webhooks_refused_total{status=\"400\"}", 1),
        ("sentinel_alerts_received_total", 3),
        ("sentinel_alerts_total{outcome=\"accepted\"}", 1),
        ("sentinel_alerts_total{outcome=\"duplicate\"}", 1),
        ("sentinel_alerts_total{outcome=\"unmatched\"}", 1),
        ("sentinel_alerts_total{outcome=\"refused\"}", 1),
        ("sentinel_alert_to_claim_seconds_count", 1),
        ("sentinel_claim_to_start_seconds_count", 1),
        ("sentinel_investigations_total{verdict=\"action_required\",source=\"model\"}", 1),
        ("sentinel_investigation_duration_seconds_count", 1),
        ("sentinel_turns_total", 2),
        ("sentinel_turn_duration_seconds_count", 2),
        ("sentinel_tool_calls_total{server=\"fake\",tool=\"look\"}", 2),
        ("sentinel_tool_call_duration_seconds_count{server=\"fake\"}", 2),
    ] {
        assert_eq!(grown.get(name), Some(&by), "{name}: {grown:#?}");
    }
    assert!(grown["sentinel_tokens_total"] > 0, "{grown:#?}");
    assert!(grown.contains_key(&told("log")) && grown.contains_key(&told("hook")), "{grown:#?}");
    assert!(!grown.keys().any(|name| name.contains("failed") || name.contains("refusals")), "{grown:#?}");
    let now = values(&after);
    for (name, value) in [
        ("sentinel_store_up", 1.0),
        ("sentinel_budget_investigations_used{scope=\"overall\",window=\"hour\"}", 1.0),
        ("sentinel_budget_investigations_left{scope=\"overall\",window=\"hour\"}", 4.0),
        ("sentinel_mcp_server_left_alone{server=\"fake\"}", 0.0),
        ("sentinel_model_left_alone{model=\"gpt-4.1-mini\"}", 0.0),
    ] {
        assert_eq!(now.get(name), Some(&value), "{name}: {after}");
    }
    assert!(
        now.contains_key("sentinel_jobs_running") && now.contains_key("sentinel_jobs_waiting"),
        "{after}"
    );
    // Every family of the list is there, and nothing secret is.
    for family in FAMILIES {
        let line = format!("# TYPE {} {}", family.name, family.kind.as_str());
        assert!(after.lines().any(|l| l == line), "{line}");
    }
    assert!(!after.contains(MODEL_KEY) && !after.contains(SECRET), "{after}");

    let ready = up.get("/readyz").await;
    for (of, name) in [("models", "openai"), ("servers", "fake"), ("sinks", "hook"), ("sinks", "log")] {
        assert_eq!(ready[of][name]["last"], "ok", "{ready:#}");
        assert!(ready[of][name]["age_seconds"].is_u64(), "{ready:#}");
    }
    assert_eq!((&ready["model"], &ready["warnings"]), (&json!("configured"), &json!([])), "{ready:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_refuses_and_a_server_that_is_down_stand_on_readyz_with_their_reason() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = || Receives::Refuses(410, None);
    let hook = HookServer::start((0..8).map(|_| gone())).await;
    let home = home("", &server(&format!("http://{nobody}/mcp")), &hook);
    let up = home.up().await;
    let never = up.get("/readyz").await;
    for (of, name) in [("servers", "fake"), ("sinks", "hook"), ("sinks", "log")] {
        assert_eq!(never[of][name], json!({"last": "never asked"}), "{never:#}");
    }
    assert_eq!(never["models"], json!({}), "{never:#}");

    up.ended(&up.open(&trouble("one")).await).await;
    let ready = up.get("/readyz").await;
    assert_eq!((&ready["status"], &ready["store"]), (&json!("ready"), &json!("answers")), "{ready:#}");
    let said = |of: &str, name: &str| ready[of][name]["last"].as_str().unwrap_or_default().to_owned();
    assert!(said("servers", "fake").contains("the MCP server fake cannot be reached"), "{ready:#}");
    assert!(said("sinks", "hook").contains("410"), "{ready:#}");
    assert_eq!(said("sinks", "log"), "ok", "{ready:#}");
    assert!(!ready.to_string().contains(SECRET), "{ready}");
    let metrics = up.text("/metrics").await;
    assert_takes(&metrics);
    let now = values(&metrics);
    assert!(now["sentinel_sink_results_total{sink=\"hook\",result=\"refused\"}"] >= 1.0, "{metrics}");
    assert!(now["sentinel_sink_refusals_total"] >= 1.0, "{metrics}");
    assert_eq!(
        now.get("sentinel_investigations_total{verdict=\"inconclusive\",source=\"evidence_only\"}"),
        Some(&1.0),
        "{metrics}"
    );
}

/// The warnings of `/readyz`, once they are as many.
async fn warnings(up: &Sentinel, many: usize) -> Vec<String> {
    sentinel_tests::eventually("the warnings", async || {
        let ready = up.get("/readyz").await;
        let said = ready.get("warnings").and_then(Value::as_array).cloned().unwrap_or_default();
        if said.len() == many { Ok(said) } else { Err(format!("{ready:#}")) }
    })
    .await
    .into_iter()
    .map(|said| said.as_str().unwrap_or_default().to_owned())
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_investigation_will_lack_is_told_at_the_start_and_on_readyz_in_the_same_words() {
    let home = Home::with("incident-cards: [{name: Trouble, resource: Trouble, prompt: Find out why.}]\n");
    let up = home.up().await;
    let told = warnings(&up, 2).await;
    assert!(told[0].starts_with("there is no model key"), "{told:#?}");
    assert!(told[1].starts_with("there is no MCP server"), "{told:#?}");
    let log = up.child.stderr();
    for warning in &told {
        assert!(warning.ends_with("`sentinel doctor` says what to do"), "{warning}");
        assert_eq!(log.matches(warning.as_str()).count(), 1, "{warning}\n{log}");
    }

    let (mcp, hook) = (tools().await, HookServer::start([]).await);
    let model = openai("http://127.0.0.1:9/v1");
    let home = self::home(&model, &server(&mcp.url()), &hook);
    home.run(&["tools", "lock"], 0);
    let up = home.up().await;
    sentinel_tests::eventually("a list of tools", async || {
        let ready = up.get("/readyz").await;
        if ready["servers"]["fake"]["last"] == "ok" { Ok(()) } else { Err(format!("{ready:#}")) }
    })
    .await;
    assert_eq!(warnings(&up, 0).await, Vec::<String>::new());
    drop(up);
    mcp.redefine(json!({
        "name": "look", "description": "Looks, and sends what it sees elsewhere.", "inputSchema": {"type": "object"},
    }));
    let up = home.up().await;
    let told = warnings(&up, 1).await;
    assert!(told[0].contains("tools.lock") && told[0].contains("fake.look"), "{told:#?}");
    assert!(up.child.stderr().contains(&told[0]), "{}", up.child.stderr());
}

#[tokio::test]
async fn whoever_may_not_look_is_told_nothing_but_whether_it_is_ready() {
    let hook = HookServer::start([]).await;
    let home =
        home("ingest: {bearer: [the-token-of-alertmanager]}\n", &server("http://127.0.0.1:9/mcp"), &hook);
    let up = home.up().await;
    let answer = client().get(format!("{}/readyz", up.url)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"status": "ready"}));
    assert_eq!(up.get("/readyz").await["servers"]["fake"], json!({"last": "never asked"}));
}

#[tokio::test]
async fn a_configuration_that_is_refused_is_counted_and_the_warnings_are_those_of_the_one_that_holds() {
    let card = "incident-cards: [{name: Trouble, resource: Trouble, prompt: Find out why.}]\n";
    let home = Home::with(&format!("openai: {{api-key: {MODEL_KEY}}}\n{card}"));
    let mut up = home.up().await;
    let told = warnings(&up, 1).await;
    assert!(told[0].starts_with("there is no MCP server"), "{told:#?}");
    home.write("config.yaml", "incident-cards: nonsense\n");
    up.child.hang_up();
    sentinel_tests::eventually("the refusal to be counted", async || {
        let metrics = up.text("/metrics").await;
        let refused = values(&metrics).get("sentinel_configuration_refused_total").copied();
        if refused == Some(1.0) { Ok(()) } else { Err(metrics) }
    })
    .await;
    home.write("config.yaml", card);
    up.child.hang_up();
    let told = warnings(&up, 2).await;
    assert!(told[0].starts_with("there is no model key"), "{told:#?}");
}
