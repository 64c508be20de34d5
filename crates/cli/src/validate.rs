//! `sentinel validate`: the problems of a configuration, or what it resolves to.

use std::io::Write;
use std::time::Duration;

use sentinel_config::{Caller, Diagnostic, Loaded, Problems, Server, Watcher};
use sentinel_core::budget::{Limits, MicroUsd};
use sentinel_core::card::{Card, DedupeBy, PromptSource};
use serde::Serialize;

use crate::Exit;
use crate::args::Validate;
use crate::environment::Environment;
use crate::setup;

/// The shortest rate of a schedule on AWS.
const LEAST_ON_LAMBDA: Duration = Duration::from_mins(1);

/// The model's service calls the server.
const HOSTED: &str = "hosted";
/// Sentinel calls it.
const DIRECT: &str = "direct";

/// What `--json` prints.
#[derive(Serialize)]
struct Verdict<'a> {
    valid: bool,
    diagnostics: &'a [Diagnostic],
    /// What all cards together may spend.
    budget: Option<Spending>,
    cards: Vec<Resolved>,
    servers: Vec<Called>,
    watchers: Vec<Polled>,
}

/// Limits of spending; what is absent is not limited.
#[derive(Serialize)]
struct Spending {
    per_hour: Option<u32>,
    per_day: Option<u32>,
    usd_per_hour: Option<f64>,
    usd_per_day: Option<f64>,
}

impl Spending {
    fn of(limits: &Limits) -> Self {
        Self {
            per_hour: limits.per_hour,
            per_day: limits.per_day,
            usd_per_hour: limits.usd_per_hour.map(MicroUsd::as_usd),
            usd_per_day: limits.usd_per_day.map(MicroUsd::as_usd),
        }
    }
}

/// A card with everything filled in.
#[derive(Serialize)]
struct Resolved {
    name: String,
    matches: Vec<String>,
    prompt: String,
    model: String,
    fallback_models: Vec<String>,
    tools: Vec<String>,
    sinks: Vec<String>,
    max_iterations: u32,
    max_tokens: u64,
    max_usd: f64,
    timeout_seconds: u64,
    attempts: u32,
    dedupe_by: String,
    dedupe_ttl_seconds: u64,
    wait_seconds: u64,
    budget: Spending,
    generations_per_hour: Option<u32>,
    evidence: Vec<String>,
    checklist: Vec<String>,
}

impl Resolved {
    fn of(card: &Card) -> Self {
        Self {
            name: card.name.clone(),
            matches: card.resource.matchers.iter().map(ToString::to_string).collect(),
            prompt: match &card.prompt.source {
                PromptSource::Inline => "inline".to_owned(),
                PromptSource::File(path) => path.display().to_string(),
                PromptSource::BuiltIn(name) => format!("built in: {name}"),
            },
            model: card.model.to_string(),
            fallback_models: card.fallback_models.iter().map(ToString::to_string).collect(),
            tools: card.tools.iter().map(ToString::to_string).collect(),
            sinks: card.sinks.iter().map(|s| s.sink.clone()).collect(),
            max_iterations: card.max_iterations,
            max_tokens: card.max_tokens,
            max_usd: card.max_usd.as_usd(),
            timeout_seconds: card.timeout.as_secs(),
            attempts: card.attempts,
            dedupe_by: match &card.dedupe_by {
                DedupeBy::Group => "group labels and alertname".to_owned(),
                DedupeBy::Alert => "all labels".to_owned(),
                DedupeBy::Labels(names) => names.join(", "),
            },
            dedupe_ttl_seconds: card.dedupe_ttl.as_secs(),
            wait_seconds: card.wait.as_secs(),
            budget: Spending::of(&card.budget),
            generations_per_hour: card.generations_per_hour,
            evidence: card.evidence.iter().map(|e| e.tool.to_string()).collect(),
            checklist: card.checklist.iter().map(|c| c.name.clone()).collect(),
        }
    }
}

/// An MCP server, and who calls it.
#[derive(Serialize)]
struct Called {
    name: String,
    /// What `mode` comes to: `hosted` or `direct`.
    mode: &'static str,
    why: String,
}

impl Called {
    fn of(server: &Server) -> Self {
        let mode = match server.reach.caller {
            Caller::ModelService(_) => HOSTED,
            Caller::Sentinel => DIRECT,
        };
        Self { name: server.name.clone(), mode, why: server.reach.why.clone() }
    }
}

/// A watcher, as it will poll.
#[derive(Serialize)]
struct Polled {
    name: String,
    r#type: &'static str,
    host: String,
    resources: Vec<String>,
    poll_interval_seconds: f64,
    /// Lambda's schedules know minutes only.
    poll_interval_seconds_on_lambda: f64,
}

impl Polled {
    fn of(watcher: &Watcher) -> Self {
        let host = watcher.endpoint.host_str().unwrap_or_default();
        let port = watcher.endpoint.port().map(|port| format!(":{port}")).unwrap_or_default();
        Self {
            name: watcher.name.clone(),
            r#type: watcher.kind.as_str(),
            host: format!("{host}{port}"),
            resources: watcher.resources.clone(),
            poll_interval_seconds: watcher.poll_interval.as_secs_f64(),
            poll_interval_seconds_on_lambda: watcher.poll_interval.max(LEAST_ON_LAMBDA).as_secs_f64(),
        }
    }
}

