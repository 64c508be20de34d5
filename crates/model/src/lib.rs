//! The `Model` port: services of models over HTTP, and runs that were written down.
//!
//! [`Services`] asks whichever service a model is of, by the interface that it speaks. [`Recorded`] answers from a file,
//! with the same items as a service would have sent, so that everything behind the port is the real path. [`Transcript`]
//! answers from what is stored of an incident.

mod adapt;
#[cfg(any(test, feature = "fuzzing"))]
pub mod any_input;
mod aws;
mod breaker;
mod chat;
mod failure;
mod fit;
mod hosted;
mod json;
mod list;
mod messages;
mod models;
mod recorded;
mod responses;
mod service;
mod transcript;
mod wire;

pub use adapt::ForcedTurn;
pub use aws::Signer;
pub use hosted::{HostedPlace, HostedSpec};
pub use list::{ListError, Listed, ModelList, list};
pub use models::Services;
pub use recorded::{Recorded, RecordedError};
pub use service::ServiceSettings;
pub use transcript::Transcript;
pub use wire::Auth;
