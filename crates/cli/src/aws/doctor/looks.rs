//! What is looked at, one function each.

use sentinel_aws::MachineClock;
use sentinel_core::ports::Clock as _;
use serde_json::{Value, json};

use super::super::stack::Stack;
use super::super::tool::{Refusal, Tool};
use super::{DOOR, number};
use crate::environment::Environment;
use crate::finding::Finding;

/// A function smaller than this is the placeholder of `init`.
const SMALLEST: u64 = 100_000;
/// What is called lately.
const LATELY_DAYS: i64 = 14;

/// What could not be looked at is no good news either.
fn unseen(of: &str, refusal: &Refusal) -> Finding {
    Finding::trouble(
        of,
        format!("could not be looked at: {refusal}"),
        "give yourself the permission, and look again",
    )
}

/// The function's state, its code, its version, and whether its role can read its secrets.
pub(super) async fn function(tool: &Tool<'_>, stack: &Stack, name: &str, function: &str) -> Vec<Finding> {
    let full = format!("{name}-{function}");
    let configuration =
        match tool.json(&["lambda", "get-function-configuration", "--function-name", &full]).await {
            Ok(configuration) => configuration,
            Err(refusal) if refusal.is_absent() => {
                return vec![Finding::trouble(
                    &full,
                    "is gone",
                    "bring the stack to its template again: `sentinel aws init --zips target/lambda`",
                )];
            }
            Err(refusal) => return vec![unseen(&full, &refusal)],
        };
    let text = |pointer: &str| configuration.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let size = configuration.get("CodeSize").and_then(Value::as_u64).unwrap_or_default();
    let mut found = vec![];
    let (state, update) = (text("/State"), text("/LastUpdateStatus"));
    if !matches!(state, "" | "Active") || update == "Failed" {
        let reason = [text("/StateReason"), text("/LastUpdateStatusReason")].concat();
        found.push(Finding::trouble(
            &full,
            format!("is {state}, its last update {update}: {reason}"),
            "wait while it is Pending; else deploy it again",
        ));
    } else if size < SMALLEST {
        let deploy = format!(
            "`bash infra/build.sh {}`, then `cargo lambda deploy --binary-name sentinel-{function} {full}`",
            stack.parameter("Architecture")
        );
        found.push(Finding::trouble(&full, "has no code yet, only the placeholder", deploy));
    } else {
        found.push(Finding::good(&full, format!("active, {size} bytes of code")));
        found.extend(version(tool, stack, &full, function).await);
    }
    let variables = configuration.pointer("/Environment/Variables");
    let secrets: Vec<&str> = ["SENTINEL_REDACTION_KEY", "SENTINEL_INGEST_SECRET", "SENTINEL_MODEL_SECRET"]
        .into_iter()
        .filter(|name| match *name {
            "SENTINEL_REDACTION_KEY" => matches!(function, "ingest" | "worker"),
            _ => true,
        })
        .filter_map(|name| variables?.get(name)?.as_str())
        .chain(secrets_of(stack, function))
        .filter(|arn| !arn.is_empty())
        .collect();
    if !secrets.is_empty() {
        found.push(secrets_readable(tool, &full, text("/Role"), &secrets).await);
    }
    found
}

/// Secrets of the stack's parameters, as far as this function reads them.
fn secrets_of<'s>(stack: &'s Stack, function: &str) -> impl Iterator<Item = &'s str> {
    let parameter = match function {
        "ingest" => "IngestSecretArns",
        "worker" => "WorkerSecretArns",
        "watcher" => "WatcherSecretArns",
        _ => "",
    };
    stack.parameter(parameter).split(',').map(str::trim)
}

/// The version that a function logs at its start, against that of the template.
async fn version(tool: &Tool<'_>, stack: &Stack, full: &str, function: &str) -> Option<Finding> {
    let template = stack.optional_output("Version")?;
    let group = format!("/aws/lambda/{full}");
    let pattern = format!("\"sentinel-{function} starts\"");
    let since = since(LATELY_DAYS).to_string();
    let asked = [
        "logs",
        "filter-log-events",
        "--log-group-name",
        &group,
        "--filter-pattern",
        &pattern,
        "--start-time",
        &since,
    ];
    let events = tool.json(&asked).await.ok()?;
    let last = events.get("events")?.as_array()?.last()?.get("message")?.as_str()?.to_owned();
    let at = last.find('{')?;
    let line: Value = serde_json::from_str(last.get(at..)?.trim()).ok()?;
    let runs = line.pointer("/fields/version").or_else(|| line.get("version"))?.as_str()?;
    Some(if runs == template {
        Finding::good(full, format!("runs version {runs}, as the template"))
    } else {
        let remedy = format!(
            "bring both to one version: `sentinel aws init --zips target/lambda` from a checkout of {runs} or later"
        );
        Finding::trouble(full, format!("runs version {runs}, the template is of {template}"), remedy)
    })
}

