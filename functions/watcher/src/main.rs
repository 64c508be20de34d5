//! `sentinel-watcher`: polls the configured watchers on a schedule.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lambda_runtime::{LambdaEvent, service_fn};
use sentinel_aws::environment;
use sentinel_config::{Reading, Source, load_for};
use sentinel_core::redact::Redactor;
use sentinel_deployed::{Beside, Function, Refused, log};
use sentinel_telemetry::Metric;
use sentinel_watcher::lambda;

/// The functions are linked statically, with a C library whose own is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::current_dir()?;
    let function = Function::start(environment(), &folder, &std::env::temp_dir(), Beside::Left).await?;
    let variable = |name: &str| function.variable(name);
    let known = Arc::new(RwLock::new(Redactor::default()));

    let build = async |source: Source| -> anyhow::Result<_> {
        let secrets = load_for(Reading::Watcher, &source, &variable, &BTreeMap::new())?.secret_ids;
        let values = function.secrets(secrets).values().await?;
        let settings = load_for(Reading::Watcher, &source, &variable, &values)?.settings;
        let redactor = settings.redactor();
        known.write().unwrap_or_else(PoisonError::into_inner).clone_from(&redactor);
        let ports = function.ports(&settings);
        Ok((lambda::watchers(&settings, &ports, &redactor, &function.metrics), settings.log_level))
    };
    let (first, level) = build(function.followed.source().clone()).await?;
    let of_logs = Arc::clone(&known);
    log(level, Arc::new(move |line| of_logs.read().unwrap_or_else(PoisonError::into_inner).redact(line)))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "sentinel-watcher starts");

    let current = Mutex::new(Arc::new(first));
    // Whatever the event says: that it came is the message.
    let handle = service_fn(|event: LambdaEvent<serde_json::Value>| async {
        let taken =
            function.followed.follow(&current, async |source| build(source).await.map(|(all, _)| all)).await;
        let watchers = taken.unwrap_or_else(|Refused { before, .. }| {
            function.count(Metric::ConfigurationRefused);
            before
        });
        lambda::poll_all(&watchers, event.context).await.map_err(lambda_runtime::Error::from)
    });
    lambda_runtime::run(handle).await.map_err(|e| anyhow::anyhow!(e))
}
