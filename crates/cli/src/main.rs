//! `sentinel`: collects the environment, runs one command, gives its exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use sentinel_cli::args::Cli;
use sentinel_cli::environment::Environment;
use sentinel_cli::{Exit, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let _ = writeln!(anstream::stderr(), "error: {error:#}");
            Exit::Failed.into()
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<Exit> {
    let environment = Environment::of_process()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let exit = runtime.block_on(run(cli, environment));
    // A call that ignores its cancellation must not hold up the exit, least of all after a failure.
    runtime.shutdown_background();
    exit
}
