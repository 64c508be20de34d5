//! `sentinel-worker`: investigations on Lambda.

mod parts;

use std::sync::{Arc, Mutex, PoisonError};

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::{LambdaEvent, service_fn};
use parts::{Parts, log};
use sentinel_aws::SqsQueue;
use sentinel_core::UnixMs;
use sentinel_deployed::{Beside, Followed, Refused};
use sentinel_telemetry::Metric;
use sentinel_worker::lambda::batch;
use tracing::Instrument;

/// The functions are linked statically, with a C library whose own is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let parts = Parts::of_function()?;
    let variable = |name: &str| parts.variable(name);
    let followed = Followed::start(&variable, parts.folder(), &std::env::temp_dir(), Beside::Read).await?;
    let queue = SqsQueue::new(parts.aws.sqs(), &*parts.deployment.queue_url);
    let (live, settings) = parts.live(followed.source().clone()).await?;
    let current = Arc::new(Mutex::new(Arc::new((live, settings.dispatcher.worker_concurrency))));
    log(settings.log_level, &current)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "sentinel-worker starts");

    let handle = service_fn(|event: LambdaEvent<SqsEvent>| async {
        let (messages, context) = event.into_parts();
        let taken = followed.follow(&current, async |source| {
            let (live, settings) = parts.live(source).await?;
            // One whose cards do not compile is not taken.
            live.worker().await?;
            Ok::<_, anyhow::Error>((live, settings.dispatcher.worker_concurrency))
        });
        let now = taken.await.unwrap_or_else(|Refused { before, .. }| {
            parts.count(Metric::ConfigurationRefused);
            before
        });
        let deadline = UnixMs::new(i64::try_from(context.deadline).unwrap_or(i64::MAX));
        let span = sentinel_telemetry::invocation(&context.request_id, context.xray_trace_id.as_deref());
        let handled = async {
            let worker = now.0.worker().await?;
            Ok::<_, lambda_runtime::Error>(batch(&worker, messages, now.1, deadline, Some(&queue)).await)
        };
        let handled = handled.instrument(span).await;
        parts.count(Metric::Throttled(parts.aws.calls().take_throttled()));
        handled
    });
    let serve = async { lambda_runtime::run(handle).await.map_err(|e| anyhow::anyhow!(e)) };
    // Cards that do not compile end the function, as everything else does that is wrong with its configuration.
    let first = Arc::clone(&current.lock().unwrap_or_else(PoisonError::into_inner));
    let compiled = async { first.0.worker().await.map(|_| ()).map_err(anyhow::Error::from) };
    tokio::try_join!(serve, compiled).map(|_| ())
}
