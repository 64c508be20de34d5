//! An answer that sends the request somewhere else.

use std::error::Error;
use std::fmt;

use reqwest::redirect::Attempt;
use url::Url;

/// Where a server wants a request to go. The client does not go there: who called decides. Neither its text nor its
/// `Debug` shows more than the host, because the rest may hold a credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Redirected {
    from: Option<Url>,
    to: Url,
    status: u16,
}

impl Redirected {
    pub(crate) fn of_attempt(attempt: &Attempt<'_>) -> Self {
        Self {
            from: attempt.previous().last().cloned(),
            to: attempt.url().clone(),
            status: attempt.status().as_u16(),
        }
    }

    /// The redirect that a request ended with, if it did.
    pub fn of(error: &reqwest::Error) -> Option<&Self> {
        let mut source = error.source();
        while let Some(error) = source {
            if let Some(redirected) = error.downcast_ref() {
                return Some(redirected);
            }
            source = error.source();
        }
        None
    }

    /// The whole address. It may hold a credential.
    pub fn to(&self) -> &Url {
        &self.to
    }

    /// Its host.
    pub fn host(&self) -> &str {
        self.to.host_str().unwrap_or("nowhere")
    }

    /// Whether the same request may be made there without asking anybody: scheme, host and port are those that were
    /// called, and the answer is not one to another question (303).
    pub fn stays(&self) -> bool {
        self.status != 303 && self.from.as_ref().is_some_and(|from| from.origin() == self.to.origin())
    }
}

impl fmt::Debug for Redirected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirected").field("host", &self.host()).finish_non_exhaustive()
    }
}

impl fmt::Display for Redirected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server redirects to {}", self.host())
    }
}

impl Error for Redirected {}
