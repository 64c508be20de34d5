//! `sentinel replay INCIDENT --from-store`: a stored investigation once more, offline, and what came out otherwise.
//!
//! The stored alerts go through the whole pipeline; tools are answered from the transcript, and so are the model's turns,
//! unless a live model is named. Nobody is told anything.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use sentinel_config::{Loaded, Problems, Source};
use sentinel_core::alert::Alert;
use sentinel_core::incident::State;
use sentinel_core::notification::Message;
use sentinel_core::report::{Report, Statement};
use sentinel_model::Transcript;
use sentinel_worker::{Mind, Replacement};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::{Detail, Record};
use crate::args::{Replay, StoreFlags};
use crate::environment::Environment;
use crate::incidents::Place;
use crate::render::inert;
use crate::setup::ToRun;
use crate::stage::{Stage, alone};
use crate::{Exit, progress, setup};

/// What came of it.
#[derive(Debug, Serialize)]
struct Replayed {
    incident: String,
    card: String,
    /// The live model that was asked; `None`: the stored turns.
    model: Option<String>,
    /// Calls that the transcript does not hold.
    misses: Vec<String>,
    /// What cannot be held against what was stored.
    not_comparable: Vec<String>,
    /// Why the run did not come to its end; `None`: it did.
    unfinished: Option<String>,
    differences: Vec<Difference>,
}

/// One thing that is otherwise. Lists hold only what one side has and the other has not.
#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    what: &'static str,
    then: Value,
    now: Value,
}

pub(crate) async fn run(args: Replay, env: &Environment) -> anyhow::Result<Exit> {
    let [given] = args.events.as_slice() else { bail!("--from-store takes the id of one incident") };
    let Some(given) = given.to_str() else { bail!("{} is no incident's id", given.display()) };
    let flags = StoreFlags {
        data_dir: args.data_dir.clone().unwrap_or_else(|| ".sentinel".into()),
        table: args.table.clone(),
        config: args.config.clone(),
        json: args.json,
    };
    let place = Place::of(&flags).await?.keeping_back(&flags, env);
    let id = place.whole_id(given).await?;
    let Some(record) = place.record(&id).await? else { bail!("there is no incident {id}") };
    let card = record.incident.card.clone();
    let mut loaded = match setup::load_to_run(args.config.config.as_deref(), env).await? {
        Ok(ToRun { mut loaded, source, .. }) => {
            if let Some(file) = &args.card {
                match with_card(&source, file, env)? {
                    // All else stands as it was read, with the secrets of the secret store.
                    Ok(changed) => {
                        loaded.settings.cards = changed.settings.cards;
                        loaded.places = changed.places;
                    }
                    Err(problems) => return Ok(setup::tell(&problems, env)),
                }
            }
            loaded
        }
        Err(exit) => return Ok(exit),
    };
    setup::logs_of_a_trial(&loaded, env)?;
    prepare(&mut loaded, &card, args.model.as_deref())?;
    let playbooks = match sentinel_worker::compile(&loaded) {
        Ok(playbooks) => playbooks,
        Err(problems) => return Ok(setup::tell(&problems, env)),
    };

    let (sender, printer) = progress::start(env);
    let mut stage = Stage::new(&loaded.settings, playbooks, None, Some(sender)).await?;
    let tools = loaded.settings.cards.iter().flat_map(|card| card.tools.iter().cloned()).collect();
    let redactor = loaded.settings.redactor().for_incident(&id);
    let transcript = Arc::new(Transcript::new(
        record.turns.clone(),
        record.evidence.clone(),
        &tools,
        redactor,
        stage.store(),
    ));
    let model = match (&args.model, stage.mind()) {
        (None, _) => transcript.clone(),
        (Some(_), Mind::Model(model)) => Arc::clone(model),
        (Some(_), Mind::None { reason }) => bail!("no model can be asked: {reason}"),
    };
    let run = Replacement { model, tools: transcript.clone() };
    for notification in &record.notifications {
        // What has resolved since would end it before it begins.
        let alerts: Vec<Alert> = notification.alerts.iter().filter(|a| a.is_firing()).cloned().collect();
        if alerts.is_empty() {
            continue;
        }
        let message = Message { envelope: notification.envelope.clone(), alerts, refused: Vec::new() };
        let _ = stage.take(&loaded.settings.cards, message, Some(&run)).await?;
    }
    stage.settle().await?;
    let details = stage.details().await?;
    drop(stage);
    printer.finish().await;
    let Some(now) = details.iter().find(|d| d.card == card) else {
        bail!("the card {card} does not take the alerts of incident {id} any more");
    };
    let replayed = Replayed {
        incident: id.to_string(),
        card,
        model: args.model,
        misses: transcript.misses(),
        not_comparable: transcript.gone(),
        unfinished: unfinished(now, &transcript),
        differences: differences(&Side::of_record(&record), &Side::of_detail(now)),
    };
    let mut out = anstream::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&replayed)?)?;
    } else {
        write!(out, "{}", text(&replayed))?;
    }
    Ok(if replayed.unfinished.is_none() { Exit::Done } else { Exit::Failed })
}

