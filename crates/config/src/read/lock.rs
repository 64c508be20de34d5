//! `tools`: the definitions that tools must have.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use sentinel_core::card::ToolId;
use sentinel_core::tools_lock::{FILE, ToolsLock};

use crate::reader::{Field, Keys, Reader, Section};
use crate::source::read_text;

pub(super) const TOOLS: Keys = &[("require-lock", &[])];
const HELP: &str = "look at the tools and write it with `sentinel tools lock`";
const BROKEN: &str = "remove it and write it anew with `sentinel tools lock`, or take the last good one";

/// The lock that tools are held against, and what is said of one that is not there.
#[derive(Default)]
pub(super) struct Lock {
    /// `None`: there is none.
    pub(super) lock: Option<Arc<ToolsLock>>,
    /// There is none, and `require-lock` does not say whether that is meant.
    pub(super) undecided: bool,
}

/// A lock that stands beside the configuration counts unless `require-lock: false` says otherwise. One that is required
/// and missing holds nothing: Sentinel starts, and every tool is refused.
pub(super) fn lock(r: &mut Reader<'_>, top: &Section<'_>) -> Lock {
    let s = top.get("tools").map_or_else(|| Section::absent("tools"), |f| r.section(&f, TOOLS));
    let required = s.get("require-lock").map(|_| r.flag(&s, "require-lock", false));
    if required == Some(false) || !r.wants("tools") {
        return Lock::default();
    }
    let place = s.get("require-lock").map_or_else(|| r.place_at(top.at, "tools"), |f| r.place(&f));
    let held = |lock| Lock { lock: Some(lock), undecided: false };
    let mut told = |diagnostic| {
        r.diagnostics.push(diagnostic);
        held(Arc::default())
    };
    let Some(folder) = &r.source.base_dir else {
        if required.is_none() {
            return Lock::default();
        }
        let message = format!("the built-in configuration has no {FILE}, so that every tool is refused");
        return told(place.warning(message, HELP));
    };
    let text = match read_text(&folder.join(FILE)) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound && required.is_none() => {
            return Lock { lock: None, undecided: true };
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let message = format!("there is no {FILE} beside this file, so that every tool is refused");
            return told(place.warning(message, HELP));
        }
        Err(e) => return told(place.error(format!("{FILE} cannot be read: {e}"), HELP)),
    };
    match ToolsLock::parse(&text) {
        Ok(lock) => {
            let less: Vec<String> = lock.pinned_less().map(|tool| format!("`{tool}`")).collect();
            if !less.is_empty() {
                let message = format!(
                    "{FILE} pins name, description and input schema of {}, and nothing else of them",
                    less.join(", ")
                );
                r.diagnostics.push(place.warning(message, "write it anew with `sentinel tools lock`"));
            }
            held(Arc::new(lock))
        }
        Err(e) => told(place.error(format!("{FILE} cannot be used: {e}"), BROKEN)),
    }
}

/// Tells which tools of a card the lock does not hold. One that holds nothing has been told of already.
pub(super) fn warn_unpinned(
    r: &mut Reader<'_>,
    card: &Field<'_>,
    tools: &BTreeSet<ToolId>,
    lock: &ToolsLock,
) {
    if lock.names().next().is_none() {
        return;
    }
    let missing: Vec<String> = tools.iter().filter(|t| !lock.holds(t)).map(|t| format!("`{t}`")).collect();
    if !missing.is_empty() {
        let message = format!("{FILE} does not hold {}, so that they are refused", missing.join(", "));
        r.warn(card, message, HELP);
    }
}
