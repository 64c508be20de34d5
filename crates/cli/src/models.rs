//! `sentinel models`: what the services say of the configured models.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sentinel_aws::MachineClock;
use sentinel_config::Settings;
use sentinel_core::card::ModelId;
use sentinel_core::ports::Clock;
use sentinel_core::price::{LOOKED_UP, end_of_life};
use sentinel_model::{ListError, ModelList};
use serde::Serialize;

use crate::Exit;
use crate::args::Models;
use crate::environment::Environment;
use crate::finding::Finding;
use crate::render::inert;
use crate::setup;

/// How long a service has to list its models.
const LISTING: Duration = Duration::from_secs(30);

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Outcome {
    /// The day on which the built-in prices were looked up.
    prices_of: &'static str,
    models: Vec<Line>,
}

/// One configured model.
#[derive(Debug, Serialize)]
struct Line {
    service: String,
    name: String,
    /// Whether its service has it; `None`: it is not known.
    there: Option<bool>,
    /// Why that is not known.
    reason: Option<String>,
    /// Whether it could have been known.
    #[serde(skip)]
    has_failed: bool,
    /// The day on which it is switched off, where one is known.
    shutdown_date: Option<String>,
    /// Whether its price is known: without one its cost is not, and no limit in dollars holds it.
    priced: bool,
}

type Lists = BTreeMap<String, Result<ModelList, ListError>>;

pub(crate) async fn run(args: Models, env: &Environment) -> anyhow::Result<Exit> {
    let to_run = match setup::load_whole(args.config.config.as_deref(), env).await? {
        Ok(to_run) => to_run,
        Err(exit) => return Ok(exit),
    };
    setup::logs(&to_run.loaded, env)?;
    let lines = look(&to_run.loaded.settings).await?;
    let good = lines.iter().all(|line| line.there != Some(false) && !line.has_failed);
    let outcome = Outcome { prices_of: LOOKED_UP, models: lines };
    tell(&outcome, args.json, env)?;
    Ok(if good { Exit::Done } else { Exit::Failed })
}

/// What the services say of each configured model.
async fn look(settings: &Settings) -> anyhow::Result<Vec<Line>> {
    let mut models = sentinel_worker::models_of(settings);
    models.insert(settings.models.default.clone());
    models.extend(settings.models.fallbacks.clone());
    let lists = lists(settings, &models).await?;
    Ok(models.into_iter().map(|model| line(settings, model, &lists)).collect())
}

/// The same as a doctor says it.
pub(crate) async fn findings(settings: &Settings) -> anyhow::Result<Vec<Finding>> {
    let mut found = Vec::new();
    for line in look(settings).await? {
        let of = format!("model {}: {}", line.service, line.name);
        found.push(match (line.there, line.reason) {
            (Some(true), _) => Finding::good(&of, "its service has it"),
            (Some(false), _) => Finding::trouble(
                &of,
                "its service does not have it",
                "name another model; `sentinel models` asks again",
            ),
            (None, reason) if line.has_failed => Finding::trouble(
                &of,
                format!("its service could not be asked: {}", reason.unwrap_or_default()),
                "give the configuration the service's key and address; until then reports hold the evidence only",
            ),
            (None, reason) => Finding::note(
                &of,
                format!("nobody knows whether its service has it: {}", reason.unwrap_or_default()),
                "the first investigation tells",
            ),
        });
        if let Some(day) = line.shutdown_date {
            found.push(Finding::note(
                &of,
                format!("it is switched off on {day}"),
                "name its successor before that",
            ));
        }
        if !line.priced {
            found.push(Finding::note(
                &of,
                "no price of it is known, so that no limit in dollars holds it",
                "add it to `prices`",
            ));
        }
    }
    Ok(found)
}

/// Asks the services of these models, all at once.
async fn lists(settings: &Settings, models: &BTreeSet<ModelId>) -> anyhow::Result<Lists> {
    let http = sentinel_worker::http_client(settings);
    let clock: Arc<dyn Clock> = Arc::new(MachineClock::default());
    let credentials = sentinel_aws::credentials_of_environment();
    let services = sentinel_worker::services(settings, &clock, Some(&credentials))?;
    let asked = services.iter().filter(|s| models.iter().any(|model| model.service == s.name));
    let asked = asked.map(async |service| {
        let list = sentinel_model::list(service, &http, LISTING).await;
        (service.name.clone(), list)
    });
    Ok(join_all(asked).await.into_iter().collect())
}

fn line(settings: &Settings, model: ModelId, lists: &Lists) -> Line {
    let priced = settings.models.price(&model).is_some();
    let known = || end_of_life(&model.name).map(|end| end.day.to_string());
    let (there, shutdown_date, reason, has_failed) = match lists.get(&model.service) {
        Some(Ok(list)) => match list.find(&model.name) {
            Some(listed) => (Some(true), listed.shutdown_date.or_else(known), None, false),
            None => (Some(false), known(), None, false),
        },
        Some(Err(error)) => (None, known(), Some(error.to_string()), !matches!(error, ListError::NoList(_))),
        None => (None, known(), Some("its service has no key".to_owned()), true),
    };
    Line { service: model.service, name: model.name, there, reason, has_failed, shutdown_date, priced }
}

fn tell(outcome: &Outcome, json: bool, env: &Environment) -> anyhow::Result<()> {
    let mut out = anstream::stdout();
    if json {
        let text = serde_json::to_string_pretty(outcome)?;
        return Ok(writeln!(out, "{}", env.without_secrets(&text))?);
    }
    for line in &outcome.models {
        let there = match (line.there, &line.reason) {
            (Some(true), _) => "there".to_owned(),
            (Some(false), _) => "NOT THERE: name another model".to_owned(),
            (None, reason) => format!("not known: {}", reason.as_deref().unwrap_or_default()),
        };
        let shutdown =
            line.shutdown_date.as_ref().map_or_else(String::new, |day| format!("; switched off on {day}"));
        let price = if line.priced { "its price is known" } else { "no price is known" };
        let text = format!("{}: {}  {there}{shutdown}; {price}", line.service, line.name);
        writeln!(out, "{}", env.without_secrets(&inert(&text)))?;
    }
    Ok(())
}
