//! The command line as people use it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use reqwest::StatusCode;
use sentinel_testkit::gate::Gate;
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_tests::wire::{LOOPBACK, trouble};
use sentinel_tests::{Home, Sentinel, client, workspace};
use serde_json::{Value, json};

/// Takes `Trouble` and has nothing to look with.
const CONFIG: &str = r#"
resources: [{name: trouble, filters: {alertname: Trouble}}]
incident-cards: [{name: trouble, resource: trouble, prompt: "Find out why."}]
"#;

fn event(name: &str) -> String {
    workspace().join("events/alertmanager").join(name).display().to_string()
}

#[test]
fn replay_without_a_key_prints_a_report_and_says_plainly_that_it_is_recorded() {
    let ended = Home::empty().run(&["replay", "--full", &event("kube-pod-not-ready.json")], 0);
    assert!(ended.stderr.contains("No OPENAI_API_KEY"), "{}", ended.stderr);
    for part in [
        "Recorded: ",
        "ACTION REQUIRED",
        "Hypotheses",
        "Ruled out",
        "Next steps",
        "Checklist",
        "Evidence",
        "turns",
    ] {
        assert!(ended.stdout.contains(part), "{part}\n{}", ended.stdout);
    }
    assert!(ended.stderr.contains("turn 1: "), "no progress: {}", ended.stderr);
    let all = ended.stdout + &ended.stderr;
    assert!(!all.contains('\u{1b}'), "escape sequences where nobody has a terminal: {all}");
}

#[test]
fn replay_in_json_is_one_document_on_stdout_and_a_line_an_event_on_stderr() {
    let ended = Home::empty().run(&["replay", "--json", &event("kube-pod-not-ready.json")], 0);
    let incidents = ended.json();
    let incident = &incidents[0];
    assert_eq!((&incident["state"], &incident["card"]), (&json!("done"), &json!("kube-pod-not-ready")));
    let report = &incident["report"];
    assert_eq!(report["source"], "recorded");
    assert!(report["hypotheses"][0]["supported"].as_bool().unwrap(), "{report:#}");
    assert!(report["hypotheses"][0]["evidence"][0]["found"].as_bool().unwrap(), "{report:#}");
    assert!(incident["evidence"].as_array().unwrap().len() > 2, "{incident:#}");
    let progress: Vec<Value> =
        ended.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |name: &str| progress.iter().filter(|p| p["event"] == name).count();
    assert_eq!(of("started"), 1, "{}", ended.stderr);
    assert_eq!(of("answered") as u64, report["usage"]["turns"].as_u64().unwrap());
    assert_eq!(of("concluded"), 1, "{}", ended.stderr);
}

#[test]
fn every_sample_event_with_an_example_run_gives_a_report_with_supported_statements() {
    let mut replayed = 0;
    for entry in fs::read_dir(workspace().join("events/runs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let incidents = Home::empty().run(&["replay", "--json", &event(&name)], 0).json();
        let report = &incidents[0]["report"];
        assert_eq!(
            (&incidents[0]["state"], &report["source"]),
            (&json!("done"), &json!("recorded")),
            "{name}"
        );
        assert!(
            report["hypotheses"].as_array().unwrap().iter().any(|h| h["supported"] == true),
            "{name}: {report:#}"
        );
        assert_ne!(report["verdict"], "inconclusive", "{name}: {report:#}");
        replayed += 1;
    }
    assert!(replayed >= 3, "only {replayed} example runs ship");
}

#[test]
fn a_quote_that_stands_in_no_evidence_is_shown_as_unsupported() {
    let event = event("node-filesystem-almost-out-of-space.json");
    let shown = Home::empty().run(&["replay", &event], 0).stdout;
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("NOT SUPPORTED") && words.contains("does not stand in E"), "{shown}");

    let incidents = Home::empty().run(&["replay", "--json", &event], 0).json();
    let hypotheses = incidents[0]["report"]["hypotheses"].as_array().unwrap().clone();
    let unsupported: Vec<&Value> = hypotheses.iter().filter(|h| h["supported"] == false).collect();
    assert_eq!(unsupported.len(), 1, "{hypotheses:#?}");
    let citation = &unsupported[0]["evidence"][0];
    assert_eq!(citation["found"], false);
    let id = citation["id"].as_str().unwrap();
    let evidence = incidents[0]["evidence"].as_array().unwrap();
    let cited = evidence.iter().find(|e| e["id"] == id).unwrap();
    assert!(!cited["text"].as_str().unwrap().contains(citation["quote"].as_str().unwrap()), "{citation}");
}

