//! What keeps investigations from being what they could be, told once when a configuration begins to hold, and on `/readyz`
//! for as long as it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sentinel_config::{Caller, Settings};
use sentinel_core::card::ToolId;
use sentinel_core::tools_lock::{Drift, FILE, ToolsLock};
use sentinel_worker::{Mind, Worker};

/// How long a server has to list its tools.
const LISTING: Duration = Duration::from_secs(30);
/// The most tools that are named in one warning.
const MOST_NAMED: usize = 5;
const REMEDY: &str = "`sentinel doctor` says what to do";

/// The warnings of one configuration. Cheap to clone; clones hold the same.
#[derive(Clone, Default, Debug)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// What is wrong with a configuration by itself.
    pub(crate) fn of(settings: &Settings, mind: &Mind) -> Self {
        let warnings = Self::default();
        if matches!(mind, Mind::None { .. }) {
            let what =
                "there is no model key: no model can be asked, and every report will hold the evidence only";
            warnings.add(format!("{what}; {REMEDY}"));
        }
        if settings.servers.is_empty() {
            let what =
                "there is no MCP server: no tool can be called, and nothing but the alerts can be looked at";
            warnings.add(format!("{what}; {REMEDY}"));
        }
        warnings
    }

    fn held(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, warning: String) {
        self.held().push(warning);
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<String> {
        self.held().clone()
    }

    /// Logs them, a line each.
    pub(crate) fn tell(&self) {
        for warning in self.all() {
            tracing::warn!("{warning}");
        }
    }

    /// Holds the tools that cards allow against `tools.lock`, where there is one, and tells which have changed. Servers that
    /// the model's service calls are not asked: that costs money.
    pub(crate) async fn tell_changed_tools(&self, settings: &Settings, worker: &Worker) {
        let mut changed = BTreeSet::new();
        for (server, tools) in pinned(settings) {
            // That it does not answer stands on `/readyz` by itself.
            let Ok(listed) = worker.tools.list(&server, LISTING).await else { continue };
            for (tool, lock) in tools {
                let now = listed.iter().find(|definition| definition.tool == tool.tool);
                let is_other =
                    now.is_some_and(|d| matches!(lock.check(&tool, d.said()), Err(Drift::Changed(_))));
                if is_other {
                    changed.insert(tool.to_string());
                }
            }
        }
        if changed.is_empty() {
            return;
        }
        let named: Vec<&str> = changed.iter().map(String::as_str).take(MOST_NAMED).collect();
        let more = changed.len().saturating_sub(MOST_NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let warning = format!(
            "tools are not as {FILE} has them, and are not called: {}{more}; {REMEDY}",
            named.join(", ")
        );
        tracing::warn!("{warning}");
        self.add(warning);
    }
}

/// The tools that cards allow and a lock pins, by the servers that Sentinel calls.
fn pinned(settings: &Settings) -> BTreeMap<String, BTreeMap<ToolId, Arc<ToolsLock>>> {
    let mut pinned: BTreeMap<String, BTreeMap<ToolId, Arc<ToolsLock>>> = BTreeMap::new();
    for card in &settings.cards {
        let Some(lock) = &card.lock else { continue };
        let is_direct = |tool: &&ToolId| {
            let server = settings.servers.iter().find(|server| server.name == tool.server);
            server.is_some_and(|server| matches!(server.reach.caller, Caller::Sentinel))
        };
        for tool in card.tools.iter().filter(is_direct).filter(|tool| lock.holds(tool)) {
            pinned.entry(tool.server.clone()).or_default().insert(tool.clone(), Arc::clone(lock));
        }
    }
    pinned
}
