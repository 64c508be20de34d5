//! `sentinel-ingest`: webhooks on Lambda.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lambda_http::{lambda_runtime, service_fn};
use sentinel_aws::{Aws, CallLimits, Deployment, MachineClock, Secrets, environment};
use sentinel_config::{Reading, Source, load_for};
use sentinel_core::redact::Redactor;
use sentinel_deployed::{Beside, Followed, Refused};
use sentinel_http::{AddressPolicy, HttpClient, Proxy};
use sentinel_ingest::{Ingest, lambda};
use sentinel_telemetry::{LogSettings, Metrics};

/// The functions are linked statically, with a C library whose own is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let env = environment();
    let variable = |name: &str| env.get(name).cloned();
    let folder = std::env::current_dir()?;
    let followed = Followed::start(&variable, &folder, &std::env::temp_dir(), Beside::Left).await?;
    let deployment = Deployment::of(&variable)?;
    let aws = Aws::of_function(&variable, &folder, CallLimits::AWS)?;
    let clock = Arc::new(MachineClock::default());
    let metrics = Metrics::to(io::stdout).of_stack(variable("SENTINEL_STACK").as_deref());
    let known = Arc::new(RwLock::new(Redactor::default()));

    let build = async |source: Source| -> anyhow::Result<_> {
        let loaded = load_for(Reading::Ingest, &source, &variable, &BTreeMap::new())?;
        let settings = &loaded.settings;
        let redactor = settings.redactor().with_tag_keys(aws.tag_keys(&variable));
        let secrets = || Secrets::new(aws.secrets(), clock.clone(), loaded.secret_ids.clone());
        let door = lambda::door(&loaded, source, env.clone(), secrets)?;
        let network = &settings.network;
        let policy = AddressPolicy::new(&network.allow_insecure_hosts, &network.allow_private_hosts);
        let proxy = network.proxy.clone().map(|url| Proxy::new(url, network.no_proxy.clone()));
        known.write().unwrap_or_else(PoisonError::into_inner).clone_from(&redactor);
        let store = deployment.store(&aws).keeping(settings.audit_retention);
        let ports = deployment.ports(store, &aws, clock.clone());
        let ingest = Ingest::new(ports, settings.cards.clone().into(), door, redactor)
            .with_fetch(Arc::new(HttpClient::new(policy).through(proxy)))
            .with_metrics(metrics.clone());
        Ok((ingest, settings.log_level))
    };
    let (first, level) = build(followed.source().clone()).await?;
    let logs = LogSettings { level: level.as_str().parse()?, json: true, ..LogSettings::default() };
    let of_logs = Arc::clone(&known);
    sentinel_telemetry::init(
        &logs,
        Arc::new(move |line| of_logs.read().unwrap_or_else(PoisonError::into_inner).redact(line)),
    )?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "sentinel-ingest starts");

    let current = Mutex::new(Arc::new(first));
    let answer = service_fn(|event| async {
        let taken =
            followed.follow(&current, async |source| build(source).await.map(|(ingest, _)| ingest)).await;
        let ingest = taken.unwrap_or_else(|Refused { before, .. }| {
            before.configuration_refused();
            before
        });
        lambda::answer(&ingest, aws.calls(), event).await
    });
    lambda_runtime::run(answer).await.map_err(|e| anyhow::anyhow!(e))
}
