//! Why one try gave no answer, and what becomes of it.

use std::time::Duration;

use sentinel_http::HttpError;
use sentinel_investigation::ports::ModelError;
use serde_json::Value;
use thiserror::Error;

use crate::adapt::numbers;

/// The most items, or calls, of one answer. No service gives a hundred; what is done about each is little, and about each
/// pair of them not nothing.
pub(crate) const MOST_ITEMS: usize = 4096;

/// The codes of failures that pass, OpenAI's and Anthropic's.
const PASSING: &[&str] = &[
    "server_error",
    "rate_limit_exceeded",
    "api_error",
    "overloaded_error",
    "rate_limit_error",
    "timeout_error",
];

/// Fails where an answer has more than [`MOST_ITEMS`].
pub(crate) fn check_number(items: usize) -> Result<(), Failure> {
    if items <= MOST_ITEMS {
        return Ok(());
    }
    Err(Failure::Unreadable(format!("the answer has {items} items, and {MOST_ITEMS} at most are read")))
}

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
        /// The API's `error.param`: what of the request it is about.
        param: Option<String>,
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
    /// There are no credentials to sign the request with, or it cannot be signed.
    #[error("the request was not sent: {reason}")]
    Unsigned {
        /// Why.
        reason: String,
        /// Whether it may be signed later.
        passing: bool,
    },
    /// A 200 that is not a response.
    #[error("{0}")]
    Unreadable(String),
    /// It was not asked: it failed too often just before.
    #[error("{reason}")]
    LeftAlone {
        /// What happened.
        reason: String,
        /// For how long it is not asked.
        left: Duration,
    },
}

/// What an answer with an error in place of a result says. Some services send it with a 200.
pub(crate) fn error_of(answer: &Value) -> Option<Failure> {
    let error = answer.get("error").filter(|e| !e.is_null())?;
    let text = |key: &str| error.get(key).and_then(Value::as_str);
    let message = error.as_str().or_else(|| text("message")).unwrap_or("no reason given").to_owned();
    // A gateway hands on the status of what it asked.
    if let Some(status) = error.get("code").and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok()) {
        return Some(Failure::Status { status, code: None, param: None, message, retry_after: None });
    }
    let code = text("code").or_else(|| text("type")).unwrap_or("no code").to_owned();
    Some(Failure::Failed { code, message })
}

