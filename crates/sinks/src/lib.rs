//! Where findings are told: one module per destination, each a [`sentinel_core::ports::Sink`].
//!
//! [`log`] is the process's own log, [`webhook`] any HTTP address that takes signed JSON, [`slack`] a Slack channel, [`teams`] a
//! workflow of Microsoft Teams, [`matrix`] a Matrix room.

mod card;
pub mod log;
pub mod matrix;
mod post;
pub mod slack;
pub mod teams;
mod text;
pub mod webhook;
mod words;

pub use log::LogSink;
pub use matrix::{Matrix, MatrixSettings};
pub use slack::{Slack, SlackSettings};
pub use teams::{Teams, TeamsSettings};
pub use tracing::Level;
pub use webhook::{BadSecret, Webhook, WebhookSettings};
