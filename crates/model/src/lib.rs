//! The `Model` port: OpenAI's Responses API and Chat Completions over HTTP, and runs that were written down.
//!
//! [`Responses`] asks a service that speaks the Responses API, [`Chat`] one that speaks Chat Completions. [`Recorded`]
//! answers from a file, with the same raw items as the service would have sent, so that everything behind the port is
//! the real path. [`Transcript`] answers from what is stored of an incident.

#[cfg(any(test, feature = "fuzzing"))]
pub mod any_input;
mod breaker;
mod chat;
mod failure;
mod recorded;
mod responses;
mod service;
mod transcript;
mod wire;

pub use chat::Chat;
pub use recorded::{Recorded, RecordedError};
pub use responses::{HostedPlace, HostedSpec, Responses};
pub use service::ModelSettings;
pub use transcript::Transcript;
