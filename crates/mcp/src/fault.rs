//! What went wrong with a server, in words for the model: no URL, no credential, no more of a body than a line.

use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;
use sentinel_http::HttpError;
use thiserror::Error;

use crate::events::{BROKE, OWN};
use crate::oauth::NoToken;
use crate::reading::NOT_MCP;

/// How much of a server's own words is passed on.
const MAX_WORDS: usize = 300;

/// Why an HTTP request had no answer that is one.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Http(HttpError),
    #[error(transparent)]
    NoToken(NoToken),
    /// An answer that is an error of HTTP, and the first of its words.
    #[error("{}", status_words(*.status, .words))]
    Status { status: u16, words: String },
    /// A redirect to another origin, or to another question.
    #[error("it redirects to {0}, which is not followed; if that is its address, configure it")]
    Redirected(String),
    #[error("it redirects in a circle")]
    Circle,
    #[error("{0}")]
    Unreadable(String),
}

fn status_words(status: u16, words: &str) -> String {
    match (status, words) {
        (401, _) => "it refused the credentials (HTTP 401)".to_owned(),
        (403, "") => "it does not allow the request (HTTP 403)".to_owned(),
        (403, words) => format!("it does not allow the request (HTTP 403): {words}"),
        (status, "") => format!("it answered HTTP {status}"),
        (status, words) => format!("it answered HTTP {status}: {words}"),
    }
}

impl Failure {
    /// Whether nothing of the request left.
    fn never_left(&self) -> bool {
        matches!(self, Self::NoToken(_) | Self::Http(HttpError::Connect(_) | HttpError::Resolve { .. }))
    }

