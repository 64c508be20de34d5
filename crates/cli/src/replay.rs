//! `sentinel replay`: webhooks through the real pipeline, with a store and a clock of their own.
//!
//! Events arrive in the order given; then time jumps over every wait, so that a card that waits a minute does not
//! cost one.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use futures::StreamExt;
use sentinel_aws::{MachineClock, fresh_ids};
use sentinel_config::Loaded;
use sentinel_core::UnixMs;
use sentinel_core::incident::IncidentId;
use sentinel_core::intake::{Receipt, intake};
use sentinel_core::ports::{Clock, Ports};
use sentinel_local::{Backend, LocalQueue, Receiver};
use sentinel_model::Recorded;
use sentinel_worker::{Handled, Replacement, Worker};

use crate::Exit;
use crate::api::{self, Detail};
use crate::args::Replay;
use crate::environment::Environment;
use crate::{progress, render, setup};

/// Time jumps of one replay: an incident that never comes to rest must not keep it for ever.
const MOST_JUMPS: usize = 1000;

pub(crate) async fn run(args: Replay, env: &Environment) -> anyhow::Result<Exit> {
    let loaded = match setup::load_to_run(args.config.config.as_deref(), env).await? {
        Ok(to_run) => to_run.loaded,
        Err(exit) => return Ok(exit),
    };
    if let Err(problems) = sentinel_worker::compile(&loaded) {
        return setup::tell(&problems);
    }
    setup::logs(&loaded, args.json, env)?;
    let events = args.events.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let runs = runs(&args, &loaded)?;

    let backend = match &args.data_dir {
        Some(folder) => Backend::open(folder).await?,
        None => Backend::memory().await?,
    };
    let clock = Arc::new(MachineClock::default());
    let shared: Arc<dyn Clock> = clock.clone();
    let (queue, receiver) = LocalQueue::new(Arc::clone(&shared));
    let ports = Ports { store: backend.store(), queue: Arc::new(queue), clock: shared, fresh: fresh_ids() };
    let (sender, printer) = progress::start(args.json, env.stderr_is_terminal);
    let mut stage = Stage {
        clock,
        receiver,
        concurrency: loaded.settings.dispatcher.worker_concurrency,
        default: sentinel_worker::assemble(&loaded, ports, Some(sender))?,
        recorded: BTreeMap::new(),
        incidents: Vec::new(),
    };
    for ((path, body), run) in args.events.iter().zip(&events).zip(&runs) {
        let receipt = stage.arrive(&loaded, path, body, run.as_ref()).await?;
        tell_receipt(path, &receipt, args.json)?;
    }
    stage.settle().await?;
    let details = stage.details().await?;
    // The printer ends when the last sender of events is gone.
    drop(stage);
    printer.finish().await;
    print(&details, args.json)?;
    Ok(Exit::Done)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read the event {}", path.display()))
}

/// The recorded run of each event, where one is to be used.
fn runs(args: &Replay, loaded: &Loaded) -> anyhow::Result<Vec<Option<Replacement>>> {
    if let Some(path) = &args.recorded {
        let run = recorded(path)?;
        return Ok(vec![Some(run); args.events.len()]);
    }
    if loaded.settings.openai.api_key.is_some() {
        return Ok(vec![None; args.events.len()]);
    }
    let mut runs = Vec::new();
    let mut told = false;
    for event in &args.events {
        let beside = example_run(event);
        let run = if beside.is_file() { Some(recorded(&beside)?) } else { None };
        if run.is_some() && !told {
            writeln!(
                anstream::stderr(),
                "No OPENAI_API_KEY: this is an example. The model's turns and the tools' outputs come from {}, \
                 written for it;\nintake, store, evidence checks, report and sinks are the real ones.",
                beside.display()
            )?;
            told = true;
        }
        runs.push(run);
    }
    Ok(runs)
}

/// `events/runs/NAME.json` is the example run of `events/alertmanager/NAME.json`.
fn example_run(event: &Path) -> PathBuf {
    let folder = event.parent().and_then(Path::parent).unwrap_or_else(|| Path::new(""));
    folder.join("runs").join(event.file_name().unwrap_or_default())
}

fn recorded(path: &Path) -> anyhow::Result<Replacement> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the recorded run {}", path.display()))?;
    let run = Arc::new(Recorded::read(&text, &path.display().to_string())?);
    Ok(Replacement { model: run.clone(), tools: run })
}

