//! `sentinel replay`: webhooks through the real pipeline, with a store and a clock of their own.
//!
//! Events arrive in the order given; then time jumps over every wait.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use sentinel_config::{Loaded, ModelService, SinkKind, read_file, read_text};
use sentinel_core::incident::State;
use sentinel_core::intake::Receipt;
use sentinel_model::Recorded;
use sentinel_worker::Replacement;

use crate::Exit;
use crate::api::Detail;
use crate::args::Replay;
use crate::environment::Environment;
use crate::render::Screen;
use crate::stage::Stage;
use crate::{incidents, progress, render, setup};

pub(crate) async fn run(args: Replay, env: &Environment) -> anyhow::Result<Exit> {
    let mut loaded = match setup::load_to_run(args.config.config.as_deref(), env).await? {
        Ok(to_run) => to_run.loaded,
        Err(exit) => return Ok(exit),
    };
    if !args.deliver {
        tell_the_log_only(&mut loaded, env);
    }
    let playbooks = match sentinel_worker::compile(&loaded) {
        Ok(playbooks) => playbooks,
        Err(problems) => return Ok(setup::tell(&problems, env)),
    };
    setup::logs_of_a_trial(&loaded, env)?;
    let events = args.events.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let runs = runs(&args, &loaded, env)?;

    let (sender, printer) = progress::start(env);
    let mut stage = Stage::new(&loaded.settings, playbooks, args.data_dir.as_deref(), Some(sender)).await?;
    for ((path, body), run) in args.events.iter().zip(&events).zip(&runs) {
        let receipt =
            stage.arrive(&loaded.settings.cards, &path.display().to_string(), body, run.as_ref()).await?;
        tell_receipt(path, &receipt, env);
    }
    stage.settle().await?;
    let details = stage.details().await?;
    // The printer ends when the last sender of events is gone.
    drop(stage);
    printer.finish().await;
    print(&details, &args, env)?;
    Ok(exit(details.iter().map(|detail| detail.state)))
}

/// How a replay has ended whose incidents ended like this.
fn exit(mut states: impl Iterator<Item = State>) -> Exit {
    if states.any(|state| state == State::Failed) { Exit::Failed } else { Exit::Done }
}

/// Takes every destination but the log out of the cards: whoever tries an event out does not want to wake anybody.
fn tell_the_log_only(loaded: &mut Loaded, env: &Environment) {
    let settings = &loaded.settings;
    let is_log = |entry: &str| settings.sink(entry).is_some_and(|s| matches!(s.kind, SinkKind::Log { .. }));
    let entries = settings.cards.iter().flat_map(|card| &card.sinks).map(|subscription| &subscription.sink);
    let not_told: BTreeSet<String> = entries.filter(|entry| !is_log(entry)).cloned().collect();
    for card in &mut loaded.settings.cards {
        card.sinks.retain(|subscription| !not_told.contains(&subscription.sink));
    }
    if !not_told.is_empty() {
        let names = not_told.into_iter().collect::<Vec<_>>().join(", ");
        env.note(&format!("Nobody is told: {names}. --deliver tells them."));
    }
}

pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    read_file(path).with_context(|| format!("cannot read the event {}", path.display()))
}

/// The recorded run of each event, where one is to be used.
fn runs(args: &Replay, loaded: &Loaded, env: &Environment) -> anyhow::Result<Vec<Option<Replacement>>> {
    if let Some(path) = &args.recorded {
        let run = recorded(path)?;
        return Ok(vec![Some(run); args.events.len()]);
    }
    if loaded.settings.models.services().any(ModelService::can_be_asked) {
        return Ok(vec![None; args.events.len()]);
    }
    let mut runs = Vec::new();
    let mut told = false;
    for event in &args.events {
        let beside = example_run(event);
        let run = if beside.is_file() { Some(recorded(&beside)?) } else { None };
        if run.is_some() && !told {
            env.note(&format!(
                "No OPENAI_API_KEY: this is an example. The model's turns and the tools' outputs come from {}, \
                 written for it;\nintake, store, evidence checks, report and sinks are the real ones.",
                beside.display()
            ));
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

pub(crate) fn recorded(path: &Path) -> anyhow::Result<Replacement> {
    let text = read_text(path).with_context(|| format!("cannot read the recorded run {}", path.display()))?;
    let run = Arc::new(Recorded::read(&text, &path.display().to_string())?);
    Ok(Replacement { model: run.clone(), tools: run })
}

fn tell_receipt(path: &Path, receipt: &Receipt, env: &Environment) {
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
    env.note(&format!("{}: {}", path.display(), parts.join(", ")));
}

fn print(details: &[Detail], args: &Replay, env: &Environment) -> anyhow::Result<()> {
    let mut out = anstream::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(details)?)?;
        return Ok(());
    }
    if details.is_empty() {
        writeln!(out, "No incident was opened.")?;
    }
    for detail in details {
        // What was kept in memory only is gone with this process.
        let more = match &args.data_dir {
            Some(folder) => incidents::deeper(detail, &format!(" --data-dir {}", folder.display())),
            None if args.full => Vec::new(),
            None => vec!["the same with --full, or with --data-dir DIR, which keeps the evidence".to_owned()],
        };
        let screen = Screen { width: env.columns, full: args.full, more: &more };
        write!(out, "{}", render::incident(detail, &screen))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_that_failed_fails_the_command() {
        assert_eq!(exit([State::Done, State::Suppressed].into_iter()), Exit::Done);
        assert_eq!(exit([State::Done, State::Failed].into_iter()), Exit::Failed);
    }

    #[test]
    fn the_example_run_stands_beside_the_folder_of_events() {
        let run = example_run(Path::new("events/alertmanager/watchdog.json"));
        assert_eq!(run, Path::new("events/runs/watchdog.json"));
    }
}
