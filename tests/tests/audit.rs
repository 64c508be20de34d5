//! The record of an incident, as people verify it.

use std::fs;

use sentinel_tests::wire::trouble;
use sentinel_tests::{Home, workspace};

const CONFIG: &str = r#"
resources: [{name: trouble, filters: {alertname: Trouble}}]
incident-cards: [{name: trouble, resource: trouble, prompt: "Find out why."}]
"#;

#[test]
fn a_replayed_incident_is_exported_verifies_offline_and_one_changed_byte_is_named() {
    let home = Home::empty();
    let event = workspace().join("events/alertmanager/kube-pod-not-ready.json").display().to_string();
    let replayed = home.run(&["replay", "--json", "--data-dir", "d", &event], 0).json();
    let id = replayed[0]["id"].as_str().unwrap().to_owned();
    let verified = home.run(&["audit", "verify", &id, "--data-dir", "d", "--json"], 0).json();
    assert!(verified["entries"].as_u64().unwrap() >= 6, "{verified:#}");
    assert_eq!(verified["findings"], serde_json::json!([]), "{verified:#}");
    let all = home.run(&["audit", "verify", "--all", "--data-dir", "d"], 0);
    assert!(all.stderr.contains("0 do not verify"), "{}", all.stderr);

    let exported = home.run(&["audit", "export", &id, "export.jsonl", "--data-dir", "d"], 0);
    assert!(exported.stdout.contains("verifies"), "{}", exported.stdout);
    let offline = home.run(&["audit", "verify", "--file", "export.jsonl"], 0);
    assert!(offline.stdout.contains(verified["hash"].as_str().unwrap()), "{}", offline.stdout);

    // One byte of what a tool said.
    let file = home.path().join("export.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    let mut at = text.find("OUT#000001").unwrap() - 200;
    while !text.as_bytes()[at].is_ascii_alphanumeric() {
        at -= 1;
    }
    let mut bytes = text.into_bytes();
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let broken = home.run(&["audit", "verify", "--file", "export.jsonl"], 1);
    for part in ["DOES NOT VERIFY", "OUT#000001: it is not what entry"] {
        assert!(broken.stdout.contains(part), "{part}: {}", broken.stdout);
    }
}

#[tokio::test]
async fn the_record_of_a_running_service_is_verified_through_it() {
    let home = Home::with(CONFIG);
    let service = home.up().await;
    let id = service.open(&trouble("db")).await;
    service.ended(&id).await;
    let verify = home.run(&["audit", "verify", &id, "--json"], 0).json();
    assert!(verify["entries"].as_u64().unwrap() >= 3, "{verify:#}");
    assert_eq!(verify["findings"], serde_json::json!([]), "{verify:#}");
    let all = home.run(&["audit", "verify", "--all", "--since", "2020-01-01T00:00:00Z"], 0);
    assert!(all.stderr.contains("1 incidents") && all.stderr.contains("0 do not verify"), "{}", all.stderr);
    home.run(&["audit", "export", &id, "export.jsonl"], 0);
    home.run(&["audit", "verify", "--file", "export.jsonl"], 0);
    let usage = home.run(&["audit", "verify"], 2);
    assert!(usage.stderr.contains("--all"), "{}", usage.stderr);
}

#[tokio::test]
async fn a_service_with_a_key_signs_what_it_records_and_another_ones_key_is_told() {
    let home = Home::with(CONFIG);
    let key = |folder: &str| {
        let made = home.run(&["audit", "key", "--data-dir", folder], 0).stdout.trim().to_owned();
        assert_eq!(home.run(&["audit", "key", "--data-dir", folder], 0).stdout.trim(), made);
        made
    };
    let (ours, other) = (key(".sentinel"), key("elsewhere"));
    assert_ne!(ours, other);
    let service = home.up().await;
    let id = service.open(&trouble("db")).await;
    service.ended(&id).await;
    let verified = home.run(&["audit", "verify", &id, "--key", &ours, "--json"], 0).json();
    assert_eq!(
        (&verified["signed_by"], &verified["findings"]),
        (&ours.as_str().into(), &serde_json::json!([]))
    );
    let refused = home.run(&["audit", "verify", "--all", "--key", &other], 1);
    assert!(refused.stdout.contains(&format!("signed by {ours}, and not by {other}")), "{}", refused.stdout);

    home.run(&["audit", "export", &id, "export.jsonl"], 0);
    let offline = home.run(&["audit", "verify", "--file", "export.jsonl", "--key", &ours], 0);
    assert!(offline.stdout.contains(&format!("signed by {ours}")), "{}", offline.stdout);
    // The log keeps each entry's hash with its signature.
    let exported = fs::read_to_string(home.path().join("export.jsonl")).unwrap();
    let head: serde_json::Value = serde_json::from_str(exported.lines().nth(1).unwrap()).unwrap();
    let signature = head["head"]["signed"]["signature"].as_str().unwrap();
    let log = service.child.stderr();
    let line = log.lines().find(|line| line.contains(signature)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("record advanced") && line.contains(&ours), "{line}");

    let usage = home.run(&["audit", "verify", "--all", "--key", "no key"], 2);
    assert!(usage.stderr.contains("64 hexadecimal digits"), "{}", usage.stderr);
    home.write(".sentinel/audit-key", "no key");
    drop(service);
    let stopped = home.run(&["up", "--listen", "127.0.0.1:0"], 1);
    assert!(stopped.stderr.contains("audit-key"), "{}", stopped.stderr);
}
