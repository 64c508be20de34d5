//! What the program consists of, and what its configuration makes of it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use sentinel_aws::{Aws, CallLimits, Deployment, MachineClock, Secrets, environment};
use sentinel_config::{Level, Reading, Source, load_for};
use sentinel_core::redact::Redactor;
use sentinel_http::{AddressPolicy, HttpClient, Proxy};
use sentinel_ingest::{Ingest, lambda};
use sentinel_telemetry::Metrics;

/// Everything that stays when the configuration changes.
pub(crate) struct Parts {
    env: BTreeMap<String, String>,
    folder: PathBuf,
    pub(crate) aws: Aws,
    deployment: Deployment,
    clock: Arc<MachineClock>,
    metrics: Metrics,
    /// What is taken out of each line of the log.
    pub(crate) redactor: Arc<RwLock<Redactor>>,
}

impl Parts {
    pub(crate) fn of_function() -> anyhow::Result<Self> {
        let (env, folder) = (environment(), std::env::current_dir()?);
        let variable = |name: &str| env.get(name).cloned();
        let deployment = Deployment::of(&variable)?;
        let aws = Aws::of_function(&variable, &folder, CallLimits::AWS)?;
        let metrics = Metrics::to(io::stdout).of_stack(variable("SENTINEL_STACK").as_deref());
        Ok(Self { env, folder, aws, deployment, clock: Arc::default(), metrics, redactor: Arc::default() })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    /// What takes webhooks by a configuration, and how much it logs.
    pub(crate) fn ingest(&self, source: Source) -> anyhow::Result<(Ingest, Level)> {
        let variable = |name: &str| self.variable(name);
        let loaded = load_for(Reading::Ingest, &source, &variable, &BTreeMap::new())?;
        let settings = &loaded.settings;
        let redactor = settings.redactor().with_tag_keys(self.aws.tag_keys(&variable));
        let secrets = || Secrets::new(self.aws.secrets(), self.clock.clone(), loaded.secret_ids.clone());
        let door = lambda::door(&loaded, source, self.env.clone(), secrets)?;
        let network = &settings.network;
        let policy = AddressPolicy::new(&network.allow_insecure_hosts, &network.allow_private_hosts);
        let proxy = network.proxy.clone().map(|url| Proxy::new(url, network.no_proxy.clone()));
        self.redactor.write().unwrap_or_else(PoisonError::into_inner).clone_from(&redactor);
        let store = self.deployment.store(&self.aws).keeping(settings.audit_retention);
        let ports = self.deployment.ports(store, &self.aws, self.clock.clone());
        let ingest = Ingest::new(ports, settings.cards.clone().into(), door, redactor)
            .with_fetch(Arc::new(HttpClient::new(policy).through(proxy)))
            .with_metrics(self.metrics.clone());
        Ok((ingest, settings.log_level))
    }
}
