//! `sentinel-worker`: investigations on Lambda.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::{LambdaEvent, service_fn};
use sentinel_aws::{SqsQueue, environment};
use sentinel_config::{Reading, Source, load_for};
use sentinel_deployed::{Beside, Function, Refused, log};
use sentinel_telemetry::Metric;
use sentinel_worker::lambda::{self, Live};

/// The functions are linked statically, with a C library whose own is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::current_dir()?;
    let function = Function::start(environment(), &folder, &std::env::temp_dir(), Beside::Read).await?;
    let variable = |name: &str| function.variable(name);
    let queue = SqsQueue::new(function.aws.sqs(), &*function.deployment.queue_url);
    let build = async |source: Source| -> anyhow::Result<_> {
        let first = load_for(Reading::Worker, &source, &variable, &BTreeMap::new())?;
        let (secrets, ports) = (function.secrets(first.secret_ids.clone()), function.ports(&first.settings));
        let (keys, metrics) = (function.aws.tag_keys(&variable), function.metrics.clone());
        let env = function.env().clone();
        let (live, settings) = Live::start(first, source, env, ports, secrets, metrics, keys).await?;
        Ok(((live, settings.dispatcher.worker_concurrency), settings.log_level))
    };
    let (first, level) = build(function.followed.source().clone()).await?;
    let first = Arc::new(first);
    let current = Arc::new(Mutex::new(Arc::clone(&first)));
    let of_logs = Arc::clone(&current);
    let known = move || Arc::clone(&of_logs.lock().unwrap_or_else(PoisonError::into_inner));
    log(level, Arc::new(move |line| known().0.redacted(line).into()))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "sentinel-worker starts");

    let handle = service_fn(|event: LambdaEvent<SqsEvent>| async {
        let taken = function.followed.follow(&current, async |source| {
            let (made, _) = build(source).await?;
            // One whose cards do not compile is not taken.
            made.0.worker().await?;
            Ok::<_, anyhow::Error>(made)
        });
        let taken = taken.await.unwrap_or_else(|Refused { before, .. }| {
            function.count(Metric::ConfigurationRefused);
            before
        });
        let handled = lambda::answer(&taken.0, taken.1, event, &queue).await;
        function.count(Metric::Throttled(function.aws.calls().take_throttled()));
        handled.map_err(lambda_runtime::Error::from)
    });
    let serve = async { lambda_runtime::run(handle).await.map_err(|e| anyhow::anyhow!(e)) };
    // Cards that do not compile end the function, as everything else does that is wrong with its configuration.
    let compiled = async { first.0.worker().await.map(|_| ()).map_err(anyhow::Error::from) };
    tokio::try_join!(serve, compiled).map(|_| ())
}
