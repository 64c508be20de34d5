//! Where findings are told: one module per destination, each a [`sentinel_core::ports::Sink`].
//!
//! [`log`] is the process's own log.

pub mod log;

pub use log::LogSink;
pub use tracing::Level;