    /// Whether the server may be there in a moment: it is being replaced, or what stands before it has nobody to ask.
    fn is_away(&self) -> bool {
        match self {
            Self::Http(HttpError::Connect(_) | HttpError::Resolve { .. } | HttpError::Broken(_)) => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

/// What a failed request says about its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum After {
    /// It answers: nothing is wrong with it.
    Whole,
    /// It may be unusable.
    Over,
    /// It may be unusable, and nobody knows whether the request was carried out.
    Broken,
    /// It is unusable, and the request was not carried out.
    NeverRan,
}

/// Why no session could be opened.
pub(crate) fn of_connect(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::TransportError { error, .. } => of_transport(error),
        ClientInitializeError::JsonRpcError(error) if error.code == OWN || error.code == BROKE => {
            line(&error.message)
        }
        ClientInitializeError::JsonRpcError(error) => {
            format!("it refused the session: {}", line(&error.message))
        }
        ClientInitializeError::ConnectionClosed(_) => NOT_MCP.to_owned(),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => of_connect(fallback),
        _ => "it does not speak MCP as this client does".to_owned(),
    }
}

/// Whether a server that was asked by `server/discover` may be one that knows `initialize` only, and stumbled over the
/// question: it ended the connection, failed, answered something else, or knows the question and none of the revisions
/// that have it (kubernetes-mcp-server 0.0.67). Where it refused the credentials, cannot be
/// reached or redirects, another question changes nothing.
pub(crate) fn may_be_older(error: &ClientInitializeError) -> bool {
    match error {
        ClientInitializeError::TransportError { error, .. } => match failure(error) {
            Some(Failure::Status { status, .. }) => !matches!(status, 401 | 403),
            // No failure of HTTP: an odd content type, or a program that ended.
            Some(Failure::Unreadable(_)) | None => true,
            Some(_) => false,
        },
        ClientInitializeError::ConnectionClosed(_)
        | ClientInitializeError::ExpectedInitResult(_)
        | ClientInitializeError::ExpectedInitResponse(_)
        | ClientInitializeError::ConflictInitResponseId(..)
        | ClientInitializeError::UncorrelatedErrorResponse { .. }
        | ClientInitializeError::NoCompatibleProtocolVersion { .. } => true,
        ClientInitializeError::JsonRpcError(error) => error.code == OWN || error.code == BROKE,
        _ => false,
    }
}

/// Whether a handshake may succeed in a moment: the server failed, or nobody listened.
pub(crate) fn is_away(error: &ClientInitializeError) -> bool {
    match error {
        ClientInitializeError::TransportError { error, .. } => failure(error).is_some_and(Failure::is_away),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => is_away(fallback),
        ClientInitializeError::JsonRpcError(error) => error.code == BROKE,
        _ => false,
    }
}

/// Whether a server that refuses the handshake so may speak HTTP+SSE.
pub(crate) fn may_be_http_sse(error: &ClientInitializeError) -> bool {
    match error {
        ClientInitializeError::TransportError { error, .. } => match (failure(error), http_error(error)) {
            (Some(Failure::Status { status, .. }), _) => (400..500).contains(status) && *status != 401,
            (None, Some(error)) => !matches!(error, StreamableHttpError::ReservedHeaderConflict(_)),
            _ => false,
        },
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => may_be_http_sse(fallback),
        // Answered by 202, or with an error that is none of MCP's.
        ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::JsonRpcError(_) => true,
        _ => false,
    }
}

/// Why a request failed.
pub(crate) fn of_request(error: &ServiceError) -> String {
    match error {
        ServiceError::McpError(error) if error.code == OWN || error.code == BROKE => line(&error.message),
        ServiceError::McpError(error) => format!("it answered with an error: {}", line(&error.message)),
        ServiceError::TransportSend(error) => of_transport(error),
        ServiceError::TransportClosed => "the connection closed".to_owned(),
        ServiceError::UnexpectedResponse => NOT_MCP.to_owned(),
        other => line(&other.to_string()),
    }
}

/// What a failed request says about its session. A plain error of the protocol leaves it whole, unless it is about the
/// session: some servers say so in an answer like any other.
pub(crate) fn after(error: &ServiceError) -> After {
    match error {
        ServiceError::McpError(error) if error.code == BROKE => After::Broken,
        ServiceError::McpError(error) if speaks_of_a_session(&error.message) => After::Over,
        ServiceError::McpError(_) => After::Whole,
        ServiceError::TransportClosed => After::Broken,
        ServiceError::TransportSend(error) => match (http_error(error), failure(error)) {
            (Some(StreamableHttpError::SessionExpired), _) => After::NeverRan,
            (_, Some(failure)) if failure.never_left() => After::NeverRan,
            (_, Some(failure)) if failure.is_away() => After::Broken,
            // A program's input is closed.
            (None, _) => After::Broken,
            _ => After::Over,
        },
        _ => After::Over,
    }
}

/// Whether a refusal is about the session, as servers put it that lost theirs: "Session not found", "Bad Request: No
/// valid session ID provided", "Bad Request: Server not initialized".
pub(crate) fn speaks_of_a_session(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("session") || text.contains("not initialized")
}

fn http_error(error: &DynamicTransportError) -> Option<&StreamableHttpError<Failure>> {
    error.error.downcast_ref()
}

fn failure(error: &DynamicTransportError) -> Option<&Failure> {
    match http_error(error)? {
        StreamableHttpError::Client(failure) => Some(failure),
        _ => None,
    }
}

fn of_transport(error: &DynamicTransportError) -> String {
    let Some(error) = http_error(error) else { return "the connection broke".to_owned() };
    match error {
        StreamableHttpError::Client(failure) => failure.to_string(),
        StreamableHttpError::UnexpectedServerResponse(what) => format!("{NOT_MCP}: {}", line(what)),
        StreamableHttpError::UnexpectedContentType(kind) => {
            format!(
                "{NOT_MCP}: its content type is {}",
                kind.as_deref().map_or_else(|| "missing".to_owned(), line)
            )
        }
        StreamableHttpError::ResponseBodyTooLarge { max_size } => {
            format!("its answer is larger than {} MB", max_size >> 20)
        }
        StreamableHttpError::SessionExpired
        | StreamableHttpError::SessionRecoveryTimeout
        | StreamableHttpError::ReinitializationFailed(_) => {
            "its session expired and could not be opened again".to_owned()
        }
        StreamableHttpError::TransportChannelClosed => "the connection closed".to_owned(),
        StreamableHttpError::ReservedHeaderConflict(name) => {
            format!("the header {name} is the protocol's own and cannot be configured")
        }
        _ => NOT_MCP.to_owned(),
    }
}

/// A server's own words, on one line, cut.
pub(crate) fn line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(MAX_WORDS) {
        line.truncate(end);
        line.push('…');
    }
    line
}
