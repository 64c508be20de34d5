//! An in-memory store that can fail at a chosen write, a scripted model, a tool box, and a run over them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::budget::{Entered, Entry};
use sentinel_core::card::{Card, ToolId};
use sentinel_core::drive::{Start, drive};
use sentinel_core::incident::{Child, ChildName, Gen, Head, IncidentId, Job, Members, State};
use sentinel_core::lifecycle::{Claim, Claimed, Rules, Yield};
use sentinel_core::notification::Notification;
use sentinel_core::ports::{
    Appended, Created, IncidentStore, JobQueue, Ports, QueueError, StoreError, Swapped,
};
use sentinel_core::redact::Redactor;
use sentinel_core::report::Report;
use sentinel_investigation::ports::{
    FunctionCall, Model, ModelError, ToolBox, ToolDefinition, ToolError, ToolOutput, TurnRequest,
    TurnResponse, TurnUsage,
};
use sentinel_investigation::{InvestigateError, Outcome, Playbook, Price, Run, investigate};
use sentinel_testkit::builders::{NOON, alert, notification};
use sentinel_testkit::clock::ManualClock;
use serde_json::{Map, Value, json};

pub(crate) fn id() -> IncidentId {
    IncidentId::new("1f".repeat(32))
}

/// One incident in memory. Every write counts; the one at `fail_at` and all after it fail, as if the process had died.
#[derive(Debug, Default)]
pub(crate) struct Store {
    head: Mutex<Option<Head>>,
    children: Mutex<Vec<Child>>,
    writes: AtomicUsize,
    fail_at: Mutex<Option<usize>>,
    fail_before: Mutex<Option<ChildName>>,
}

impl Store {
    pub(crate) fn die_at(&self, write: Option<usize>) {
        self.writes.store(0, Ordering::SeqCst);
        *self.fail_at.lock().unwrap() = write;
    }

    /// Dies when this child is to be stored; comes back to life by [`Store::die_at`].
    pub(crate) fn die_before(&self, name: ChildName) {
        *self.fail_before.lock().unwrap() = Some(name);
    }

