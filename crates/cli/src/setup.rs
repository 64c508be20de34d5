//! What commands share: loading the configuration, telling its problems, setting up logs.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use sentinel_aws::{Aws, CallLimits, MachineClock, Secrets};
use sentinel_config::{Diagnostic, Loaded, Problems, Reading, Severity, Source, load_for};
use sentinel_core::redact::Redactor;
use sentinel_core::view::Display;
use sentinel_telemetry::{LevelFilter, LogSettings};
use tracing::Level;

use crate::Exit;
use crate::args::STANDARD_INPUT;
use crate::environment::Environment;

/// Finds and reads the configuration. `Err(Exit::Usage)`: it was wrong, and that has been told.
pub(crate) fn load(explicit: Option<&Path>, env: &Environment) -> Result<Loaded, Exit> {
    let (loaded, _) = find(explicit, env)?;
    env.keep_back(loaded.settings.redactor());
    Ok(loaded)
}

/// What a command may show of a store without a configuration, and how: where one can be read, its secrets are known.
pub(crate) fn shown_if_known(explicit: Option<&Path>, env: &Environment) -> (Redactor, Arc<Display>) {
    let source = sentinel_config::locate(explicit, env.var("SENTINEL_CONFIG").as_deref(), &env.cwd);
    let loaded = source.ok().and_then(|source| sentinel_config::load(&source, &|name| env.var(name)).ok());
    loaded.map(|loaded| (loaded.settings.redactor(), Arc::new(loaded.settings.view()))).unwrap_or_default()
}

fn find(explicit: Option<&Path>, env: &Environment) -> Result<(Loaded, Source), Exit> {
    let source = locate(explicit, env)?;
    match sentinel_config::load(&source, &|name| env.var(name)) {
        Ok(loaded) => Ok((loaded, source)),
        Err(problems) => Err(tell(&problems, env)),
    }
}

/// Finds the configuration. `Err`: it cannot be read, and that has been told.
pub(crate) fn locate(explicit: Option<&Path>, env: &Environment) -> Result<Source, Exit> {
    sentinel_config::locate(explicit, env.var("SENTINEL_CONFIG").as_deref(), &env.cwd)
        .map(|source| in_folder(source, env))
        .map_err(|error| {
            env.error(&error.to_string());
            Exit::Usage
        })
}

/// What comes from standard input stands in the current folder.
pub(crate) fn in_folder(source: Source, env: &Environment) -> Source {
    if source.name == Path::new(STANDARD_INPUT) {
        return Source { base_dir: Some(env.cwd.clone()), ..source };
    }
    source
}

/// A configuration that may handle alerts.
pub(crate) struct ToRun {
    /// What it came to, secrets of the secret store included.
    pub(crate) loaded: Loaded,
    /// Where it came from.
    pub(crate) source: Source,
    /// Where its secrets came from, if it refers to any.
    pub(crate) aws: Option<Aws>,
}

/// The same for a process that handles alerts: warnings are told, secrets are read from the secret store, and a
/// protection that is asked for and not built stops the start.
pub(crate) async fn load_to_run(
    explicit: Option<&Path>,
    env: &Environment,
) -> anyhow::Result<Result<ToRun, Exit>> {
    let to_run = match load_whole(explicit, env).await? {
        Ok(to_run) => to_run,
        Err(exit) => return Ok(Err(exit)),
    };
    print_diagnostics(&to_run.loaded.warnings, env);
    if let Err(problems) = to_run.loaded.settings.refuse_unread_secrets() {
        return Ok(Err(tell(&problems, env)));
    }
    Ok(Ok(to_run))
}

/// The configuration with the secrets of the secret store.
pub(crate) async fn load_whole(
    explicit: Option<&Path>,
    env: &Environment,
) -> anyhow::Result<Result<ToRun, Exit>> {
    let (mut loaded, source) = match find(explicit, env) {
        Ok(found) => found,
        Err(exit) => return Ok(Err(exit)),
    };
    let mut aws = None;
    if !loaded.secret_ids.is_empty() {
        let store = Aws::of_environment(CallLimits::AWS).await;
        let clock = Arc::new(MachineClock::default());
        let secrets = Secrets::new(store.secrets(), clock, loaded.secret_ids.clone());
        let values = secrets.values().await.context("the configuration's secrets cannot be read")?;
        loaded = match load_for(Reading::Everything, &source, &|name| env.var(name), &values) {
            Ok(loaded) => loaded,
            Err(problems) => return Ok(Err(tell(&problems, env))),
        };
        aws = Some(store);
    }
    env.keep_back(loaded.settings.redactor());
    Ok(Ok(ToRun { loaded, source, aws }))
}

/// Tells what is wrong with a configuration.
pub(crate) fn tell(problems: &Problems, env: &Environment) -> Exit {
    print_diagnostics(&problems.diagnostics, env);
    Exit::Usage
}

pub(crate) fn print_diagnostics(diagnostics: &[Diagnostic], env: &Environment) {
    for d in diagnostics {
        let level = match d.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARN,
        };
        env.say(level, &d.to_string(), d);
    }
}

/// The same for a command that only shows something: nobody anchors the records that it writes.
pub(crate) fn logs_of_a_trial(loaded: &Loaded, env: &Environment) -> anyhow::Result<()> {
    logs_with(loaded, env, &["sentinel_core::drive=warn"])
}

/// Sets the logs up: to stderr, without secrets. `RUST_LOG` says more about single targets, or of all how much; -q and -v
/// less or more of Sentinel's own than the configuration asks for.
pub(crate) fn logs(loaded: &Loaded, env: &Environment) -> anyhow::Result<()> {
    logs_with(loaded, env, &[])
}

fn logs_with(loaded: &Loaded, env: &Environment, usual: &[&str]) -> anyhow::Result<()> {
    let level = loaded.settings.log_level.as_str().parse().context("the log level is none")?;
    let mut directives: Vec<String> = Vec::new();
    if env.louder <= 0 {
        directives.extend(usual.iter().map(|&directive| directive.to_owned()));
    }
    if let Some(given) = env.var("RUST_LOG").filter(|given| !given.trim().is_empty()) {
        // One level alone is for everything, Sentinel's own crates too.
        directives.extend(given.trim().parse::<LevelFilter>().ok().map(|level| format!("sentinel={level}")));
        directives.push(given);
    }
    let louder = env.louder(level);
    if louder != level {
        directives.push(format!("sentinel={louder}"));
    }
    let settings = LogSettings {
        level,
        json: env.json,
        ansi: env.has_colours(),
        directives: Some(directives.join(",")),
        columns: (env.stderr_is_terminal && env.louder <= 0).then_some(env.columns),
    };
    let env = env.clone();
    sentinel_telemetry::init(&settings, Arc::new(move |line| env.without_secrets(line)))
        .context("the logs cannot be set up")
}