pub(crate) fn run(args: &Validate, env: &Environment) -> anyhow::Result<Exit> {
    let explicit = args.config.config.as_deref().or(args.file.as_deref());
    let source = match setup::locate(explicit, env) {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    let checked = sentinel_config::load(&source, &|name| env.var(name)).and_then(|mut loaded| {
        env.keep_back(loaded.settings.redactor());
        let playbooks = sentinel_worker::compile(&loaded).map_err(|mut problems| {
            problems.diagnostics.extend(loaded.warnings.iter().cloned());
            problems
        })?;
        let warnings = sentinel_worker::warnings(&loaded, &playbooks);
        loaded.warnings.extend(warnings);
        Ok(loaded)
    });
    if args.json {
        as_json(&checked, env)
    } else {
        as_text(&source.name.display().to_string(), &checked, env)
    }
}

/// `sentinel schema`: what a configuration may hold.
pub(crate) fn schema() -> anyhow::Result<Exit> {
    writeln!(anstream::stdout(), "{}", serde_json::to_string_pretty(&sentinel_config::json_schema()?)?)?;
    Ok(Exit::Done)
}

fn as_json(checked: &Result<Loaded, Problems>, env: &Environment) -> anyhow::Result<Exit> {
    let (verdict, exit) = match checked {
        Ok(loaded) => (
            Verdict {
                valid: true,
                diagnostics: &loaded.warnings,
                budget: Some(Spending::of(&loaded.settings.budget)),
                cards: loaded.settings.cards.iter().map(Resolved::of).collect(),
                servers: loaded.settings.servers.iter().map(Called::of).collect(),
                watchers: loaded.settings.watchers.iter().map(Polled::of).collect(),
            },
            Exit::Done,
        ),
        Err(problems) => (
            Verdict {
                valid: false,
                diagnostics: &problems.diagnostics,
                budget: None,
                cards: Vec::new(),
                servers: Vec::new(),
                watchers: Vec::new(),
            },
            Exit::Usage,
        ),
    };
    writeln!(anstream::stdout(), "{}", env.json_without_secrets(&verdict)?)?;
    Ok(exit)
}

fn as_text(name: &str, checked: &Result<Loaded, Problems>, env: &Environment) -> anyhow::Result<Exit> {
    let loaded = match checked {
        Ok(loaded) => loaded,
        Err(problems) => return Ok(setup::tell(problems, env)),
    };
    setup::print_diagnostics(&loaded.warnings, env);
    let text = resolved(name, loaded)?;
    write!(anstream::stdout(), "{}", env.without_secrets(&text))?;
    Ok(Exit::Done)
}

/// What a configuration resolves to, for people.
fn resolved(name: &str, loaded: &Loaded) -> Result<String, std::fmt::Error> {
    use std::fmt::Write as _;

    let mut out = String::new();
    writeln!(out, "\x1b[1mbudget\x1b[0m  {}", loaded.settings.budget)?;
    for (card, of) in loaded.settings.cards.iter().map(|card| (Resolved::of(card), card)) {
        let limits = of.budget;
        let matches =
            if card.matches.is_empty() { "every alert".to_owned() } else { card.matches.join(", ") };
        writeln!(out, "\x1b[1m{}\x1b[0m  takes {matches}", card.name)?;
        writeln!(out, "  prompt      {}", card.prompt)?;
        writeln!(
            out,
            "  model       {}, at most {} turns, {} tokens and {} an investigation",
            card.model, card.max_iterations, card.max_tokens, of.max_usd
        )?;
        if !card.fallback_models.is_empty() {
            writeln!(out, "  fallback    {}", card.fallback_models.join(", then "))?;
        }
        writeln!(out, "  tools       {}", listed(&card.tools, "none: only the evidence calls are made"))?;
        writeln!(out, "  evidence    {}", listed(&card.evidence, "none"))?;
        writeln!(out, "  checklist   {}", listed(&card.checklist, "none"))?;
        writeln!(out, "  sinks       {}", listed(&card.sinks, "none: only the store holds the report"))?;
        if !limits.is_none() {
            writeln!(out, "  budget      {limits}, beside that of all cards")?;
        }
        if let Some(most) = card.generations_per_hour {
            writeln!(out, "  flapping    after {most} generations of one incident an hour")?;
        }
        writeln!(out, "  one incident for each {}", card.dedupe_by)?;
        writeln!(
            out,
            "  waits {} s, at least {} s between generations, {} attempts of {} s in all",
            card.wait_seconds, card.dedupe_ttl_seconds, card.attempts, card.timeout_seconds
        )?;
    }
    for server in loaded.settings.servers.iter().map(Called::of) {
        writeln!(out, "\x1b[1m{}\x1b[0m  is {}: {}", server.name, server.mode, server.why)?;
        if server.mode == HOSTED {
            writeln!(
                out,
                "  calls       the model's service makes them, each with the tool policy's leave; no person is asked"
            )?;
            writeln!(
                out,
                "  outputs     the service sees them before secrets are taken out and before they are cut"
            )?;
            writeln!(out, "  once more   a call whose answer was lost may be made again")?;
        }
    }
    for watcher in loaded.settings.watchers.iter().map(Polled::of) {
        let Polled { name, r#type, host, resources, poll_interval_seconds: every, .. } = &watcher;
        let least = watcher.poll_interval_seconds_on_lambda;
        writeln!(out, "\x1b[1m{name}\x1b[0m  asks the {type} at {host} every {every} s")?;
        writeln!(out, "  resources   {}", listed(resources, "all of the cards"))?;
        if least > *every {
            writeln!(out, "  on Lambda   every {least} s: schedules have minutes only")?;
        }
    }
    let warnings = loaded.warnings.len();
    writeln!(out, "{name}: valid, {} cards, {warnings} warnings", loaded.settings.cards.len())?;
    Ok(out)
}

fn listed(items: &[String], none: &str) -> String {
    if items.is_empty() { none.to_owned() } else { items.join(", ") }
}
