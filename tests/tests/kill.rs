//! `kill -9` of the service, again and again, while alerts come in: nothing that was answered with 200 is lost, nothing
//! happens twice.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use reqwest::StatusCode;
use sentinel_testkit::PATIENCE;
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{ScriptedOpenAi, function_call};
use sentinel_tests::wire::{LOOPBACK, openai, output_of, report, trouble};
use sentinel_tests::{Home, Sentinel, client, eventually};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Senders at the same time.
const CONNECTIONS: usize = 6;
/// Kills of one test.
const KILLS: usize = 5;
/// Investigations at the same time.
const CONCURRENCY: usize = 4;

async fn tools() -> FakeMcp {
    let schema = json!({"type": "object"});
    FakeMcp::builder().tool("look", schema, "Looks", |_| Answer::text("all is well here")).start().await
}

/// An interrupted attempt counts, and an incident may be interrupted by every kill.
fn home(mcp: &FakeMcp, model: &str) -> Home {
    Home::with(&format!(
        "log-level: warn\n{LOOPBACK}{model}\
         dispatcher: {{worker-concurrency: {CONCURRENCY}}}\n\
         defaults: {{retry-policy: {{attempts: 10}}}}\n\
         mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         resources: [{{name: trouble, filters: {{alertname: Trouble}}}}]\n\
         incident-cards:\n\
         - {{name: trouble, resource: trouble, prompt: Find out why., tools: [fake.look], evidence: [{{tool: fake.look}}]}}\n",
        mcp.url()
    ))
}

/// What the senders know, and where they find the service.
struct Senders {
    /// The service's address; an empty one: it is down.
    address: watch::Sender<String>,
    /// Webhooks that were answered with 200.
    acknowledged: watch::Sender<usize>,
    /// The incident of each, by the alert's instance.
    incidents: Mutex<BTreeMap<usize, String>>,
    /// Posts that had no answer, or not 200.
    failures: Mutex<usize>,
}

