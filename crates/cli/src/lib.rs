//! The command line: the whole pipeline in one process.
//!
//! `main` collects the environment and hands it here; everything below works on arguments, so that nothing reads a
//! clock, a variable or the terminal behind a caller's back.

mod access;
pub mod api;
pub mod args;
mod audit;
pub mod aws;
mod bodies;
mod capture;
mod case;
mod connections;
mod deletion;
mod doctor;
mod dotenv;
mod ending;
pub mod environment;
mod eval;
mod events;
mod finding;
mod from_store;
mod health;
mod house;
mod incidents;
pub mod listing;
mod metrics;
mod models;
mod pager;
mod preview;
mod progress;
mod reload;
mod render;
mod replay;
mod resume;
mod server;
mod setup;
mod stage;
mod tools;
mod up;
mod validate;
mod warnings;
mod watch;

use std::io;
use std::process::ExitCode;

use args::{Cli, Command};
use environment::Environment;

/// How a command ended, as its exit code says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: usage or configuration.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
        }
    }
}

/// Runs one command.
///
/// # Errors
/// What failed, for people. A configuration that is wrong is not an error but [`Exit::Usage`], told on stderr.
pub async fn run(cli: Cli, env: Environment) -> anyhow::Result<Exit> {
    dispatch(cli, &env).await.or_else(|error| {
        // Whoever read the output has enough of it.
        if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
            return Ok(Exit::Done);
        }
        // An error may quote what a server, a store or a file said.
        Err(anyhow::Error::msg(env.without_secrets(&format!("{error:#}")).into_owned()))
    })
}

async fn dispatch(cli: Cli, env: &Environment) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Up(args) => Box::pin(up::run(args, env)).await,
        Command::Replay(args) if args.from_store => Box::pin(from_store::run(args, env)).await,
        Command::Replay(args) => Box::pin(replay::run(args, env)).await,
        Command::Capture(args) => capture::run(args, env).await,
        Command::Eval(args) => Box::pin(eval::run(args, env)).await,
        Command::Render(args) => Box::pin(preview::run(args, env)).await,
        Command::Validate(args) => validate::run(&args, env),
        Command::Schema => validate::schema(),
        Command::Incidents(args) => incidents::run(args, env).await,
        Command::Tools(args) => tools::run(args, env).await,
        Command::Models(args) => models::run(args, env).await,
        Command::Doctor(args) => Box::pin(doctor::run(args, env)).await,
        Command::Audit(args) => audit::run(args, env).await,
        Command::Aws(args) => Box::pin(aws::run(args, env)).await,
    }
}
