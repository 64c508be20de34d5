//! Intake alone: distinct webhooks over several connections, then repeats of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sentinel_tests::{Home, client, percentile};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::size;

const CONNECTIONS: usize = 8;
const CONFIG: &str = "
log-level: warn
resources: [{name: trouble, filters: {alertname: Trouble}}]
incident-cards: [{name: trouble, resource: trouble, prompt: Find out why., wait: 1h}]
";

fn webhook(n: usize) -> Value {
    json!({
        "version": "4", "status": "firing", "receiver": "sentinel", "groupKey": format!("g{n}"),
        "groupLabels": {"alertname": "Trouble", "instance": format!("i{n}")},
        "alerts": [{
            "status": "firing", "startsAt": "2026-11-25T12:00:00Z",
            "labels": {"alertname": "Trouble", "instance": format!("i{n}")},
        }],
    })
}

/// Posts them all, each connection the next one. Gives what each took, with the answers.
async fn post(url: &str, all: usize, distinct: usize) -> (Duration, Vec<(Duration, Value)>) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    let began = Instant::now();
    for _ in 0..CONNECTIONS {
        let (next, url) = (Arc::clone(&next), url.to_owned());
        connections.spawn(async move {
            let client = client();
            let mut answers = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::SeqCst);
                if n >= all {
                    return answers;
                }
                let at = Instant::now();
                let response = client.post(&url).json(&webhook(n % distinct)).send().await.unwrap();
                let status = response.status();
                let answer: Value = response.json().await.unwrap();
                assert_eq!(status, 200, "{answer}");
                answers.push((at.elapsed(), answer));
            }
        });
    }
    let answers = connections.join_all().await.into_iter().flatten().collect();
    (began.elapsed(), answers)
}

fn sum(answers: &[(Duration, Value)], count: &str) -> u64 {
    answers.iter().map(|(_, answer)| answer[count].as_u64().unwrap()).sum()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn shown(what: &str, took: Duration, answers: &[(Duration, Value)]) {
    let mut times: Vec<Duration> = answers.iter().map(|(took, _)| *took).collect();
    println!(
        "intake: {} {what} from {CONNECTIONS} connections: {:.0}/s, p50 {:?}, p99 {:?}",
        answers.len(),
        answers.len() as f64 / took.as_secs_f64(),
        percentile(&mut times, 50),
        percentile(&mut times, 99),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_webhook_is_stored_before_its_200_and_a_repeat_of_it_adds_nothing() {
    let distinct = size("SENTINEL_INTAKE_DISTINCT", 300);
    let repeats = size("SENTINEL_INTAKE_REPEATS", 600);
    let home = Home::with(CONFIG);
    let mut up = home.up().await;
    let (took, first) = post(&up.webhook(), distinct, distinct).await;
    assert_eq!(sum(&first, "accepted"), distinct as u64);
    // Dead in this very moment: what it has answered for is on the disk, or it is lost.
    up.child.kill();
    up.child.wait_for_exit().await;
    let up = home.up().await;
    let id = |incident: &Value| incident["id"].as_str().unwrap().to_owned();
    let answered: BTreeSet<String> =
        first.iter().flat_map(|(_, answer)| answer["incidents"].as_array().unwrap()).map(id).collect();
    let stored: BTreeSet<String> = up.incidents().await.iter().map(id).collect();
    assert_eq!((answered.len(), &answered), (distinct, &stored));
    let (again, repeated) = post(&up.webhook(), repeats, distinct).await;
    assert_eq!(sum(&repeated, "duplicates"), repeats as u64);
    assert_eq!(up.incidents().await.len(), distinct);
    shown("distinct webhooks", took, &first);
    shown("repeats", again, &repeated);
}