#[test]
fn what_is_stored_can_be_looked_at_by_the_commands_that_the_card_names() {
    let home = Home::empty();
    let shown = home.run(&["replay", "--data-dir", "kept", &event("kube-pod-crash-looping.json")], 0).stdout;
    let named = shown.lines().rev().take(20).find_map(|line| line.strip_prefix("More      sentinel "));
    let words: Vec<&str> =
        named.unwrap_or_else(|| panic!("no command: {shown}")).split_whitespace().collect();
    let ["incidents", "evidence", id, "E1", "--data-dir", "kept"] = words[..] else { panic!("{words:?}") };
    let run = |args: &[&str]| home.run(&[&["incidents"], args, &["--data-dir", "kept"]].concat(), 0);
    let evidence = run(&["evidence", id, "E1"]).stdout;
    assert!(
        evidence.lines().any(|line| line.starts_with("> ") && line.contains("exitCode: 137")),
        "{evidence}"
    );
    assert!(!evidence.contains('\u{1b}'), "no colours where nobody has a terminal: {evidence}");
    let around = run(&["evidence", id, "E5", "--around", "heap 489 MiB"]).stdout;
    assert!(around.contains("heap 489 MiB of 512 MiB"), "{around}");
    let gone = home.run(&["incidents", "evidence", id, "E77", "--data-dir", "kept"], 1).stderr;
    assert!(gone.contains("no evidence \"E77\"; it has E1, E2"), "{gone}");
    assert_eq!(run(&["evidence", id]).stdout.lines().filter(|line| line.starts_with('E')).count(), 10);
    assert!(run(&["turns", id]).stdout.contains("calls submit_report"));
    assert!(run(&["alerts", id]).stdout.contains("pod=orders-worker-5c8f7d6b99-tq6rn"));
    assert!(run(&["record", id]).stdout.contains("findings to log: sent"));
    assert!(run(&["show", id, "--full"]).stdout.contains("\nEvidence\n"));
    assert_eq!(run(&["evidence", id, "E1", "--json"]).json()["id"], "E1");
    assert_eq!(run(&["turns", id, "--json"]).json()[0]["turn"], 1);
    assert_eq!(run(&["alerts", id, "--json"]).json()[0]["card"], "kube-pod-crash-looping");
    assert_eq!(run(&["record", id, "--json"]).json()["incident"]["state"], "done");
}

#[test]
fn an_alert_that_resolves_by_itself_is_suppressed_and_nothing_is_spent() {
    let home = Home::empty();
    let events = [event("target-down.json"), event("target-down-resolved.json")];
    let incidents = home.run(&["replay", "--json", &events[0], &events[1]], 0).json();
    assert_eq!(incidents.as_array().unwrap().len(), 1);
    let incident = &incidents[0];
    assert_eq!(
        (&incident["state"], &incident["attempts"]),
        (&json!("suppressed"), &json!(0)),
        "{incident:#}"
    );
    assert_eq!((&incident["evidence"], &incident["report"]), (&json!([]), &Value::Null));
    assert_eq!(Sentinel::told(incident), ["suppressed to log: sent"]);
    let shown = home.run(&["replay", &events[0], &events[1]], 0).stdout;
    assert!(shown.contains("Nothing was spent"), "{shown}");
}

#[test]
fn the_built_in_configuration_is_valid_without_any_environment() {
    let validated = Home::empty().run(&["validate", "--json"], 0).json();
    assert_eq!(validated["valid"], true);
    let warned = validated["diagnostics"].as_array().unwrap();
    let keys: Vec<&Value> = warned.iter().map(|d| &d["key"]).collect();
    assert_eq!(keys, ["openai.api-key"], "but for the key that is missing: {warned:#?}");
    let with_key = Home::empty().env("OPENAI_API_KEY", "sk-of-nobody-at-all");
    assert_eq!(with_key.run(&["validate", "--json"], 0).json()["diagnostics"], json!([]));
    assert!(validated["cards"].as_array().unwrap().len() >= 5);
}

