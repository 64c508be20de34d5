//! `sentinel up`: the whole pipeline in one process, on the embedded backend.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use sentinel_aws::{MachineClock, fresh_ids};
use sentinel_core::UnixMs;
use sentinel_core::incident::Job;
use sentinel_core::ports::{Clock, Ports};
use sentinel_ingest::Refusals;
use sentinel_local::{Backend, Handled, LocalQueue, Receiver, write_private};
use sentinel_sweeper::{SweepError, When};
use sentinel_telemetry::{Counts, Metric, Metrics};
use sentinel_worker::{Health, Running};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Exit;
use crate::access::{TOKEN_FILE, new_token};
use crate::args::Up;
use crate::bodies::{BYTES, Bodies};
use crate::connections::{Connections, Crowd, usual_limit};
use crate::ending::Ending;
use crate::environment::Environment;
use crate::events::Readers;
use crate::health::Ready;
use crate::house::{Current, Ground, House, Plan};
use crate::reload::Reloading;
use crate::server::{Service, router};
use crate::{progress, setup};

/// How often the sweeper looks.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

pub(crate) async fn run(args: Up, env: &Environment) -> anyhow::Result<Exit> {
    let to_run = match setup::load_to_run(args.config.config.as_deref(), env).await? {
        Ok(to_run) => to_run,
        Err(exit) => return Ok(exit),
    };
    let settings = &to_run.loaded.settings;
    setup::logs(&to_run.loaded, env)?;
    // From here on a hang-up means something else than the end.
    let hang_ups = signal(SignalKind::hangup()).context("signals cannot be watched")?;

    let clock: Arc<dyn Clock> = Arc::new(MachineClock::default());
    let plan = match Plan::of(&to_run, args.listen, &clock, env)? {
        Ok(plan) => plan,
        Err(exit) => return Ok(exit),
    };
    let backend = Backend::open(&args.data_dir).await?;
    let (queue, receiver) = LocalQueue::new(Arc::clone(&clock));
    let ports = Ports {
        store: backend.store(),
        queue: Arc::new(queue.clone()),
        clock,
        fresh: fresh_ids(),
        signing_key: sentinel_local::signing_key(&args.data_dir)?,
    };
    let (events, printer) = progress::start(env);
    let refusals = Refusals::default();
    let (counts, health) = (Counts::default(), Health::default());
    let metrics = Metrics::counted_in(&counts);
    let ground = Ground {
        ports: ports.clone(),
        events,
        tag_keys: sentinel_local::tag_keys(&args.data_dir),
        own_token: own_token(&args.data_dir)?,
        listen: args.listen,
        running: Running::default(),
        refusals: refusals.clone(),
        metrics: metrics.clone(),
        health: health.clone(),
    };
    let current = Current::new(House::of(plan, settings, &ground)?);
    current.house().tell_warnings();

    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr()?;
    let url = format!("http://{address}");
    backend.announce(&url)?;

    // Whoever held a lease is gone, and the queue is empty: what the store holds is what there is to do.
    let restarted = sentinel_sweeper::restart(&ports, |card| current.house().rules(card)).await?;
    let signed_by = ports.signing_key.as_ref().map(|key| tracing::field::display(key.public()));
    tracing::info!(%url, resumed = restarted.sent, signed_by, "listening");
    let ending = Ending::default();
    ending.watch(settings.listener.drain, last_words(&queue, env)).context("signals cannot be watched")?;
    announce(&url, args.json)?;

    let stop = ending.asked.clone();
    let crowd = Crowd::new(settings.listener.max_connections.unwrap_or_else(usual_limit));
    let sweeper =
        tokio::spawn(sweep(ports.clone(), current.clone(), refusals.clone(), metrics.clone(), stop.clone()));
    let investigations = Investigations::start()?;
    let workers = investigations.spawn(work(
        receiver,
        current.clone(),
        settings.dispatcher.worker_concurrency,
        stop.clone(),
    ));
    let service = Service {
        current: current.clone(),
        readers: Readers::new(stop.clone()),
        bodies: Bodies::new(BYTES, crowd.clone()),
        crowd: crowd.clone(),
        ready: Ready::default(),
        health,
        counts,
        queue: queue.clone(),
    };
    let reloading = Reloading {
        signals: hang_ups,
        explicit: args.config.config.clone(),
        env: env.clone(),
        ground,
        current,
        stop: stop.clone(),
    };
    let connections =
        Connections { router: router(service), crowd, refusals, clock: Arc::clone(&ports.clock), stop };
    let tasks =
        vec![sweeper, workers, tokio::spawn(reloading.run()), tokio::spawn(connections.serve(listener))];

    ending.asked.cancelled().await;
    let exit = drain(&queue, tasks, &ending, env).await?;
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

/// Says where it listens. Nobody has to read that: a closed pipe does not end the service.
fn announce(url: &str, json: bool) -> anyhow::Result<()> {
    let text = if json {
        format!("{}\n", serde_json::json!({"listening": url}))
    } else {
        format!(
            "Sentinel listens on {url}\n\
             Alertmanager's webhook: {url}/webhook/alertmanager   incidents: {url}/api/incidents\n"
        )
    };
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
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

/// Handles jobs until it is told to stop, then ends those that run.
async fn work(receiver: Receiver, current: Current, concurrency: usize, stop: CancellationToken) {
    let handler = move |job: Job| {
        // One configuration for the whole of it.
        let worker = Arc::clone(&current.house().worker);
        async move {
            // No platform ends this process at a time known beforehand.
            match worker.handle(&job, UnixMs::new(i64::MAX)).await {
                Ok(handled) => {
                    tracing::debug!(incident = %job.incident, ?handled, "job handled");
                    Handled::Done
                }
                Err(error) => {
                    tracing::error!(incident = %job.incident, %error, "job not handled");
                    worker.metrics.emit(worker.ports.clock.now().get(), &[Metric::JobFailed]);
                    if error.is_retryable() { Handled::Again } else { Handled::Done }
                }
            }
        }
    };
    receiver.run(handler, concurrency, stop).await;
}

async fn sweep(
    ports: Ports,
    current: Current,
    refusals: Refusals,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let house = current.house();
        let end = ports.clock.now().plus(SWEEP_EVERY);
        let swept = sentinel_sweeper::sweep(&ports, |card| house.rules(card), When::until(end)).await;
        let done = match &swept {
            Ok(swept) | Err(SweepError::Some { swept, .. }) => Some(swept),
            Err(SweepError::Due(_)) => None,
        };
        if let Some(done) = done {
            let sent = u64::try_from(done.sent).unwrap_or(u64::MAX);
            let measured = [Metric::OldestDue(done.longest), Metric::Sent(sent)];
            metrics.emit(ports.clock.now().get(), &measured);
        }
        if let Err(error) = swept {
            tracing::error!(%error, "sweep failed; the next one is in a minute");
        }
        refusals.tell(ports.clock.now());
        house.worker.ending.tell(ports.clock.now());
    }
}

/// What is said where the end could not be waited for.
fn last_words(queue: &LocalQueue, env: &Environment) -> impl Fn() + Send + 'static {
    let (queue, env) = (queue.clone(), env.clone());
    move || {
        let how = "something does not let go, so the process ends as if it were killed";
        env.error(&format!("{how}{}", cut_off(&queue)));
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
async fn drain(
    queue: &LocalQueue,
    tasks: Vec<JoinHandle<()>>,
    ending: &Ending,
    env: &Environment,
) -> anyhow::Result<Exit> {
    let running = queue.stats().running;
    if running > 0 {
        let what =
            if running == 1 { "one investigation".to_owned() } else { format!("{running} investigations") };
        env.note(&format!("finishing {what}; Ctrl-C again stops at once, a restart goes on with them"));
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
