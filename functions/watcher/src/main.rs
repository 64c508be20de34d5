//! `sentinel-watcher`: polls the configured watchers on a schedule.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lambda_runtime::{LambdaEvent, service_fn};
use sentinel_aws::{Aws, CallLimits, Deployment, MachineClock, Secrets, environment};
use sentinel_config::{Reading, Source, load_for};
use sentinel_core::ports::Clock as _;
use sentinel_deployed::{Beside, Followed, Refused};
use sentinel_telemetry::{LogSettings, Metric, Metrics};
use sentinel_watcher::lambda;

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
    let known = Arc::<RwLock<sentinel_core::redact::Redactor>>::default();
    let build = async |source: Source| -> anyhow::Result<_> {
        let secret_ids = load_for(Reading::Watcher, &source, &variable, &BTreeMap::new())?.secret_ids;
        let secrets = Secrets::new(aws.secrets(), clock.clone(), secret_ids);
        let settings = load_for(Reading::Watcher, &source, &variable, &*secrets.values().await?)?.settings;
        let redactor = settings.redactor();
        known.write().unwrap_or_else(PoisonError::into_inner).clone_from(&redactor);
        let store = deployment.store(&aws).keeping(settings.audit_retention);
        let ports = deployment.ports(store, &aws, clock.clone());
        Ok((lambda::watchers(&settings, &ports, &redactor, &metrics), settings.log_level))
    };
    let (first, level) = build(followed.source().clone()).await?;
    let logs = LogSettings { level: level.as_str().parse()?, json: true, ..LogSettings::default() };
    let of_logs = Arc::clone(&known);
    sentinel_telemetry::init(
        &logs,
        Arc::new(move |line| of_logs.read().unwrap_or_else(PoisonError::into_inner).redact(line)),
    )?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "sentinel-watcher starts");
    let current = Mutex::new(Arc::new(first));
    // Whatever the event says: that it came is the message.
    let handle = service_fn(|event: LambdaEvent<serde_json::Value>| async {
        let taken = followed.follow(&current, async |source| build(source).await.map(|(all, _)| all)).await;
        let watchers = taken.unwrap_or_else(|Refused { before, .. }| {
            metrics.emit(clock.now().get(), &[Metric::ConfigurationRefused]);
            before
        });
        lambda::poll_all(&watchers, event.context).await.map_err(lambda_runtime::Error::from)
    });
    lambda_runtime::run(handle).await.map_err(|e| anyhow::anyhow!(e))
}
