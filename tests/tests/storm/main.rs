//! A storm: three real Alertmanagers in a cluster post it to the real program. One of them is killed, and another loses
//! sight of its peer and of Sentinel for a while.
//!
//!     cargo nextest run -p sentinel-tests --test storm --no-capture
//!
//! prints what it took. `tests/bench/storm.sh` runs the same at ten times the size.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking; what it took is for people"
)]

mod intake;
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sentinel_testkit::openai::{self, Scripted, ScriptedOpenAi};
use sentinel_testkit::process::{ClusterPlace, Service, alertmanager_in_cluster, free_port};
use sentinel_tests::{Home, Sentinel, client, eventually_within, percentile};
use serde_json::{Value, json};

use crate::paths::{Gossip, Webhooks};

/// Alerts and groups: at this size in every run, larger where a benchmark says so.
fn size(variable: &str, usual: usize) -> usize {
    #[expect(clippy::disallowed_methods, reason = "the size is the caller's to say")]
    let said = std::env::var(variable);
    said.map_or(usual, |n| n.parse().unwrap())
}

/// A model that concludes at once.
async fn analyst() -> ScriptedOpenAi {
    ScriptedOpenAi::with(|_, n| {
        let report = json!({
            "verdict": "inconclusive", "title": "A storm", "summary": "Nothing is known.", "hypotheses": [],
            "ruled_out": [], "gaps": ["everything"], "next_steps": [],
        });
        Scripted::Json(openai::function_call("submit_report", &report, &format!("call_{n}")))
    })
    .await
}

fn home(model: &ScriptedOpenAi, groups: usize) -> Home {
    Home::with(&format!(
        "log-level: warn\n\
         network: {{allow-insecure-hosts: [127.0.0.1], allow-private-hosts: [127.0.0.1]}}\n\
         openai: {{base-url: '{}', api-key: '${{KEY}}'}}\n\
         dispatcher: {{worker-concurrency: 8}}\n\
         budget: {{per-hour: {groups}, per-day: {groups}, usd-per-day: 100}}\n\
         resources: [{{name: trouble, filters: {{alertname: Trouble}}}}]\n\
         incident-cards: [{{name: trouble, resource: trouble, prompt: Find out why.}}]\n",
        model.base_url()
    ))
    .env("KEY", "a-key")
}

/// Three Alertmanagers that know each other, each with a way of its own to Sentinel.
struct Cluster {
    members: Vec<Service>,
    gossip: Vec<Gossip>,
    webhooks: Vec<Webhooks>,
}

impl Cluster {
    async fn before(up: &Sentinel) -> Self {
        let mut cluster = Self { members: vec![], gossip: vec![], webhooks: vec![] };
        for _ in 0..3 {
            let webhooks = Webhooks::to(&up.webhook()).await;
            let port = free_port();
            let gossip = Gossip::to(port).await;
            let place = ClusterPlace {
                port,
                advertise: gossip.address(),
                peers: cluster.gossip.iter().map(Gossip::address).collect(),
            };
            let config = format!(
                "route: {{receiver: sentinel, group_by: [alertname, namespace], group_wait: 1s, group_interval: 2s, \
                 repeat_interval: 1h}}\n\
                 receivers: [{{name: sentinel, webhook_configs: [{{url: '{}'}}]}}]\n",
                webhooks.url
            );
            cluster.members.push(alertmanager_in_cluster(&config, &place).await);
            cluster.gossip.push(gossip);
            cluster.webhooks.push(webhooks);
        }
        // Each sees the other two.
        for member in &cluster.members {
            eventually_within(Duration::from_mins(1), "a cluster of three", async || {
                let status: Value =
                    client().get(member.url("/api/v2/status")).send().await.unwrap().json().await.unwrap();
                let peers = status["cluster"]["peers"].as_array().map_or(0, Vec::len);
                if peers == 3 { Ok(()) } else { Err(format!("{status:#}")) }
            })
            .await;
        }
        cluster
    }

    /// Nobody reaches a peer any more; the second does not reach Sentinel either.
    fn part(&self, parted: bool) {
        self.gossip.iter().for_each(|gossip| gossip.cut(parted));
        self.webhooks[1].cut(parted);
    }

