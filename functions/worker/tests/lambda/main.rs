//! The real binary under a simulated Lambda, and what it is made of, with a `DynamoDB` in memory and a fake SQS.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod batches;
mod secrets;
mod support;