/// Why a run did not come to its end.
fn unfinished(now: &Detail, transcript: &Transcript) -> Option<String> {
    if transcript.has_ended() {
        let turns = transcript.turns();
        return Some(format!("the stored turns end after {turns}, and this run asks for one more"));
    }
    (now.state != State::Done).then(|| match &now.reason {
        Some(reason) => format!("it is {}: {reason}", now.state),
        None => format!("it is {}", now.state),
    })
}

/// Reads the configuration, with the card of that file in place of the one of its name.
fn with_card(source: &Source, file: &Path, env: &Environment) -> anyhow::Result<Result<Loaded, Problems>> {
    let card = Source::read(file, &env.cwd).with_context(|| format!("--card {}", file.display()))?;
    let card = setup::in_folder(card, env);
    Ok(sentinel_config::load_with_card(source, &card, &|name| env.var(name)))
}

/// Only this card, which waits for nothing, tells nobody, and asks `model`, if one is named.
fn prepare(loaded: &mut Loaded, card: &str, model: Option<&str>) -> anyhow::Result<()> {
    alone(loaded);
    let Some(position) = loaded.settings.cards.iter().position(|c| c.name == card) else {
        bail!("the configuration has no card {card}: name one that has it by --config, or give it by --card");
    };
    let mut only = loaded.settings.cards.swap_remove(position);
    // What a tool's definition was is not in the transcript, only what of it was shown.
    only.lock = None;
    if let Some(model) = model {
        only.model = model.into();
        only.fallback_models.clear();
    }
    loaded.settings.cards = vec![only];
    loaded.places = vec![loaded.places.swap_remove(position)];
    Ok(())
}

/// What is compared of one run.
struct Side<'a> {
    state: String,
    report: Option<&'a Report>,
    calls: Vec<String>,
}

impl<'a> Side<'a> {
    fn of_record(record: &'a Record) -> Self {
        let calls = record.evidence.iter().map(|e| call(&e.tool, &e.arguments, e.ok)).collect();
        Self { state: record.incident.state.to_string(), report: record.report.as_ref(), calls }
    }

    fn of_detail(detail: &'a Detail) -> Self {
        let calls = detail.evidence.iter().map(|e| call(&e.tool, &e.arguments, e.ok)).collect();
        Self { state: detail.state.to_string(), report: detail.report.as_ref(), calls }
    }

