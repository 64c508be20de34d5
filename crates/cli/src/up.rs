//! `sentinel up`: the whole pipeline in one process, on the embedded backend.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use sentinel_aws::{MachineClock, Secrets, fresh_ids};
use sentinel_config::{Reading, load_for};
use sentinel_core::UnixMs;
use sentinel_core::incident::Job;
use sentinel_core::lifecycle::Rules;
use sentinel_core::ports::{Clock, Ports};
use sentinel_ingest::{Authenticator, Credentials, Door, Ingest, Rotating};
use sentinel_local::{Backend, Handled, LocalQueue, Receiver, write_private};
use sentinel_worker::{EndingModels, Worker, http_client};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Exit;
use crate::access::{ApiDoor, Names, TOKEN_FILE, new_token};
use crate::args::Up;
use crate::bodies::{BYTES, Bodies};
use crate::connections::{Connections, Crowd, usual_limit};
use crate::ending::Ending;
use crate::environment::Environment;
use crate::events::Readers;
use crate::health::Ready;
use crate::server::{Service, router};
use crate::setup::ToRun;
use crate::{progress, setup, watch};

/// How often the sweeper looks.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// Heads of one page of a sweep.
const SWEEP_PAGE: usize = 500;

pub(crate) async fn run(args: Up, env: &Environment) -> anyhow::Result<Exit> {
    let to_run = match setup::load_to_run(args.config.config.as_deref(), env).await? {
        Ok(to_run) => to_run,
        Err(exit) => return Ok(exit),
    };
    let loaded = &to_run.loaded;
    let settings = &loaded.settings;
    let clock: Arc<dyn Clock> = Arc::new(MachineClock::default());
    let Some(door) = door(&to_run, args.listen, env, &clock)? else { return Ok(Exit::Usage) };
    let playbooks = match sentinel_worker::compile(loaded) {
        Ok(playbooks) => playbooks,
        Err(problems) => return setup::tell(&problems),
    };
    setup::logs(loaded, args.json, env)?;

    let backend = Backend::open(&args.data_dir).await?;
    let own_token = own_token(&args.data_dir)?;
    let (queue, receiver) = LocalQueue::new(Arc::clone(&clock));
    let signing_key = sentinel_local::signing_key(&args.data_dir)?;
    let ports = Ports {
        store: backend.store(),
        queue: Arc::new(queue.clone()),
        clock,
        fresh: fresh_ids(),
        signing_key,
    };
    let (events, printer) = progress::start(args.json, env.stderr_is_terminal);
    let credentials = sentinel_aws::credentials_of_environment();
    let worker =
        sentinel_worker::assemble(settings, playbooks, ports.clone(), Some(&credentials), Some(events))?;
    let worker = Arc::new(worker.with_tag_keys(Some(sentinel_local::tag_keys(&args.data_dir))));

    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr()?;
    let url = format!("http://{address}");
    backend.announce(&url)?;

    // Whoever held a lease is gone, and the queue is empty: what the store holds is what there is to do.
    let rules = Arc::new(rules_by_card(&worker));
    let restarted = sentinel_sweeper::restart(&ports, |card| rule(&rules, card)).await?;
    let signed_by = ports.signing_key.as_ref().map(|key| tracing::field::display(key.public()));
    tracing::info!(%url, resumed = restarted.sent, signed_by, "listening");
    let ending = Ending::default();
    ending.watch(settings.listener.drain, last_words(&queue)).context("signals cannot be watched")?;
    announce(&url, args.json)?;

    let stop = ending.asked.clone();
    let loopback = args.listen.ip().is_loopback();
    let crowd = Crowd::new(settings.listener.max_connections.unwrap_or_else(usual_limit));
    let ingest = Ingest::new(ports.clone(), settings.cards.clone().into(), door, (*worker.redactor).clone());
    let ingest = Arc::new(ingest.with_fetch(http_client(settings)));
    let sweeper = tokio::spawn(sweep(
        ports.clone(),
        Arc::clone(&rules),
        Arc::clone(&ingest),
        worker.ending.clone(),
        stop.clone(),
    ));
    let investigations = Investigations::start()?;
    let workers = investigations.spawn(work(
        receiver,
        Arc::clone(&worker),
        settings.dispatcher.worker_concurrency,
        stop.clone(),
    ));
    let mut tasks = watch::start(settings, &ports, &worker.redactor, &stop);
    tasks.extend([sweeper, workers]);
    let service = Service {
        ingest: Arc::clone(&ingest),
        worker,
        readers: Readers::new(stop.clone()),
        door: ApiDoor::new(settings, loopback, &own_token),
        names: Names::new(&settings.listener, loopback),
        bodies: Bodies::new(BYTES, crowd.clone()),
        crowd: crowd.clone(),
        ready: Ready::default(),
    };
    let connections = Connections {
        router: router(service),
        crowd,
        refusals: ingest.refusals().clone(),
        clock: Arc::clone(&ports.clock),
        stop,
    };
    tasks.push(tokio::spawn(connections.serve(listener)));

    ending.asked.cancelled().await;
    let exit = drain(&queue, tasks, &ending).await?;
    printer.finish().await;
    Ok(exit)
}

