//! Configurations of every origin through the real program, good and broken.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{ScriptedOpenAi, function_call};
use sentinel_tests::wire::{LOOPBACK, alert, openai, report, webhook};
use sentinel_tests::{Home, workspace};
use serde_json::{Value, json};

/// A configuration with the keys of the original project, or of spec-002, that `crates/config` keeps for its tests.
fn fixture(name: &str) -> String {
    workspace().join("crates/config/tests/fixtures").join(name).display().to_string()
}

/// A folder without a configuration, whose commands have every variable that the fixtures name.
fn home() -> Home {
    let names = [
        "TOKEN",
        "CEPH_MCP_TOKEN",
        "SLACK_TOKEN",
        "SENTINEL_TOKEN",
        "K8S_MCP_TOKEN",
        "DOCS_TOKEN",
        "CLOUD_SECRET",
        "HERE_TOKEN",
        "HOOK_SECRET",
        "TEAMS_WORKFLOW",
        "MATRIX_TOKEN",
    ];
    names.into_iter().fold(Home::empty(), |home, name| home.env(name, "a-value-of-the-environment"))
}

fn cards(validated: &Value) -> Vec<&str> {
    validated["cards"].as_array().unwrap().iter().map(|card| card["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn configurations_of_the_original_and_of_spec_002_load_unchanged_and_start() {
    for (name, expected) in [
        ("kubernetes.yaml", &["pod-not-ready-alert"][..]),
        ("ceph.yaml", &["osd-down-investigation"]),
        ("spec-002.yaml", &["high-latency", "database"]),
        ("aliases.yaml", &["c1", "c2"]),
    ] {
        let home = home();
        let file = fixture(name);
        let validated = home.run(&["validate", "--json", &file], 0).json();
        assert_eq!((&validated["valid"], cards(&validated)), (&json!(true), expected.to_vec()), "{name}");

        let up = home.command(&["up", "--json", "--listen", "127.0.0.1:0", "--config", &file]);
        let up = sentinel_tests::Sentinel::start(up).await;
        assert_eq!(up.get("/healthz").await["status"], "ok", "{name}");
    }
}

#[tokio::test]
async fn an_alert_reaches_the_card_of_an_original_configuration() {
    let home = home();
    let file = fixture("kubernetes.yaml");
    let up = home.command(&["up", "--json", "--listen", "127.0.0.1:0", "--config", &file]);
    let up = sentinel_tests::Sentinel::start(up).await;
    let id = up.open(&webhook(&[], &[alert("KubePodNotReady", &[("pod", "web-1")])])).await;
    let done = up.ended(&id).await;
    assert_eq!((&done["state"], &done["card"]), (&json!("done"), &json!("pod-not-ready-alert")), "{done:#}");
    assert_eq!(done["report"]["source"], "evidence_only");
}

#[tokio::test]
async fn placeholders_of_the_original_are_filled_and_a_label_is_never_a_template() {
    let mcp = FakeMcp::builder()
        .tool("look", json!({"type": "object"}), "Looks", |_| Answer::text("all is well here"));
    let mcp = mcp.start().await;
    let model =
        ScriptedOpenAi::answering([function_call("submit_report", &report("E1", "all is well"), "c1")]).await;
    let home = Home::with(&format!(
        "{LOOPBACK}{}mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         incident-cards:\n\
         - name: original\n  resource: Trouble\n  tools: [fake.look]\n  evidence: [{{tool: fake.look}}]\n  prompt: |\n\
         \x20   It is ${{resource_name}} of ${{resource_type}}, ${{resource_state}} since ${{resource_timestamp}}.\n\
         \x20   It has ${{resource_labels}} and ${{resource_annotations}}.\n",
        openai(&model.base_url()),
        mcp.url()
    ));
    let up = home.up().await;
    let id = up.open(&webhook(&[], &[alert("Trouble", &[("pod", "{{ 6 * 7 }} ${resource_name}")])])).await;
    assert_eq!(up.ended(&id).await["state"], "done");

    let asked = model.finish()[0].body.to_string();
    assert!(
        asked.contains("It is Trouble of prometheus_alert, firing since 2026-01-05T08:00:00Z."),
        "{asked}"
    );
    assert!(asked.contains("{{ 6 * 7 }} ${resource_name}"), "{asked}");
    for evaluated in ["42 ${resource_name}", "42 Trouble", "}} Trouble"] {
        assert!(!asked.contains(evaluated), "{evaluated}: {asked}");
    }
    assert!(asked.contains("Something is wrong."), "{asked}");
}

#[test]
fn all_problems_of_a_configuration_are_told_at_once_each_with_its_place() {
    let home = home();
    let file = fixture("broken.yaml");
    let told = home.run(&["validate", &file], 2).stderr;
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines.iter().filter(|line| line.contains(": error: ")).count() >= 30, "{told}");
    for line in &lines {
        let place: Vec<&str> =
            line.strip_prefix(&file).unwrap_or_else(|| panic!("{line}")).splitn(4, ':').collect();
        assert!(place[1].parse::<u32>().is_ok() && place[2].parse::<u32>().is_ok(), "{line}");
    }
    for (place, says) in [
        (":2:23: error: openai.temperature: ", "from 0 to 2"),
        (":6:3: error: ingest.baerer: ", "did you mean `bearer`?"),
        (":8:39: error: resources[0].filters.namespace: ", "is not a regular expression"),
        (":9:12: error: resources[1].name: ", "the first is in line 8"),
        (":12:5: error: mcp-servers[1].server-url: ", "is missing"),
        (":20:13: error: incident-cards[0].tools[0]: ", "did you mean `k8s`?"),
        (":20:27: error: incident-cards[0].tools[1]: ", "is not a tool"),
        (":21:13: error: incident-cards[0].sinks[0]: ", "did you mean `log`?"),
        (":22:21: error: incident-cards[0].max-iterations: ", "from 1 to 20"),
    ] {
        assert!(
            lines.iter().any(|line| line.contains(place) && line.contains(says)),
            "{place} {says}\n{told}"
        );
    }

    let validated = home.run(&["validate", "--json", &file], 2).json();
    assert_eq!(validated["valid"], false);
    assert_eq!(validated["diagnostics"].as_array().unwrap().len(), lines.len());
    home.run(&["up", "--config", &file], 2);
}

#[test]
fn a_broken_prompt_or_rule_is_told_with_its_place_before_anything_starts() {
    let home = Home::with(
        r#"
mcp-servers: [{name: s, server-url: "https://s.example/mcp"}]
resources: [{name: r, filters: {alertname: A}}]
incident-cards:
  - name: a
    resource: r
    prompt: "Look at {{ labels.pod"
    tools: [s.t]
    evidence: [{tool: s.t, arguments: {q: "{{ nowhere }}"}}]
    checklist: [{name: x, rule: "evidence.exists("}]
"#,
    );
    for command in [&["validate"][..], &["up", "--listen", "127.0.0.1:0"]] {
        let told = home.run(command, 2).stderr;
        for place in [
            "config.yaml:7:13: error: incident-cards[0].prompt",
            "config.yaml:9:",
            "config.yaml:10:33: error: ",
        ] {
            assert!(told.contains(place), "{place}\n{told}");
        }
    }
}

#[test]
fn the_example_of_every_key_validates() {
    let home = home();
    let file = workspace().join("infra/config.example.yaml").display().to_string();
    let validated = home.run(&["validate", "--json", &file], 0).json();
    assert_eq!(cards(&validated), ["kube-pod-not-ready"]);
}
