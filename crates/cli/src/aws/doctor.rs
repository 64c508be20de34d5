//! `sentinel aws doctor`: a deployed stack, looked at from outside with the user's credentials.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::args::StackFlags;
use super::stack::{FUNCTIONS, Stack};
use super::tool;
use crate::Exit;
use crate::environment::Environment;

mod looks;

/// How grave it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grade {
    /// As it should be.
    Good,
    /// Good to know.
    Note,
    /// To be mended.
    Trouble,
}

/// What was looked at, what was seen, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) grade: Grade,
    pub(super) of: String,
    pub(super) seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn good(of: &str, seen: impl Into<String>) -> Self {
        Self { grade: Grade::Good, of: of.to_owned(), seen: seen.into(), remedy: None }
    }

    pub(super) fn note(of: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Note, of: of.to_owned(), seen: seen.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn trouble(of: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Trouble, of: of.to_owned(), seen: seen.into(), remedy: Some(remedy.into()) }
    }
}

pub(super) async fn run(flags: &StackFlags, env: &Environment) -> anyhow::Result<Exit> {
    let tool = tool(flags, env);
    let stack = Stack::whole(&tool, flags).await?;
    let mut found = vec![Finding::good("stack", format!("{} ({})", flags.name, stack.status))];
    let has_watcher = !stack.parameter("WatcherSchedule").is_empty();
    for function in FUNCTIONS.into_iter().filter(|function| has_watcher || *function != "watcher") {
        found.extend(looks::function(&tool, &stack, &flags.name, function).await);
    }
    found.extend(looks::configuration(&tool, &stack).await);
    found.push(looks::door(&stack, env).await);
    found.extend(looks::queues(&tool, &stack).await);
    found.extend(looks::alarms(&tool, &flags.name).await);
    found.extend(looks::lately(&tool, &flags.name).await);
    tell(flags, &found, env)?;
    let well = found.iter().all(|finding| finding.grade != Grade::Trouble);
    Ok(if well { Exit::Done } else { Exit::Failed })
}

fn tell(flags: &StackFlags, found: &[Finding], env: &Environment) -> anyhow::Result<()> {
    let mut out = anstream::stdout();
    if flags.json {
        return Ok(writeln!(out, "{}", env.json_without_secrets(&found)?)?);
    }
    for finding in found {
        let mark = match finding.grade {
            Grade::Good => "ok      ",
            Grade::Note => "note    ",
            Grade::Trouble => "TROUBLE ",
        };
        let remedy =
            finding.remedy.as_ref().map_or_else(String::new, |remedy| format!("\n          {remedy}"));
        writeln!(out, "{}", env.without_secrets(&format!("{mark}{}: {}{remedy}", finding.of, finding.seen)))?;
    }
    let troubles = found.iter().filter(|finding| finding.grade == Grade::Trouble).count();
    let verdict = if troubles == 0 { "All is well.".to_owned() } else { format!("{troubles} to be mended.") };
    Ok(writeln!(out, "{verdict}")?)
}

/// How long the stack's door may take to answer.
const DOOR: Duration = Duration::from_secs(35);

/// A number that AWS writes as text.
fn number(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or_default()
}
