//! Investigations by the library, many at once in one process. Each line of standard input, `N URL`, runs N of them with
//! the servers at URL (see [`crate::servers`]) and is answered with the milliseconds that they took.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sentinel_config::Source;
use sentinel_core::card::{Card, FIRST_SERVICE, ModelId};
use sentinel_core::drive::{Start, drive};
use sentinel_core::intake::intake;
use sentinel_core::lifecycle::{Claim, Claimed, Rules};
use sentinel_core::notification::Message;
use sentinel_core::ports::Ports;
use sentinel_core::price::Price;
use sentinel_core::redact::Redactor;
use sentinel_core::report::Verdict;
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_investigation::ports::{Api, Model, ToolBox};
use sentinel_investigation::{Outcome, Playbook, Run, investigate};
use sentinel_mcp::{Credential, Endpoint, Reach, ServerSpec, Servers};
use sentinel_model::{Auth, ServiceSettings, Services};
use serde_json::json;

type Failure = Box<dyn Error + Send + Sync>;

/// Answers the lines.
///
/// # Errors
/// A line that was not expected, or an investigation that does not end as it should.
pub async fn run() -> Result<(), Failure> {
    crate::say(&json!("ready"))?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (many, url) = line.split_once(' ').ok_or("a line is `N URL`")?;
        let bench = Arc::new(Bench::new(url)?);
        let began = Instant::now();
        let runs: Vec<_> = (0..many.parse::<usize>()?)
            .map(|n| {
                let bench = Arc::clone(&bench);
                tokio::spawn(async move { bench.one(n).await })
            })
            .collect();
        for run in runs {
            run.await??;
        }
        crate::say(&json!({"ms": began.elapsed().as_secs_f64() * 1_000.0}))?;
    }
    Ok(())
}

struct Bench {
    ports: Ports,
    card: Card,
    playbook: Playbook,
    model: Box<dyn Model>,
    tools: Box<dyn ToolBox>,
    redactor: Redactor,
    prices: BTreeMap<ModelId, Price>,
}

impl Bench {
    fn new(url: &str) -> Result<Self, Failure> {
        let host = ["127.0.0.1".to_owned()];
        let http = Arc::new(HttpClient::new(AddressPolicy::new(&host, &host)));
        let service = ServiceSettings {
            name: FIRST_SERVICE.to_owned(),
            api: Api::Responses,
            base_url: format!("{url}/v1"),
            auth: Auth::Bearer("bench".to_owned().into()),
            temperature: None,
            reasoning_effort: None,
            service_tier: None,
            timeout: Duration::from_mins(1),
            attempts: 1,
            backoff: Duration::ZERO,
            random: || 0,
            forced_turns: BTreeMap::new(),
        };
        let server = ServerSpec {
            name: "k8s".to_owned(),
            reach: Reach::Http(Endpoint {
                url: format!("{url}/mcp"),
                headers: Vec::new(),
                credential: Credential::None,
            }),
            timeout: Duration::from_secs(30),
        };
        let card = card()?;
        let playbook = Playbook::compile(&card).map_err(|problems| format!("{problems:?}"))?;
        Ok(Self {
            ports: crate::memory::ports(),
            card,
            playbook,
            model: Box::new(Services::new(vec![service], Vec::new(), &http)?),
            tools: Box::new(Servers::new(vec![server], &http)),
            redactor: Redactor::new(["a-secret-of-the-configuration".to_owned()]),
            prices: BTreeMap::new(),
        })
    }

    /// Takes an alert in, claims its incident and investigates it.
    async fn one(&self, n: usize) -> Result<(), Failure> {
        let labels = json!({"alertname": "KubePodNotReady", "namespace": "shop", "pod": format!("api-{n}")});
        let message = Message {
            envelope: serde_json::from_value(json!({"source": "alertmanager", "groupLabels": labels}))?,
            alerts: vec![serde_json::from_value(json!({
                "status": "firing", "labels": labels, "annotations": {"summary": "Pod is not ready."},
            }))?],
            refused: Vec::new(),
        };
        let receipt =
            intake(&self.ports, std::slice::from_ref(&self.card), &Redactor::default(), &message).await?;
        let id = &receipt.incidents.first().ok_or("no incident was opened")?.id;
        let head = self.ports.store.load(id).await?.ok_or("the incident is not there")?;
        let rules = Rules::of(&self.card);
        let claim = Claim { generation: head.generation, owner: (self.ports.fresh)() };
        let claimed = drive(&self.ports, id, &claim, &rules, Start::Load, None).await?;
        let (Claimed::Investigate(fence), Some(head)) = (claimed.outcome, claimed.head) else {
            return Err("the incident was not to be had".into());
        };
        let run = Run {
            ports: &self.ports,
            head,
            fence,
            rules: &rules,
            playbook: &self.playbook,
            model: Some(self.model.as_ref()),
            tools: self.tools.as_ref(),
            redactor: &self.redactor,
            prices: &self.prices,
            budget: &[],
            max_output_tokens: 4_096,
            deadline: self.ports.clock.now().plus(Duration::from_mins(10)),
            model_timeout: Duration::from_mins(1),
            no_model_reason: None,
            events: None,
        };
        match Box::pin(investigate(run)).await? {
            // Its quote was found, or it would be inconclusive.
            Outcome::Report { report, .. } if report.verdict == Verdict::ActionRequired => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    }
}

const CONFIG: &str = "\
mcp-servers: [{name: k8s, server-url: 'https://k8s.example/mcp'}]
resources: [{name: all, filters: {}}]
incident-cards:
- {name: bench, resource: all, prompt: Find out why the pod is not ready., tools: [k8s.look], max-iterations: 20}
";

fn card() -> Result<Card, Failure> {
    let source = Source { name: "bench.yaml".into(), text: CONFIG.to_owned(), base_dir: None };
    let loaded = sentinel_config::load(&source, &|_| None)?;
    loaded.settings.cards.into_iter().next().ok_or_else(|| "no card".into())
}
