//! What the model is sent first for each sample event, with the built-in configuration.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn sentinel(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel"));
    command.args(args).current_dir(folder.path()).env_clear().output().unwrap()
}

fn event(name: &str) -> String {
    workspace().join("events/alertmanager").join(name).display().to_string()
}

fn rendered(args: &[&str]) -> Value {
    let output = sentinel(&[&["render", "--json"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].clone()
}

#[test]
fn every_sample_event_renders_to_the_prompt_that_is_meant_for_it() {
    let mut events: Vec<String> = std::fs::read_dir(workspace().join("events/alertmanager"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.contains("resolved"))
        .collect();
    events.sort();
    assert!(events.len() >= 13, "{events:?}");
    for name in events {
        let first = rendered(&[&event(&name)]);
        let request = &first["request"];
        let tools: Vec<&str> =
            request["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
        assert!(tools.contains(&"submit_report") && tools.contains(&"read_evidence"), "{name}: {tools:?}");
        assert_eq!(request["input"].as_array().unwrap().len(), 1, "{name}");
        let tokens = first["estimated_tokens"].as_u64().unwrap();
        assert!((1_000..6_000).contains(&tokens), "{name}: {tokens} tokens");
        let input = request["input"][0]["text"].as_str().unwrap();
        assert!(!input.contains("\"unknown\""), "{name} lacks a label that its card asks for:\n{input}");
        insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
            let shown = format!("card {}\ntools {}\n\n{input}", first["card"].as_str().unwrap(), tools.join(", "));
            insta::assert_snapshot!(name.trim_end_matches(".json"), shown);
        });
    }
}

#[test]
fn what_is_rendered_is_what_a_run_sends() {
    let run = workspace().join("events/runs/watchdog.json").display().to_string();
    let first = rendered(&[&event("watchdog.json"), "--recorded", &run]);
    let input = first["request"]["input"][0]["text"].as_str().unwrap();
    assert_eq!(first["placeholders"], false);
    assert!(
        input.contains("[E1] prom.execute_query") && input.contains(r#""alertstate":"firing""#),
        "{input}"
    );
    assert!(!input.contains("(placeholder"), "{input}");
    let tool = &first["request"]["tools"][0];
    assert_eq!(tool["description"], "Evaluates a PromQL expression at one moment.", "{tool}");
}

#[test]
fn placeholders_are_said_and_a_card_can_be_chosen() {
    let shown = sentinel(&["render", &event("watchdog.json"), "--card", "any-alert"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in [
        "Card any-alert",
        "tokens of 1000000 (and $1) in all",
        "nothing was called",
        "You investigate one alert",
        "An alert that no other card describes",
        "(placeholder: what prom.execute_query gives",
        "k8s__pods_get: (placeholder",
        "submit_report: Ends the investigation",
    ] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
}

#[test]
fn what_cannot_be_rendered_is_said_with_its_reason() {
    let resolved = event("target-down-resolved.json");
    let watchdog = event("watchdog.json");
    for (args, says) in [
        (vec!["render", watchdog.as_str(), "--card", "etcd"], "the card etcd does not take its alerts"),
        (vec!["render", watchdog.as_str(), "--card", "gone"], "no card is named \"gone\"; there are "),
        (vec!["render", resolved.as_str()], "none of its alerts opens an incident"),
        (vec!["render", "gone.json"], "gone.json"),
    ] {
        let ended = sentinel(&args);
        assert_eq!(ended.status.code(), Some(1));
        let told = String::from_utf8(ended.stderr).unwrap();
        assert!(told.contains(says), "{says}: {told}");
    }
}

#[test]
fn a_bound_that_has_no_room_for_the_first_turn_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let card = "incident-cards: [{name: c, resource: Watchdog, prompt: look, max-tokens: 1000}]";
    std::fs::write(&config, card).unwrap();
    let ended = sentinel(&["render", &event("watchdog.json"), "--config", &config.display().to_string()]);
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(told.contains("`max-tokens` (1000) leave no room for another turn"), "{told}");
}
