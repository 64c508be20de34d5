//! Why a body is not a webhook.

use sentinel_core::notification::Refusal;
use thiserror::Error;

use crate::{MAX_ALERTS, MAX_BODY_BYTES, MAX_DEPTH};

/// Why nothing of a body could be read. Each message names the path and what would be right.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EnvelopeError {
    /// More than [`MAX_BODY_BYTES`].
    #[error(
        "the body has {bytes} bytes; at most {MAX_BODY_BYTES} are read (lower `max_alerts`, or group by more labels)"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// JSON is UTF-8 (RFC 8259, section 8.1).
    #[error("the body is not UTF-8: byte {offset} cannot be read; JSON in UTF-8 would be right")]
    NotUtf8 {
        /// The first byte that does not belong, counted from 0.
        offset: usize,
    },
    /// No JSON.
    #[error("the body is not JSON: line {line}, column {column}{}: {reason}", within(.path))]
    NotJson {
        /// The line, from 1.
        line: usize,
        /// The column in bytes, from 1; 0 in an empty body.
        column: usize,
        /// The innermost value that was being read; empty at the top.
        path: String,
        /// What the parser says.
        reason: String,
    },
    /// More than [`MAX_DEPTH`] arrays and objects within each other.
    #[error("the body is nested too deep{}: at most {MAX_DEPTH} arrays and objects within each other are read", within(.path))]
    TooDeep {
        /// The outer part of the place.
        path: String,
    },
    /// JSON, but no object.
    #[error("the body is {found}; an object with an array `alerts` would be right")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// No list of alerts.
    #[error("`alerts` is {found}; an array of alerts would be right")]
    NoAlerts {
        /// What stands there.
        found: &'static str,
    },
    /// More than [`MAX_ALERTS`].
    #[error(
        "`alerts` has {count} elements; at most {MAX_ALERTS} are read (lower `max_alerts`, or group by more labels)"
    )]
    TooManyAlerts {
        /// How many it has.
        count: usize,
    },
    /// The group's labels, of which the dedupe key is made, cannot be read.
    #[error("`{}` {}", .0.path, .0.reason)]
    GroupLabels(Refusal),
    /// There are alerts, and each of them is refused.
    #[error("none of the {} alerts can be read{}", .refused.len(), first(.refused))]
    NoneReadable {
        /// One for each alert, in the payload's order.
        refused: Vec<Refusal>,
    },
}

impl EnvelopeError {
    /// The HTTP status that answers it: 413 for a body that is too large, 400 for everything else.
    pub const fn status(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 413,
            _ => 400,
        }
    }

    /// Never: the same bytes are read the same way.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

fn within(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(", in `{path}`") }
}

fn first(refused: &[Refusal]) -> String {
    refused.first().map(|r| format!("; the first: `{}` {}", r.path, r.reason)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_body_that_is_too_large_is_413() {
        assert_eq!(EnvelopeError::TooLarge { bytes: 7_000_000 }.status(), 413);
        assert_eq!(EnvelopeError::NotUtf8 { offset: 0 }.status(), 400);
        assert_eq!(EnvelopeError::NoneReadable { refused: Vec::new() }.status(), 400);
        assert!(!EnvelopeError::NotUtf8 { offset: 0 }.is_retryable());
    }
}
