//! A server that is a program on this machine: started, spoken to on its standard input and output, and ended with its
//! session.

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::sink::{Sink, unfold as sink};
use futures::stream::{BoxStream, unfold as stream};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use secrecy::ExposeSecret;
use sentinel_investigation::aside;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fault::line;
use crate::reading;
use crate::spec::Program;

/// The longest line of what a program writes to standard error that is looked at as one, in bytes.
const LONGEST_WORDS: u64 = 2048;
/// The longest message that a program may write, in bytes.
const LONGEST_MESSAGE: u64 = 16 << 20;
/// How long a program that closed its output has to end, and its standard error after it.
const ENDING: Duration = Duration::from_secs(1);

/// A program that was started. Whoever drops it ends it; most end by themselves, as their input ends before.
#[derive(Debug)]
pub(crate) struct Running {
    child: Mutex<Child>,
    said: Arc<Lock<String>>,
    log: Mutex<JoinHandle<()>>,
}

impl Running {
    /// How it ended, if it did, and the last that it wrote to its standard error.
    pub(crate) async fn ended(&self) -> Option<String> {
        let status = timeout(ENDING, async { self.child.lock().await.wait().await }).await.ok()?.ok()?;
        // A child of its own may hold its standard error for ever.
        let _ = timeout(ENDING, async { (&mut *self.log.lock().await).await }).await;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        Some(format!("its program ended ({status}){said}"))
    }
}

/// Starts it.
///
/// # Errors
/// Why it cannot be started.
pub(crate) fn start(name: &str, program: &Program) -> Result<(Running, ChildStdout, ChildStdin), String> {
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
    let (Some(input), Some(output), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(format!("the program {file} has no input or output"));
    };
    let said = Arc::<Lock<String>>::default();
    let log = tokio::spawn(log(name.to_owned(), errors, Arc::clone(&said)));
    Ok((Running { child: Mutex::new(child), said, log: Mutex::new(log) }, output, input))
}

/// Logs what it writes to standard error, until it ends, and keeps the last line of it.
async fn log(server: String, errors: ChildStderr, said: Arc<Lock<String>>) {
    let mut errors = BufReader::new(errors);
    let mut words = Vec::new();
    while let Ok(1..) = (&mut errors).take(LONGEST_WORDS).read_until(b'\n', &mut words).await {
        let text = line(&String::from_utf8_lossy(&words));
        words.clear();
        if !text.is_empty() {
            tracing::debug!(server, text, "the MCP server's program wrote");
            *said.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
    }
}

/// What it writes, as messages. A line that is none is passed over: many programs log to their standard output.
pub(crate) fn messages(output: ChildStdout) -> BoxStream<'static, ServerJsonRpcMessage> {
    stream((BufReader::new(output), Vec::new()), |(mut output, mut written)| async move {
        loop {
            written.clear();
            let read = (&mut output).take(LONGEST_MESSAGE).read_until(b'\n', &mut written).await.ok()?;
            if read == 0 || (!written.ends_with(b"\n") && read as u64 == LONGEST_MESSAGE) {
                return None;
            }
            if written.trim_ascii().is_empty() {
                continue;
            }
            match aside(|| reading::message(&written, None)).await {
                Ok(Some(read)) => return Some((read.message, (output, written))),
                Ok(None) => {}
                Err(reason) => {
                    tracing::debug!(reason, "an MCP server's program wrote a line that is no message");
                }
            }
        }
    })
    .fuse()
    .boxed()
}

/// Its input, which takes messages. One that cannot be written is left to the program's end, which its output shows.
pub(crate) fn input(
    input: ChildStdin,
) -> impl Sink<ClientJsonRpcMessage, Error = io::Error> + Send + Unpin + 'static {
    let write = |input: Option<ChildStdin>, message: ClientJsonRpcMessage| async move {
        let mut line = serde_json::to_vec(&message)?;
        line.push(b'\n');
        let Some(mut input) = input else { return Ok(None) };
        let is_written = input.write_all(&line).await.is_ok() && input.flush().await.is_ok();
        Ok(is_written.then_some(input))
    };
    Box::pin(sink(Some(input), write))
}
