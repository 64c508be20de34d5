//! Polls of a server that answers what the test says, good and bad, and what they leave in the store.
#![expect(clippy::unwrap_used, reason = "a test part that cannot do its work fails the test")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use sentinel_config::{Watcher as Settings, WatcherKind};
use sentinel_core::card::{Card, DedupeBy};
use sentinel_core::incident::{Head, Job, State as Stands};
use sentinel_core::ports::{IncidentStore, JobQueue, Ports, QueueError};
use sentinel_core::redact::Redactor;
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_local::Backend;
use sentinel_telemetry::Metrics;
use sentinel_testkit::builders::{NOON, card};
use sentinel_testkit::clock::ManualClock;
use sentinel_watcher::{WatchError, Watcher};
use serde_json::{Value, json};

/// What the server answers next.
#[derive(Clone, Debug)]
enum Says {
    Alerts(Value),
    Raw(u16, String),
    Redirect,
    /// More than is read, a piece at a time.
    Endless,
    /// Nothing, ever.
    Silence,
}

#[derive(Debug)]
struct Server {
    says: Mutex<Says>,
    /// When it was started; `None`: it does not say.
    started: Mutex<Option<String>>,
    asked: Mutex<Vec<String>>,
}

async fn answer(State(server): State<Arc<Server>>, uri: Uri) -> Response {
    server.asked.lock().unwrap().push(uri.to_string());
    if uri.path().contains("/status") {
        let started = server.started.lock().unwrap().clone();
        return match started {
            Some(at) if uri.path().ends_with("/runtimeinfo") => {
                axum::Json(json!({"status": "success", "data": {"startTime": at}})).into_response()
            }
            Some(at) => axum::Json(json!({"uptime": at, "cluster": {}})).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        };
    }
    let says = server.says.lock().unwrap().clone();
    match says {
        Says::Alerts(alerts) if uri.path().contains("/v2/") => axum::Json(alerts).into_response(),
        Says::Alerts(alerts) => {
            axum::Json(json!({"status": "success", "data": {"alerts": alerts}})).into_response()
        }
        Says::Raw(status, text) => (StatusCode::from_u16(status).unwrap(), text).into_response(),
        Says::Redirect => {
            (StatusCode::FOUND, [(header::LOCATION, "http://elsewhere.example/")]).into_response()
        }
        Says::Endless => {
            let piece = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 20]));
            Body::from_stream(piece).into_response()
        }
        Says::Silence => std::future::pending().await,
    }
}

/// Takes jobs, unless it is told to fail.
#[derive(Debug, Default)]
struct Queue {
    fails: AtomicBool,
    sent: AtomicUsize,
}

#[async_trait]
impl JobQueue for Queue {
    async fn send(&self, _: &Job, _: Duration) -> Result<(), QueueError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(QueueError::Unavailable("time-out".into()));
        }
        self.sent.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct Bench {
    server: Arc<Server>,
    clock: Arc<ManualClock>,
    store: Arc<dyn IncidentStore>,
    watcher: Watcher,
    /// A watcher of this name on the same server and store.
    fresh: Box<dyn Fn(&str) -> Watcher>,
    queue: Arc<Queue>,
}

impl Bench {
    async fn new(kind: WatcherKind, cards: Vec<Card>, resources: &[&str]) -> Self {
        Self::with(kind, cards, resources, Duration::from_secs(30)).await
    }

