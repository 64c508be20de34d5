//! A storm through the deployed stack. `tests/bench/storm.sh aws` runs it, and prints what it took.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sentinel_aws::DynamoStore;
use sentinel_core::incident::ChildName;
use sentinel_core::ports::IncidentStore as _;
use sentinel_testkit::mcp::FakeMcp;
use sentinel_testkit::openai::{ScriptedOpenAi, function_call};
use sentinel_tests::wire::{alert, report, webhook};
use sentinel_tests::{client, eventually_within, percentile};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{Deployed, TOKEN};

const ALERTS: usize = 1_000;
const GROUPS: usize = 20;
/// Every alert is told by each of them, as by the members of a cluster that lost sight of each other.
const SENDERS: usize = 3;
/// A group grows by this many alerts from one notification to the next.
const STEP: usize = 10;
/// Alertmanager retries what got no 200, in the same flush.
const TRIES: usize = 30;
const PATIENCE: Duration = Duration::from_mins(5);

fn pod(n: usize) -> String {
    format!("pod-{n}")
}

/// The notifications of one sender, in its order: each holds all that its group has so far.
fn notifications() -> Vec<Value> {
    let of_group = ALERTS / GROUPS;
    let sizes = (STEP..=of_group).step_by(STEP);
    sizes
        .flat_map(|size| {
            (0..GROUPS).map(move |group| {
                let namespace = format!("ns-{group}");
                let alerts: Vec<Value> = (0..size)
                    .map(|n| {
                        alert("Trouble", &[("namespace", &namespace), ("pod", &pod(n * GROUPS + group))])
                    })
                    .collect();
                webhook(&[("namespace", &namespace)], &alerts)
            })
        })
        .collect()
}

/// What one webhook took until its 200, with the tries that got none, and its answer.
struct Told {
    took: Duration,
    refused: usize,
    answer: Value,
}

async fn send(url: String) -> Vec<Told> {
    let client = client();
    let mut told = Vec::new();
    for body in notifications() {
        let mut refused = 0;
        let (took, answer) = loop {
            let began = Instant::now();
            let response = client.post(&url).bearer_auth(TOKEN).json(&body).send().await.unwrap();
            let (status, took) = (response.status(), began.elapsed());
            if status == 200 {
                break (took, response.json().await.unwrap());
            }
            assert!(
                status.is_server_error() && refused < TRIES,
                "{status}: {}",
                response.text().await.unwrap()
            );
            refused += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        told.push(Told { took, refused, answer });
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark: tests/bench/storm.sh aws"]
async fn a_storm_through_the_deployed_stack_is_one_investigation_a_group() {
    let mcp = FakeMcp::builder().start().await;
    let model = ScriptedOpenAi::with(|_, n| {
        function_call("submit_report", &report("E1", "nothing was looked at"), &format!("call_{n}")).into()
    })
    .await;
    let deployed = Deployed::with(&mcp, &model).await;

    let began = Instant::now();
    let senders: JoinSet<_> = (0..SENDERS).map(|_| send(deployed.stack.webhook())).collect();
    let told: Vec<Told> = senders.join_all().await.into_iter().flatten().collect();
    let taken = began.elapsed();

    let incidents = eventually_within(PATIENCE, "every group's report", async || {
        let all = deployed.incidents(&["list"]);
        let all = all.as_array().unwrap().clone();
        let done = all.iter().filter(|incident| incident["state"] == "done").count();
        if done >= GROUPS { Ok(all) } else { Err(format!("{done} of {} are done", all.len())) }
    })
    .await;
    let ended = began.elapsed();
    assert_eq!(incidents.len(), GROUPS, "one incident a group");
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for request in model.requests() {
        *asked.entry(request.body["prompt_cache_key"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(asked.len(), GROUPS, "investigations = groups");
    let turns: BTreeSet<usize> = asked.values().copied().collect();
    assert_eq!(turns.len(), 1, "each is investigated once: {turns:?} requests an incident");

    // Nothing is lost: each alert stands in a snapshot of its incident.
    let store = DynamoStore::new(deployed.sdk.dynamo(), deployed.stack.output("TableName"));
    let mut pods = BTreeSet::new();
    for head in store.recent(2 * GROUPS).await.unwrap() {
        for child in store.children(&head.id, head.generation).await.unwrap() {
            if matches!(child.name, ChildName::Snapshot(_)) {
                let snapshot: Value = serde_json::from_str(&child.body).unwrap();
                let alerts = snapshot["alerts"].as_array().unwrap();
                pods.extend(alerts.iter().map(|alert| alert["labels"]["pod"].as_str().unwrap().to_owned()));
            }
        }
    }
    assert_eq!(pods, (0..ALERTS).map(pod).collect());
    assert_eq!(deployed.messages("DeadLetterQueueUrl").await, (0, 0));

    let count = |name: &str| -> u64 { told.iter().filter_map(|t| t.answer[name].as_u64()).sum() };
    let mut times: Vec<Duration> = told.iter().map(|t| t.took).collect();
    println!(
        "storm: {ALERTS} alerts in {GROUPS} groups from {SENDERS} senders through the deployed stack, {} webhooks \
         ({} tries got a 5xx) in {taken:.1?}, the last report after {ended:.1?}: {} investigations; accepted {}, \
         joined {}, duplicates {}; webhook p50 {:?}, p99 {:?}",
        told.len(),
        told.iter().map(|t| t.refused).sum::<usize>(),
        asked.len(),
        count("accepted"),
        count("joined"),
        count("duplicates"),
        percentile(&mut times, 50),
        percentile(&mut times, 99),
    );
}
