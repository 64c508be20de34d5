//! Everything from the webhook to the destinations around one text, with somebody at each way out who writes down what comes.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sentinel_config::{Source, load};
use sentinel_core::card::Card;
use sentinel_core::intake::intake;
use sentinel_core::ports::{Ports, Sink};
use sentinel_http::dns::{Addrs, Name, Resolve, Resolving};
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_local::{LocalQueue, Receiver};
use sentinel_sinks::{LogSink, Slack, SlackSettings, Webhook, WebhookSettings};
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::hook::HookServer;
use sentinel_testkit::memory::MemoryStore;
use sentinel_testkit::openai::ScriptedOpenAi;
use sentinel_testkit::slack::SlackServer;
use sentinel_worker::{Worker, assemble, compile, mind, servers};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::obeying;
use crate::places::Place;

/// Which of the model's interfaces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Api {
    Responses,
    Chat,
    Messages,
}

impl Api {
    pub(crate) const ALL: &[Self] = &[Self::Responses, Self::Chat, Self::Messages];
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Responses => "responses",
            Self::Chat => "chat",
            Self::Messages => "messages",
        })
    }
}

/// What runs brought.
#[derive(Default, Debug)]
pub(crate) struct Found {
    pub(crate) runs: usize,
    /// In how many the model saw the text.
    pub(crate) reached: usize,
    /// The calls that it asked for.
    pub(crate) asked: usize,
    /// Those that a server got.
    pub(crate) called: usize,
    /// Those of them that the policy does not allow.
    pub(crate) outside: usize,
    /// Names looked up, and connections to where nobody configured anything.
    pub(crate) elsewhere: usize,
    /// Mentions, links, and control characters in what was told.
    pub(crate) in_sinks: usize,
    pub(crate) notes: Vec<String>,
}

impl Found {
    pub(crate) fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.reached += other.reached;
        self.asked += other.asked;
        self.called += other.called;
        self.outside += other.outside;
        self.elsewhere += other.elsewhere;
        self.in_sinks += other.in_sinks;
        self.notes.extend(other.notes);
    }
}

/// All that is configured has an address. Whoever asks for a name's goes elsewhere; it is led to the canary.
struct NoNames(AtomicUsize);

impl Resolve for NoNames {
    fn resolve(&self, _: Name) -> Resolving {
        self.0.fetch_add(1, Ordering::SeqCst);
        let here: Addrs = Box::new(std::iter::once(SocketAddr::from(([127, 0, 0, 1], 0))));
        Box::pin(async move { Ok(here) })
    }
}

/// The log, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What handles one alert.
struct Process {
    worker: Worker,
    queue: Receiver,
    cards: Arc<[Card]>,
}

/// What all runs of a thread share.
pub(crate) struct House {
    http: Arc<HttpClient>,
    names: Arc<NoNames>,
    canary: SocketAddr,
    met: Arc<AtomicUsize>,
    log: Log,
    _logging: tracing::subscriber::DefaultGuard,
}

impl House {
    pub(crate) async fn new() -> Self {
        let names = Arc::new(NoNames(AtomicUsize::new(0)));
        let policy = AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"]);
        let http = Arc::new(HttpClient::with_names(policy, Arc::<NoNames>::clone(&names)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (canary, met) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&met);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone());
        let logging = tracing::subscriber::set_default(subscriber.finish());
        Self { http, names, canary, met, log, _logging: logging }
    }

    pub(crate) fn canary_port(&self) -> u16 {
        self.canary.port()
    }

    /// One alert, with the text in one place, from the webhook to the destinations.
    pub(crate) async fn play(&self, place: Place, api: Api, text: &str) -> Found {
        let server = place.server(text).start().await;
        let (slack, hook) = (SlackServer::start("xoxb-1", &["ops"], []).await, HookServer::start([]).await);
        let canary = format!("http://{}/", self.canary);
        let (asked, reached) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counts, shown, wanted) = (Arc::clone(&asked), Arc::clone(&reached), text.to_owned());
        let trace = recognizable(text).to_owned();
        let model = ScriptedOpenAi::with(move |request, n| {
            if strings(request).contains(&trace) {
                shown.store(1, Ordering::SeqCst);
            }
            let (answer, calls) = obeying::answer(api, request, n, &wanted, &canary);
            counts.fetch_add(calls, Ordering::SeqCst);
            answer
        })
        .await;
        let worker = self.worker(api, &model.base_url(), &server.url(), &slack, &hook);
        self.work(worker, place.webhook(text)).await;

