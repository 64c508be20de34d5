//! `sentinel-ingest`: webhooks on Lambda.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lambda_http::{lambda_runtime, service_fn};
use sentinel_aws::environment;
use sentinel_config::{Reading, Source, load_for};
use sentinel_core::redact::Redactor;
use sentinel_deployed::{Beside, Function, Refused, log};
use sentinel_http::{AddressPolicy, HttpClient, Proxy};
use sentinel_ingest::{Ingest, lambda};

/// The functions are linked statically, with a C library whose own is slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::current_dir()?;
    let function = Function::start(environment(), &folder, &std::env::temp_dir(), Beside::Left).await?;
    let variable = |name: &str| function.variable(name);
    let known = Arc::new(RwLock::new(Redactor::default()));
    let build = |source: Source| -> anyhow::Result<_> {
        let loaded = load_for(Reading::Ingest, &source, &variable, &BTreeMap::new())?;
        let settings = &loaded.settings;
        let redactor = settings.redactor().with_tag_keys(function.aws.tag_keys(&variable));
        let secrets = || function.secrets(loaded.secret_ids.clone());
        let door = lambda::door(&loaded, source, function.env().clone(), secrets)?;
        let network = &settings.network;
        let policy = AddressPolicy::new(&network.allow_insecure_hosts, &network.allow_private_hosts);
        let proxy = network.proxy.clone().map(|url| Proxy::new(url, network.no_proxy.clone()));
        known.write().unwrap_or_else(PoisonError::into_inner).clone_from(&redactor);
        let ingest = Ingest::new(function.ports(settings), settings.cards.clone().into(), door, redactor)
            .with_fetch(Arc::new(HttpClient::new(policy).through(proxy)))
            .with_metrics(function.metrics.clone());
        Ok((ingest, settings.log_level))
    };
    let (first, level) = build(function.followed.source().clone())?;
    let of_logs = Arc::clone(&known);
    log(level, Arc::new(move |line| of_logs.read().unwrap_or_else(PoisonError::into_inner).redact(line)))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "sentinel-ingest starts");

    let current = Mutex::new(Arc::new(first));
    let answer = service_fn(|event| async {
        let taken =
            function.followed.follow(&current, async |source| build(source).map(|(ingest, _)| ingest));
        let ingest = taken.await.unwrap_or_else(|Refused { before, .. }| {
            before.configuration_refused();
            before
        });
        lambda::answer(&ingest, function.aws.calls(), event).await
    });
    lambda_runtime::run(answer).await.map_err(|e| anyhow::anyhow!(e))
}
