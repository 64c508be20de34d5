//! rmcp's HTTP client, with a token that is asked for, and with an answer to every request: an event that cannot be read
//! would otherwise end the session with all that is under way on it, or be waited for until the time-out.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::ready;
use futures::stream::BoxStream;
use http::{HeaderName, HeaderValue};
use rmcp::model::{ClientJsonRpcMessage, ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    StreamableHttpResponseLimits,
};
use serde::de::IgnoredAny;
use sse_stream::Sse;

use crate::oauth::Tokens;

type Failed = StreamableHttpError<reqwest::Error>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

/// Events of one stream that are read: progress and log messages come before an answer.
const MOST_EVENTS: usize = 1000;
/// Bytes of all of them. One alone has at most 16 MB: rmcp's bound.
const MOST_BYTES: usize = 32 << 20;

/// Of errors that are made here, and not by the server.
pub(crate) const OWN: ErrorCode = ErrorCode(-32_099);
type Headers = HashMap<HeaderName, HeaderValue>;

/// The shared client, and where tokens come from. Without tokens it is the client itself.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) tokens: Option<Arc<Tokens>>,
}

impl Client {
    async fn token(&self) -> Result<Option<String>, Failed> {
        match &self.tokens {
            None => Ok(None),
            Some(tokens) => tokens.get().await.map(Some).map_err(|e| io::Error::other(e).into()),
        }
    }
}

impl StreamableHttpClient for Client {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        auth: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session, auth, headers, limits).await
    }

    /// A token may end early: one that is refused is asked for anew, once.
    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        auth: Option<String>,
        headers: Headers,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        let send = |message, token, headers| {
            let (uri, session) = (Arc::clone(&uri), session.clone());
            self.http.post_message_with_response_limits(uri, message, session, token, headers, limits)
        };
        let id = match &message {
            ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        let answered = match &self.tokens {
            None => send(message, auth, headers).await,
            Some(tokens) => {
                let token = self.token().await?;
                match send(message.clone(), token.clone(), headers.clone()).await {
                    Err(StreamableHttpError::AuthRequired(_)) => {
                        tokens.refused(token.as_deref().unwrap_or_default()).await;
                        send(message, self.token().await?, headers).await
                    }
                    answered => answered,
                }
            }
        };
        match (answered?, id) {
            (StreamableHttpPostResponse::Sse(events, session), Some(id)) => {
                Ok(StreamableHttpPostResponse::Sse(readable(events, id), session))
            }
            (answered, _) => Ok(answered),
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        auth: Option<String>,
        headers: Headers,
    ) -> Result<(), Failed> {
        let token = self.token().await?.or(auth);
        self.http.delete_session(uri, session, token, headers).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        auth: Option<String>,
        headers: Headers,
    ) -> Result<Events, Failed> {
        let token = self.token().await?.or(auth);
        self.http.get_stream(uri, session, last_event, token, headers).await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        auth: Option<String>,
        headers: Headers,
        max: usize,
    ) -> Result<Events, Failed> {
        let token = self.token().await?.or(auth);
        self.http.get_stream_with_max_sse_event_size(uri, session, last_event, token, headers, max).await
    }
}

/// The events that answer a request, where one that cannot be read, or one too many, is an error that answers it. A
/// connection that breaks is left to rmcp, which may resume it.
fn readable(events: Events, id: RequestId) -> Events {
    let told = move |read: &mut Read, event: Result<Sse, SseError>| {
        if read.ended {
            return ready(None);
        }
        let beyond = read.beyond(&event);
        read.ended = beyond.is_some();
        let told = match beyond.or_else(|| problem(&event)) {
            None => event,
            Some(reason) => {
                let error = ErrorData::new(OWN, reason, None);
                let message = ServerJsonRpcMessage::error(error, Some(id.clone()));
                let data = serde_json::to_string(&message).ok();
                Ok(Sse { event: Some("message".to_owned()), data, id: None, retry: None })
            }
        };
        ready(Some(told))
    };
    events.scan(Read::default(), told).boxed()
}

/// What was read of a stream.
#[derive(Default)]
struct Read {
    events: usize,
    bytes: usize,
    /// Nothing is read any more.
    ended: bool,
}

impl Read {
    /// Why the stream ends with this event, if it does.
    fn beyond(&mut self, event: &Result<Sse, SseError>) -> Option<&'static str> {
        let Ok(event) = event else { return None };
        self.events = self.events.saturating_add(1);
        self.bytes = self.bytes.saturating_add(event.data.as_ref().map_or(0, String::len));
        (self.events > MOST_EVENTS || self.bytes > MOST_BYTES)
            .then_some("its answer is a stream of more than 1,000 events, or of more than 32 MB")
    }
}

/// What is wrong with an event, in words.
pub(crate) fn problem(event: &Result<Sse, SseError>) -> Option<&'static str> {
    match event {
        Ok(event) => {
            let data = event.data.as_deref().map(str::trim).filter(|data| !data.is_empty())?;
            serde_json::from_str::<IgnoredAny>(data)
                .err()
                .map(|_| "it answered something that is not MCP: no JSON")
        }
        Err(SseError::Utf8Parse(_)) => Some("it answered something that is not MCP: no UTF-8"),
        // rmcp's own error; its type is private.
        Err(SseError::Body(error)) if error.to_string().contains("maximum size") => {
            Some("its answer is larger than 16 MB")
        }
        Err(_) => None,
    }
}
