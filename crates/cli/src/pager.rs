//! Long text: on a terminal through the reader's pager.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::environment::Environment;

/// Shows the text: in `PAGER`, or in `less`, where stdout is a terminal; else as it is, without its colours. A pager that
/// cannot be started is done without.
pub(crate) fn show(text: &str, env: &Environment) -> anyhow::Result<()> {
    let pager = env.var("PAGER").unwrap_or_else(|| "less".to_owned());
    let mut words = pager.split_whitespace();
    let program = words.next().filter(|_| env.stdout_is_terminal);
    let started = program.and_then(|program| {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::piped());
        if env.var("LESS").is_none() {
            // Leaves what fits on the screen there, and shows colours.
            command.env("LESS", "FRX");
        }
        command.spawn().ok()
    });
    let Some(mut pager) = started else {
        write!(anstream::stdout(), "{text}")?;
        return Ok(());
    };
    if let Some(mut input) = pager.stdin.take() {
        // Whoever leaves the pager early has read enough.
        let _ = input.write_all(text.as_bytes());
    }
    pager.wait()?;
    Ok(())
}
