//! `tools`: the definitions that tools must have.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use sentinel_core::card::ToolId;
use sentinel_core::tools_lock::{FILE, ToolsLock};

use crate::reader::{Field, Keys, Reader};

pub(super) const TOOLS: Keys = &[("require-lock", &[])];
const HELP: &str = "look at the tools and write it with `sentinel tools lock`";
const BROKEN: &str = "remove it and write it anew with `sentinel tools lock`, or take the last good one";

/// The lock that tools are held against; `None`: none is required. One that is missing holds nothing: Sentinel starts,
/// and every tool is refused.
pub(super) fn lock(r: &mut Reader<'_>, field: &Field<'_>) -> Option<Arc<ToolsLock>> {
    let s = r.section(field, TOOLS);
    let required = r.flag(&s, "require-lock", false);
    let f = s.get("require-lock").filter(|_| required && r.wants(&field.path))?;
    let Some(folder) = &r.source.base_dir else {
        r.warn(&f, format!("the built-in configuration has no {FILE}, so that every tool is refused"), HELP);
        return Some(Arc::default());
    };
    let text = match std::fs::read_to_string(folder.join(FILE)) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let message = format!("there is no {FILE} beside this file, so that every tool is refused");
            r.warn(&f, message, HELP);
            return Some(Arc::default());
        }
        Err(e) => {
            r.error(&f, format!("{FILE} cannot be read: {e}"), HELP);
            return Some(Arc::default());
        }
    };
    match ToolsLock::parse(&text) {
        Ok(lock) => Some(Arc::new(lock)),
        Err(e) => {
            r.error(&f, format!("{FILE} cannot be used: {e}"), BROKEN);
            Some(Arc::default())
        }
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
