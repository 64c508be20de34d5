//! What the program consists of, and the worker that its configuration makes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sentinel_aws::{Aws, CallLimits, Deployment, MachineClock, Secrets, environment};
use sentinel_config::{Level, Reading, Settings, Source, load_for};
use sentinel_core::UnixMs;
use sentinel_core::ports::Clock as _;
use sentinel_telemetry::{LogSettings, Metric, Metrics};
use sentinel_worker::lambda::Live;

/// The worker that there is, and how many investigations it makes at once.
pub(crate) type Current = Arc<Mutex<Arc<(Live, usize)>>>;

/// Begins to log; what the current worker knows as secrets is taken out of each line.
pub(crate) fn log(level: Level, current: &Current) -> anyhow::Result<()> {
    let logs = LogSettings { level: level.as_str().parse()?, json: true, ..LogSettings::default() };
    let current = Arc::clone(current);
    let redact = move |line: &str| {
        let now = Arc::clone(&current.lock().unwrap_or_else(PoisonError::into_inner));
        now.0.redacted(line)
    };
    Ok(sentinel_telemetry::init(&logs, Arc::new(move |line| redact(line).into()))?)
}

/// Everything but the worker, which changes with the configuration.
pub(crate) struct Parts {
    env: BTreeMap<String, String>,
    folder: PathBuf,
    pub(crate) aws: Aws,
    pub(crate) deployment: Deployment,
    clock: Arc<MachineClock>,
    pub(crate) metrics: Metrics,
}

impl Parts {
    pub(crate) fn of_function() -> anyhow::Result<Self> {
        let (env, folder) = (environment(), std::env::current_dir()?);
        let variable = |name: &str| env.get(name).cloned();
        let deployment = Deployment::of(&variable)?;
        let aws = Aws::of_function(&variable, &folder, CallLimits::AWS)?;
        let metrics = Metrics::to(io::stdout).of_stack(variable("SENTINEL_STACK").as_deref());
        Ok(Self { env, folder, aws, deployment, clock: Arc::default(), metrics })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    /// The worker of a configuration, with its settings.
    pub(crate) async fn live(&self, source: Source) -> anyhow::Result<(Live, Arc<Settings>)> {
        let variable = |name: &str| self.variable(name);
        let first = load_for(Reading::Worker, &source, &variable, &BTreeMap::new())?;
        let secrets = Secrets::new(self.aws.secrets(), self.clock.clone(), first.secret_ids.clone());
        let store = self.deployment.store(&self.aws).keeping(first.settings.audit_retention);
        let ports = self.deployment.ports(store, &self.aws, self.clock.clone());
        let (keys, metrics) = (self.aws.tag_keys(&variable), self.metrics.clone());
        Ok(Live::start(first, source, self.env.clone(), ports, secrets, metrics, keys).await?)
    }

    pub(crate) fn count(&self, metric: Metric) {
        let now: UnixMs = self.clock.now();
        self.metrics.emit(now.get(), &[metric]);
    }
}
