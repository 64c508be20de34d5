//! The function on AWS: one poll of every watcher an invocation.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use lambda_runtime::Context;
use sentinel_config::Settings;
use sentinel_core::ports::Ports;
use sentinel_core::redact::Redactor;
use sentinel_http::{AddressPolicy, HttpClient, Proxy};
use sentinel_telemetry::Metrics;
use tokio::sync::Mutex;
use tracing::Instrument;

use crate::{WatchError, Watcher};

/// The longest a request may take here: two of them fit into an invocation, and a platform that ends the function would
/// end its memory with it.
const LONGEST_REQUEST: Duration = Duration::from_secs(20);

/// The configured watchers, to be kept from one invocation to the next: they remember what they told.
pub fn watchers(
    settings: &Settings,
    ports: &Ports,
    redactor: &Redactor,
    metrics: &Metrics,
) -> Mutex<Vec<Watcher>> {
    let network = &settings.network;
    let policy = AddressPolicy::new(&network.allow_insecure_hosts, &network.allow_private_hosts);
    let proxy = network.proxy.clone().map(|url| Proxy::new(url, network.no_proxy.clone()));
    let http = Arc::new(HttpClient::new(policy).through(proxy));
    let cards: Arc<[_]> = settings.cards.clone().into();
    let watchers = settings.watchers.iter().cloned().map(|mut watcher| {
        watcher.timeout = watcher.timeout.min(LONGEST_REQUEST);
        Watcher::new(watcher, Arc::clone(&http), ports.clone(), Arc::clone(&cards), redactor.clone())
            .with_metrics(metrics.clone())
    });
    Mutex::new(watchers.collect())
}

/// Polls all at once; one that fails holds no other up.
///
/// # Errors
/// The first error: the invocation fails, and the alarm on errors shows it. The next one polls again.
pub async fn poll_all(watchers: &Mutex<Vec<Watcher>>, context: Context) -> Result<(), WatchError> {
    let span = sentinel_telemetry::invocation(&context.request_id, context.xray_trace_id.as_deref());
    let polls = async {
        let mut watchers = watchers.lock().await;
        join_all(watchers.iter_mut().map(|watcher| async {
            let polled = watcher.poll().await.map(|_| ());
            polled.inspect_err(|error| tracing::error!(watcher = watcher.name(), %error, "poll failed"))
        }))
        .await
    };
    polls.instrument(span).await.into_iter().collect()
}
