//! What commands share: loading the configuration, telling its problems, setting up logs.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use sentinel_aws::{Aws, CallLimits, MachineClock, Secrets};
use sentinel_config::{Diagnostic, Loaded, Problems, Reading, Severity, Source, load_for};
use sentinel_core::redact::Redactor;
use sentinel_telemetry::LogSettings;

use crate::Exit;
use crate::environment::Environment;

/// Finds and reads the configuration. `Err(Exit::Usage)`: it was wrong, and that has been told.
pub(crate) fn load(explicit: Option<&Path>, env: &Environment) -> anyhow::Result<Result<Loaded, Exit>> {
    let found = find(explicit, env)?.map(|(loaded, _)| loaded);
    if let Ok(loaded) = &found {
        env.keep_back(loaded.settings.redactor());
    }
    Ok(found)
}

/// What a command may show of a store without a configuration: where one can be read, its secrets are known.
pub(crate) fn redactor_if_known(explicit: Option<&Path>, env: &Environment) -> Redactor {
    let source = sentinel_config::locate(explicit, env.var("SENTINEL_CONFIG").as_deref(), &env.cwd);
    let loaded = source.ok().and_then(|source| sentinel_config::load(&source, &|name| env.var(name)).ok());
    loaded.map(|loaded| loaded.settings.redactor()).unwrap_or_default()
}

fn find(explicit: Option<&Path>, env: &Environment) -> anyhow::Result<Result<(Loaded, Source), Exit>> {
    let source = match sentinel_config::locate(explicit, env.var("SENTINEL_CONFIG").as_deref(), &env.cwd) {
        Ok(source) => source,
        Err(error) => {
            writeln!(anstream::stderr(), "error: {error}")?;
            return Ok(Err(Exit::Usage));
        }
    };
    match sentinel_config::load(&source, &|name| env.var(name)) {
        Ok(loaded) => Ok(Ok((loaded, source))),
        Err(problems) => Ok(Err(tell(&problems)?)),
    }
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
    print_diagnostics(&to_run.loaded.warnings)?;
    if let Err(problems) = to_run.loaded.settings.refuse_unread_secrets() {
        return Ok(Err(tell(&problems)?));
    }
    Ok(Ok(to_run))
}

/// The configuration with the secrets of the secret store.
pub(crate) async fn load_whole(
    explicit: Option<&Path>,
    env: &Environment,
) -> anyhow::Result<Result<ToRun, Exit>> {
    let (mut loaded, source) = match find(explicit, env)? {
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
            Err(problems) => return Ok(Err(tell(&problems)?)),
        };
        aws = Some(store);
    }
    env.keep_back(loaded.settings.redactor());
    Ok(Ok(ToRun { loaded, source, aws }))
}

/// Tells what is wrong with a configuration.
pub(crate) fn tell(problems: &Problems) -> anyhow::Result<Exit> {
    print_diagnostics(&problems.diagnostics)?;
    Ok(Exit::Usage)
}

pub(crate) fn print_diagnostics(diagnostics: &[Diagnostic]) -> anyhow::Result<()> {
    let mut err = anstream::stderr();
    for d in diagnostics {
        let colour = match d.severity {
            Severity::Error => "\x1b[31m",
            Severity::Warning => "\x1b[33m",
        };
        // anstream drops the colours where stderr is no terminal.
        writeln!(err, "{colour}{d}\x1b[0m")?;
    }
    Ok(())
}

/// Sets the logs up: to stderr, without secrets.
pub(crate) fn logs(loaded: &Loaded, json: bool, env: &Environment) -> anyhow::Result<()> {
    let redactor = loaded.settings.redactor();
    let settings = LogSettings {
        level: loaded.settings.log_level.as_str().parse().context("the log level is none")?,
        json,
        ansi: env.stderr_is_terminal,
        directives: None,
    };
    sentinel_telemetry::init(&settings, Arc::new(move |line| redactor.redact(line)))
        .context("the logs cannot be set up")
}