/// What IAM would say to the function's role.
async fn secrets_readable(tool: &Tool<'_>, full: &str, role: &str, secrets: &[&str]) -> Finding {
    let of = format!("{full}'s secrets");
    for secret in secrets {
        match tool.json(&["secretsmanager", "describe-secret", "--secret-id", secret]).await {
            Ok(described) if described.get("DeletedDate").is_some_and(|date| !date.is_null()) => {
                return Finding::trouble(
                    &of,
                    format!("{secret} is being deleted"),
                    format!("`aws secretsmanager restore-secret --secret-id {secret}`, or name another one"),
                );
            }
            Ok(_) => {}
            Err(refusal) if refusal.is_absent() => {
                return Finding::trouble(
                    &of,
                    format!("{secret} is not there"),
                    "make it, or name another one in the stack's parameters",
                );
            }
            Err(refusal) => return unseen(&of, &refusal),
        }
    }
    let asked = [
        "iam",
        "simulate-principal-policy",
        "--policy-source-arn",
        role,
        "--action-names",
        "secretsmanager:GetSecretValue",
        "--resource-arns",
    ];
    match tool.json(&[&asked[..], secrets].concat()).await {
        Ok(simulated) => {
            let results = simulated.get("EvaluationResults").and_then(Value::as_array).into_iter().flatten();
            let denied = results
                .filter(|result| result.get("EvalDecision").and_then(Value::as_str) != Some("allowed"));
            let denied: Vec<&str> =
                denied.filter_map(|result| result.get("EvalResourceName")?.as_str()).collect();
            if denied.is_empty() {
                Finding::good(&of, format!("{} readable by its role", secrets.len()))
            } else {
                Finding::trouble(
                    &of,
                    format!("its role may not read {}", denied.join(", ")),
                    "list them in IngestSecretArns, WorkerSecretArns or WatcherSecretArns of the stack",
                )
            }
        }
        Err(refusal) => Finding::note(
            &of,
            format!("there; whether its role may read them could not be simulated: {refusal}"),
            "iam:SimulatePrincipalPolicy lets you",
        ),
    }
}

/// The configuration in S3, where it is there.
pub(super) async fn configuration(tool: &Tool<'_>, stack: &Stack) -> Option<Finding> {
    let path = stack.parameter("ConfigPath");
    let (bucket, key) = path.strip_prefix("s3://")?.split_once('/')?;
    Some(match tool.json(&["s3api", "head-object", "--bucket", bucket, "--key", key]).await {
        Ok(_) => Finding::good("configuration", format!("{path} is there")),
        Err(refusal) if refusal.is_absent() => Finding::trouble(
            "configuration",
            format!("{path} is not there"),
            "`sentinel aws config push FILE` puts it there",
        ),
        Err(refusal) => unseen("configuration", &refusal),
    })
}

/// A webhook without a token: who is refused shows that ingest has started, on a configuration that it can read.
pub(super) async fn door(stack: &Stack, env: &Environment) -> Finding {
    let given = env.var("SENTINEL_WEBHOOK_URL").filter(|url| !url.is_empty());
    let Some(url) = given.as_deref().or_else(|| stack.optional_output("WebhookUrl")) else {
        return Finding::trouble(
            "webhook",
            "the stack has no output WebhookUrl",
            "bring it to this version's template",
        );
    };
    let posted = async {
        let client = reqwest::Client::builder().timeout(DOOR).build()?;
        client.post(url).header("content-type", "application/json").body("{}").send().await
    };
    match posted.await {
        Ok(answer) => match answer.status().as_u16() {
            401 => Finding::good(
                "webhook",
                "ingest runs, reads its configuration, and lets in nobody without a token",
            ),
            400 => Finding::note(
                "webhook",
                "ingest runs, and lets in everybody",
                "`allow-anonymous: true` is for tests: write `ingest.bearer`",
            ),
            503 => Finding::trouble(
                "webhook",
                "answers 503: a secret cannot be read, or the configuration is broken",
                "ingest's log says which",
            ),
            500 | 502 => Finding::trouble(
                "webhook",
                format!("answers {}: ingest does not start or crashed", answer.status()),
                "ingest's log says why, in the first lines of its start",
            ),
            429 => Finding::note("webhook", "answers 429: the API throttles", "wait, or raise ThrottleRate"),
            _ => Finding::trouble(
                "webhook",
                format!("answers {}", answer.status()),
                "is it this stack's API, or something in front of it?",
            ),
        },
        Err(error) => Finding::trouble(
            "webhook",
            format!("{url} does not answer: {error}"),
            "is there a way to it from here? SENTINEL_WEBHOOK_URL names another one",
        ),
    }
}

