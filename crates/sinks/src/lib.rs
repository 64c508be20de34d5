//! Where findings are told: one module per destination, each a [`sentinel_core::ports::Sink`].
//!
//! [`log`] is the process's own log, [`webhook`] any HTTP address that takes signed JSON, [`slack`] a Slack channel.

pub mod log;
mod post;
pub mod slack;
mod text;
pub mod webhook;
mod words;

pub use log::LogSink;
pub use slack::{Slack, SlackSettings};
pub use tracing::Level;
pub use webhook::{BadSecret, Webhook, WebhookSettings};
