//! What can go wrong with an investigation itself; everything that can be told to the model or put into the report
//! is not an error.

use sentinel_core::drive::DriveError;
use sentinel_core::ports::StoreError;
use thiserror::Error;

/// What can go wrong.
#[derive(Debug, Error)]
pub enum InvestigateError {
    /// The head could not be moved.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// Children could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value of this crate could not be turned into JSON.
    #[error("{what} cannot be written as JSON: {source}")]
    Encode {
        /// Which value.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

impl InvestigateError {
    /// Whether the same run may work later. What it paid for is stored and not paid for again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Drive(e) => e.is_retryable(),
            Self::Store(e) => e.is_retryable(),
            Self::Encode { .. } => false,
        }
    }
}
