//! What commands share: loading the configuration, telling its problems, setting up logs.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use sentinel_config::{Diagnostic, Loaded, Problems, Severity};
use sentinel_telemetry::LogSettings;
use sentinel_worker::redactor;

use crate::Exit;
use crate::environment::Environment;

/// Finds and reads the configuration. `Err(Exit::Usage)`: it was wrong, and that has been told.
pub(crate) fn load(explicit: Option<&Path>, env: &Environment) -> anyhow::Result<Result<Loaded, Exit>> {
    let source = match sentinel_config::locate(explicit, env.var("SENTINEL_CONFIG").as_deref(), &env.cwd) {
        Ok(source) => source,
        Err(error) => {
            writeln!(anstream::stderr(), "error: {error}")?;
            return Ok(Err(Exit::Usage));
        }
    };
    match sentinel_config::load(&source, &|name| env.var(name)) {
        Ok(loaded) => Ok(Ok(loaded)),
        Err(problems) => Ok(Err(tell(&problems)?)),
    }
}

/// The same for a process that handles alerts: warnings are told, and a protection that is asked for and not built
/// stops the start.
pub(crate) fn load_to_run(
    explicit: Option<&Path>,
    env: &Environment,
) -> anyhow::Result<Result<Loaded, Exit>> {
    let loaded = match load(explicit, env)? {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(Err(exit)),
    };
    print_diagnostics(&loaded.warnings)?;
    if let Err(problems) = loaded.settings.refuse_unbuilt_protection() {
        return Ok(Err(tell(&problems)?));
    }
    Ok(Ok(loaded))
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
    let redactor = redactor(&loaded.settings);
    let settings = LogSettings {
        level: loaded.settings.log_level.as_str().parse().context("the log level is none")?,
        json,
        ansi: env.stderr_is_terminal,
        directives: None,
    };
    sentinel_telemetry::init(&settings, Arc::new(move |line| redactor.redact(line)))
        .context("the logs cannot be set up")
}
