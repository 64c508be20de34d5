//! `sentinel-ingest`: webhooks on Lambda.

mod parts;

use std::sync::{Arc, Mutex, PoisonError};

use lambda_http::{lambda_runtime, service_fn};
use parts::Parts;
use sentinel_deployed::{Beside, Followed, Refused};
use sentinel_ingest::lambda;
use sentinel_telemetry::LogSettings;

/// The functions are linked statically, with a C library whose own is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let parts = Parts::of_function()?;
    let variable = |name: &str| parts.variable(name);
    let followed = Followed::start(&variable, parts.folder(), &std::env::temp_dir(), Beside::Left).await?;
    let (first, level) = parts.ingest(followed.source().clone())?;
    let logs = LogSettings { level: level.as_str().parse()?, json: true, ..LogSettings::default() };
    let of_logs = Arc::clone(&parts.redactor);
    sentinel_telemetry::init(
        &logs,
        Arc::new(move |line| of_logs.read().unwrap_or_else(PoisonError::into_inner).redact(line)),
    )?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "sentinel-ingest starts");

    let current = Mutex::new(Arc::new(first));
    let answer = service_fn(|event| async {
        let taken = followed.follow(&current, async |source| parts.ingest(source).map(|(ingest, _)| ingest));
        let ingest = taken.await.unwrap_or_else(|Refused { before, .. }| {
            before.configuration_refused();
            before
        });
        lambda::answer(&ingest, parts.aws.calls(), event).await
    });
    lambda_runtime::run(answer).await.map_err(|e| anyhow::anyhow!(e))
}
