//! Webhooks as Alertmanager writes them, and configurations as they are needed here.

use std::fmt::Write;

use sentinel_testkit::openai::ScriptedOpenAi;
use serde_json::{Map, Value, json};

/// When alerts of this module began to fire.
pub const STARTS_AT: &str = "2026-01-05T08:00:00Z";

/// A firing alert: its name and its other labels.
pub fn alert(alertname: &str, labels: &[(&str, &str)]) -> Value {
    let mut all: Map<String, Value> = labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    all.insert("alertname".to_owned(), json!(alertname));
    json!({
        "status": "firing", "labels": all, "annotations": {"summary": "Something is wrong."},
        "startsAt": STARTS_AT, "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "",
    })
}

/// Alertmanager's version 4 around these alerts, grouped by `alertname` and these labels.
pub fn webhook(group: &[(&str, &str)], alerts: &[Value]) -> Value {
    let alertname = alerts.first().map(|a| a["labels"]["alertname"].clone()).unwrap_or_default();
    let mut labels: Map<String, Value> = group.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    labels.insert("alertname".to_owned(), alertname);
    json!({
        "version": "4", "groupKey": format!("{{}}:{}", json!(labels)), "truncatedAlerts": 0, "status": "firing",
        "receiver": "sentinel", "groupLabels": labels, "commonLabels": labels, "commonAnnotations": {},
        "externalURL": "http://alertmanager.example:9093", "alerts": alerts,
    })
}

/// A webhook with one alert `Trouble`, which is an incident of its own by its `instance`.
pub fn trouble(instance: &str) -> Value {
    webhook(&[("instance", instance)], &[alert("Trouble", &[("instance", instance)])])
}

/// The part of a configuration that lets Sentinel talk to fakes on the loopback.
pub const LOOPBACK: &str = "network: {allow-insecure-hosts: [127.0.0.1], allow-private-hosts: [127.0.0.1]}\n";

/// The part of a configuration that names a model at this base URL.
pub fn openai(base_url: &str) -> String {
    format!(
        "openai: {{model: gpt-4.1-mini, max-output-tokens: 4096, base-url: \"{base_url}\", api-key: \"{MODEL_KEY}\"}}\n"
    )
}

/// The key of [`openai`].
pub const MODEL_KEY: &str = "model-key-that-nobody-may-see";

/// A report for `submit_report` with one hypothesis, which quotes `quote` from evidence `id`.
pub fn report(id: &str, quote: &str) -> Value {
    json!({
        "verdict": "action_required",
        "title": "The mail queue grows",
        "summary": "The evidence shows what is wrong.",
        "hypotheses": [{
            "statement": "The queue is not drained.", "confidence": 0.8,
            "evidence": [{"id": id, "quote": quote}],
        }],
        "ruled_out": [],
        "gaps": [],
        "next_steps": [{"action": "Look at the consumer.", "why": "It should drain the queue."}],
    })
}

/// The output that a request to the model holds for this call.
pub fn output_of(request: &Value, call_id: &str) -> Option<String> {
    let items = request["input"].as_array()?;
    let item = items.iter().find(|i| i["type"] == "function_call_output" && i["call_id"] == call_id)?;
    Some(item["output"].as_str()?.to_owned())
}

/// A configuration with these MCP servers (name, address, more keys) and one card.
pub fn config(model: &ScriptedOpenAi, servers: &[(&str, &str, &str)], tools: &str, evidence: &str) -> String {
    let mut text = format!("{LOOPBACK}{}mcp-servers:\n", openai(&model.base_url()));
    for (name, url, more) in servers {
        let _ = writeln!(text, "- {{name: {name}, server-url: \"{url}\"{more}}}");
    }
    text + &format!(
        "incident-cards:\n- name: trouble\n  resource: Trouble\n  prompt: Find out why.\n  tools: [{tools}]\n  evidence: \
         [{evidence}]\n"
    )
}
