//! Why one try gave no answer, and what becomes of it.

use std::time::Duration;

use sentinel_http::HttpError;
use sentinel_investigation::ports::ModelError;
use thiserror::Error;

/// Why one try gave no answer. Never holds the key or a URL.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// It did not get there, or nothing came back.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An error status.
    #[error("HTTP {status}: {message}")]
    Status {
        /// The status.
        status: u16,
        /// The API's `error.code`.
        code: Option<String>,
        /// The API's `error.message`, or the beginning of what came instead.
        message: String,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// A response that says of itself that it failed (`status: failed`).
    #[error("the response failed: {message} ({code})")]
    Failed {
        /// The contract's `ResponseErrorCode`.
        code: String,
        /// Its text.
        message: String,
    },
    /// A 200 that is not a response.
    #[error("{0}")]
    Unreadable(String),
}

impl Failure {
    /// Whether the next try may do better. An answer that cannot be read was paid for, so it is not bought again
    /// here.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            // A rate limit passes; an exhausted quota has the same status and does not.
            Self::Status { status: 429, code, .. } => code.as_deref() != Some("insufficient_quota"),
            Self::Status { status, .. } => matches!(status, 408 | 409 | 500..),
            Self::Failed { code, .. } => matches!(code.as_str(), "server_error" | "rate_limit_exceeded"),
            Self::Unreadable(_) => false,
        }
    }

    /// How long the server asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What the caller is told after `tries`.
    pub(super) fn into_model_error(self, tries: u32) -> ModelError {
        if self.is_retryable() {
            let count = if tries == 1 { String::new() } else { format!(", {tries} times") };
            return ModelError::Unavailable {
                reason: format!("{self}{count}"),
                retry_after: self.retry_after(),
            };
        }
        match self {
            Self::Unreadable(reason) => ModelError::Unreadable(reason),
            refused => ModelError::Refused(refused.to_string()),
        }
    }
}