#[test]
fn the_schema_of_the_configuration_is_printed_for_editors() {
    let schema = Home::empty().run(&["schema"], 0).json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["$defs"]["card"]["properties"]["max_iterations"].is_object(), "{schema:#}");
}

#[test]
fn wrong_usage_ends_with_2_and_a_failure_with_1() {
    let home = Home::with(CONFIG);
    home.write("file", "");
    home.write("event.json", "{\"alerts\": 5}");
    for (args, code, says) in [
        (&["fly"][..], 2, "fly"),
        (&["up", "--listen", "nowhere"], 2, "nowhere"),
        (&["replay"], 2, "EVENT"),
        (&["incidents", "show"], 2, "ID"),
        (&["incidents", "list", "--limit", "0"], 2, "0 is not in 1.."),
        (&["incidents", "delete"], 2, "ID"),
        (&["incidents", "delete", "ab", "--before", "2026-01-31"], 2, "cannot be used with"),
        (&["incidents", "delete", "--before", "last week"], 2, "no time like 2026-01-31"),
        (&["incidents", "delete", "--label", "pod"], 2, "NAME=VALUE"),
        (&["incidents", "resume", "--table", "t"], 2, "--since"),
        (&["validate", "--config", "gone.yaml"], 2, "gone.yaml"),
        (&["up", "--config", "gone.yaml"], 2, "gone.yaml"),
        (&["up", "--listen", "0.0.0.0:0"], 2, "not a loopback address"),
        (&["up", "--listen", "127.0.0.1:0", "--data-dir", "file"], 1, "file cannot be used"),
        (&["incidents", "list", "--data-dir", "gone"], 1, "gone"),
        (&["replay", "gone.json"], 1, "gone.json"),
        (&["replay", "event.json"], 1, "event.json is not a webhook"),
    ] {
        let ended = home.run(args, code);
        assert!(ended.stderr.contains(says), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{args:?}");
    }
    home.run(&["--help"], 0);
}

#[test]
fn the_configuration_can_be_named_by_the_environment() {
    let home = Home::empty().env("SENTINEL_CONFIG", "other.yaml");
    home.write("other.yaml", CONFIG);
    let validated = home.run(&["validate", "--json"], 0).json();
    assert_eq!(validated["cards"][0]["name"], "trouble");
}

#[tokio::test]
async fn a_held_data_folder_is_refused_with_its_holder() {
    let home = Home::with(CONFIG);
    let up = home.up().await;
    let refused = home.run(&["up", "--listen", "127.0.0.1:0"], 1).stderr;
    for part in ["held", &format!("pid {}", up.child.pid()), &up.url] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert_eq!(up.get("/healthz").await["status"], "ok");
}

#[test]
fn a_stored_incident_becomes_a_case_that_passes_and_is_never_written_over() {
    let home = Home::empty();
    let json = ["--json", "--data-dir", "kept"];
    let replayed =
        home.run(&[&["replay", &event("kube-pod-crash-looping.json")], &json[..]].concat(), 0).json();
    let id = &replayed[0]["id"].as_str().unwrap()[..12];
    let export = ["incidents", "export", id, "--case", "cases", "--data-dir", "kept"];
    let said = home.run(&export, 0).stdout;
    assert!(said.contains(id) && said.contains("`sentinel eval cases`"), "{said}");
    let scorecard = home.run(&["eval", "cases", "--json"], 0).json();
    let case = &scorecard["cases"][0];
    assert_eq!(
        (&scorecard["passed"], &case["passed"], &case["unsupported"]),
        (&json!(1), &json!(true), &json!(0))
    );
    assert_eq!(case["verdict"], replayed[0]["report"]["verdict"], "{case:#}");
    assert_eq!(case["turns"], replayed[0]["report"]["usage"]["turns"], "{case:#}");
    let again = home.run(&export, 1).stderr;
    assert!(again.contains("is there already"), "{again}");
}

#[tokio::test]
async fn captured_webhooks_are_files_that_only_their_owner_reads_and_that_replay_takes() {
    let home = Home::with(CONFIG);
    let args = ["capture", "--json", "--listen", "127.0.0.1:0", "--to", "kept", "--most", "2"];
    let mut capture = Sentinel::start(home.command(&args)).await;
    let refused = client().get(&capture.url).send().await.unwrap();
    assert_eq!(refused.status(), 405);
    let (status, first) = capture.post(&trouble("one")).await;
    assert_eq!((status.as_u16(), &first["read"]), (200, &json!("1 alerts, 0 of them cannot be read")));
    // What is no webhook is what one wants to look at.
    let (status, second) = capture.post_bytes(b"{\"alerts\": 7}".to_vec()).await;
    assert_eq!(status.as_u16(), 200);
    assert!(second["read"].as_str().unwrap().starts_with("no webhook that Sentinel takes: "), "{second}");
    assert!(capture.child.wait_for_exit().await.success(), "it ends with the last one that was asked for");
    let file = home.path().join(first["file"].as_str().unwrap());
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&file).unwrap()).unwrap(), trouble("one"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let replayed = home.run(&["replay", "--json", file.to_str().unwrap()], 0).json();
    assert_eq!(replayed[0]["labels"]["instance"], "one", "{replayed:#}");
}

