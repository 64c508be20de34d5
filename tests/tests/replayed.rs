//! Stored incidents that are run again, and folders of cases: offline, by the real program.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::path::Path;

use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{Scripted, ScriptedOpenAi, function_call, function_calls};
use sentinel_tests::wire::{LOOPBACK, openai, report, trouble};
use sentinel_tests::{Home, workspace};
use serde_json::{Value, json};

/// A folder whose store holds the sample incident of the Watchdog, and the incident's id.
fn stored() -> (Home, String) {
    let home = Home::empty();
    let event = workspace().join("events/alertmanager/watchdog.json").display().to_string();
    let incidents = home.run(&["replay", "--json", "--data-dir", ".sentinel", &event], 0).json();
    assert_eq!(incidents[0]["state"], "done", "{incidents:#}");
    let id = incidents[0]["id"].as_str().unwrap().to_owned();
    (home, id)
}

/// What is otherwise, by its name.
fn difference<'a>(replayed: &'a Value, what: &str) -> &'a Value {
    let all = replayed["differences"].as_array().unwrap();
    all.iter().find(|d| d["what"] == what).unwrap_or(&Value::Null)
}

#[test]
fn a_stored_incident_that_is_run_again_as_it_was_comes_out_the_same() {
    let (home, id) = stored();
    let beginning = id.get(..10).unwrap();
    let replayed = home.run(&["replay", beginning, "--from-store", "--json"], 0).json();
    assert_eq!((&replayed["incident"], &replayed["card"]), (&json!(id), &json!("watchdog")));
    assert_eq!((&replayed["misses"], &replayed["differences"]), (&json!([]), &json!([])), "{replayed:#}");
    let shown = home.run(&["replay", beginning, "--from-store"], 0).stdout;
    assert!(shown.contains("replayed with its stored turns") && shown.contains("No difference."), "{shown}");
}

