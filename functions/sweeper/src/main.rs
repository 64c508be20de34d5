//! `sentinel-sweeper`: sends again, each minute, what a crash left behind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use lambda_runtime::{LambdaEvent, service_fn};
use sentinel_aws::environment;
use sentinel_config::{Reading, Source, load_for};
use sentinel_deployed::{Beside, Function, Refused, log};
use sentinel_sweeper::lambda::Sweeper;

/// The functions are linked statically, with a C library whose own is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::current_dir()?;
    let function = Function::start(environment(), &folder, &std::env::temp_dir(), Beside::Left).await?;
    let variable = |name: &str| function.variable(name);
    let stack = variable("SENTINEL_STACK").unwrap_or_default();

    let build = async |source: Source| -> anyhow::Result<_> {
        let settings = load_for(Reading::Sweeper, &source, &variable, &BTreeMap::new())?.settings;
        let (store, ports) = (function.store(&settings), function.ports(&settings));
        let metrics = function.metrics.clone();
        Ok((Sweeper::new(store, ports, &settings.cards, metrics, stack.clone()), settings.log_level))
    };
    let (first, level) = build(function.followed.source().clone()).await?;
    // It reads no secret, so there is none to take out of a line.
    log(level, Arc::new(|line| line.into()))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "sentinel-sweeper starts");

    let current = Mutex::new(Arc::new(first));
    // Whatever the event says: that it came is the message.
    let handle = service_fn(|event: LambdaEvent<serde_json::Value>| async {
        let taken = function
            .followed
            .follow(&current, async |source| build(source).await.map(|(swept, _)| swept))
            .await;
        let sweeper = taken.unwrap_or_else(|Refused { before, .. }| {
            before.configuration_refused();
            before
        });
        sweeper.minute(function.aws.calls(), event.context).await
    });
    lambda_runtime::run(handle).await.map_err(|e| anyhow::anyhow!(e))
}