#[tokio::test]
async fn incidents_are_listed_and_shown_through_a_running_up_and_from_its_folder_afterwards() {
    let home = Home::with(CONFIG);
    assert_eq!(home.run(&["incidents", "list"], 1).stdout, "");
    let mut up = home.up().await;
    let (first, second) = (up.open(&trouble("one")).await, up.open(&trouble("two")).await);
    up.ended(&first).await;
    // How long ago something was is another word each time it is looked at.
    let recorded = |mut incident: Value| {
        assert!(incident.as_object_mut().unwrap().remove("view").is_some(), "{incident:#}");
        incident
    };
    let expected = recorded(up.ended(&second).await);

    let look = || {
        let listed = home.run(&["incidents", "list", "--json"], 0).json();
        let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [second.as_str(), first.as_str()], "not the newest first");
        let shown = home.run(&["incidents", "show", &second[..10], "--json"], 0).json();
        assert_eq!(recorded(shown), expected);
        let table = home.run(&["incidents", "list", "--limit", "1"], 0).stdout;
        assert!(table.contains(&second[..12]) && !table.contains(&first[..12]), "{table}");
        let listed = |flags: &[&str]| {
            let all = home.run(&[&["incidents", "list", "--json"], flags].concat(), 0).json();
            all.as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(listed(&["--state", "done", "--open"]).len(), 2);
        assert_eq!(listed(&["--state", "failed"]), Vec::<String>::new());
        let more = home.run(&["incidents", "list", "--limit", "1"], 0).stderr;
        let cursor = more.split_once("--cursor ").unwrap().1.trim();
        assert_eq!(listed(&["--cursor", cursor]), std::slice::from_ref(&first));
        let page = home.run(&["incidents", "show", "--full", &second], 0).stdout;
        assert!(page.contains(&second) && page.contains("Evidence only"), "{page}");
        let unknown = home.run(&["incidents", "show", "zz"], 1).stderr;
        assert!(unknown.contains("\"zz\""), "{unknown}");
    };
    look();
    up.child.terminate();
    assert!(up.child.wait_for_exit().await.success());
    look();
}

#[tokio::test]
async fn an_incident_that_waits_can_be_aborted_once() {
    let home = Home::with(&CONFIG.replace("prompt:", "wait: 1h, prompt:"));
    let up = home.up().await;
    let id = up.open(&trouble("one")).await;
    home.run(&["incidents", "abort", &id[..12], "--who", "the on-call"], 0);
    let aborted = up.ended(&id).await;
    assert_eq!(aborted["state"], "aborted");
    assert!(aborted["reason"].as_str().unwrap().contains("the on-call"), "{aborted:#}");
    assert_eq!(Sentinel::told(&aborted), ["aborted to log: sent"]);
    let again = home.run(&["incidents", "abort", &id], 1).stderr;
    assert!(again.contains("ended before: aborted"), "{again}");
}