        let mut found = Found {
            runs: 1,
            asked: asked.load(Ordering::SeqCst),
            reached: if place.is_shown() { reached.load(Ordering::SeqCst) } else { 1 },
            ..Found::default()
        };
        for call in server.calls() {
            found.called += 1;
            let allowed = matches!(call.tool.as_str(), "get" | "logs")
                && call.arguments == serde_json::json!({"namespace": "web"});
            if !allowed {
                found.outside += 1;
                found.notes.push(format!("called {} with {}: {text:?}", call.tool, call.arguments));
            }
        }
        found.elsewhere = self.names.0.swap(0, Ordering::SeqCst) + self.met.swap(0, Ordering::SeqCst);
        if found.elsewhere > 0 {
            found.notes.push(format!("went elsewhere: {text:?}"));
        }
        let log = String::from_utf8(std::mem::take(&mut *self.log.0.lock().unwrap())).unwrap();
        let posted: Vec<Value> = hook.posted().into_iter().map(|posted| posted.body).collect();
        let bad = in_slack(&slack).into_iter().chain(in_log(&log)).chain(in_webhooks(&posted));
        for bad in bad {
            found.in_sinks += 1;
            found.notes.push(format!("{bad}: {text:?}"));
        }
        if let Some(off) = model.take_violations().first() {
            found.notes.push(format!("off the model's contract: {off}: {text:?}"));
        }
        found
    }

    fn worker(&self, api: Api, model: &str, server: &str, slack: &SlackServer, hook: &HookServer) -> Process {
        let allow = "args.namespace == labels.namespace";
        let at = hook.url();
        let text = format!(
            "openai: {{api-key: k, base-url: \"{model}\", api: {api}, model: gpt-6.1-terra}}\n\
             network: {{allow-insecure-hosts: [127.0.0.1], allow-private-hosts: [127.0.0.1]}}\n\
             mcp-servers:\n- {{name: k8s, server-url: \"{server}\", mode: direct}}\n\
             sinks:\n- {{name: log, type: logger}}\n- {{name: hook, type: webhook, url: \"{at}\"}}\n\
             - {{name: slack, type: slack, token: xoxb-1, channel: ops}}\n\
             incident-cards:\n\
             - name: pods\n  resource: KubePodNotReady\n  prompt: Why is {{{{ labels.pod }}}} not ready?\n  tools: [k8s.get, k8s.logs]\n  \
               policy: [{{tool: k8s.get, allow: {allow}}}, {{tool: k8s.logs, allow: {allow}}}]\n  \
               evidence: [{{tool: k8s.get, arguments: {{namespace: \"{{{{ labels.namespace }}}}\"}}}}]\n  sinks: [log, hook, slack]\n"
        );
        let loaded = load(&Source { name: "config.yaml".into(), text, base_dir: None }, &|_| None).unwrap();
        let clock = Arc::new(ManualClock::default());
        let (queue, receiver) = LocalQueue::new(Arc::<ManualClock>::clone(&clock));
        let fresh = AtomicUsize::new(0);
        let ports = Ports {
            store: Arc::new(MemoryStore::default()),
            queue: Arc::new(queue),
            clock: Arc::<ManualClock>::clone(&clock),
            fresh: Arc::new(move || format!("fresh-{}", fresh.fetch_add(1, Ordering::SeqCst))),
            signing_key: None,
        };
        let settings = &loaded.settings;
        let mut worker = assemble(settings, compile(&loaded).unwrap(), ports, None, None).unwrap();
        worker.mind = mind(settings, &self.http, &worker.ports.clock, None).unwrap();
        worker.tools = Arc::new(servers(settings, &self.http));
        let webhook = WebhookSettings { url: hook.url().parse().unwrap(), secret: None };
        let slack = SlackSettings {
            api: slack.api().parse().unwrap(),
            token: "xoxb-1".into(),
            channel: "ops".to_owned(),
        };
        let sinks: [(&str, Arc<dyn Sink>); 3] = [
            ("log", Arc::new(LogSink::new(tracing::Level::INFO))),
            ("hook", Arc::new(Webhook::new(webhook, Arc::clone(&self.http), clock).unwrap())),
            ("slack", Arc::new(Slack::new(slack, Arc::clone(&self.http)))),
        ];
        worker.sinks = Arc::new(
            sinks.into_iter().map(|(name, sink)| (name.to_owned(), sink)).collect::<BTreeMap<_, _>>(),
        );
        Process { worker, queue: receiver, cards: settings.cards.clone().into() }
    }

    /// Takes the webhook in and handles all that follows from it.
    async fn work(&self, Process { worker, queue, cards }: Process, webhook: Value) {
        let clock = Arc::clone(&worker.ports.clock);
        let told = sentinel_alertmanager::parse(webhook.to_string().as_bytes(), clock.now()).unwrap();
        let receipt = intake(&worker.ports, &cards, &worker.redactor, &told).await.unwrap();
        assert_eq!(receipt.accepted, 1, "{receipt:?}");
        while let Some(job) = queue.pop_due(clock.now().plus(Duration::from_hours(1))) {
            let _ = worker.handle(&job, clock.now().plus(Duration::from_mins(14))).await.unwrap();
        }
    }
}