/// The pipeline of one replay.
struct Stage {
    clock: Arc<MachineClock>,
    receiver: Receiver,
    concurrency: usize,
    /// For incidents without a recorded run.
    default: Worker,
    /// For incidents with one.
    recorded: BTreeMap<IncidentId, Worker>,
    /// In the order in which they were opened.
    incidents: Vec<IncidentId>,
}

impl Stage {
    async fn arrive(
        &mut self,
        loaded: &Loaded,
        path: &Path,
        body: &[u8],
        run: Option<&Replacement>,
    ) -> anyhow::Result<Receipt> {
        let now = self.clock.now();
        let message = sentinel_alertmanager::parse(body, now)
            .with_context(|| format!("{} is not a webhook that Sentinel takes", path.display()))?;
        let receipt = intake(&self.default.ports, &loaded.settings.cards, message).await?;
        for incident in &receipt.incidents {
            if !self.incidents.contains(&incident.id) {
                self.incidents.push(incident.id.clone());
            }
            if let Some(run) = run {
                self.recorded
                    .entry(incident.id.clone())
                    .or_insert_with(|| self.default.clone().replaced(run));
            }
        }
        Ok(receipt)
    }

    /// Handles what is due, then jumps to what is due next, until nothing is.
    async fn settle(&self) -> anyhow::Result<()> {
        for _ in 0..MOST_JUMPS {
            let mut jobs = Vec::new();
            while let Some(job) = self.receiver.pop_due(self.clock.now()) {
                jobs.push(job);
            }
            let handled: Vec<anyhow::Result<Handled>> = futures::stream::iter(jobs)
                .map(|job| async move {
                    let worker = self.recorded.get(&job.incident).unwrap_or(&self.default);
                    Ok(worker.handle(&job, UnixMs::new(i64::MAX)).await?)
                })
                .buffer_unordered(self.concurrency)
                .collect()
                .await;
            for handled in handled {
                let _ = handled?;
            }
            // What the queue does not know of is the sweeper's: deliveries that are to be tried again.
            let next = match self.receiver.next_due() {
                Some(next) => next,
                None => match self.next_owed().await? {
                    Some(next) => next,
                    None => return Ok(()),
                },
            };
            self.clock.jump_to(next);
            let rules = |card: &str| self.default.rules(card);
            let _ = sentinel_sweeper::sweep(&self.default.ports, rules, self.incidents.len().max(1)).await?;
        }
        bail!("the incidents did not come to rest after {MOST_JUMPS} waits")
    }

    async fn next_owed(&self) -> anyhow::Result<Option<UnixMs>> {
        let mut next: Option<UnixMs> = None;
        for id in &self.incidents {
            let due =
                self.default.ports.store.load(id).await?.and_then(|h| sentinel_core::lifecycle::due_at(&h));
            next = match (next, due) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        Ok(next)
    }

    async fn details(&self) -> anyhow::Result<Vec<Detail>> {
        let mut details = Vec::new();
        for id in &self.incidents {
            details.extend(api::detail(self.default.ports.store.as_ref(), id).await?);
        }
        Ok(details)
    }
}

fn tell_receipt(path: &Path, receipt: &Receipt, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(());
    }
    let parts: Vec<String> = [
        (receipt.accepted, "accepted"),
        (receipt.joined, "joined"),
        (receipt.duplicates, "duplicates"),
        (receipt.resolved, "resolved"),
        (receipt.suppressed, "suppressed"),
        (receipt.unmatched, "matched by no card"),
        (receipt.refused, "unreadable"),
    ]
    .iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    writeln!(anstream::stderr(), "{}: {}", path.display(), parts.join(", "))?;
    Ok(())
}

fn print(details: &[Detail], json: bool) -> anyhow::Result<()> {
    let mut out = anstream::stdout();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(details)?)?;
        return Ok(());
    }
    if details.is_empty() {
        writeln!(out, "No incident was opened.")?;
    }
    for detail in details {
        writeln!(out, "{}", render::incident(detail))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_run_stands_beside_the_folder_of_events() {
        let run = example_run(Path::new("events/alertmanager/watchdog.json"));
        assert_eq!(run, Path::new("events/runs/watchdog.json"));
    }
}
