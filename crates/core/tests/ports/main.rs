//! Core at its ports: a store and a queue in memory that keep the conditions of the real ones and fail on demand.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests do")]

mod budget;
mod drive;
mod intake;
mod support;
