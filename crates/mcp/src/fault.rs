//! What went wrong with a server, in words for the model: no URL, no credential, no more of a body than a line.

use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;
use sentinel_http::HttpError;

use crate::client::OWN;
use crate::oauth::NoToken;

/// How much of a server's own words is passed on.
const MAX_WORDS: usize = 300;

/// Why no session could be opened.
pub(crate) fn of_connect(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::TransportError { error, .. } => of_transport(error),
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
        ClientInitializeError::TransportError { error, .. } => match http_error(error) {
            Some(StreamableHttpError::Client(_) | StreamableHttpError::Io(_)) => false,
            Some(error) => !matches!(
                error,
                StreamableHttpError::AuthRequired(_)
                    | StreamableHttpError::InsufficientScope(_)
                    | StreamableHttpError::ReservedHeaderConflict(_)
            ),
            // A program that ended.
            None => true,
        },
        ClientInitializeError::ConnectionClosed(_)
        | ClientInitializeError::ExpectedInitResult(_)
        | ClientInitializeError::ExpectedInitResponse(_)
        | ClientInitializeError::ConflictInitResponseId(..)
        | ClientInitializeError::UncorrelatedErrorResponse { .. }
        | ClientInitializeError::NoCompatibleProtocolVersion { .. } => true,
        _ => false,
    }
}

/// Why a request failed.
pub(crate) fn of_request(error: &ServiceError) -> String {
    match error {
        ServiceError::McpError(error) if error.code == OWN => line(&error.message),
        ServiceError::McpError(error) => format!("it answered with an error: {}", line(&error.message)),
        ServiceError::TransportSend(error) => of_transport(error),
        ServiceError::TransportClosed => "the connection closed".to_owned(),
        ServiceError::UnexpectedResponse => NOT_MCP.to_owned(),
        other => line(&other.to_string()),
    }
}

/// Whether the session may be unusable after this. A plain error of the protocol leaves it whole, unless it is about
/// the session: some servers say so with 400 instead of the protocol's 404.
pub(crate) fn ends_session(error: &ServiceError) -> bool {
    match error {
        ServiceError::McpError(error) => error.message.to_ascii_lowercase().contains("session"),
        _ => true,
    }
}

/// Whether the server refused a request because it does not know its session: nothing was done.
pub(crate) fn has_expired(error: &ServiceError) -> bool {
    match error {
        ServiceError::TransportSend(error) => {
            matches!(http_error(error), Some(StreamableHttpError::SessionExpired))
        }
        _ => false,
    }
}

const NOT_MCP: &str = "it answered something that is not MCP";

fn http_error(error: &DynamicTransportError) -> Option<&StreamableHttpError<reqwest::Error>> {
    error.error.downcast_ref()
}

fn of_transport(error: &DynamicTransportError) -> String {
    let Some(error) = http_error(error) else { return "the connection broke".to_owned() };
    match error {
        StreamableHttpError::Io(error) => match error.get_ref().and_then(|e| e.downcast_ref::<NoToken>()) {
            Some(no_token) => no_token.to_string(),
            None => "the connection broke".to_owned(),
        },
        StreamableHttpError::Client(error) => match error.status() {
            Some(status) => format!("it answered HTTP {}", status.as_u16()),
            None => HttpError::from(error).to_string(),
        },
        StreamableHttpError::HttpStatus(status) => format!("it answered HTTP {}", status.status),
        StreamableHttpError::AuthRequired(_) => "it refused the credentials (HTTP 401)".to_owned(),
        StreamableHttpError::InsufficientScope(_) => "it refused the credentials (HTTP 403)".to_owned(),
        // Begins with the status where there is one, and goes on with the body.
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
