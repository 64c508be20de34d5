//! The sinks against their destinations, over HTTP.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod matrix;
mod slack;
mod slack_plain;
mod support;
mod teams;
mod tellings;
mod webhook;
