//! What a configuration makes of the service, and the one that holds: a new one takes its place between investigations.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::SecretString;
use sentinel_aws::{Secrets, credentials_of_environment};
use sentinel_config::{Reading, Settings, load_for};
use sentinel_core::lifecycle::Rules;
use sentinel_core::ports::{Clock, Ports};
use sentinel_core::redact::TagKeys;
use sentinel_ingest::{Authenticator, Credentials, Door, Ingest, Refusals, Rotating};
use sentinel_investigation::EventSender;
use sentinel_telemetry::Metrics;
use sentinel_worker::{Health, NO_MODEL_AT, Playbooks, Running, Worker, http_client};

use crate::Exit;
use crate::access::{ApiDoor, Names};
use crate::environment::Environment;
use crate::setup::{self, ToRun};
use crate::warnings::Warnings;

/// Everything that a configuration says of the service.
pub(crate) struct House {
    pub(crate) worker: Arc<Worker>,
    pub(crate) ingest: Ingest,
    /// Who may use the API.
    pub(crate) door: ApiDoor,
    /// By which names, and by which web pages, anything is asked.
    pub(crate) names: Names,
    pub(crate) settings: Settings,
    /// What is told of it at its start, and on `/readyz`.
    pub(crate) warnings: Warnings,
    rules: BTreeMap<String, Rules>,
}

/// What stays, whatever the configuration says.
pub(crate) struct Ground {
    pub(crate) ports: Ports,
    pub(crate) events: EventSender,
    pub(crate) tag_keys: Arc<TagKeys>,
    /// The token of this process's own command line.
    pub(crate) own_token: SecretString,
    pub(crate) listen: SocketAddr,
    /// What runs, under whichever configuration it began.
    pub(crate) running: Running,
    pub(crate) refusals: Refusals,
    /// Where everything is counted.
    pub(crate) metrics: Metrics,
    /// How the last calls went.
    pub(crate) health: Health,
}

/// What of a configuration can be wrong, found to be right.
pub(crate) struct Plan {
    playbooks: Arc<Playbooks>,
    door: Door,
}

impl Plan {
    /// Holds a configuration against what a service at that address needs. `Err`: it cannot be used, and that has been told.
    pub(crate) fn of(
        to_run: &ToRun,
        listen: SocketAddr,
        clock: &Arc<dyn Clock>,
        env: &Environment,
    ) -> anyhow::Result<Result<Self, Exit>> {
        let Some(door) = door(to_run, listen, clock, env)? else { return Ok(Err(Exit::Usage)) };
        let playbooks = match sentinel_worker::compile(&to_run.loaded) {
            Ok(playbooks) => playbooks,
            Err(problems) => return Ok(Err(setup::tell(&problems, env))),
        };
        // That nobody can be asked is told once, among the warnings of the start.
        let mut warnings = sentinel_worker::warnings(&to_run.loaded, &playbooks);
        warnings.retain(|warning| warning.key != NO_MODEL_AT);
        setup::print_diagnostics(&warnings, env);
        Ok(Ok(Self { playbooks, door }))
    }
}

impl House {
    /// The service as a plan and its settings have it, on this ground.
    pub(crate) fn of(plan: Plan, settings: &Settings, ground: &Ground) -> anyhow::Result<Self> {
        let Plan { playbooks, door } = plan;
        let credentials = credentials_of_environment();
        let (ports, events) = (ground.ports.clone(), Some(ground.events.clone()));
        let worker = sentinel_worker::assemble(settings, playbooks, ports, Some(&credentials), events)?;
        let worker =
            worker.with_tag_keys(Some(Arc::clone(&ground.tag_keys))).with_running(ground.running.clone());
        let worker = worker.with_metrics(ground.metrics.clone()).with_health(&ground.health);
        let redactor = (*worker.redactor).clone();
        let ingest = Ingest::new(ground.ports.clone(), settings.cards.clone().into(), door, redactor)
            .with_fetch(http_client(settings))
            .with_refusals(ground.refusals.clone())
            .with_metrics(ground.metrics.clone());
        let loopback = ground.listen.ip().is_loopback();
        Ok(Self {
            ingest,
            door: ApiDoor::new(settings, loopback, &ground.own_token),
            names: Names::new(&settings.listener, loopback),
            settings: settings.clone(),
            warnings: Warnings::of(settings, &worker.mind),
            rules: worker.playbooks.iter().map(|(name, p)| (name.clone(), Rules::of(p.card()))).collect(),
            worker: Arc::new(worker),
        })
    }

    /// Tells what keeps it from being what it could be. Whether tools have changed is found out beside everything else:
    /// their servers may take their time.
    pub(crate) fn tell_warnings(self: &Arc<Self>) {
        self.warnings.tell();
        let house = Arc::clone(self);
        tokio::spawn(async move {
            house.warnings.tell_changed_tools(&house.settings, &house.worker).await;
        });
    }

    /// The rules of a card, as far as it is known.
    pub(crate) fn rules(&self, card: &str) -> Rules {
        self.rules.get(card).cloned().unwrap_or_else(Rules::of_no_card)
    }
}

/// The house that holds now. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Current(Arc<RwLock<Arc<House>>>);

impl Current {
    pub(crate) fn new(house: House) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(house))))
    }

    /// The house that holds now. Whoever has it goes on with it, also when another takes its place.
    pub(crate) fn house(&self) -> Arc<House> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace(&self, by: House) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(by);
    }
}

/// Who may post webhooks. `None`: nobody said who, and that has been told.
fn door(
    to_run: &ToRun,
    listen: SocketAddr,
    clock: &Arc<dyn Clock>,
    env: &Environment,
) -> anyhow::Result<Option<Door>> {
    let ingest = &to_run.loaded.settings.ingest;
    let loopback = listen.ip().is_loopback();
    if !loopback && !ingest.has_credentials() && !ingest.allow_anonymous {
        env.error(&format!(
            "{listen} is not a loopback address and `ingest` names no credentials: whoever reaches it could start \
             investigations; set `ingest.bearer`, or say `ingest.allow-anonymous: true`"
        ));
        return Ok(None);
    }
    Ok(Some(match rotating(to_run, loopback, env, clock)? {
        Some(rotating) => Door::Rotating(Arc::new(rotating)),
        None if loopback => Authenticator::new(Credentials::from(ingest)).or_loopback().into(),
        None => Authenticator::new(Credentials::from(ingest)).into(),
    }))
}

/// Credentials that come from the secret store, if any do: they are followed while this runs.
fn rotating(
    to_run: &ToRun,
    loopback: bool,
    env: &Environment,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Option<Rotating>> {
    let Some(aws) = &to_run.aws else { return Ok(None) };
    let ingest = load_for(Reading::Ingest, &to_run.source, &|name| env.var(name), &BTreeMap::new())?;
    if ingest.secret_ids.is_empty() {
        return Ok(None);
    }
    let secrets = Secrets::new(aws.secrets(), Arc::clone(clock), ingest.secret_ids);
    Ok(Some(Rotating::new(to_run.source.clone(), env.variables().clone(), secrets, loopback)))
}