    /// Single values, by name.
    fn values(&self) -> Vec<(&'static str, Value)> {
        let of = |value: &dyn Fn(&Report) -> Value| self.report.map_or(Value::Null, value);
        vec![
            ("state", json!(self.state)),
            ("verdict", of(&|r| json!(r.verdict))),
            ("title", of(&|r| json!(r.title))),
            ("turns", of(&|r| json!(r.usage.turns))),
            ("tokens in", of(&|r| json!(r.usage.input_tokens))),
            ("tokens out", of(&|r| json!(r.usage.output_tokens))),
            ("cost in USD", of(&|r| json!(r.usage.usd))),
        ]
    }

    /// Lists, by name.
    fn lists(&self) -> Vec<(&'static str, Vec<String>)> {
        let of = |list: &dyn Fn(&Report) -> Vec<String>| self.report.map(list).unwrap_or_default();
        vec![
            ("hypotheses", of(&|r| r.hypotheses.iter().map(statement).collect())),
            ("ruled out", of(&|r| r.ruled_out.iter().map(statement).collect())),
            ("gaps", of(&|r| r.gaps.clone())),
            (
                "checklist",
                of(&|r| {
                    let mark = |passed| if passed { "ok" } else { "failed" };
                    r.checklist.iter().map(|c| format!("{}: {}", mark(c.passed), c.name)).collect()
                }),
            ),
            ("calls", self.calls.clone()),
        ]
    }
}

fn call(tool: &str, arguments: &serde_json::Map<String, Value>, ok: bool) -> String {
    let failed = if ok { "" } else { " (failed)" };
    format!("{tool} {}{failed}", Value::Object(arguments.clone()))
}

fn statement(s: &Statement) -> String {
    let confidence = s.confidence.map(|c| format!("{:.0}% ", c * 100.0)).unwrap_or_default();
    let unsupported = if s.supported == Some(true) { "" } else { " (unsupported)" };
    format!("{confidence}{}{unsupported}", s.statement)
}

fn differences(then: &Side<'_>, now: &Side<'_>) -> Vec<Difference> {
    let values = then.values().into_iter().zip(now.values());
    let values = values.filter(|((_, then), (_, now))| then != now);
    let mut found: Vec<Difference> =
        values.map(|((what, then), (_, now))| Difference { what, then, now }).collect();
    for ((what, then), (_, now)) in then.lists().into_iter().zip(now.lists()) {
        let only = |of: &[String], other: &[String]| -> Vec<String> {
            of.iter().filter(|line| !other.contains(line)).cloned().collect()
        };
        let (gone, new) = (only(&then, &now), only(&now, &then));
        if !gone.is_empty() || !new.is_empty() {
            found.push(Difference { what, then: json!(gone), now: json!(new) });
        }
    }
    found
}

fn text(r: &Replayed) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{text}");
    };
    let by =
        r.model.as_deref().map_or("its stored turns".to_owned(), |model| format!("model {}", inert(model)));
    let id: String = r.incident.chars().take(12).collect();
    line(format!("\x1b[1mIncident {id}\x1b[0m  card {}  replayed with {by}", inert(&r.card)));
    for miss in &r.misses {
        line(format!("\x1b[33mnot in the transcript\x1b[0m  {}", inert(miss)));
    }
    for what in &r.not_comparable {
        line(format!("\x1b[33mcannot be compared\x1b[0m  {}", inert(what)));
    }
    if let Some(why) = &r.unfinished {
        line(format!("\x1b[31mcould not be finished\x1b[0m  {}", inert(why)));
    } else if r.differences.is_empty() {
        line("No difference.".to_owned());
    }
    for Difference { what, then, now } in &r.differences {
        match (then, now) {
            (Value::Array(gone), Value::Array(new)) => {
                line((*what).to_owned());
                for g in gone {
                    line(format!("  \x1b[31m- {}\x1b[0m", shown(g)));
                }
                for n in new {
                    line(format!("  \x1b[32m+ {}\x1b[0m", shown(n)));
                }
            }
            _ => line(format!("{what}: {} → {}", shown(then), shown(now))),
        }
    }
    out
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => inert(text),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}
