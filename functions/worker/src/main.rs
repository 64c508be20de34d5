//! `sentinel-worker`: investigations on Lambda.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::{LambdaEvent, service_fn};
use sentinel_aws::{Aws, CallLimits, Deployment, MachineClock, Secrets, SqsQueue, environment};
use sentinel_config::{Reading, Source, load_for};
use sentinel_core::UnixMs;
use sentinel_core::ports::Clock as _;
use sentinel_deployed::{Beside, Followed, Refused};
use sentinel_telemetry::{LogSettings, Metric, Metrics};
use sentinel_worker::lambda::{Live, batch};
use tracing::Instrument;

/// The functions are linked statically, with a C library whose own is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let env = environment();
    let variable = |name: &str| env.get(name).cloned();
    let folder = std::env::current_dir()?;
    let followed = Followed::start(&variable, &folder, &std::env::temp_dir(), Beside::Read).await?;
    let deployment = Deployment::of(&variable)?;
    let aws = Aws::of_function(&variable, &folder, CallLimits::AWS)?;
    let clock = Arc::new(MachineClock::default());
    let queue = SqsQueue::new(aws.sqs(), &*deployment.queue_url);
    let metrics = Metrics::to(io::stdout).of_stack(variable("SENTINEL_STACK").as_deref());

    let build = async |source: Source| -> anyhow::Result<_> {
        let first = load_for(Reading::Worker, &source, &variable, &BTreeMap::new())?;
        let secrets = Secrets::new(aws.secrets(), clock.clone(), first.secret_ids.clone());
        let store = deployment.store(&aws).keeping(first.settings.audit_retention);
        let ports = deployment.ports(store, &aws, clock.clone());
        let keys = aws.tag_keys(&variable);
        let started = Live::start(first, source, env.clone(), ports, secrets, metrics.clone(), keys).await?;
        Ok(started)
    };
    let (live, settings) = build(followed.source().clone()).await?;
    let current = Arc::new(Mutex::new(Arc::new((live, settings.dispatcher.worker_concurrency))));
    let logs =
        LogSettings { level: settings.log_level.as_str().parse()?, json: true, ..LogSettings::default() };
    let of_logs = Arc::clone(&current);
    let redact = move |line: &str| {
        let now = Arc::clone(&of_logs.lock().unwrap_or_else(PoisonError::into_inner));
        now.0.redacted(line)
    };
    sentinel_telemetry::init(&logs, Arc::new(move |line| redact(line).into()))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "sentinel-worker starts");

    let handle = service_fn(|event: LambdaEvent<SqsEvent>| async {
        let (messages, context) = event.into_parts();
        let taken = followed.follow(&current, async |source| {
            let (live, settings) = build(source).await?;
            // One whose cards do not compile is not taken.
            live.worker().await?;
            Ok::<_, anyhow::Error>((live, settings.dispatcher.worker_concurrency))
        });
        let now = taken.await.unwrap_or_else(|Refused { before, .. }| {
            metrics.emit(clock.now().get(), &[Metric::ConfigurationRefused]);
            before
        });
        let deadline = UnixMs::new(i64::try_from(context.deadline).unwrap_or(i64::MAX));
        let span = sentinel_telemetry::invocation(&context.request_id, context.xray_trace_id.as_deref());
        let handled = async {
            let worker = now.0.worker().await?;
            Ok::<_, lambda_runtime::Error>(batch(&worker, messages, now.1, deadline, Some(&queue)).await)
        };
        let handled = handled.instrument(span).await;
        metrics.emit(clock.now().get(), &[Metric::Throttled(aws.calls().take_throttled())]);
        handled
    });
    let serve = async { lambda_runtime::run(handle).await.map_err(|e| anyhow::anyhow!(e)) };
    // Cards that do not compile end the function, as everything else does that is wrong with its configuration.
    let first = Arc::clone(&current.lock().unwrap_or_else(PoisonError::into_inner));
    let compiled = async { first.0.worker().await.map(|_| ()).map_err(anyhow::Error::from) };
    tokio::try_join!(serve, compiled).map(|_| ())
}