    pub(crate) fn head(&self) -> Head {
        self.head.lock().unwrap().clone().unwrap()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Head)) {
        change(self.head.lock().unwrap().as_mut().unwrap());
    }

    pub(crate) fn put(&self, name: ChildName, body: String) {
        self.children.lock().unwrap().push(Child { generation: Gen(NOON.get()), name, body });
    }

    pub(crate) fn bodies(&self) -> Vec<Child> {
        self.children.lock().unwrap().clone()
    }

    fn write(&self) -> Result<(), StoreError> {
        let write = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let dies = self.fail_at.lock().unwrap().is_some_and(|at| write >= at);
        if dies { Err(StoreError::Unavailable("the process died".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl IncidentStore for Store {
    async fn create(&self, _: &Head) -> Result<Created, StoreError> {
        unreachable!("the incident is there")
    }

    async fn load(&self, _: &IncidentId) -> Result<Option<Head>, StoreError> {
        Ok(self.head.lock().unwrap().clone())
    }

    async fn swap(&self, head: &Head) -> Result<Swapped, StoreError> {
        self.write()?;
        let mut stored = self.head.lock().unwrap();
        if stored.as_ref().is_some_and(|s| s.version + 1 == head.version) {
            *stored = Some(head.clone());
            return Ok(Swapped::Stored);
        }
        Ok(Swapped::Stale(stored.clone().map(Box::new)))
    }

    async fn append(&self, _: &IncidentId, child: &Child) -> Result<Appended, StoreError> {
        if self.fail_before.lock().unwrap().take_if(|name| *name == child.name).is_some() {
            *self.fail_at.lock().unwrap() = Some(0);
        }
        self.write()?;
        let mut children = self.children.lock().unwrap();
        if let Some(there) =
            children.iter().find(|c| c.name == child.name && c.generation == child.generation)
        {
            return Ok(if there == child { Appended::Written } else { Appended::Other });
        }
        children.push(child.clone());
        Ok(Appended::Written)
    }

    async fn children(&self, _: &IncidentId, generation: Gen) -> Result<Vec<Child>, StoreError> {
        let mut children = self.children.lock().unwrap().clone();
        children.retain(|c| c.generation == generation);
        children.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(children)
    }

    async fn due(&self, _: UnixMs, _: usize) -> Result<Vec<Head>, StoreError> {
        Ok(vec![])
    }

    async fn recent(&self, _: usize) -> Result<Vec<Head>, StoreError> {
        Ok(vec![])
    }

    async fn budget(&self, _: &Entry) -> Result<Entered, StoreError> {
        unreachable!("these runs have no limits")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue;

#[async_trait]
impl JobQueue for Queue {
    async fn send(&self, _: &Job, _: Duration) -> Result<(), QueueError> {
        Ok(())
    }
}

/// One scripted answer.
pub(crate) type Answer = Result<TurnResponse, ModelError>;

/// Answers turn n, which it tells from the request as a server would, by the script; keeps all requests.
pub(crate) struct Script {
    turns: Box<dyn Fn(&TurnRequest) -> Answer + Send + Sync>,
    requests: Mutex<Vec<TurnRequest>>,
    recorded: bool,
    hangs: Option<&'static str>,
    hosts: Option<&'static str>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    pub(crate) fn new(turns: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::by(move |request| turns(turn_of(request)))
    }

    /// Answers by what is asked.
    pub(crate) fn by(turns: impl Fn(&TurnRequest) -> Answer + Send + Sync + 'static) -> Self {
        Self { turns: Box::new(turns), requests: Mutex::default(), recorded: false, hangs: None, hosts: None }
    }

    /// Its service calls this server itself.
    pub(crate) fn that_hosts(self, server: &'static str) -> Self {
        Self { hosts: Some(server), ..self }
    }

    /// It does not answer where this model is asked.
    pub(crate) fn that_hangs_for(self, model: &'static str) -> Self {
        Self { hangs: Some(model), ..self }
    }

    pub(crate) fn that_is_recorded(self) -> Self {
        Self { recorded: true, ..self }
    }

    pub(crate) fn that_hangs(self) -> Self {
        self.that_hangs_for("gpt-4.1-mini")
    }

    /// These answers, in order.
    pub(crate) fn of(turns: Vec<TurnResponse>) -> Self {
        Self::new(move |n| {
            Ok(turns.get(n - 1).unwrap_or_else(|| panic!("turn {n} is not in the script")).clone())
        })
    }

    pub(crate) fn requests(&self) -> Vec<TurnRequest> {
        self.requests.lock().unwrap().clone()
    }
}

/// The turn that a request asks for.
pub(crate) fn turn_of(request: &TurnRequest) -> usize {
    let answered = |i: &&sentinel_investigation::ports::Item| {
        matches!(i, sentinel_investigation::ports::Item::Response { .. })
    };
    request.input.iter().filter(answered).count() + 1
}

#[async_trait]
impl Model for Script {
    async fn respond(&self, request: &TurnRequest, _: Duration) -> Result<TurnResponse, ModelError> {
        self.requests.lock().unwrap().push(request.clone());
        if self.hangs == Some(request.model.as_str()) {
            std::future::pending::<()>().await;
        }
        (self.turns)(request)
    }

    fn hosts(&self, server: &str) -> Option<String> {
        self.hosts.filter(|hosts| *hosts == server).map(|server| format!("{server}-label"))
    }

    fn is_recorded(&self) -> bool {
        self.recorded
    }
}

/// A response that calls these functions.
pub(crate) fn calls(calls: &[(&str, Value)]) -> TurnResponse {
    raw_calls(&calls.iter().map(|(name, arguments)| (*name, arguments.to_string())).collect::<Vec<_>>())
}

pub(crate) fn raw_calls(calls: &[(&str, String)]) -> TurnResponse {
    let calls: Vec<FunctionCall> = calls
        .iter()
        .enumerate()
        .map(|(i, (name, arguments))| FunctionCall {
            call_id: format!("call_{i}"),
            name: (*name).to_owned(),
            arguments: arguments.clone(),
        })
        .collect();
    let items = calls
        .iter()
        .map(|c| json!({"type": "function_call", "call_id": c.call_id, "name": c.name, "arguments": c.arguments}))
        .collect();
    TurnResponse {
        model: "gpt-4.1-mini-2025".into(),
        items,
        calls,
        text: String::new(),
        incomplete: None,
        usage: TurnUsage { input_tokens: 1000, cached_tokens: 400, output_tokens: 50 },
    }
}

pub(crate) fn says(text: &str) -> TurnResponse {
    let items = if text.is_empty() { vec![] } else { vec![json!({"type": "message", "text": text})] };
    TurnResponse { items, text: text.into(), ..calls(&[]) }
}

/// What `submit_report` is called with: one hypothesis with these citations.
pub(crate) fn submission(verdict: &str, citations: &[(&str, &str)]) -> Value {
    let evidence: Vec<Value> =
        citations.iter().map(|(id, quote)| json!({"id": id, "quote": quote})).collect();
    json!({
        "verdict": verdict, "title": "The api pod cannot start", "summary": "Its secret is missing.",
        "hypotheses": [{"statement": "The secret api-db does not exist.", "confidence": 0.9, "evidence": evidence}],
        "ruled_out": [], "gaps": ["Who removed the secret."],
        "next_steps": [{"action": "kubectl -n web get secret api-db", "why": "It shows whether it is back."}]
    })
}

pub(crate) fn submits(verdict: &str, citations: &[(&str, &str)]) -> TurnResponse {
    calls(&[("submit_report", submission(verdict, citations))])
}

/// Tools of the server `k8s` and what they answer; counts what reaches them.
#[derive(Default)]
pub(crate) struct Tools {
    pub(crate) definitions: BTreeMap<String, Vec<ToolDefinition>>,
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) fails: Mutex<BTreeMap<String, u32>>,
    pub(crate) fatal: Option<String>,
    pub(crate) hangs: Option<String>,
    /// What the server lists from the second time on.
    pub(crate) later: Option<Vec<ToolDefinition>>,
    listings: AtomicUsize,
    called: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tools")
    }
}

impl Tools {
    /// `k8s.events` and `k8s.pod` take a namespace and answer; `k8s.delete` destroys.
    pub(crate) fn k8s() -> Self {
        let schema = json!({
            "type": "object", "properties": {"namespace": {"type": "string"}}, "required": ["namespace"]
        });
        let tool = |name: &str, destructive| ToolDefinition {
            tool: name.into(),
            description: format!("{name} of a namespace"),
            input_schema: schema.clone(),
            read_only_hint: Some(true),
            destructive_hint: Some(destructive),
        };
        let all = vec![tool("events", false), tool("pod", false), tool("log", false), tool("delete", true)];
        let outputs = [
            ("k8s.events", "MountVolume.SetUp failed for volume \"db\": secret \"api-db\" not found"),
            ("k8s.pod", "{\"phase\":\"Pending\",\"containers\":[{\"waiting\":\"ContainerCreating\"}]}"),
            ("k8s.log", "no log: the container has not started; token swordfish-1234"),
        ];
        Self {
            definitions: [("k8s".to_owned(), all)].into(),
            outputs: outputs.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..Self::default()
        }
    }

    pub(crate) fn called(&self) -> Vec<String> {
        self.called.lock().unwrap().clone()
    }
}

#[async_trait]
impl ToolBox for Tools {
    async fn list(&self, server: &str, _: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        let down = || ToolError::RespondToModel("connection refused".into());
        if self.listings.fetch_add(1, Ordering::SeqCst) > 0
            && let Some(later) = &self.later
        {
            return Ok(later.clone());
        }
        self.definitions.get(server).cloned().ok_or_else(down)
    }

    async fn call(
        &self,
        tool: &ToolId,
        arguments: &Map<String, Value>,
        _: Duration,
    ) -> Result<ToolOutput, ToolError> {
        let tool = tool.to_string();
        self.called.lock().unwrap().push(format!("{tool} {}", Value::Object(arguments.clone())));
        if self.fatal.as_ref() == Some(&tool) {
            return Err(ToolError::Fatal("the tool box is broken".into()));
        }
        if self.hangs.as_ref() == Some(&tool) {
            std::future::pending::<()>().await;
        }
        if let Some(left) = self.fails.lock().unwrap().get_mut(&tool).filter(|n| **n > 0) {
            *left -= 1;
            return Err(ToolError::RespondToModel("no answer in time".into()));
        }
        match self.outputs.get(&tool) {
            Some(text) => Ok(ToolOutput { text: text.clone(), is_error: false }),
            None => Ok(ToolOutput { text: format!("{tool} not found here"), is_error: true }),
        }
    }
}

/// One incident with everything around it.
pub(crate) struct World {
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ports: Ports,
    pub(crate) tools: Tools,
    pub(crate) card: Card,
    pub(crate) prices: BTreeMap<String, Price>,
    pub(crate) model_timeout: Duration,
    pub(crate) invocation: Duration,
    claims: AtomicUsize,
}

pub(crate) fn web_alert() -> Notification {
    let mut told = notification(
        "card",
        [alert("KubePodNotReady")
            .label("namespace", "web")
            .label("pod", "api-7d9")
            .annotation("summary", "api-7d9 is not ready")],
    );
    told.key_labels.insert("namespace".into(), "web".into());
    told
}

pub(crate) fn card() -> Card {
    sentinel_testkit::builders::card("card")
        .prompt("Why is {{ labels.pod }} of {{ labels.namespace }} not ready?")
        .tool("k8s.events")
        .tool("k8s.pod")
        .tool("k8s.log")
        .tool("k8s.delete")
        .evidence("k8s.events", json!({"namespace": "{{ labels.namespace }}"}))
        .build()
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(card(), &[web_alert()])
    }

    pub(crate) fn of(card: Card, notifications: &[Notification]) -> Self {
        let store = Arc::new(Store::default());
        for (i, n) in notifications.iter().enumerate() {
            store.put(ChildName::Snapshot(format!("d{i}")), serde_json::to_string(n).unwrap());
        }
        *store.head.lock().unwrap() = Some(Head {
            schema: Head::SCHEMA,
            id: id(),
            card: card.name.clone(),
            labels: [("namespace".to_owned(), "web".to_owned())].into(),
            version: 1,
            writer: "w0".into(),
            state: State::Pending,
            generation: Gen(NOON.get()),
            epoch: 0,
            owner: None,
            lease_until: None,
            attempts: 0,
            slices: 0,
            turn: 0,
            not_before: NOON,
            sent_at: None,
            sends: 0,
            reopen_after: NOON.plus(Duration::from_mins(10)),
            began: Some(NOON),
            seen: Some(NOON),
            resolved_at: None,
            digest: format!("d{}", notifications.len().saturating_sub(1)),
            known: Members::default(),
            firing: Members::default(),
            truncated: false,
            deliveries: vec![],
            verdict: None,
            reason: None,
            openings: None,
            ttl: None,
        });
        let clock = Arc::new(ManualClock::default());
        let counter = AtomicUsize::new(0);
        let ports = Ports {
            store: store.clone(),
            queue: Arc::new(Queue),
            clock: clock.clone(),
            fresh: Arc::new(move || format!("fresh-{}", counter.fetch_add(1, Ordering::SeqCst))),
        };
        Self {
            store,
            clock,
            ports,
            tools: Tools::k8s(),
            card,
            prices: [("gpt-4.1-mini".to_owned(), Price { input: 0.4, cached_input: 0.1, output: 1.6 })]
                .into(),
            model_timeout: Duration::from_secs(90),
            invocation: Duration::from_mins(14),
            claims: AtomicUsize::new(0),
        }
    }

    /// Claims the incident as a worker does, once its lease is over, and investigates.
    pub(crate) async fn run(&self, model: Option<&dyn Model>) -> Result<Outcome, InvestigateError> {
        self.run_watched(model, None).await
    }

    pub(crate) async fn run_watched(
        &self,
        model: Option<&dyn Model>,
        events: Option<&sentinel_investigation::EventSender>,
    ) -> Result<Outcome, InvestigateError> {
        let rules = Rules { max_attempts: 1000, max_slices: 1000, ..Rules::of(&self.card) };
        let playbook = Playbook::compile(&self.card).unwrap();
        let owner = format!("owner-{}", self.claims.fetch_add(1, Ordering::SeqCst));
        if let Some(until) = self.store.head().lease_until {
            self.clock.set(until.plus(Duration::from_millis(1)));
        }
        let claim = Claim { generation: Gen(NOON.get()), owner };
        let claimed = drive(&self.ports, &id(), &claim, &rules, Start::Load, None).await?;
        let Claimed::Investigate(fence) = claimed.outcome else {
            panic!("not claimed: {:?}", claimed.outcome)
        };
        let redactor = Redactor::new(["swordfish-1234".to_owned()]);
        let run = Run {
            ports: &self.ports,
            head: claimed.head.unwrap(),
            fence,
            rules: &rules,
            playbook: &playbook,
            model,
            tools: &self.tools,
            redactor: &redactor,
            prices: &self.prices,
            budget: &[],
            max_output_tokens: 1_000,
            deadline: self.ports.clock.now().plus(self.invocation),
            model_timeout: self.model_timeout,
            no_model_reason: Some("no key is configured".into()),
            events,
        };
        let outcome = investigate(run).await?;
        if let Outcome::Yield { not_before, reason, head } = &outcome {
            let input = Yield { fence, not_before: *not_before, reason: reason.clone() };
            let start = Start::Known(Box::new(head.clone()));
            let _ = drive(&self.ports, &id(), &input, &rules, start, None).await?;
            self.clock.set(*not_before);
        }
        Ok(outcome)
    }

    pub(crate) fn clock_now(&self) -> UnixMs {
        self.ports.clock.now()
    }

    /// Runs to the report.
    pub(crate) async fn report(&self, model: &dyn Model) -> Report {
        report_of(self.run(Some(model)).await.unwrap())
    }
}

pub(crate) fn report_of(outcome: Outcome) -> Report {
    match outcome {
        Outcome::Report { report, .. } => *report,
        other => panic!("no report: {other:?}"),
    }
}

/// What the calls of the last turn were answered in a request.
pub(crate) fn answers(request: &TurnRequest) -> Vec<String> {
    request
        .input
        .iter()
        .filter_map(|item| match item {
            sentinel_investigation::ports::Item::CallOutput { output, .. } => Some(output.clone()),
            _ => None,
        })
        .collect()
}

/// Stands in the events.
pub(crate) const QUOTE: (&str, &str) = ("E1", "secret \"api-db\" not found");

pub(crate) fn pod() -> (&'static str, Value) {
    ("k8s__pod", json!({"namespace": "web"}))
}
