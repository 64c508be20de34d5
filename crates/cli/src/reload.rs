//! SIGHUP: the configuration is read again. A valid one takes the place of the one that holds; a broken one is told, and
//! changes nothing.

use std::path::PathBuf;

use sentinel_config::Settings;
use sentinel_telemetry::Metric;
use tokio::signal::unix::Signal;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::environment::Environment;
use crate::house::{Current, Ground, House, Plan};
use crate::{setup, watch};

/// What reads the configuration again.
pub(crate) struct Reloading {
    pub(crate) signals: Signal,
    /// What `--config` names.
    pub(crate) explicit: Option<PathBuf>,
    pub(crate) env: Environment,
    pub(crate) ground: Ground,
    pub(crate) current: Current,
    pub(crate) stop: CancellationToken,
}

impl Reloading {
    /// Watches for signals until the service stops. The watchers of alerts are its own, because they begin anew with each
    /// configuration.
    pub(crate) async fn run(mut self) {
        let mut watching = self.watch();
        while let Some(Some(())) = self.stop.run_until_cancelled(self.signals.recv()).await {
            match Box::pin(self.again()).await {
                Ok(Some(house)) => {
                    told_at_next_start(&self.current.house().settings, &house.settings);
                    tracing::info!(
                        cards = house.settings.cards.len(),
                        "the configuration was read again and holds from now on"
                    );
                    self.current.replace(house);
                    self.current.house().tell_warnings();
                    end(watching).await;
                    watching = self.watch();
                }
                Ok(None) => {
                    self.refused();
                    tracing::error!(
                        "the configuration that was read again cannot be used: the one before it stays"
                    );
                }
                Err(error) => {
                    self.refused();
                    let error = self.env.without_secrets(&format!("{error:#}")).into_owned();
                    tracing::error!(error, "the configuration cannot be read again: the one before it stays");
                }
            }
        }
        end(watching).await;
    }

    fn refused(&self) {
        let now = self.ground.ports.clock.now();
        self.ground.metrics.emit(now.get(), &[Metric::ConfigurationRefused]);
    }

    /// `None`: it is broken, and that has been told.
    async fn again(&mut self) -> anyhow::Result<Option<House>> {
        let env = self.env.read_again()?;
        let Ok(to_run) = setup::load_to_run(self.explicit.as_deref(), &env).await? else { return Ok(None) };
        let (listen, clock) = (self.ground.listen, &self.ground.ports.clock);
        let Ok(plan) = Plan::of(&to_run, listen, clock, &env)? else { return Ok(None) };
        let house = House::of(plan, &to_run.loaded.settings, &self.ground)?;
        self.env = env;
        Ok(Some(house))
    }

    fn watch(&self) -> (CancellationToken, Vec<JoinHandle<()>>) {
        let (house, stop) = (self.current.house(), self.stop.child_token());
        let tasks = watch::start(&house.settings, &self.ground, &house.worker.redactor, &stop);
        (stop, tasks)
    }
}

async fn end((stop, tasks): (CancellationToken, Vec<JoinHandle<()>>)) {
    stop.cancel();
    for task in tasks {
        if let Err(error) = task.await {
            tracing::error!(%error, "a watcher has panicked");
        }
    }
}

/// Says what of a new configuration cannot hold before the next start.
fn told_at_next_start(old: &Settings, new: &Settings) {
    let keys = [
        ("server.max-connections", old.listener.max_connections != new.listener.max_connections),
        ("server.drain", old.listener.drain != new.listener.drain),
        (
            "dispatcher.worker-concurrency",
            old.dispatcher.worker_concurrency != new.dispatcher.worker_concurrency,
        ),
        ("log-level", old.log_level != new.log_level),
    ];
    for (key, _) in keys.into_iter().filter(|(_, is_other)| *is_other) {
        tracing::warn!(key, "this key holds from the next start on");
    }
}
