//! `sentinel-sweeper`: sends again, each minute, what a crash left behind.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use lambda_runtime::{LambdaEvent, service_fn};
use sentinel_aws::{Aws, CallLimits, Deployment, MachineClock, environment};
use sentinel_config::{Reading, Source, load_for};
use sentinel_deployed::{Beside, Followed, Refused};
use sentinel_sweeper::lambda::Sweeper;
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
    let stack = variable("SENTINEL_STACK").unwrap_or_default();
    let metrics = Metrics::to(io::stdout).of_stack(Some(&stack));
    let clock = Arc::new(MachineClock::default());

    let build = async |source: Source| -> anyhow::Result<_> {
        let settings = load_for(Reading::Sweeper, &source, &variable, &BTreeMap::new())?.settings;
        let store = deployment.store(&aws).keeping(settings.audit_retention);
        let ports = deployment.ports(store.clone(), &aws, clock.clone());
        let level = settings.log_level;
        Ok((Sweeper::new(store, ports, &settings.cards, metrics.clone(), stack.clone()), level))
    };
    let (first, level) = build(followed.source().clone()).await?;
    let logs = LogSettings { level: level.as_str().parse()?, json: true, ..LogSettings::default() };
    // It reads no secret, so there is none to take out of a line.
    sentinel_telemetry::init(&logs, Arc::new(|line| line.into()))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "sentinel-sweeper starts");

    let current = Mutex::new(Arc::new(first));
    // Whatever the event says: that it came is the message.
    let handle = service_fn(|event: LambdaEvent<serde_json::Value>| async {
        let taken =
            followed.follow(&current, async |source| build(source).await.map(|(swept, _)| swept)).await;
        let sweeper = taken.unwrap_or_else(|Refused { before, .. }| {
            before.configuration_refused();
            before
        });
        sweeper.minute(aws.calls(), event.context).await
    });
    lambda_runtime::run(handle).await.map_err(|e| anyhow::anyhow!(e))
}
