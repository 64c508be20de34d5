//! Progress of investigations on stderr: a line an event; on a terminal one line that is written over, and stays only where it
//! says that something went wrong. With `--json`, a JSON object a line.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sentinel_core::incident::{IncidentId, State};
use sentinel_investigation::{EventSender, Progress, events};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tracing::Level;

use crate::environment::Environment;
use crate::render::inert;

/// Prints until every sender is gone.
pub(crate) struct Printer(JoinHandle<()>);

impl Printer {
    /// Waits until everything that was told is printed. Call it once the senders are dropped; a sender that somebody
    /// still holds does not keep it longer than a moment.
    pub(crate) async fn finish(self) {
        let _ = tokio::time::timeout(Duration::from_millis(200), self.0).await;
    }
}

/// Starts the printer; where little is to be said, it says nothing.
pub(crate) fn start(env: &Environment) -> (EventSender, Printer) {
    let sender = events();
    let receiver = sender.subscribe();
    let env = env.clone();
    let printer = tokio::spawn(async move {
        match (env.says(Level::INFO), env.json) {
            (true, true) => print_json(receiver, &env).await,
            (true, false) => print_text(receiver, env.stderr_is_terminal).await,
            (false, _) => {}
        }
    });
    (sender, Printer(printer))
}

/// The next step; `None` once every sender is gone. Steps that a slow terminal has missed are counted, not kept.
async fn next(events: &mut broadcast::Receiver<Progress>) -> Option<Progress> {
    loop {
        match events.recv().await {
            Ok(event) => return Some(event),
            Err(RecvError::Closed) => return None,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "progress was told faster than it could be printed");
            }
        }
    }
}

async fn print_json(mut events: broadcast::Receiver<Progress>, env: &Environment) {
    while let Some(event) = next(&mut events).await {
        env.say(Level::INFO, event.name(), &event);
    }
}

async fn print_text(mut events: broadcast::Receiver<Progress>, terminal: bool) {
    let waiting = if terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
    waiting.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let mut totals: BTreeMap<IncidentId, Totals> = BTreeMap::new();
    while let Some(event) = next(&mut events).await {
        let totals = totals.entry(event.incident().clone()).or_default();
        if let Some(line) = line(&event, totals) {
            let short: String = event.incident().as_str().chars().take(8).collect();
            if terminal && !went_wrong(&event) {
                waiting.set_message(format!("{short}  {line}"));
            } else {
                waiting.suspend(|| {
                    let _ = writeln!(anstream::stderr(), "\x1b[2m{short}\x1b[0m  {line}");
                });
            }
        }
        if let Some(what) = waits_for(&event).filter(|_| terminal) {
            waiting.set_message(what);
            waiting.reset_elapsed();
            waiting.enable_steady_tick(Duration::from_millis(100));
        }
    }
    waiting.finish_and_clear();
}

/// What one investigation took so far.
#[derive(Default)]
struct Totals {
    tokens: u64,
}

/// Whether a reader should see it after it is over.
fn went_wrong(event: &Progress) -> bool {
    match event {
        Progress::Listed { error, .. } => error.is_some(),
        Progress::Evidence { ok, .. } | Progress::Called { ok, .. } => !ok,
        Progress::Refused { .. }
        | Progress::ModelRefused { .. }
        | Progress::BudgetUsedUp { .. }
        | Progress::PutOff { .. }
        | Progress::Ended { .. } => true,
        _ => false,
    }
}

fn waits_for(event: &Progress) -> Option<String> {
    match event {
        Progress::Asking { turn, model, .. } => Some(format!("turn {turn}: {} thinks", inert(model))),
        Progress::Calling { id, tool, .. } => Some(format!("{id}: {}", inert(tool))),
        _ => None,
    }
}

fn line(event: &Progress, totals: &mut Totals) -> Option<String> {
    Some(match event {
        Progress::Started { card, alerts, turns, evidence, .. } => {
            let what = if *alerts == 1 { "1 alert".to_owned() } else { format!("{alerts} alerts") };
            let again = if *turns + *evidence > 0 {
                format!(", going on after {turns} turns and {evidence} tool outputs")
            } else {
                String::new()
            };
            format!("investigating {what} of {}{again}", inert(card))
        }
        Progress::Listed { server, error: Some(error), .. } => {
            format!("\x1b[33m{} has no tools: {}\x1b[0m", inert(server), inert(error))
        }
        Progress::Listed { error: None, .. } | Progress::Calling { .. } | Progress::Asking { .. } => {
            return None;
        }
        Progress::Refused { tool, reason, .. } => format!("refused {}: {reason}", inert(tool)),
        Progress::Evidence { id, tool, ok, bytes, ms, .. }
        | Progress::Called { id, tool, ok, bytes, ms, .. } => {
            let how = if *ok { "" } else { "  \x1b[31mfailed\x1b[0m" };
            format!("{id:<4} {}  {bytes} bytes  {}{how}", inert(tool), seconds(*ms))
        }
        Progress::ModelRefused { model, reason, .. } => {
            format!("\x1b[33m{} does not answer: {}\x1b[0m", inert(model), inert(reason))
        }
        Progress::Answered { turn, calls, input_tokens, output_tokens, ms, .. } => {
            totals.tokens += input_tokens + output_tokens;
            let calls = if calls.is_empty() { "no calls".to_owned() } else { inert(&calls.join(", ")) };
            format!("turn {turn}: {calls}  {}  {} tokens so far", seconds(*ms), totals.tokens)
        }
        Progress::Checked { found, quotes, repair, .. } => {
            let again = if *repair { "; the model may mend it once" } else { "" };
            format!("checked: {found} of {quotes} quotes stand in the evidence{again}")
        }
        Progress::Concluded { verdict, .. } => format!("concluded: {verdict}"),
        Progress::BudgetUsedUp { limit, .. } => {
            format!("\x1b[33m{}: the report holds the evidence only\x1b[0m", inert(limit))
        }
        Progress::PutOff { reason, .. } => format!("put off: {}", inert(reason)),
        // The log says it, and a report more than that it is done.
        Progress::Unshown { .. } | Progress::Ended { state: State::Done, .. } => return None,
        Progress::Ended { state, reason, .. } => {
            let reason = reason.as_deref().map(|r| format!(": {}", inert(r))).unwrap_or_default();
            format!("{state}{reason}")
        }
    })
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