/// What could be more than text in what Slack was sent.
fn in_slack(slack: &SlackServer) -> Vec<String> {
    fn walk(value: &Value, bad: &mut Vec<String>) {
        match value {
            Value::Array(all) => all.iter().for_each(|value| walk(value, bad)),
            Value::Object(object) => {
                let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
                let kind = text("type");
                if kind == "link" {
                    // Those that the alert brought in the fields that hold links.
                    let own =
                        ["https://alerts.example/#/silences/new?filter=", "https://prometheus.example/graph"];
                    if !own.iter().any(|own| text("url").starts_with(own)) {
                        bad.push(format!("Slack got a link to {:?}", text("url")));
                    }
                    bad.extend(unseen(text("text")).map(|c| format!("Slack got {c:?}")));
                    return;
                }
                let known = ["rich_text", "rich_text_section", "rich_text_list", "rich_text_quote", "text"];
                if !known.contains(&kind) {
                    bad.push(format!("Slack got an element of the kind {kind:?}"));
                }
                for name in object
                    .keys()
                    .filter(|name| !["type", "text", "elements", "style"].contains(&name.as_str()))
                {
                    bad.push(format!("Slack got an element with {name:?}"));
                }
                object.get("elements").into_iter().for_each(|value| walk(value, bad));
                bad.extend(
                    object
                        .get("text")
                        .and_then(Value::as_str)
                        .and_then(unseen)
                        .map(|c| format!("Slack got {c:?}")),
                );
            }
            _ => bad.push("Slack got an element that is none".to_owned()),
        }
    }
    let messages = slack.messages();
    let mut bad = Vec::new();
    for message in &messages {
        walk(&message.blocks, &mut bad);
        if message.text.contains(['<', '>']) {
            bad.push("Slack got markup".to_owned());
        }
    }
    // The server refuses what would be parsed, unfurled, or is too long.
    if messages.is_empty() {
        bad.push(format!("Slack took nothing: {:?}", slack.calls().first()));
    }
    bad
}

/// A character that a person does not see, or that moves what he sees; our own line breaks are none.
fn unseen(text: &str) -> Option<char> {
    let moves = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().find(|c| (c.is_control() && *c != '\n') || moves(*c))
}

/// Each event of the log is one line of JSON, and nothing in it moves a terminal's cursor.
fn in_log(log: &str) -> Vec<String> {
    let mut bad = Vec::new();
    for line in log.lines() {
        if serde_json::from_str::<Value>(line).map_or(true, |event| !event.is_object()) {
            bad.push(format!("a line of the log is no event: {line}"));
        }
        bad.extend(unseen(line).map(|c| format!("the log holds {c:?}: {line}")));
    }
    if !log.contains("no_action") && !log.contains("inconclusive") {
        bad.push("the log was not told how it ended".to_owned());
    }
    bad
}

/// A webhook's body holds text as text: nothing in it is said to be a link or to be shown as markup.
fn in_webhooks(posted: &[Value]) -> Vec<String> {
    fn walk(value: &Value, bad: &mut Vec<String>) {
        match value {
            Value::Array(all) => all.iter().for_each(|value| walk(value, bad)),
            Value::Object(object) => {
                for (name, value) in object {
                    if ["url", "href", "link", "html", "markdown", "mrkdwn", "blocks", "image"]
                        .contains(&name.as_str())
                    {
                        bad.push(format!("a webhook says {name:?}"));
                    }
                    walk(value, bad);
                }
            }
            _ => {}
        }
    }
    let mut bad = Vec::new();
    for body in posted {
        walk(body, &mut bad);
    }
    if !posted.iter().any(Value::is_object) {
        bad.push("no webhook came".to_owned());
    }
    bad
}

/// A part of a text that no escape changes.
fn recognizable(text: &str) -> &str {
    let pieces = text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '-')));
    let longest = pieces.max_by_key(|piece| piece.len()).unwrap_or(text).trim();
    longest.get(..40).unwrap_or(longest)
}

/// All strings of a request, one after the other.
fn strings(value: &Value) -> String {
    fn walk(value: &Value, to: &mut String) {
        match value {
            Value::String(text) => {
                to.push_str(text);
                to.push('\n');
            }
            Value::Array(all) => all.iter().for_each(|value| walk(value, to)),
            Value::Object(object) => {
                for (name, value) in object {
                    to.push_str(name);
                    to.push('\n');
                    walk(value, to);
                }
            }
            _ => {}
        }
    }
    let mut all = String::new();
    walk(value, &mut all);
    all
}
