//! `sentinel-sweeper`: sends again, each minute, what a crash left behind.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use lambda_runtime::{LambdaEvent, service_fn};
use sentinel_aws::{Aws, CallLimits, Deployment, MachineClock, environment};
use sentinel_config::{Reading, load_for, locate_deployed};
use sentinel_sweeper::lambda;
use sentinel_telemetry::{LogSettings, Metrics};

/// The functions are linked statically, with a C library whose own is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let env = environment();
    let variable = |name: &str| env.get(name).cloned();
    let folder = std::env::current_dir()?;
    let source = locate_deployed(variable("SENTINEL_CONFIG").as_deref(), &folder)?;
    let settings = load_for(Reading::Sweeper, &source, &variable, &BTreeMap::new())?.settings;
    let deployment = Deployment::of(&variable)?;

    let level = settings.log_level.as_str().parse()?;
    let logs = LogSettings { level, json: true, ..LogSettings::default() };
    // It reads no secret, so there is none to take out of a line.
    sentinel_telemetry::init(&logs, Arc::new(|line| line.into()))?;

    let aws = Aws::of_function(&variable, &folder, CallLimits::AWS)?;
    let ports = deployment.ports(&aws, Arc::new(MachineClock::default()));
    let rules = lambda::rules(&settings.cards);
    let metrics = Metrics::to(io::stdout).of_stack(variable("SENTINEL_STACK").as_deref());
    // Whatever the event says: that it came is the message.
    let handle = service_fn(|event: LambdaEvent<serde_json::Value>| {
        lambda::minute(&ports, &rules, &metrics, aws.calls(), event.context)
    });
    lambda_runtime::run(handle).await.map_err(|e| anyhow::anyhow!(e))
}
