//! The watchers of `up`: each polls at its own pace until the service stops.

use std::sync::Arc;

use sentinel_config::Settings;
use sentinel_core::redact::Redactor;
use sentinel_http::{AddressPolicy, HttpClient, Proxy};
use sentinel_watcher::Watcher;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::house::Ground;

/// Starts a task for each configured watcher.
pub(crate) fn start(
    settings: &Settings,
    ground: &Ground,
    redactor: &Redactor,
    stop: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let network = &settings.network;
    let policy = AddressPolicy::new(&network.allow_insecure_hosts, &network.allow_private_hosts);
    let proxy = network.proxy.clone().map(|url| Proxy::new(url, network.no_proxy.clone()));
    let http = Arc::new(HttpClient::new(policy).through(proxy));
    let cards: Arc<[_]> = settings.cards.clone().into();
    let watchers = settings.watchers.iter().cloned();
    watchers
        .map(|watcher| {
            let ports = ground.ports.clone();
            Watcher::new(watcher, Arc::clone(&http), ports, Arc::clone(&cards), redactor.clone())
                .with_metrics(ground.metrics.clone())
        })
        .map(|watcher| tokio::spawn(watch(watcher, stop.clone())))
        .collect()
}

async fn watch(mut watcher: Watcher, stop: CancellationToken) {
    let mut tick = tokio::time::interval(watcher.interval());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        // Cut off anywhere it leaves what a crash leaves, and that the next start mends.
        let Some(polled) = stop.run_until_cancelled(watcher.poll()).await else { return };
        let name = watcher.name();
        match polled {
            Ok(_) if failing => tracing::info!(watcher = name, "the watcher's server answers again"),
            Ok(_) => {}
            // Told once, not four times a minute for as long as the server is down.
            Err(ref error) if failing => tracing::debug!(watcher = name, %error, "poll failed again"),
            Err(ref error) => {
                tracing::warn!(watcher = name, %error, "poll failed; it goes on, and nothing is resolved");
            }
        }
        failing = polled.is_err();
    }
}
