//! `sentinel`: collects the environment, runs one command, gives its exit code.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use sentinel_cli::args::Cli;
use sentinel_cli::environment::Environment;
use sentinel_cli::{Exit, run};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let (json, louder) = (cli.json(), cli.louder());
    let environment = match Environment::of_process() {
        Ok(environment) => environment.speaking(json, louder),
        Err(error) => {
            Environment::empty().speaking(json, louder).error(&format!("{error:#}"));
            return Exit::Failed.into();
        }
    };
    let say = environment.clone();
    start(cli, environment)
        .unwrap_or_else(|error| {
            say.error(&format!("{error:#}"));
            Exit::Failed
        })
        .into()
}

/// What was asked for on the command line and is not there. Help is no error, and a reader that has enough of it none either.
fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    if json && !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let text = error.render().to_string();
        Environment::empty().speaking(true, 0).error(text.trim().trim_start_matches("error: "));
    } else {
        let _ = error.print();
    }
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
}

fn start(cli: Cli, environment: Environment) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let exit = runtime.block_on(run(cli, environment));
    // A call that ignores its cancellation must not hold up the exit, least of all after a failure.
    runtime.shutdown_background();
    exit
}
