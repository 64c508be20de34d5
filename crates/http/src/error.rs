//! What can go wrong on the way out, in words that hold no credential.

use std::error::Error;
use std::net::IpAddr;

use thiserror::Error;

use crate::Redirected;

/// Why a request did not go out or gave no answer. Names hosts, never a URL: a URL may hold a credential.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum HttpError {
    /// Not a URL that can be called.
    #[error("the URL cannot be used: {0}")]
    BadUrl(String),
    /// Plain http to a host that was not named for it.
    #[error("{host} would be called without TLS; use https, or list it in network.allow-insecure-hosts")]
    Insecure {
        /// The host.
        host: String,
    },
    /// An address that is not public, of a host that was not named for it.
    #[error(
        "{host} has the {kind} address {address}; list the host in network.allow-private-hosts if that is meant"
    )]
    Private {
        /// The host.
        host: String,
        /// The address found.
        address: IpAddr,
        /// What kind of address it is.
        kind: &'static str,
    },
    /// The name has no address.
    #[error("{host} cannot be resolved: {reason}")]
    Resolve {
        /// The host.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// The server wants the request to go somewhere else; it does not.
    #[error("the server redirects to {host}, and redirects are not followed")]
    Redirect {
        /// The target's host.
        host: String,
    },
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// No connection: refused, unreachable, or no agreement on TLS.
    #[error("no connection: {0}")]
    Connect(String),
    /// The connection broke, or what came is not HTTP.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer is larger than whoever asked takes.
    #[error("the answer is larger than {}", size(*most))]
    TooLarge {
        /// The bound, in bytes.
        most: usize,
    },
    /// The client cannot be built: no root certificates can be read.
    #[error("the HTTP client cannot be set up: {0}")]
    SetUp(String),
}

/// `16 MB`, `64 KB`.
fn size(bytes: usize) -> String {
    if bytes >= 1 << 20 { format!("{} MB", bytes >> 20) } else { format!("{} KB", bytes >> 10) }
}

impl HttpError {
    /// Whether the same request may work later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Resolve { .. } | Self::TimedOut | Self::Connect(_) | Self::Broken(_) => true,
            Self::BadUrl(_)
            | Self::Insecure { .. }
            | Self::Private { .. }
            | Self::Redirect { .. }
            | Self::TooLarge { .. }
            | Self::SetUp(_) => false,
        }
    }
}

impl From<&reqwest::Error> for HttpError {
    /// What happened, without the URL that reqwest's own text shows.
    fn from(error: &reqwest::Error) -> Self {
        let mut deepest: &dyn Error = error;
        while let Some(source) = deepest.source() {
            // The resolver's and the redirect policy's refusals come back wrapped.
            if let Some(own) = source.downcast_ref::<Self>() {
                return own.clone();
            }
            if let Some(redirected) = source.downcast_ref::<Redirected>() {
                return Self::Redirect { host: redirected.host().to_owned() };
            }
            deepest = source;
        }
        // reqwest's own text ends in the URL; that of what lies under it does not.
        let reason =
            if deepest.is::<reqwest::Error>() { "no reason given".to_owned() } else { deepest.to_string() };
        if error.is_timeout() {
            Self::TimedOut
        } else if error.is_connect() {
            Self::Connect(reason)
        } else if error.is_builder() {
            Self::BadUrl(reason)
        } else {
            Self::Broken(reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_worth_a_retry() {
        assert!(HttpError::TimedOut.is_retryable());
        assert!(HttpError::Connect(String::new()).is_retryable());
        assert!(!HttpError::Insecure { host: String::new() }.is_retryable());
        assert!(!HttpError::Redirect { host: String::new() }.is_retryable());
    }
}