#[test]
fn a_changed_card_shows_what_it_changes_and_what_the_transcript_does_not_hold() {
    let (home, id) = stored();
    home.write(
        "card.yaml",
        "name: watchdog\n\
         resource: watchdog\n\
         prompt: Find out why.\n\
         tools: [prom.execute_query, prom.get_targets]\n\
         evidence:\n\
         - {tool: prom.execute_query, arguments: {query: 'ALERTS{alertname=\"Watchdog\"}'}}\n\
         - {tool: prom.get_targets}\n\
         checklist:\n\
         - {name: the targets were read, otherwise: inconclusive, rule: 'evidence.exists(e, e.tool == \"prom.get_targets\" && e.ok)'}\n",
    );
    let replay = ["replay", &id, "--from-store", "--card", "card.yaml"];
    let replayed = home.run(&[&replay[..], &["--json"]].concat(), 0).json();
    assert_eq!(replayed["misses"], json!(["prom.get_targets {}"]));
    let verdict = difference(&replayed, "verdict");
    assert_eq!((&verdict["then"], &verdict["now"]), (&json!("no_action"), &json!("inconclusive")));
    assert_eq!(
        difference(&replayed, "checklist"),
        &json!({
            "what": "checklist",
            "then": ["ok: the alert was seen in Prometheus"],
            "now": ["failed: the targets were read"],
        })
    );
    assert_eq!(difference(&replayed, "calls")["now"], json!(["prom.get_targets {} (failed)"]));
    assert_eq!(difference(&replayed, "hypotheses"), &Value::Null, "{replayed:#}");
    let shown = home.run(&replay, 0).stdout;
    for line in [
        "not in the transcript  prom.get_targets {}",
        "verdict: no_action → inconclusive",
        "  + failed: the targets were read",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}

#[test]
fn a_card_that_is_wrong_is_told_with_its_own_file_and_line() {
    let (home, id) = stored();
    home.write(
        "card.yaml",
        "name: watchdog\nresource: watchdog\nprompt: Find out why.\nmax-iterations: 99\n",
    );
    let told = home.run(&["replay", &id, "--from-store", "--card", "card.yaml"], 2).stderr;
    assert!(
        told.contains("card.yaml:4:17: error:") && told.contains("max-iterations: 99 is out of range"),
        "{told}"
    );
    home.write("card.yaml", "name: nobody\n");
    let told = home.run(&["replay", &id, "--from-store", "--card", "card.yaml"], 2).stderr;
    assert!(told.contains("card.yaml:1:1: error:") && told.contains("has no card nobody"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_model_is_answered_from_the_transcript_of_a_running_service() {
    let schema = json!({"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]});
    let mcp = FakeMcp::builder()
        .tool("look", schema, "Looks", |arguments| {
            Answer::text(format!("all is well at {}", arguments["at"]))
        })
        .start()
        .await;
    let reports = |verdict: &str| {
        let mut report = report("E1", "all is well at 1");
        report["verdict"] = json!(verdict);
        Scripted::Json(function_call("submit_report", &report, "call_report"))
    };
    let model = ScriptedOpenAi::with(move |request, n| match (n, request["model"].as_str()) {
        (0, _) => Scripted::Json(function_call("fake__look", &json!({"at": 1}), "call_1")),
        (1, _) => reports("action_required"),
        (2, Some("another-model")) => Scripted::Json(function_calls(&[
            ("fake__look", json!({"at": 1}), "call_1"),
            ("fake__look", json!({"at": 2}), "call_2"),
        ])),
        _ => reports("no_action"),
    })
    .await;
    let home = Home::with(&format!(
        "{LOOPBACK}{}\
         mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         resources: [{{name: trouble, filters: {{alertname: Trouble}}}}]\n\
         incident-cards:\n\
         - {{name: trouble, resource: trouble, prompt: Find out why., tools: [fake.look]}}\n",
        openai(&model.base_url()),
        mcp.url()
    ));
    let up = home.up().await;
    let id = up.open(&trouble("mail-1")).await;
    up.ended(&id).await;
    let replayed = home.run(&["replay", &id, "--from-store", "--model", "another-model", "--json"], 0).json();

    assert_eq!(replayed["misses"], json!(["fake.look {\"at\":2}"]));
    let verdict = difference(&replayed, "verdict");
    assert_eq!((&verdict["then"], &verdict["now"]), (&json!("action_required"), &json!("no_action")));
    assert_eq!(difference(&replayed, "calls")["now"], json!(["fake.look {\"at\":2} (failed)"]));
    let requests = model.finish();
    assert_eq!(requests.len(), 4);
    let told = requests[3].body["input"].to_string();
    assert!(told.contains("all is well at 1") && told.contains("is not in the transcript"), "{told}");
    assert_eq!(mcp.calls().len(), 1, "nothing but the model was asked again");
    assert_eq!(up.incidents().await.len(), 1, "nothing of it is stored");
}

#[test]
fn the_cases_that_ship_pass_and_what_is_invented_in_them_is_counted() {
    let cases = workspace().join("events/cases").display().to_string();
    let card = Home::empty().run(&["eval", &cases, "--json"], 0).json();
    let scores = card["cases"].as_array().unwrap();
    assert!(scores.len() >= 12, "{} cases ship", scores.len());
    assert_eq!((&card["passed"], &card["pass_rate"]), (&json!(scores.len()), &json!(1.0)));
    let claims: f64 = scores.iter().map(|s| s["claims"].as_f64().unwrap()).sum();
    let unsupported: u64 = scores.iter().map(|s| s["unsupported"].as_u64().unwrap()).sum();
    assert_eq!(unsupported, 1, "the invented hypothesis of node-filesystem-almost-out-of-space: {card:#}");
    let rate = card["unsupported_claim_rate"].as_f64().unwrap();
    assert!((rate * claims - 1.0).abs() < 1e-9, "{rate} of {claims}");
    let shown = Home::empty().run(&["eval", &cases], 0).stdout;
    assert!(shown.contains(&format!("{0} of {0} passed (100%)", scores.len())), "{shown}");
}

#[test]
fn a_case_that_fails_says_why_and_fails_the_command() {
    let home = Home::empty();
    let events = workspace().join("events");
    let path = |of: &Path| of.display().to_string();
    let case = json!({
        "about": "expects what is not so", "event": path(&events.join("alertmanager/watchdog.json")),
        "run": path(&events.join("runs/watchdog.json")),
        "expect": {
            "verdict": "action_required", "must-mention": ["the moon"], "must-not-blame": ["alerting works"],
        },
    });
    fs::create_dir(home.path().join("cases")).unwrap();
    home.write("cases/watchdog.json", &case.to_string());
    let card = home.run(&["eval", "cases", "--json"], 1).json();
    assert_eq!(card["passed"], 0);
    assert_eq!(
        card["cases"][0]["failures"],
        json!([
            "the verdict is no_action, not action_required",
            "nothing mentions the moon",
            "alerting works is blamed: Alerting works from end to end.",
        ])
    );
    let shown = home.run(&["eval", "cases"], 1).stdout;
    assert!(
        shown.contains("watchdog: nothing mentions the moon") && shown.contains("0 of 1 passed"),
        "{shown}"
    );
}

#[test]
fn what_is_no_case_is_named() {
    let home = Home::empty();
    fs::create_dir(home.path().join("cases")).unwrap();
    let told = home.run(&["eval", "cases"], 1).stderr;
    assert!(told.contains("there is no case (*.json) in cases"), "{told}");
    home.write("cases/one.json", "{\"about\": \"\"}");
    let told = home.run(&["eval", "cases"], 1).stderr;
    assert!(
        told.contains("cases/one.json is not a case") && told.contains("missing field `event`"),
        "{told}"
    );
    let told = home.run(&["eval", "nowhere"], 1).stderr;
    assert!(told.contains("cannot read the folder nowhere"), "{told}");
}

/// The card of the sample `TargetDown` with its evidence calls in another order, without one, and with one more.
const TARGET_DOWN: &str = "\
name: target-down
resource: target-down
prompt: 'Look at the targets of {{ alert.labels.job }}.'
tools: [prom.execute_query, prom.execute_range_query, prom.get_targets, k8s.pods_list_in_namespace, k8s.events_list]
checklist:
- name: the targets were read
  rule: evidence.exists(e, (e.tool == \"prom.get_targets\" || e.tool == \"prom.execute_query\") && e.ok)
  otherwise: inconclusive
max-iterations: 8
evidence:
";
const TARGETS: &str = "- {tool: prom.get_targets}\n";
const UP: &str = "- {tool: prom.execute_query, arguments: {query: 'up{job={{ alert.labels.job | default(\"\") | tojson }} } == 0'}}\n";
const COUNT: &str = "- {tool: prom.execute_query, arguments: {query: 'count by (job) (up{job={{ alert.labels.job | default(\"\") | tojson }} })'}}\n";

fn target_down() -> (Home, String) {
    let home = Home::empty();
    let event = workspace().join("events/alertmanager/target-down.json").display().to_string();
    let incidents = home.run(&["replay", "--json", "--data-dir", ".sentinel", &event], 0).json();
    assert_eq!(incidents[0]["report"]["verdict"], "action_required", "{incidents:#}");
    (home, incidents[0]["id"].as_str().unwrap().to_owned())
}

#[test]
fn a_card_whose_calls_stand_in_another_order_comes_out_the_same() {
    let (home, id) = target_down();
    for order in [[TARGETS, UP, COUNT], [COUNT, TARGETS, UP], [COUNT, UP, TARGETS]] {
        home.write("card.yaml", &format!("{TARGET_DOWN}{}", order.concat()));
        let replayed = home.run(&["replay", &id, "--from-store", "--card", "card.yaml", "--json"], 0).json();
        for nothing in ["differences", "misses", "not_comparable"] {
            assert_eq!(replayed[nothing], json!([]), "{order:?}: {replayed:#}");
        }
        assert_eq!(replayed["unfinished"], Value::Null);
    }
}

#[test]
fn one_call_more_changes_what_it_adds_and_nothing_else() {
    let (home, id) = target_down();
    let more = "- {tool: prom.execute_query, arguments: {query: 'vector(1)'}}\n";
    for calls in [[more, UP, COUNT, TARGETS], [UP, COUNT, TARGETS, more]] {
        home.write("card.yaml", &format!("{TARGET_DOWN}{}", calls.concat()));
        let replayed = home.run(&["replay", &id, "--from-store", "--card", "card.yaml", "--json"], 0).json();
        let added = "prom.execute_query {\"query\":\"vector(1)\"}";
        assert_eq!(replayed["misses"], json!([added]));
        assert_eq!(difference(&replayed, "calls")["now"], json!([format!("{added} (failed)")]));
        let all: Vec<&str> =
            replayed["differences"].as_array().unwrap().iter().map(|d| d["what"].as_str().unwrap()).collect();
        // What the transcript does not hold is a gap.
        assert_eq!(all, ["gaps", "calls"], "{replayed:#}");
    }
}

#[test]
fn what_the_stored_turns_rest_on_and_the_card_does_not_call_any_more_is_said() {
    let (home, id) = target_down();
    home.write("card.yaml", &format!("{TARGET_DOWN}{COUNT}"));
    let replay = ["replay", &id, "--from-store", "--card", "card.yaml"];
    let shown = home.run(&replay, 1).stdout;
    assert!(shown.contains("cannot be compared  the stored turns rest on E"), "{shown}");
    assert!(shown.contains("which this run does not have"), "{shown}");
    assert!(shown.contains("could not be finished  the stored turns end after"), "{shown}");
}
