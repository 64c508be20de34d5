//! The rules of Sentinel, and nothing else.
//!
//! One alert's way through this crate: [`alert`] and [`notification`] are what a webhook says, [`card`] how it is
//! to be handled, [`key`] which incident it belongs to, [`incident`] that incident's record, [`lifecycle`] every
//! rule about it as one pure function, [`drive`] the thin shell that runs the rule against a store and a queue and
//! [`chain`] the record that it leaves,
//! [`intake`] a whole webhook through that shell, [`report`] what comes out at the end.
//!
//! There is no I/O here, no async runtime, no AWS type and no wall clock: the outside world is the four traits in
//! [`ports`], and time is an argument.

pub mod alert;
#[cfg(any(test, feature = "fuzzing"))]
pub mod any_input;
pub mod budget;
pub mod canonical;
pub mod card;
pub mod chain;
pub mod delete;
pub mod digest;
pub mod drive;
pub mod incident;
pub mod intake;
pub mod key;
pub mod lifecycle;
pub mod marks;
mod members;
pub mod notification;
pub mod pattern;
pub mod ports;
pub mod price;
pub mod redact;
pub mod report;
pub mod storm;
pub mod time;
pub mod tools_lock;
pub mod view;
pub mod without_secrets;

#[cfg(test)]
mod test_support;

pub use time::UnixMs;