impl Failure {
    /// Whether the next try may do better. An answer that cannot be read was paid for, so it is not bought again
    /// here.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            // A rate limit passes; an exhausted quota has the same status and does not.
            Self::Status { status, .. } => {
                matches!(status, 408 | 409 | 429 | 500..) && !self.is_out_of_quota()
            }
            Self::Failed { code, .. } => PASSING.contains(&code.as_str()),
            Self::Unsigned { passing, .. } => *passing,
            Self::Unreadable(_) => false,
            Self::LeftAlone { .. } => true,
        }
    }

    /// Whether the account has nothing left: no other try will do, another account or model may.
    fn is_out_of_quota(&self) -> bool {
        match self {
            Self::Status { status, code, .. } => {
                *status == 402 || code.as_deref() == Some("insufficient_quota")
            }
            Self::Failed { code, .. } => code == "insufficient_quota",
            Self::Http(_) | Self::Unsigned { .. } | Self::Unreadable(_) | Self::LeftAlone { .. } => false,
        }
    }

    /// Whether it says that the service is unwell, rather than that it does not like the request or is asked too
    /// much.
    pub(crate) fn is_the_services(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            Self::Status { status, .. } => *status >= 500,
            Self::Failed { code, .. } => {
                matches!(code.as_str(), "server_error" | "api_error" | "overloaded_error")
            }
            Self::Unsigned { .. } | Self::Unreadable(_) | Self::LeftAlone { .. } => false,
        }
    }

    /// What the service says where it could not reach a hosted server: OpenAI answers 424 then, with the text "Error
    /// retrieving tool list from MCP server: 'label'.", and does not ask the model.
    pub(crate) fn hosted_server_out(&self) -> Option<&str> {
        let (unreached, message) = match self {
            Self::Status { status, code, message, .. } => {
                (*status == 424 || code.as_deref() == Some("external_connector_error"), message)
            }
            Self::Failed { code, message } => (code == "external_connector_error", message),
            Self::Http(_) | Self::Unsigned { .. } | Self::Unreadable(_) | Self::LeftAlone { .. } => {
                return None;
            }
        };
        let about_a_list = message.starts_with("Error retrieving tool list from MCP server");
        (unreached || about_a_list).then_some(message)
    }

    /// What the service says where it does not take an answer to a hosted call that asked to be made: a refusal that speaks
    /// of the approval. The same answer would be refused again.
    pub(crate) fn approval_refused(&self) -> Option<&str> {
        let Self::Status { status: 400..=499, param, message, .. } = self else { return None };
        let speaks = |text: &str| text.to_ascii_lowercase().contains("approval");
        (speaks(message) || param.as_deref().is_some_and(speaks)).then_some(message)
    }

    /// Whether the conversation does not fit into the model's context. Every service says it in its own words.
    fn is_too_long(&self) -> bool {
        const SAID: &[&str] = &[
            "context length",
            "context window",
            "context_length",
            "maximum context",
            "context size",
            "too many tokens",
            "prompt is too long",
            "input is too long",
            "input length",
            "reduce the length",
            "exceeds the context",
            "exceed context limit",
            "exceeds the maximum number of tokens",
            "string_above_max_length",
        ];
        match self {
            Self::Status { status: 413, .. } => true,
            Self::Status { status: 400 | 422, code, message, .. } => {
                let lower = message.to_ascii_lowercase();
                let code = code.as_deref().unwrap_or_default();
                SAID.iter().any(|said| lower.contains(said) || code.contains(said))
            }
            Self::Failed { code, message } => {
                code.contains("context_length")
                    || SAID.iter().any(|said| message.to_ascii_lowercase().contains(said))
            }
            Self::Http(_)
            | Self::Status { .. }
            | Self::Unsigned { .. }
            | Self::Unreadable(_)
            | Self::LeftAlone { .. } => false,
        }
    }

    /// How much of the conversation would fit, in hundredths, where a text names what it has and what it may have.
    fn fits(&self) -> Option<u32> {
        let (Self::Status { message, .. } | Self::Failed { message, .. }) = self else { return None };
        let tokens = || numbers(message).filter(|n| *n >= 512);
        let (least, most) = (tokens().min()?, tokens().max()?);
        u32::try_from(least.saturating_mul(100) / most).ok().filter(|fits| *fits < 100)
    }

    /// How long the server asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::LeftAlone { left, .. } => Some(*left),
            _ => None,
        }
    }

    /// Whether the service may have answered, and bill it, although nothing of it came back. A status says that it has
    /// not, but for those that tell of a time-out on the way.
    pub(crate) fn may_be_billed(&self) -> bool {
        match self {
            Self::Http(error) => matches!(error, HttpError::TimedOut | HttpError::Broken(_)),
            Self::Status { status, .. } => matches!(status, 408 | 504),
            Self::Failed { .. } | Self::Unreadable(_) => true,
            Self::Unsigned { .. } | Self::LeftAlone { .. } => false,
        }
    }

    /// What the caller is told after `tries`. `billed`: one of those before the last may have cost something.
    pub(crate) fn into_model_error(self, tries: u32, billed: bool) -> ModelError {
        let billed = billed || self.may_be_billed();
        if self.is_retryable() {
            let count = if tries <= 1 { String::new() } else { format!(", {tries} times") };
            return ModelError::Unavailable {
                reason: format!("{self}{count}"),
                retry_after: self.retry_after(),
                billed,
            };
        }
        if self.is_too_long() {
            return ModelError::TooLong { reason: self.to_string(), fits: self.fits() };
        }
        match self {
            Self::Unreadable(reason) => ModelError::Unreadable(reason),
            refused => ModelError::Refused(refused.to_string()),
        }
    }
}
