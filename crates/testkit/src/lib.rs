//! What tests need around the code under test, and nothing that production uses: this crate is a dev-dependency.
//!
//! [`clock`] and [`builders`] for unit tests; [`contract`], [`openai`], [`anthropic`] and [`mcp`] stand in for the network's far
//! side, on real sockets of the loopback; [`process`] runs the real programs that `tests/setup.sh` installs;
//! [`memory`] and [`faults`] are a store, and everything that can go wrong between a handler and its ports;
//! [`loose`] is a `DynamoDB` that does all it may; [`inputs`], [`payloads`] and [`spellings`] are for parsers and addresses; [`tool_schema`] says what services refuse of a tool; [`gate`] lets a test decide when something goes on, so that no test sleeps to synchronise.
//!
//! Everything here panics where a library would return an error: a part that cannot do its work has failed the
//! test.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test part that cannot do its work fails the test"
)]

pub mod answers;
pub mod anthropic;
pub mod aws;
pub mod builders;
pub mod clock;
pub mod contract;
pub mod counters;
pub mod faults;
pub mod gate;
pub mod hook;
pub mod inputs;
pub mod lambda;
pub mod loose;
pub mod matrix;
pub mod mcp;
pub mod memory;
pub mod openai;
pub mod payloads;
pub mod process;
pub mod proxy;
mod server;
pub mod slack;
pub mod spellings;
pub mod teams;
pub mod tls;
pub mod tool_schema;

/// How long the waits of this crate go on before they fail the test: long enough for a busy two-core machine, and
/// never reached where things work.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);
