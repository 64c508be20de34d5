//! A server that is a program on this machine: started, spoken to on its standard input and output, and ended with its
//! session.

use std::process::Stdio;

use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::fault::line;
use crate::spec::Program;

/// How much of what a program writes to standard error is one line of the log, in bytes.
const LOG_CHUNK: usize = 2048;

/// Starts it. Whoever drops the child ends the program; most end by themselves, as their input ends before.
///
/// # Errors
/// Why it cannot be started.
pub(crate) fn start(name: &str, program: &Program) -> Result<(Child, ChildStdout, ChildStdin), String> {
    let [file, arguments @ ..] = program.command.as_slice() else {
        return Err("its command is empty".to_owned());
    };
    let mut command = Command::new(file);
    command
        .args(arguments)
        .env_clear()
        .envs(program.env.iter().map(|(name, value)| (name, value.expose_secret())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // A group of its own: Ctrl-C at the terminal is for Sentinel, which lets investigations end first.
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(|e| format!("the program {file} cannot be started: {e}"))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(format!("the program {file} has no input or output"));
    };
    if let Some(errors) = child.stderr.take() {
        tokio::spawn(log(name.to_owned(), errors));
    }
    Ok((child, output, input))
}

/// Logs what it writes to standard error, until it ends.
async fn log(server: String, errors: ChildStderr) {
    let mut errors = BufReader::new(errors);
    let mut chunk = vec![0; LOG_CHUNK];
    while let Ok(read @ 1..) = errors.read(&mut chunk).await {
        let text = String::from_utf8_lossy(chunk.get(..read).unwrap_or_default());
        tracing::debug!(server, text = line(&text), "the MCP server's program wrote");
    }
}
