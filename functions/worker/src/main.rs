//! `sentinel-worker`: investigations on Lambda.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::{LambdaEvent, service_fn};
use sentinel_aws::{Aws, CallLimits, Deployment, MachineClock, Secrets, environment};
use sentinel_config::{Reading, load_for, locate_deployed};
use sentinel_core::UnixMs;
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
    let source = locate_deployed(variable("SENTINEL_CONFIG").as_deref(), &folder)?;
    let first = load_for(Reading::Worker, &source, &variable, &BTreeMap::new())?;
    let deployment = Deployment::of(&variable)?;

    let aws = Aws::of_function(&variable, &folder, CallLimits::AWS)?;
    let clock = Arc::new(MachineClock::default());
    let secrets = Secrets::new(aws.secrets(), clock.clone(), first.secret_ids.clone());
    let ports = deployment.ports(&aws, clock);
    let keys = aws.tag_keys(&variable);
    let metrics = Metrics::to(io::stdout).of_stack(variable("SENTINEL_STACK").as_deref());
    let (clock, counted) = (Arc::clone(&ports.clock), metrics.clone());
    let (live, settings) = Live::start(first, source, env, ports, secrets, metrics, keys).await?;

    let level = settings.log_level.as_str().parse()?;
    let logs = LogSettings { level, json: true, ..LogSettings::default() };
    sentinel_telemetry::init(&logs, live.redact())?;
    let concurrency = settings.dispatcher.worker_concurrency;

    let handle = service_fn(|event: LambdaEvent<SqsEvent>| async {
        let (messages, context) = event.into_parts();
        let deadline = UnixMs::new(i64::try_from(context.deadline).unwrap_or(i64::MAX));
        let span = sentinel_telemetry::invocation(&context.request_id, context.xray_trace_id.as_deref());
        let handled = async {
            Ok::<_, lambda_runtime::Error>(
                batch(&live.worker().await?, messages, concurrency, deadline).await,
            )
        };
        let handled = handled.instrument(span).await;
        counted.emit(clock.now().get(), &[Metric::Throttled(aws.calls().take_throttled())]);
        handled
    });
    let serve = async { lambda_runtime::run(handle).await.map_err(|e| anyhow::anyhow!(e)) };
    // Cards that do not compile end the function, as everything else does that is wrong with its configuration.
    let compiled = async { live.worker().await.map(|_| ()).map_err(anyhow::Error::from) };
    tokio::try_join!(serve, compiled).map(|_| ())
}
