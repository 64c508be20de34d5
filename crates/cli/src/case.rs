//! `sentinel incidents export`: a stored incident as a case that `sentinel eval` runs.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use sentinel_core::alert::Alert;
use sentinel_core::notification::Notification;
use sentinel_core::report::{Report, Verdict};
use sentinel_investigation::ports::{FunctionCall, Said};
use sentinel_investigation::{EvidenceRecord, TurnRecord};
use serde_json::{Map, Value, json};

use crate::Exit;
use crate::api::Record;
use crate::args::Export;
use crate::environment::Environment;
use crate::incidents::kept;

/// Where the alert and the recorded run are put, below the folder of cases.
const ALERTS: &str = "alertmanager";
const RUNS: &str = "runs";

pub(crate) async fn run(args: Export, env: &Environment) -> anyhow::Result<Exit> {
    let record = kept(&args.id, &args.store, env).await?;
    let name = name(&record);
    let file = args.case.join(format!("{name}.json"));
    if file.exists() {
        bail!("{} is there already: it is left as it is", file.display());
    }
    let Some(first) = record.notifications.first() else {
        bail!(
            "no notification of incident {} is kept that can be read: a case begins with one",
            record.incident.id
        );
    };
    for (folder, holds) in [(ALERTS, webhook(first)), (RUNS, recorded(&record))] {
        let beside = args.case.join(folder);
        fs::create_dir_all(&beside).with_context(|| format!("{} cannot be made", beside.display()))?;
        write(&beside.join(format!("{name}.json")), &holds, env)?;
    }
    // Last: a case that is there is whole.
    write(&file, &case(&record, &name), env)?;
    let mut out = anstream::stdout();
    if args.store.json {
        writeln!(out, "{}", json!({"case": file}))?;
    } else {
        writeln!(
            out,
            "{}: say in `expect` what a good report must mention and must not blame, then `sentinel eval {}`",
            file.display(),
            args.case.display()
        )?;
    }
    Ok(Exit::Done)
}

fn write(file: &Path, what: &Value, env: &Environment) -> anyhow::Result<()> {
    let text = env.json_without_secrets(what)?;
    fs::write(file, text + "\n").with_context(|| format!("{} cannot be written", file.display()))
}

/// What the case's files are called: the alert and the beginning of the incident's id.
fn name(record: &Record) -> String {
    let labels = &record.incident.labels;
    let alert = labels.get("alertname").map_or(record.incident.card.as_str(), String::as_str);
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let alert: String = alert.chars().take(60).map(plain).collect();
    let id: String = record.incident.id.as_str().chars().take(12).collect();
    format!("{}-{id}", alert.trim_matches('-'))
}

/// The case: what is expected is what was found, for people to mend.
fn case(record: &Record, name: &str) -> Value {
    let report = record.report.as_ref();
    json!({
        "about": report.map_or("", |report| report.title.as_str()),
        "event": format!("{ALERTS}/{name}.json"),
        "run": format!("{RUNS}/{name}.json"),
        "expect": {
            "verdict": report.map_or(Verdict::Inconclusive, |report: &Report| report.verdict),
            "must-mention": [],
            "must-not-blame": [],
        },
    })
}

/// The webhook that says what the notification says, as Alertmanager would.
fn webhook(told: &Notification) -> Value {
    let envelope = &told.envelope;
    json!({
        "version": "4",
        "status": if told.alerts.iter().any(Alert::is_firing) { "firing" } else { "resolved" },
        "receiver": envelope.receiver,
        "groupKey": envelope.group_key,
        "groupLabels": envelope.group_labels,
        "commonLabels": envelope.common_labels,
        "commonAnnotations": envelope.common_annotations,
        "externalURL": envelope.external_url,
        "truncatedAlerts": envelope.truncated_alerts,
        "alerts": told.alerts.iter().map(alert).collect::<Vec<_>>(),
    })
}

fn alert(alert: &Alert) -> Value {
    let mut told = json!({
        "status": if alert.is_firing() { "firing" } else { "resolved" },
        "labels": alert.labels,
        "annotations": alert.annotations,
    });
    let more = [
        ("startsAt", alert.starts_at.map(|at| at.to_string())),
        ("endsAt", alert.ends_at.map(|at| at.to_string())),
        ("generatorURL", alert.generator_url.clone()),
        ("fingerprint", alert.fingerprint.clone()),
    ];
    if let Some(told) = told.as_object_mut() {
        told.extend(
            more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?)))),
        );
        if !alert.values.is_empty() {
            told.insert("values".to_owned(), json!(alert.values));
        }
    }
    told
}

/// The recorded run: the model's turns and the tools' outputs as they are kept.
fn recorded(record: &Record) -> Value {
    let model = record.turns.last().map_or("none", |turn| turn.response.model.as_str());
    json!({
        "version": 1,
        "about": format!("What was kept of incident {}", record.incident.id),
        "model": model,
        "tools": tools(&record.evidence),
        "outputs": outputs(&record.evidence),
        "turns": record.turns.iter().map(turn).collect::<Vec<_>>(),
    })
}

/// The tools that were called. What their servers said of them is not kept, and calls are answered without it.
fn tools(evidence: &[EvidenceRecord]) -> Value {
    let mut servers: Map<String, Value> = Map::new();
    for (server, tool) in evidence.iter().filter_map(|one| one.tool.split_once('.')) {
        let listed = servers.entry(server).or_insert_with(|| json!([]));
        let Some(listed) = listed.as_array_mut() else { continue };
        if listed.iter().all(|known| known.get("name").is_none_or(|name| name != tool)) {
            listed.push(json!({"name": tool, "input_schema": {"type": "object"}}));
        }
    }
    Value::Object(servers)
}

/// Of two calls of one tool with the same arguments the first one's output: a run holds one.
fn outputs(evidence: &[EvidenceRecord]) -> Vec<Value> {
    let mut seen: Vec<(&str, &Map<String, Value>)> = Vec::new();
    let mut outputs = Vec::new();
    for one in evidence {
        let call = (one.tool.as_str(), &one.arguments);
        if !seen.contains(&call) {
            seen.push(call);
            outputs.push(json!({
                "tool": one.tool, "arguments": one.arguments, "text": one.text, "is_error": !one.ok,
            }));
        }
    }
    outputs
}

fn turn(turn: &TurnRecord) -> Value {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for output in &turn.response.outputs {
        match &output.said {
            Said::Text { text: said } => text.push_str(said),
            Said::Call(FunctionCall { name, arguments, .. }) => {
                let arguments = match serde_json::from_str(arguments) {
                    Ok(Value::Object(arguments)) => Value::Object(arguments),
                    // As the model wrote them.
                    _ => Value::String(arguments.clone()),
                };
                calls.push(json!({"name": name, "arguments": arguments}));
            }
            _ => {}
        }
    }
    json!({"text": text, "calls": calls, "usage": turn.response.usage})
}