/// Writes a token for this process's own command line into its data folder.
fn own_token(data_dir: &Path) -> anyhow::Result<SecretString> {
    let (token, file) = (new_token().context("no random numbers can be had")?, data_dir.join(TOKEN_FILE));
    write_private(&file, token.expose_secret().as_bytes())
        .with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(token)
}

/// Who may post webhooks. `None`: nobody said who, and that has been told.
fn door(
    to_run: &ToRun,
    listen: SocketAddr,
    env: &Environment,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Option<Door>> {
    let ingest = &to_run.loaded.settings.ingest;
    let loopback = listen.ip().is_loopback();
    if !loopback && !ingest.has_credentials() && !ingest.allow_anonymous {
        writeln!(
            anstream::stderr(),
            "error: {listen} is not a loopback address and `ingest` names no credentials: whoever reaches it could \
             start investigations; set `ingest.bearer`, or say `ingest.allow-anonymous: true`"
        )?;
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

fn announce(url: &str, json: bool) -> anyhow::Result<()> {
    let mut out = anstream::stdout();
    if json {
        writeln!(out, "{}", serde_json::json!({"listening": url}))?;
    } else {
        writeln!(out, "Sentinel listens on {url}")?;
        writeln!(out, "Alertmanager's webhook: {url}/webhook/alertmanager   incidents: {url}/api/incidents")?;
    }
    out.flush()?;
    Ok(())
}

/// The threads of investigations: whatever servers and models send is read on these, so that those that answer webhooks
/// stay free.
struct Investigations(Option<Runtime>);

impl Investigations {
    fn start() -> std::io::Result<Self> {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        threads.worker_threads(2).thread_name("investigation").enable_all().build().map(|own| Self(Some(own)))
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        match &self.0 {
            Some(own) => own.spawn(work),
            None => tokio::spawn(work),
        }
    }
}

impl Drop for Investigations {
    fn drop(&mut self) {
        // To wait for its threads is not allowed here, and whatever still runs is gone on with after a restart.
        if let Some(own) = self.0.take() {
            own.shutdown_background();
        }
    }
}

fn rules_by_card(worker: &Worker) -> BTreeMap<String, Rules> {
    worker.playbooks.iter().map(|(name, playbook)| (name.clone(), Rules::of(playbook.card()))).collect()
}

fn rule(rules: &BTreeMap<String, Rules>, card: &str) -> Rules {
    rules.get(card).cloned().unwrap_or_else(Rules::of_no_card)
}

/// Handles jobs until it is told to stop, then ends those that run.
async fn work(receiver: Receiver, worker: Arc<Worker>, concurrency: usize, stop: CancellationToken) {
    let handler = move |job: Job| {
        let worker = Arc::clone(&worker);
        async move {
            // No platform ends this process at a time known beforehand.
            match worker.handle(&job, UnixMs::new(i64::MAX)).await {
                Ok(handled) => {
                    tracing::debug!(incident = %job.incident, ?handled, "job handled");
                    Handled::Done
                }
                Err(error) => {
                    tracing::error!(incident = %job.incident, %error, "job not handled");
                    if error.is_retryable() { Handled::Again } else { Handled::Done }
                }
            }
        }
    };
    receiver.run(handler, concurrency, stop).await;
}

async fn sweep(
    ports: Ports,
    rules: Arc<BTreeMap<String, Rules>>,
    ingest: Arc<Ingest>,
    models: EndingModels,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if let Err(error) = sentinel_sweeper::sweep(&ports, |card| rule(&rules, card), SWEEP_PAGE).await {
            tracing::error!(%error, "sweep failed; the next one is in a minute");
        }
        ingest.refusals().tell(ports.clock.now());
        models.tell(ports.clock.now());
    }
}

/// What is said where the end could not be waited for.
fn last_words(queue: &LocalQueue) -> impl Fn() + Send + 'static {
    let queue = queue.clone();
    move || {
        let _ = writeln!(
            std::io::stderr(),
            "error: something does not let go, so the process ends as if it were killed{}",
            cut_off(&queue)
        );
    }
}

/// What of the investigations is cut off, as the end of a sentence.
fn cut_off(queue: &LocalQueue) -> String {
    match queue.stats().running {
        0 => "; no investigation was running".to_owned(),
        1 => "; one investigation is cut off, and the next `up` goes on with it".to_owned(),
        running => format!("; {running} investigations are cut off, and the next `up` goes on with them"),
    }
}

/// Lets what runs end, until it is over.
async fn drain(queue: &LocalQueue, tasks: Vec<JoinHandle<()>>, ending: &Ending) -> anyhow::Result<Exit> {
    let running = queue.stats().running;
    if running > 0 {
        let what =
            if running == 1 { "one investigation".to_owned() } else { format!("{running} investigations") };
        writeln!(
            anstream::stderr(),
            "finishing {what}; Ctrl-C again stops at once, a restart goes on with them"
        )?;
    }
    let finished = async {
        for task in tasks {
            task.await.context("a part of the service has panicked")?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = finished => {
            ended?;
            Ok(Exit::Done)
        }
        () = ending.over.cancelled() => bail!("stopped before everything had ended{}", cut_off(queue)),
    }
}
