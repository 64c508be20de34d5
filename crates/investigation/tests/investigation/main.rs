//! Whole investigations over a store in memory, a scripted model and scripted tools.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test part that cannot do its work fails the test")]

mod bounds;
mod ends;
mod fallback;
mod hosted;
mod policy;
mod prompts;
mod resume;
mod shown;
mod steps;
mod support;
mod turns;
mod wire;
