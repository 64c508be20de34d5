//! The `Model` port: OpenAI's Responses API over HTTP, and runs that were written down.
//!
//! [`Responses`] asks a service that speaks the Responses API. [`Recorded`] answers from a file, with the same raw
//! items as the service would have sent, so that everything behind the port is the real path.

mod recorded;
mod responses;

pub use recorded::{Recorded, RecordedError};
pub use responses::{Responses, ResponsesSettings};