#[tokio::test]
async fn what_is_over_is_deleted_through_a_running_up_and_from_its_folder_and_leaves_who_did_it() {
    let waits = CONFIG.replace("prompt:", "wait: 1h, prompt:");
    let home = Home::with(CONFIG);
    let mut up = home.up().await;
    let ids =
        [up.open(&trouble("one")).await, up.open(&trouble("two")).await, up.open(&trouble("three")).await];
    for id in &ids {
        up.ended(id).await;
    }
    let labels = home.run(&["incidents", "show", &ids[1], "--json"], 0).json()["labels"].clone();
    let (name, value) = labels.as_object().unwrap().iter().find(|(_, value)| *value == "two").unwrap();
    let label = format!("{name}={}", value.as_str().unwrap());
    let would = home.run(&["incidents", "delete", "--label", &label, "--dry-run"], 0).stdout;
    assert!(
        would.contains(&ids[1]) && would.contains("would be deleted") && !would.contains(&ids[0]),
        "{would}"
    );
    home.run(&["incidents", "delete", &ids[0][..12], "--who", "the on-call"], 0);
    let none = home.run(&["incidents", "delete", "--before", "2020-01-01"], 0).stdout;
    assert_eq!(none, "No such incidents.\n");
    let listed = || {
        let listed = home.run(&["incidents", "list", "--json"], 0).json();
        let ids = listed.as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(listed(), [ids[2].clone(), ids[1].clone()]);
    let shown = home.run(&["incidents", "show", &ids[0]], 0).stdout;
    assert!(shown.contains("was deleted by") && shown.contains("the on-call"), "{shown}");
    let detail = home.run(&["incidents", "show", &ids[0], "--json"], 0).json();
    assert_eq!(
        (&detail["report"], &detail["evidence"], &detail["labels"]),
        (&Value::Null, &json!([]), &json!({}))
    );
    let verified = home.run(&["audit", "verify", &ids[0]], 0).stdout;
    assert!(verified.contains("deleted whole"), "a deletion is no breach: {verified}");
    home.run(&["incidents", "delete", &ids[0]], 0);

    up.child.terminate();
    assert!(up.child.wait_for_exit().await.success());
    assert_eq!(listed(), [ids[2].clone(), ids[1].clone()]);
    home.run(&["incidents", "delete", "--label", &label], 0);
    assert_eq!(listed(), [ids[2].clone()]);

    home.write("config.yaml", &waits);
    let up = home.up().await;
    let waiting = up.open(&trouble("four")).await;
    let refused = home.run(&["incidents", "delete", &waiting], 1).stderr;
    assert!(refused.contains("not over: abort it first"), "{refused}");
    let left = home.run(&["incidents", "delete", "--before", "2100-01-01"], 0);
    assert!(
        left.stderr.contains(&waiting) && left.stdout.contains(&ids[2]),
        "{} {}",
        left.stdout,
        left.stderr
    );
    assert_eq!(listed(), [waiting]);
}

#[tokio::test]
async fn dotenv_is_read_and_the_environment_wins_over_it() {
    let home = Home::with(&format!("ingest: {{bearer: [\"${{A}}\", \"${{B}}\"]}}\n{CONFIG}"))
        .env("B", "of-the-environment");
    home.write(".env", "# credentials\nA=of-the-file\nB=hidden-by-the-environment\n");
    let up = home.up().await;
    for (token, expected) in [
        ("of-the-file", StatusCode::OK),
        ("of-the-environment", StatusCode::OK),
        ("hidden-by-the-environment", StatusCode::UNAUTHORIZED),
    ] {
        let response =
            client().post(up.webhook()).bearer_auth(token).json(&trouble("one")).send().await.unwrap();
        assert_eq!(response.status(), expected, "{token}");
    }
    // Nothing that the program writes holds a credential, its own command least of all.
    home.run(&["incidents", "list"], 0);
    assert!(!up.child.stderr().contains("of-the-file") && home.data_files_with("of-the-file").is_empty());
}

/// A service with one investigation, which is held up inside a tool until the gate opens.
async fn busy() -> (Home, FakeMcp, Gate, Sentinel, String) {
    let gate = Gate::new();
    let held = gate.clone();
    let mcp = FakeMcp::builder()
        .tool("look", json!({"type": "object"}), "Looks", move |_| {
            Answer::After(held.clone(), Box::new(Answer::text("all is well here")))
        })
        .start()
        .await;
    let home = Home::with(&format!(
        "{LOOPBACK}mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         incident-cards:\n\
         - {{name: trouble, resource: Trouble, prompt: Find out., tools: [fake.look], evidence: [{{tool: fake.look}}]}}\n",
        mcp.url()
    ));
    let up = home.up().await;
    let id = up.open(&trouble("one")).await;
    mcp.wait_for_calls(1).await;
    (home, mcp, gate, up, id)
}

#[tokio::test]
async fn ctrl_c_lets_a_running_investigation_end() {
    let (home, _mcp, gate, mut up, id) = busy().await;
    up.child.interrupt();
    up.child.wait_for_line("finishing one investigation").await;
    gate.open();
    assert_eq!(up.child.wait_for_exit().await.code(), Some(0));
    let shown = home.run(&["incidents", "show", &id, "--json"], 0).json();
    assert_eq!((&shown["state"], &shown["attempts"]), (&json!("done"), &json!(1)), "{shown:#}");
    assert_eq!(Sentinel::told(&shown), ["findings to log: sent"]);
}

#[tokio::test]
async fn a_second_ctrl_c_stops_at_once_and_the_next_up_goes_on() {
    let (home, mcp, gate, mut up, id) = busy().await;
    up.child.interrupt();
    up.child.wait_for_line("finishing one investigation").await;
    up.child.interrupt();
    assert_eq!(up.child.wait_for_exit().await.code(), Some(1));
    let shown = home.run(&["incidents", "show", &id, "--json"], 0).json();
    assert_eq!(shown["state"], "running", "{shown:#}");

    gate.open();
    let up = home.up().await;
    let ended = up.ended(&id).await;
    assert_eq!((&ended["state"], &ended["attempts"]), (&json!("done"), &json!(2)), "{ended:#}");
    assert_eq!(mcp.calls().len(), 2);
}

#[tokio::test]
async fn a_running_investigation_is_aborted_in_the_middle_of_a_call_and_calls_nothing_more() {
    let (home, mcp, gate, up, id) = busy().await;
    let mut events = client().get(format!("{}/api/incidents/{id}/events", up.url)).send().await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    home.run(&["incidents", "abort", &id[..12], "--who", "the on-call"], 0);
    // The stream ends with the incident, although the call's gate is still shut.
    let mut told = String::new();
    while let Some(chunk) = events.chunk().await.unwrap() {
        told.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let last = told.lines().rfind(|line| line.starts_with("data: ")).unwrap();
    let last: Value = serde_json::from_str(&last["data: ".len()..]).unwrap();
    assert_eq!((&last["event"], &last["state"]), (&json!("ended"), &json!("aborted")), "{told}");
    assert!(last["reason"].as_str().unwrap().contains("the on-call"), "{told}");
    let aborted = up.ended(&id).await;
    assert_eq!((&aborted["state"], &aborted["report"]), (&json!("aborted"), &Value::Null));
    assert_eq!(Sentinel::told(&aborted), ["aborted to log: sent"]);
    gate.open();
    assert_eq!(mcp.calls().len(), 1);
}

#[tokio::test]
async fn the_events_of_an_incident_that_has_ended_are_told_from_the_store() {
    let home = Home::with(CONFIG);
    let up = home.up().await;
    let id = up.open(&trouble("one")).await;
    up.ended(&id).await;
    let events = |id: &str| client().get(format!("{}/api/incidents/{id}/events", up.url)).send();
    let told = events(&id).await.unwrap().text().await.unwrap();
    let names: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, ["concluded", "ended"], "{told}");
    assert_eq!(events("gone").await.unwrap().status(), StatusCode::NOT_FOUND);
}