impl Senders {
    /// Sends `alerts` webhooks over [`CONNECTIONS`] connections, each until it is answered with 200.
    fn start(alerts: usize) -> (Arc<Self>, JoinSet<()>) {
        let senders = Arc::new(Self {
            address: watch::Sender::default(),
            acknowledged: watch::Sender::default(),
            incidents: Mutex::default(),
            failures: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for connection in 0..CONNECTIONS {
            let senders = Arc::clone(&senders);
            tasks.spawn(async move {
                let client = client();
                for alert in (0..alerts).filter(|n| n % CONNECTIONS == connection) {
                    senders.deliver(&client, alert).await;
                }
            });
        }
        (senders, tasks)
    }

    /// Alertmanager's way: again after a 5xx and after a transport error.
    async fn deliver(&self, client: &reqwest::Client, alert: usize) {
        let body = trouble(&format!("host-{alert}"));
        loop {
            let address = self.running().await;
            match client.post(&address).json(&body).send().await {
                Ok(response) if response.status() == StatusCode::OK => {
                    // An answer that breaks off is none.
                    if let Ok(answer) = response.json::<Value>().await {
                        let counted =
                            answer["accepted"].as_u64().unwrap() + answer["duplicates"].as_u64().unwrap();
                        assert_eq!(counted, 1, "{answer}");
                        let id = answer["incidents"][0]["id"].as_str().unwrap().to_owned();
                        self.incidents.lock().unwrap().insert(alert, id);
                        self.acknowledged.send_modify(|n| *n += 1);
                        return;
                    }
                }
                Ok(response) => assert!(response.status().is_server_error(), "{}", response.status()),
                Err(error) => assert!(!error.is_builder(), "{error}"),
            }
            *self.failures.lock().unwrap() += 1;
        }
    }

    async fn running(&self) -> String {
        let mut address = self.address.subscribe();
        timeout(PATIENCE, address.wait_for(|a| !a.is_empty())).await.unwrap().unwrap().clone()
    }

    async fn wait_for_acknowledged(&self, n: usize) {
        let mut acknowledged = self.acknowledged.subscribe();
        let came = timeout(PATIENCE, acknowledged.wait_for(|seen| *seen >= n)).await.is_ok();
        assert!(came, "waited for {n} answers, {:?} came", self.acknowledged.borrow());
    }
}

/// The generation of each incident when it was first seen; a later one would be a second investigation.
#[derive(Default)]
struct Generations(BTreeMap<String, i64>);

impl Generations {
    async fn look(&mut self, up: &Sentinel) -> Vec<Value> {
        let incidents = up.incidents().await;
        for incident in &incidents {
            let id = incident["id"].as_str().unwrap().to_owned();
            let seen = incident["gen"].as_i64().unwrap();
            let first = *self.0.entry(id).or_insert(seen);
            assert_eq!(first, seen, "a second generation of {incident}");
        }
        incidents
    }
}

/// Waits until all incidents have ended, and checks that each did so once and as it should.
async fn all_ended(
    up: &Sentinel,
    senders: &Senders,
    generations: &mut Generations,
    alerts: usize,
) -> Vec<Value> {
    let mut incidents = Vec::new();
    // Step by step: each has its own time, so that a slow machine fails only where nothing goes on.
    for share in 1..=10 {
        let wanted = alerts * share / 10;
        incidents = eventually("incidents that have ended", async || {
            let incidents = generations.look(up).await;
            let (done, open): (Vec<&Value>, Vec<&Value>) =
                incidents.iter().partition(|i| i["state"] == "done");
            if done.len() >= wanted {
                Ok(incidents)
            } else {
                Err(format!("{} of {wanted}; {open:#?}", done.len()))
            }
        })
        .await;
    }
    assert!(incidents.iter().all(|i| i["state"] == "done"), "{incidents:#?}");
    let stored: BTreeSet<&str> = incidents.iter().map(|i| i["id"].as_str().unwrap()).collect();
    let answered = senders.incidents.lock().unwrap().clone();
    assert_eq!(stored.len(), alerts);
    assert_eq!(answered.values().map(String::as_str).collect::<BTreeSet<&str>>(), stored);
    let mut details = Vec::new();
    for id in stored {
        let incident = up.ended(id).await;
        assert_eq!(Sentinel::told(&incident), ["findings to log: sent"], "{incident:#}");
        let evidence = incident["evidence"].as_array().unwrap();
        assert_eq!((evidence.len(), &evidence[0]["ok"]), (1, &json!(true)), "{incident:#}");
        assert!(!incident["report"].is_null(), "{incident:#}");
        details.push(incident);
    }
    details
}

#[tokio::test]
async fn nothing_that_was_answered_with_200_is_lost_or_done_twice_over_five_kills() {
    const ALERTS: usize = 300;
    let mcp = tools().await;
    let home = home(&mcp, "");
    let mut generations = Generations::default();
    let mut up = home.up().await;
    let (senders, mut tasks) = Senders::start(ALERTS);
    senders.address.send_replace(up.webhook());
    let mut unfinished = 0;
    for kill in 1..=KILLS {
        senders.wait_for_acknowledged(kill * ALERTS / (KILLS + 1)).await;
        senders.address.send_replace(String::new());
        up.child.kill();
        up = home.up().await;
        let incidents = generations.look(&up).await;
        unfinished += incidents.iter().filter(|i| i["state"] != "done").count();
        senders.address.send_replace(up.webhook());
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let incidents = all_ended(&up, &senders, &mut generations, ALERTS).await;

    // The kills hit something: work that was not done, and posts that were not answered.
    assert!(unfinished > 0 && *senders.failures.lock().unwrap() > 0, "the kills interrupted nothing");
    assert!(incidents.iter().all(|i| i["report"]["source"] == "evidence_only"));
    let calls = mcp.calls().len();
    let most = ALERTS + KILLS * CONCURRENCY;
    assert!((ALERTS..=most).contains(&calls), "{calls} tool calls for {ALERTS} incidents, at most {most}");
}

#[tokio::test]
async fn a_kill_costs_at_most_the_calls_that_were_in_flight() {
    const ALERTS: usize = 30;
    const TURNS: usize = 2;
    let mcp = tools().await;
    let model = ScriptedOpenAi::with(|request, _| match output_of(request, "call_1") {
        None => {
            function_call("read_evidence", &json!({"id": "E1", "pattern": null, "lines": null}), "call_1")
                .into()
        }
        Some(_) => function_call("submit_report", &report("E1", "all is well here"), "call_2").into(),
    })
    .await;
    let home = home(&mcp, &openai(&model.base_url()));
    let mut generations = Generations::default();
    let mut up = home.up().await;
    let (senders, mut tasks) = Senders::start(ALERTS);
    senders.address.send_replace(up.webhook());
    for kill in 1..=KILLS {
        // Just when the model is asked: that call is paid for, and its answer is lost.
        model.wait_for_requests(kill * ALERTS * TURNS / (KILLS + 1)).await;
        senders.address.send_replace(String::new());
        up.child.kill();
        up = home.up().await;
        generations.look(&up).await;
        senders.address.send_replace(up.webhook());
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let incidents = all_ended(&up, &senders, &mut generations, ALERTS).await;

    for incident in &incidents {
        assert_eq!(incident["report"]["source"], "model", "{incident:#}");
        assert_eq!(incident["report"]["usage"]["turns"], TURNS, "{incident:#}");
        assert_eq!(incident["report"]["hypotheses"][0]["supported"], true, "{incident:#}");
    }
    assert!(incidents.iter().any(|i| i["attempts"] != 1), "the kills interrupted nothing");
    let paid = model.finish().len();
    let most = ALERTS * TURNS + KILLS * CONCURRENCY;
    assert!((ALERTS * TURNS..=most).contains(&paid), "{paid} paid turns, at most {most}");
}
