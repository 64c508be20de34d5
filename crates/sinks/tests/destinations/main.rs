//! The sinks against their destinations, over HTTP.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod slack;
mod support;
mod webhook;
