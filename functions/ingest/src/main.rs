//! `sentinel-ingest`: webhooks on Lambda.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use lambda_http::{lambda_runtime, service_fn};
use sentinel_aws::{Aws, CallLimits, Deployment, MachineClock, Secrets, environment};
use sentinel_config::{Reading, load_for, locate_deployed};
use sentinel_http::{AddressPolicy, HttpClient, Proxy};
use sentinel_ingest::{Ingest, lambda};
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
    let loaded = load_for(Reading::Ingest, &source, &variable, &BTreeMap::new())?;
    let deployment = Deployment::of(&variable)?;

    let settings = &loaded.settings;
    let aws = Aws::of_function(&variable, &folder, CallLimits::AWS)?;
    let redactor = settings.redactor().with_tag_keys(aws.tag_keys(&variable));
    let level = settings.log_level.as_str().parse()?;
    let logs = LogSettings { level, json: true, ..LogSettings::default() };
    let of_logs = redactor.clone();
    sentinel_telemetry::init(&logs, Arc::new(move |line| of_logs.redact(line)))?;

    let clock = Arc::new(MachineClock::default());
    let secrets = || Secrets::new(aws.secrets(), clock.clone(), loaded.secret_ids.clone());
    let ports = deployment.ports(&aws, clock.clone());
    let cards = settings.cards.clone().into();
    let metrics = Metrics::to(io::stdout).of_stack(variable("SENTINEL_STACK").as_deref());
    let door = lambda::door(&loaded, source, env, secrets)?;
    let network = &settings.network;
    let policy = AddressPolicy::new(&network.allow_insecure_hosts, &network.allow_private_hosts);
    let proxy = network.proxy.clone().map(|url| Proxy::new(url, network.no_proxy.clone()));
    let ingest = Ingest::new(ports, cards, door, redactor)
        .with_fetch(Arc::new(HttpClient::new(policy).through(proxy)))
        .with_metrics(metrics);

    let answer = service_fn(|event| lambda::answer(&ingest, aws.calls(), event));
    lambda_runtime::run(answer).await.map_err(|e| anyhow::anyhow!(e))
}
