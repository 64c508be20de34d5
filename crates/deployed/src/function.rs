//! What a deployed function consists of, whatever its configuration says.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use sentinel_aws::{Aws, CallLimits, Deployment, DynamoStore, MachineClock, Secrets};
use sentinel_config::{Level, Settings};
use sentinel_core::ports::{Clock as _, Ports};
use sentinel_telemetry::{LogSettings, Metric, Metrics, Redact};

use crate::{Beside, DeployedError, Followed};

/// What stays when the configuration changes.
#[expect(missing_debug_implementations, reason = "its environment holds secrets")]
pub struct Function {
    env: BTreeMap<String, String>,
    /// Clients of AWS.
    pub aws: Aws,
    /// Which table and which queue.
    pub deployment: Deployment,
    /// The machine's clock.
    pub clock: Arc<MachineClock>,
    /// Measurements, with the stack's name.
    pub metrics: Metrics,
    /// The configuration, as it changes.
    pub followed: Followed,
}

impl Function {
    /// The function with this environment. `folder` is where its zip is unpacked, `scratch` a folder that may be written to.
    ///
    /// # Errors
    /// [`DeployedError`].
    pub async fn start(
        env: BTreeMap<String, String>,
        folder: &Path,
        scratch: &Path,
        beside: Beside,
    ) -> Result<Self, DeployedError> {
        let variable = |name: &str| env.get(name).cloned();
        let followed = Followed::start(&variable, folder, scratch, beside).await?;
        let deployment = Deployment::of(&variable)?;
        let aws = Aws::of_function(&variable, folder, CallLimits::AWS)?;
        let metrics = Metrics::to(io::stdout).of_stack(variable("SENTINEL_STACK").as_deref());
        Ok(Self { env, aws, deployment, clock: Arc::default(), metrics, followed })
    }

    /// Its environment.
    pub const fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// A variable of its environment.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    /// The secrets that a configuration refers to.
    pub fn secrets(&self, ids: BTreeSet<String>) -> Secrets {
        Secrets::new(self.aws.secrets(), self.clock.clone(), ids)
    }

    /// The store, which keeps records for as long as the settings say.
    pub fn store(&self, settings: &Settings) -> DynamoStore {
        self.deployment.store(&self.aws).keeping(settings.audit_retention)
    }

    /// The ports, on that store.
    pub fn ports(&self, settings: &Settings) -> Ports {
        self.deployment.ports(self.store(settings), &self.aws, self.clock.clone())
    }

    /// Emits one measurement.
    pub fn count(&self, metric: Metric) {
        self.metrics.emit(self.clock.now().get(), &[metric]);
    }
}

/// Begins to log as a function does: an object a line, from which `redact` takes what is secret.
///
/// # Errors
/// [`DeployedError::Level`], [`DeployedError::Log`].
pub fn log(level: Level, redact: Redact) -> Result<(), DeployedError> {
    let logs = LogSettings { level: level.as_str().parse()?, json: true, ..LogSettings::default() };
    Ok(sentinel_telemetry::init(&logs, redact)?)
}