    async fn with(kind: WatcherKind, cards: Vec<Card>, resources: &[&str], timeout: Duration) -> Self {
        let server = Arc::new(Server {
            says: Mutex::new(Says::Alerts(json!([]))),
            started: Mutex::new(None),
            asked: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}/api/v1/", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, router).await });

        let clock = Arc::new(ManualClock::default());
        let queue = Arc::new(Queue::default());
        let store = Backend::memory().await.unwrap().store();
        let fresh = AtomicUsize::new(0);
        let ports = Ports {
            store: Arc::clone(&store),
            queue: Arc::<Queue>::clone(&queue),
            clock: Arc::<ManualClock>::clone(&clock),
            fresh: Arc::new(move || format!("writer-{}", fresh.fetch_add(1, Ordering::SeqCst))),
            signing_key: None,
        };
        let settings = Settings {
            name: "main".into(),
            kind,
            endpoint: endpoint.parse().unwrap(),
            poll_interval: Duration::from_secs(15),
            timeout,
            resources: resources.iter().map(|r| (*r).to_owned()).collect(),
        };
        let cards: Arc<[Card]> = cards.into();
        let fresh = Box::new(move |name: &str| {
            let http = Arc::new(HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"])));
            let settings = Settings { name: name.into(), ..settings.clone() };
            Watcher::new(settings, http, ports.clone(), Arc::clone(&cards), Redactor::default())
        });
        let watcher = fresh("main");
        Self { server, clock, store, watcher, fresh, queue }
    }

    /// The process is started anew: what is in the store is all that is left.
    fn restart(&mut self, name: &str) {
        self.watcher = (self.fresh)(name);
    }

    /// Polls while the server says this; gives accepted, duplicates, joined, resolved, suppressed.
    async fn poll(&mut self, says: Says) -> Result<[u64; 5], WatchError> {
        *self.server.says.lock().unwrap() = says;
        let r = self.watcher.poll().await?;
        assert_eq!(r.unmatched, 0, "what no card takes never gets to intake");
        Ok([r.accepted, r.duplicates, r.joined, r.resolved, r.suppressed])
    }

    async fn heads(&self) -> Vec<Head> {
        self.store.recent(10).await.unwrap()
    }
}

fn pods() -> Vec<Card> {
    vec![
        card("pods")
            .matching("alertname", "PodDown")
            .dedupe_by(DedupeBy::Alert)
            .wait(Duration::from_mins(1))
            .build(),
    ]
}

async fn prometheus() -> Bench {
    Bench::new(WatcherKind::Prometheus, pods(), &[]).await
}

fn pod(state: &str, pod: &str) -> Value {
    json!({
        "labels": {"alertname": "PodDown", "pod": pod}, "annotations": {"summary": "s"},
        "state": state, "activeAt": "2026-11-22T11:58:00.5Z", "value": "2e+00",
    })
}

fn says(alerts: &[Value]) -> Says {
    Says::Alerts(alerts.into())
}

#[tokio::test]
async fn firing_alerts_are_taken_once_and_pending_ones_not_at_all() {
    let mut bench = prometheus().await;
    let alerts = [pod("firing", "a"), pod("pending", "b"), pod("inactive", "c")];
    assert_eq!(bench.poll(says(&alerts)).await.unwrap(), [1, 0, 0, 0, 0]);
    assert_eq!(bench.poll(says(&alerts)).await.unwrap(), [0, 1, 0, 0, 0]);
    let heads = bench.heads().await;
    assert_eq!(heads.len(), 1);
    assert_eq!((heads[0].labels["pod"].as_str(), heads[0].state), ("a", Stands::Pending));
    assert_eq!(heads[0].began.unwrap().to_string(), "2026-11-22T11:58:00.5Z", "activeAt is the beginning");
    let children = bench.store.children(&heads[0].id, heads[0].generation).await.unwrap();
    let snapshot: Value = serde_json::from_str(&children[0].body).unwrap();
    assert_eq!(snapshot["envelope"]["source"], "watcher");
    assert_eq!(snapshot["envelope"]["receiver"], "main");
    assert_eq!(snapshot["alerts"][0]["values"], json!({"value": 2.0}));
    assert_eq!(snapshot["alerts"][0]["annotations"], json!({"summary": "s"}));
}

#[tokio::test]
async fn an_alert_that_the_server_no_longer_knows_is_over_as_of_this_poll() {
    let mut bench = prometheus().await;
    bench.poll(says(&[pod("firing", "a"), pod("firing", "b")])).await.unwrap();
    let now = bench.clock.advance(Duration::from_secs(15));
    assert_eq!(bench.poll(says(&[pod("firing", "b")])).await.unwrap(), [0, 1, 0, 0, 1]);
    let heads = bench.heads().await;
    let a = heads.iter().find(|h| h.labels["pod"] == "a").unwrap();
    assert_eq!((a.state, a.resolved_at), (Stands::Suppressed, Some(now)));
    assert_eq!(bench.poll(says(&[pod("firing", "b")])).await.unwrap(), [0, 1, 0, 0, 0], "it is told once");
}

#[tokio::test]
async fn what_ended_while_no_watcher_ran_is_over_after_a_restart_and_what_fires_is_not_told_anew() {
    let mut bench = prometheus().await;
    bench.poll(says(&[pod("firing", "a"), pod("firing", "b")])).await.unwrap();
    bench.restart("main");
    bench.clock.advance(Duration::from_secs(15));
    assert_eq!(bench.poll(says(&[pod("firing", "b")])).await.unwrap(), [0, 1, 0, 0, 1]);
    let heads = bench.heads().await;
    let a = heads.iter().find(|h| h.labels["pod"] == "a").unwrap();
    assert_eq!((heads.len(), a.state), (2, Stands::Suppressed));
    bench.restart("main");
    assert_eq!(bench.poll(says(&[pod("firing", "b")])).await.unwrap(), [0, 1, 0, 0, 0], "it is told once");
}

#[tokio::test]
async fn an_alert_whose_secret_was_taken_out_is_known_over_a_restart_and_its_end_is_noticed() {
    let mut bench = prometheus().await;
    let (here, there) = (pod("firing", "password=alpha-beta-1"), pod("firing", "password=gamma-delta-2"));
    assert_eq!(bench.poll(says(&[here.clone(), there.clone()])).await.unwrap(), [2, 0, 0, 0, 0]);
    bench.restart("main");
    *bench.server.started.lock().unwrap() = Some(NOON.to_string());
    assert_eq!(
        bench.poll(says(std::slice::from_ref(&here))).await.unwrap(),
        [0, 1, 0, 0, 0],
        "the server is too young"
    );
    let now = bench.clock.advance(Duration::from_mins(6));
    assert_eq!(bench.poll(says(std::slice::from_ref(&here))).await.unwrap(), [0, 1, 0, 0, 1]);
    let heads = bench.heads().await;
    let over: Vec<_> = heads.iter().map(|head| (head.state, head.resolved_at)).collect();
    assert!(
        over.contains(&(Stands::Suppressed, Some(now))) && over.contains(&(Stands::Pending, None)),
        "{over:?}"
    );
    assert_eq!(bench.poll(says(&[here])).await.unwrap(), [0, 1, 0, 0, 0], "it is told once");
    assert_eq!(
        bench.poll(says(&[])).await.unwrap(),
        [0, 0, 0, 0, 1],
        "what fired since is known by its labels"
    );
}

#[tokio::test]
async fn after_a_restart_nothing_is_over_that_another_watcher_told() {
    let mut bench = prometheus().await;
    bench.poll(says(&[pod("firing", "a")])).await.unwrap();
    bench.restart("another");
    assert_eq!(bench.poll(says(&[])).await.unwrap(), [0; 5]);
    bench.restart("main");
    assert_eq!(bench.poll(says(&[])).await.unwrap(), [0, 0, 0, 0, 1]);
}

#[tokio::test]
async fn of_a_group_only_what_still_fires_is_looked_after_over_a_restart() {
    let group = card("pods").matching("alertname", "PodDown").dedupe_by(DedupeBy::Group);
    let mut bench =
        Bench::new(WatcherKind::Prometheus, vec![group.wait(Duration::from_mins(1)).build()], &[]).await;
    bench.poll(says(&[pod("firing", "a"), pod("firing", "b")])).await.unwrap();
    bench.poll(says(&[pod("firing", "b")])).await.unwrap();
    bench.restart("main");
    assert_eq!(bench.poll(says(&[pod("firing", "b")])).await.unwrap()[3..], [0, 0], "a is over already");
    bench.restart("main");
    assert_eq!(bench.poll(says(&[])).await.unwrap(), [0, 0, 0, 0, 1], "then the last of them");
    assert_eq!(bench.heads().await[0].state, Stands::Suppressed);
}

#[tokio::test]
async fn an_alert_that_is_pending_again_is_not_over() {
    let mut bench = prometheus().await;
    bench.poll(says(&[pod("firing", "a")])).await.unwrap();
    assert_eq!(bench.poll(says(&[pod("pending", "a")])).await.unwrap(), [0; 5]);
    assert_eq!(bench.poll(says(&[])).await.unwrap(), [0, 0, 0, 0, 1]);
}

#[tokio::test]
async fn a_poll_that_fails_says_why_and_resolves_nothing() {
    let mut bench = prometheus().await;
    bench.poll(says(&[pod("firing", "a")])).await.unwrap();
    for (bad, why, retryable) in [
        (Says::Raw(500, "{}".into()), "the server answers with status 500", true),
        (Says::Raw(404, "{}".into()), "the server answers with status 404", false),
        (Says::Raw(401, String::new()), "the server answers with status 401", false),
        (Says::Raw(200, String::new()), "the answer cannot be read: it is not what this type", false),
        (Says::Raw(200, "<html>secret</html>".into()), "the answer cannot be read: it is not what", false),
        (
            Says::Raw(200, r#"{"status":"success"}"#.into()),
            "the answer cannot be read: it says success",
            false,
        ),
        (
            Says::Raw(200, r#"{"status":"error","error":"not ready","data":{"alerts":[]}}"#.into()),
            "the answer cannot be read: it says error: not ready",
            false,
        ),
        (Says::Raw(200, "[]".into()), "the answer cannot be read: it is not what", false),
        (Says::Redirect, "the server redirects to elsewhere.example", false),
        (Says::Endless, "the answer is larger than 16 MB", false),
    ] {
        let shown = format!("{bad:?}");
        let error = bench.poll(bad).await.unwrap_err();
        assert!(error.to_string().starts_with(why), "{shown}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(error.is_retryable(), retryable, "{shown}");
    }
    assert!(bench.heads().await[0].resolved_at.is_none());
    assert_eq!(bench.poll(says(&[])).await.unwrap(), [0, 0, 0, 0, 1], "what was told is still known");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let timeout = Duration::from_millis(200);
    let mut bench = Bench::with(WatcherKind::Prometheus, pods(), &[], timeout).await;
    let error = bench.poll(Says::Silence).await.unwrap_err();
    assert_eq!(error.to_string(), "no answer in time");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn one_broken_alert_hides_no_other_and_nothing_is_over_meanwhile() {
    let mut bench = prometheus().await;
    bench.poll(says(&[pod("firing", "a")])).await.unwrap();
    let broken = json!({"labels": {"alertname": 7}, "state": "firing"});
    let nameless = json!({"labels": {"alertname": "PodDown", "": "x"}, "state": "firing"});
    *bench.server.says.lock().unwrap() = says(&[pod("firing", "b"), broken, nameless]);
    let receipt = bench.watcher.poll().await.unwrap();
    assert_eq!((receipt.accepted, receipt.refused, receipt.suppressed), (1, 2, 0));
    assert_eq!(receipt.refusals[0].path, "data.alerts[1]");
    assert_eq!(receipt.refusals[1].path, "data.alerts[2]");
    assert_eq!(bench.poll(says(&[])).await.unwrap(), [0, 0, 0, 0, 2]);
}

#[tokio::test]
async fn a_server_that_has_just_started_cannot_say_that_an_alert_is_over() {
    for kind in [WatcherKind::Prometheus, WatcherKind::Alertmanager] {
        let mut bench = Bench::new(kind, pods(), &[]).await;
        let mut alert = pod("firing", "a");
        alert["status"] = json!({"state": "active", "silencedBy": [], "inhibitedBy": []});
        alert["startsAt"] = "2026-11-22T11:58:00Z".into();
        bench.poll(says(&[alert])).await.unwrap();
        assert!(
            !bench.server.asked.lock().unwrap().iter().any(|uri| uri.contains("status")),
            "only if need be"
        );

        *bench.server.started.lock().unwrap() = Some(NOON.to_string());
        bench.clock.advance(Duration::from_mins(4));
        assert_eq!(bench.poll(says(&[])).await.unwrap(), [0; 5], "{kind:?}");
        bench.clock.advance(Duration::from_mins(1));
        assert_eq!(bench.poll(says(&[])).await.unwrap(), [0, 0, 0, 0, 1], "{kind:?}");
    }
}

#[tokio::test]
async fn only_alerts_of_the_listed_resources_are_taken() {
    let cards = || vec![card("pods").matching("alertname", "PodDown").build(), card("all").build()];
    let node = json!({"labels": {"alertname": "NodeDown"}, "state": "firing"});
    let alerts = [pod("firing", "a"), node];
    let mut bench = Bench::new(WatcherKind::Prometheus, cards(), &["pods"]).await;
    assert_eq!(bench.poll(says(&alerts)).await.unwrap(), [1, 0, 0, 0, 0]);
    let mut bench = Bench::new(WatcherKind::Prometheus, cards(), &[]).await;
    assert_eq!(bench.poll(says(&alerts)).await.unwrap(), [2, 0, 0, 0, 0]);
}

#[tokio::test]
async fn of_an_alertmanager_silenced_and_inhibited_alerts_are_neither_taken_nor_over() {
    let mut bench = Bench::new(WatcherKind::Alertmanager, pods(), &[]).await;
    let alert = |pod: &str, state: &str, silenced: &[&str], inhibited: &[&str]| {
        json!({
            "labels": {"alertname": "PodDown", "pod": pod}, "annotations": {}, "fingerprint": "f",
            "startsAt": "2026-11-22T11:59:00Z", "endsAt": "2026-11-22T12:10:00Z", "updatedAt": "",
            "generatorURL": "", "receivers": [{"name": "r"}],
            "status": {"state": state, "silencedBy": silenced, "inhibitedBy": inhibited},
        })
    };
    let alerts = [
        alert("a", "active", &[], &[]),
        alert("b", "suppressed", &["silence"], &[]),
        alert("c", "suppressed", &[], &["other"]),
        alert("d", "unprocessed", &[], &[]),
    ];
    assert_eq!(bench.poll(says(&alerts)).await.unwrap(), [1, 0, 0, 0, 0]);
    assert_eq!(bench.heads().await[0].labels["pod"], "a");
    let silenced = [alert("a", "suppressed", &["silence"], &[])];
    assert_eq!(bench.poll(says(&silenced)).await.unwrap(), [0; 5]);
    assert_eq!(bench.poll(says(&[])).await.unwrap(), [0, 0, 0, 0, 1]);
    assert_eq!(bench.server.asked.lock().unwrap()[0], "/api/v2/alerts");
}

#[tokio::test]
async fn what_could_not_be_stored_whole_is_told_again_and_its_end_too() {
    let mut bench = prometheus().await;
    bench.queue.fails.store(true, Ordering::SeqCst);
    let error = bench.poll(says(&[pod("firing", "a")])).await.unwrap_err();
    assert!(matches!(&error, WatchError::Drive(_)) && error.is_retryable(), "{error}");
    bench.queue.fails.store(false, Ordering::SeqCst);
    bench.poll(says(&[pod("firing", "a")])).await.unwrap();
    assert_eq!(bench.queue.sent.load(Ordering::SeqCst), 1, "its job is sent at last");

    bench.queue.fails.store(true, Ordering::SeqCst);
    bench.poll(says(&[pod("firing", "b")])).await.unwrap_err();
    bench.queue.fails.store(false, Ordering::SeqCst);
    let _ = bench.poll(says(&[])).await.unwrap();
    let heads = bench.heads().await;
    assert_eq!(heads.len(), 2);
    assert!(heads.iter().all(|head| head.resolved_at.is_some()), "{heads:?}");
}

#[tokio::test]
async fn each_poll_counts_what_fires() {
    let lines = Arc::new(Mutex::new(Vec::<u8>::new()));
    let mut bench = prometheus().await;
    let out = Arc::clone(&lines);
    bench.watcher = bench.watcher.with_metrics(Metrics::to(move || Lines(Arc::clone(&out))));
    *bench.server.says.lock().unwrap() = says(&[pod("firing", "a"), json!(7)]);
    for accepted in [1, 0] {
        bench.watcher.poll().await.unwrap();
        let text = String::from_utf8(std::mem::take(&mut *lines.lock().unwrap())).unwrap();
        let mut line: Value = serde_json::from_str(&text).unwrap();
        line.as_object_mut().unwrap().remove("_aws").unwrap();
        assert_eq!(
            line,
            json!({"AlertsReceived": 2, "AlertsAccepted": accepted, "Duplicates": 1 - accepted, "Refused": 1})
        );
    }
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
