//! No alert lost, none paid for twice: the real intake, worker, deliveries and sweeper, with everything going wrong
//! that can, at every call that they make.
//!
//!     cargo nextest run -p sentinel-testkit --test faults --no-capture
//!
//! prints the tables. The calls are counted in a run without faults, so a new one is covered without being listed.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that panics has failed, as it should; its tables are for people"
)]

mod bad_input;
mod base;
mod cases;
mod checks;
mod dice;
mod histories;
mod mutant;
mod over_dynamo;
mod pairs;
mod parts;
mod resume;
mod scenarios;
mod sender;
mod setting;
mod simulation;
mod singles;
mod spending;
mod world;
