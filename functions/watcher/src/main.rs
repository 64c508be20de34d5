//! `sentinel-watcher`: polls the configured watchers on a schedule.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use lambda_runtime::{LambdaEvent, service_fn};
use sentinel_aws::{Aws, CallLimits, Deployment, MachineClock, Secrets, environment};
use sentinel_config::{Reading, load_for, locate_deployed};
use sentinel_telemetry::{LogSettings, Metrics};
use sentinel_watcher::lambda;

/// The functions are linked statically, with a C library whose own is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let env = environment();
    let variable = |name: &str| env.get(name).cloned();
    let folder = std::env::current_dir()?;
    let source = locate_deployed(variable("SENTINEL_CONFIG").as_deref(), &folder)?;
    let secret_ids = load_for(Reading::Watcher, &source, &variable, &BTreeMap::new())?.secret_ids;
    let deployment = Deployment::of(&variable)?;

    let aws = Aws::of_function(&variable, &folder, CallLimits::AWS)?;
    let clock = Arc::new(MachineClock::default());
    let secrets = Secrets::new(aws.secrets(), clock.clone(), secret_ids);
    let settings = load_for(Reading::Watcher, &source, &variable, &*secrets.values().await?)?.settings;

    let redactor = settings.redactor();
    let level = settings.log_level.as_str().parse()?;
    let logs = LogSettings { level, json: true, ..LogSettings::default() };
    let of_logs = redactor.clone();
    sentinel_telemetry::init(&logs, Arc::new(move |line| of_logs.redact(line)))?;

    let metrics = Metrics::to(io::stdout).of_stack(variable("SENTINEL_STACK").as_deref());
    let watchers =
        lambda::watchers(&settings, &deployment.ports(&aws, clock), &redactor, &metrics);
    // Whatever the event says: that it came is the message.
    let handle = service_fn(|event: LambdaEvent<serde_json::Value>| async {
        lambda::poll_all(&watchers, event.context).await.map_err(lambda_runtime::Error::from)
    });
    lambda_runtime::run(handle).await.map_err(|e| anyhow::anyhow!(e))
}
