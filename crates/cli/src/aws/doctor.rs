//! `sentinel aws doctor`: a deployed stack, looked at from outside with the user's credentials.

use std::time::Duration;

use serde_json::Value;

use super::args::StackFlags;
use super::stack::{FUNCTIONS, Stack};
use super::tool;
use crate::Exit;
use crate::environment::Environment;
use crate::finding::{self, Finding};

mod looks;

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
    finding::tell(&found, flags.json, env)
}

/// How long the stack's door may take to answer.
const DOOR: Duration = Duration::from_secs(35);

/// A number that AWS writes as text.
fn number(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or_default()
}