/// What waits, and what was put aside.
pub(super) async fn queues(tool: &Tool<'_>, stack: &Stack) -> Vec<Finding> {
    let mut found = vec![];
    for (of, output) in [("queue", "QueueUrl"), ("dead-letter queue", "DeadLetterQueueUrl")] {
        let Some(url) = stack.optional_output(output) else { continue };
        let names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ];
        let asked =
            [&["sqs", "get-queue-attributes", "--queue-url", url, "--attribute-names"], &names[..]].concat();
        let attributes = match tool.json(&asked).await {
            Ok(attributes) => attributes,
            Err(refusal) => {
                found.push(unseen(of, &refusal));
                continue;
            }
        };
        let [waiting, working, delayed] =
            names.map(|name| number(attributes.pointer(&format!("/Attributes/{name}"))));
        let seen = format!("{waiting} waiting, {working} being worked on, {delayed} not due yet");
        found.push(if of == "queue" || waiting == 0 {
            Finding::good(of, seen)
        } else {
            Finding::trouble(of, seen, "the worker's log says what failed; then `sentinel aws redrive` (docs/runbook.md: DeadLetterAlarm)")
        });
    }
    found
}

/// Alarms that are off, and the one whose silence is an alarm itself.
pub(super) async fn alarms(tool: &Tool<'_>, name: &str) -> Vec<Finding> {
    let prefix = format!("{name}-");
    let all = match tool.json(&["cloudwatch", "describe-alarms", "--alarm-name-prefix", &prefix]).await {
        Ok(all) => all,
        Err(refusal) => return vec![unseen("alarms", &refusal)],
    };
    let all: Vec<&Value> = all.get("MetricAlarms").and_then(Value::as_array).into_iter().flatten().collect();
    let mut found = vec![];
    for alarm in &all {
        let text = |key: &str| alarm.get(key).and_then(Value::as_str).unwrap_or_default();
        // NAME-LOGICALID-RANDOM
        let kind =
            text("AlarmName").trim_start_matches(&prefix).split('-').next().unwrap_or_default().to_owned();
        let remedy = format!("docs/runbook.md: {kind}");
        match text("StateValue") {
            "ALARM" => {
                found.push(Finding::trouble(&kind, format!("in ALARM: {}", text("StateReason")), remedy));
            }
            "INSUFFICIENT_DATA" if kind == "OldestDueAlarm" => {
                found.push(Finding::note(
                    &kind,
                    "without data: the sweeper is new, silent or failing",
                    remedy,
                ));
            }
            _ => {}
        }
    }
    if all.is_empty() {
        found.push(Finding::note("alarms", "there are none", "bring the stack to this version's template"));
    } else if found.is_empty() {
        found.push(Finding::good("alarms", format!("{}, none of them off", all.len())));
    }
    found
}

/// When the last webhook and the last report were.
pub(super) async fn lately(tool: &Tool<'_>, name: &str) -> Vec<Finding> {
    let mut found = vec![];
    for (of, metric, remedy) in [
        (
            "last webhook",
            "AlertsReceived",
            "`sentinel aws send EVENT` shows whether the way in works; then look at the sender",
        ),
        ("last report", "StartToReportMs", "none is written while nothing fires; else the worker's log"),
    ] {
        let (from, to) = (instant(since(LATELY_DAYS)), instant(since(0)));
        let dimension = json!([{"Name": "Stack", "Value": name}]).to_string();
        let asked = [
            "cloudwatch",
            "get-metric-statistics",
            "--namespace",
            "Sentinel",
            "--metric-name",
            metric,
            "--dimensions",
            &dimension,
            "--start-time",
            &from,
            "--end-time",
            &to,
            "--period",
            "3600",
            "--statistics",
            "SampleCount",
        ];
        match tool.json(&asked).await {
            Ok(answer) => {
                let points = answer.get("Datapoints").and_then(Value::as_array).into_iter().flatten();
                let last =
                    points.filter_map(|point| point.get("Timestamp")?.as_str()).max().map(str::to_owned);
                found.push(match last {
                    Some(at) => Finding::good(of, format!("in the hour from {at}")),
                    None => Finding::note(of, format!("none within {LATELY_DAYS} days"), remedy),
                });
            }
            Err(refusal) => found.push(unseen(of, &refusal)),
        }
    }
    found
}

/// So many days ago, in milliseconds since the Unix epoch.
fn since(days: i64) -> i64 {
    MachineClock::default().now().get() - days * 24 * 60 * 60 * 1000
}

fn instant(ms: i64) -> String {
    sentinel_core::UnixMs::new(ms).to_string()
}
