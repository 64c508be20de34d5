//! Requests: their answers, what they leave in the store, the queue and the log.
#![expect(clippy::unwrap_used, reason = "a test part that cannot do its work fails the test")]

mod answers;
mod logs;
mod metrics;
mod support;
