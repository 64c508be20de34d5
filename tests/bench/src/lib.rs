//! What the benchmarks measure against, and with; the README beside the manifest says what they measure, and how.

use std::io::{self, Write};

use serde_json::Value;

pub mod agent;
pub mod floor;
pub mod least;
mod memory;
pub mod servers;
pub mod stub;

/// Attributes that make an item as large as the head of an incident.
fn attributes() -> impl Iterator<Item = (String, &'static str)> {
    (0..20).map(|n| (format!("attribute_{n}"), "a value of it"))
}

/// Tells the benchmark's driver something, as one line of JSON on standard output.
fn say(what: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{what}")?;
    out.flush()
}
