//! A table, a queue, and incidents in them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sentinel_aws::{Aws, CallLimits, Credentials, Deployment, MachineClock, create_table};
use sentinel_config::{Loaded, Reading, Source, load_for};
use sentinel_core::incident::{Head, Job};
use sentinel_core::intake::intake;
use sentinel_core::ports::Ports;
use sentinel_core::redact::Redactor;
use sentinel_testkit::aws::{FakeAws, dynamo};
use sentinel_testkit::builders::{alert, message};
use sentinel_testkit::lambda::Function;
use sentinel_worker::{Worker, assemble, compile};
use tempfile::TempDir;

pub(crate) const CARDS: &str =
    "incident-cards: [{name: pods, resource: KubePodNotReady, prompt: look, dedupe-by: alert}]\n";

pub(crate) struct Bench {
    pub(crate) aws: FakeAws,
    pub(crate) ports: Ports,
    config: String,
    dynamo: String,
    folder: TempDir,
}

/// A configuration whose model is at this address.
pub(crate) fn with_model(base_url: &str, key: &str) -> String {
    format!(
        "openai: {{base-url: '{base_url}', api-key: '{key}'}}\n\
         network: {{allow-insecure-hosts: [127.0.0.1], allow-private-hosts: [127.0.0.1]}}\n{CARDS}"
    )
}

pub(crate) fn client(url: &str) -> Aws {
    Aws::at_endpoint(
        url,
        "us-east-1",
        Credentials::new("test", "test", None, None, "test"),
        CallLimits::EMBEDDED,
    )
}

impl Bench {
    pub(crate) async fn new(config: &str) -> Self {
        let (aws, dynamo) = (FakeAws::start().await, dynamo().await);
        create_table(&client(&dynamo).dynamo(), "incidents").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("infra")).unwrap();
        std::fs::write(folder.path().join("infra/aws.yaml"), config).unwrap();
        let deployment = Deployment { table: "incidents".into(), queue_url: aws.queue_url() };
        let clock = Arc::new(MachineClock::default());
        let queue = {
            let aws = client(&aws.url());
            deployment.ports(deployment.store(&aws), &aws, clock.clone()).queue
        };
        let ports =
            Ports { queue, ..deployment.ports(deployment.store(&client(&dynamo)), &client(&dynamo), clock) };
        Self { aws, ports, config: config.to_owned(), dynamo, folder }
    }

    pub(crate) fn source(&self) -> Source {
        Source { name: "sentinel.yaml".into(), text: self.config.clone(), base_dir: None }
    }

    pub(crate) fn loaded(&self) -> Loaded {
        load_for(Reading::Worker, &self.source(), &|_| None, &BTreeMap::new()).unwrap()
    }

    /// A worker of this configuration.
    pub(crate) fn worker(&self, ports: Ports) -> Worker {
        let loaded = self.loaded();
        assemble(&loaded.settings, compile(&loaded).unwrap(), ports, None, None).unwrap()
    }

    /// Opens this many incidents; gives the bodies of their messages.
    pub(crate) async fn open(&self, n: usize) -> Vec<String> {
        let before = self.aws.messages().len();
        let alerts = (0..n).map(|n| alert("KubePodNotReady").label("pod", &format!("pod-{n}")));
        let receipt =
            intake(&self.ports, &self.loaded().settings.cards, &Redactor::default(), &message(alerts))
                .await
                .unwrap();
        assert_eq!(receipt.accepted, u64::try_from(n).unwrap());
        self.aws.messages().into_iter().skip(before).map(|m| m.body).collect()
    }

    /// The head that a message points to.
    pub(crate) async fn head(&self, body: &str) -> Head {
        let job: Job = serde_json::from_str(body).unwrap();
        self.ports.store.load(&job.incident).await.unwrap().unwrap()
    }

    pub(crate) async fn start(&self, change: &[(&str, &str)]) -> Function {
        let (url, queue_url) = (self.aws.url(), self.aws.queue_url());
        let mut env = vec![
            ("SENTINEL_TABLE", "incidents"),
            ("SENTINEL_QUEUE_URL", &*queue_url),
            ("AWS_ENDPOINT_URL", &*url),
            ("AWS_ENDPOINT_URL_DYNAMODB", &*self.dynamo),
        ];
        env.retain(|(name, _)| change.iter().all(|(changed, _)| changed != name));
        env.extend(change.iter().filter(|(_, value)| !value.is_empty()));
        Function::start(Path::new(env!("CARGO_BIN_EXE_sentinel-worker")), self.folder.path(), &env).await
    }
}