    /// As Prometheus does: everything to everybody that is there.
    async fn fire(&self, alerts: std::ops::Range<usize>, groups: usize) {
        for member in &self.members {
            for batch in alerts.clone().collect::<Vec<_>>().chunks(500) {
                let body: Vec<Value> = batch.iter().map(|n| alert(*n, groups)).collect();
                let sent = client().post(member.url("/api/v2/alerts")).json(&body).send().await.unwrap();
                assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
            }
        }
    }

    /// The pods that were told with a 200, by namespace.
    fn told(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for exchange in self.webhooks.iter().flat_map(Webhooks::exchanges).filter(|e| e.status == 200) {
            for alert in exchange.request["alerts"].as_array().unwrap() {
                let label = |name: &str| alert["labels"][name].as_str().unwrap().to_owned();
                told.entry(label("namespace")).or_default().insert(label("pod"));
            }
        }
        told
    }
}

fn alert(n: usize, groups: usize) -> Value {
    json!({
        "labels": {"alertname": "Trouble", "namespace": format!("ns-{}", n % groups), "pod": format!("pod-{n}")},
        "annotations": {"summary": "A pod is in trouble."},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_over_a_cluster_with_a_dead_and_a_cut_off_sender_is_one_investigation_a_group() {
    let alerts = size("SENTINEL_STORM_ALERTS", 1_000);
    let groups = size("SENTINEL_STORM_GROUPS", 200);
    let model = analyst().await;
    let up = home(&model, groups).up().await;
    let mut cluster = Cluster::before(&up).await;

    // The first half is on its way when one dies and another is cut off; the rest comes to those that are left.
    cluster.fire(0..alerts / 2, groups).await;
    eventually_within(Duration::from_mins(1), "the first webhooks", async || {
        if cluster.told().is_empty() { Err("none".to_owned()) } else { Ok(()) }
    })
    .await;
    let mut dead = cluster.members.remove(0);
    dead.child.kill();
    cluster.part(true);
    cluster.fire(alerts / 2..alerts, groups).await;
    let refused = async || cluster.webhooks[1].refused();
    eventually_within(Duration::from_mins(1), "a webhook that does not get through", async || {
        if refused().await > 0 { Ok(()) } else { Err("none".to_owned()) }
    })
    .await;
    cluster.part(false);

    // Nothing is lost: every alert was taken with a 200, and every group's incident has its report.
    eventually_within(Duration::from_mins(4), "every alert to be taken", async || {
        let told: usize = cluster.told().values().map(BTreeSet::len).sum();
        if told == alerts { Ok(()) } else { Err(format!("{told} of {alerts}")) }
    })
    .await;
    let incidents = eventually_within(Duration::from_mins(4), "every incident to end", async || {
        let incidents = up.incidents().await;
        let done = incidents.iter().filter(|i| i["state"] == "done").count();
        if done >= groups { Ok(incidents) } else { Err(format!("{done} of {groups} are done")) }
    })
    .await;
    let namespaces: BTreeSet<&str> =
        incidents.iter().map(|i| i["labels"]["namespace"].as_str().unwrap()).collect();
    assert_eq!((incidents.len(), namespaces.len()), (groups, groups), "one incident a group");
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for request in model.requests() {
        *asked.entry(request.body["prompt_cache_key"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(asked.len(), groups, "investigations = groups");
    let turns: BTreeSet<usize> = asked.values().copied().collect();
    assert_eq!(turns.len(), 1, "each is investigated once: {turns:?} requests an incident");
    for incident in incidents.iter().take(3) {
        let whole = up.incident(incident["id"].as_str().unwrap()).await;
        assert_eq!(whole["report"]["source"], "model", "{whole:#}");
    }

    let all: Vec<_> = cluster.webhooks.iter().flat_map(Webhooks::exchanges).collect();
    let mut times: Vec<Duration> = all.iter().map(|e| e.took).collect();
    let count = |name: &str| -> u64 { all.iter().filter_map(|e| e.answer[name].as_u64()).sum() };
    println!(
        "storm: {alerts} alerts in {groups} groups, {} webhooks ({} did not get through): {} investigations; \
         accepted {}, joined {}, duplicates {}; webhook p50 {:?}, p99 {:?}",
        all.len(),
        cluster.webhooks[1].refused(),
        asked.len(),
        count("accepted"),
        count("joined"),
        count("duplicates"),
        percentile(&mut times, 50),
        percentile(&mut times, 99),
    );
}
