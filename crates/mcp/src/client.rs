//! The HTTP client under rmcp's transport: with a token that is asked for, redirects that stay on the origin, and an end
//! to every request at once, whatever a server answers.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::BoxStream;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use reqwest::Response;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, RequestId, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    StreamableHttpResponseLimits,
};
use sentinel_http::{HttpError, Redirected, Url, read_body};
use sentinel_investigation::aside;
use sse_stream::Sse;

use crate::events;
use crate::fault::{Failure, line, speaks_of_a_session};
use crate::oauth::Tokens;
use crate::reading;

type Failed = StreamableHttpError<Failure>;
type Events = BoxStream<'static, Result<Sse, SseError>>;
type Headers = HashMap<HeaderName, HeaderValue>;

/// The largest answer that is no stream, in bytes.
const LARGEST_ANSWER: usize = 16 << 20;
/// How much of the body of an error is read, in bytes.
const LARGEST_ERROR: usize = 64 << 10;
/// Redirects of one request that are followed.
const MOST_REDIRECTS: usize = 4;
/// How much is read to see whether a server speaks HTTP+SSE, in bytes.
const ENOUGH: usize = 4096;

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// The shared client, where tokens come from, and where a session's requests go.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    tokens: Option<Arc<Tokens>>,
    /// Where the server sent this session to, on its own origin.
    moved: Arc<Mutex<Option<Url>>>,
}

impl Client {
    pub(crate) fn new(http: reqwest::Client, tokens: Option<Arc<Tokens>>) -> Self {
        Self { http, tokens, moved: Arc::default() }
    }

    async fn token(&self) -> Result<Option<String>, Failure> {
        match &self.tokens {
            None => Ok(None),
            Some(tokens) => tokens.get().await.map(Some).map_err(Failure::NoToken),
        }
    }

    /// Sends a request, with a token where there is one. One that is refused is asked for anew, once.
    async fn send(
        &self,
        method: Method,
        uri: &str,
        headers: &Headers,
        body: &str,
    ) -> Result<Response, Failure> {
        let token = self.token().await?;
        let answer = self.follow(&method, uri, token.as_deref(), headers, body).await?;
        let (Some(tokens), StatusCode::UNAUTHORIZED) = (&self.tokens, answer.status()) else {
            return Ok(answer);
        };
        tokens.refused(token.as_deref().unwrap_or_default()).await;
        let token = self.token().await?;
        self.follow(&method, uri, token.as_deref(), headers, body).await
    }

    /// Sends a request to where its session was sent before. Redirects that stay on the origin are followed, with method
    /// and body.
    async fn follow(
        &self,
        method: &Method,
        uri: &str,
        token: Option<&str>,
        headers: &Headers,
        body: &str,
    ) -> Result<Response, Failure> {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut url = match moved {
            Some(url) => url,
            None => Url::parse(uri).map_err(|e| Failure::Http(HttpError::BadUrl(e.to_string())))?,
        };
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.http.request(method.clone(), url.clone());
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            if !body.is_empty() {
                request = request.header(CONTENT_TYPE, JSON).body(body.to_owned());
            }
            let error = match request.send().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match Redirected::of(&error) {
                Some(to) if to.stays() => url = to.to().clone(),
                Some(to) => return Err(Failure::Redirected(shown(to.to(), uri))),
                None => return Err(Failure::Http(HttpError::from(&error))),
            }
            *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Some(url.clone());
        }
        Err(Failure::Circle)
    }

    /// Whether a server speaks HTTP+SSE, the transport of 2024-11-05: its stream begins by naming another address.
    pub(crate) async fn speaks_http_sse(&self, uri: &str, mut headers: Headers) -> bool {
        headers.insert(ACCEPT, HeaderValue::from_static(EVENT_STREAM));
        let Ok(mut answer) = self.send(Method::GET, uri, &headers, "").await else { return false };
        if !answer.status().is_success() || !is_type(&answer, EVENT_STREAM) {
            return false;
        }
        let mut seen = Vec::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            seen.extend_from_slice(&chunk);
            let text = String::from_utf8_lossy(&seen);
            if text.lines().any(|line| line.trim_end() == "event: endpoint" || line == "event:endpoint") {
                return true;
            }
            if seen.len() > ENOUGH {
                break;
            }
        }
        false
    }

    async fn post(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        mut headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        let body = serde_json::to_string(&message)?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let has_session = session.is_some();
        if let Some(id) = session.and_then(|id| HeaderValue::from_str(&id).ok()) {
            headers.insert(SESSION, id);
        }
        let answer =
            self.send(Method::POST, &uri, &headers, &body).await.map_err(StreamableHttpError::Client)?;
        let asked = match message {
            ClientJsonRpcMessage::Request(request) => Some((request.id, request.request)),
            _ => None,
        };
        let status = answer.status();
        if !status.is_success() {
            return refusal(answer, asked, has_session).await;
        }
        // Nothing that answers a notification is wanted.
        let Some((id, request)) =
            asked.filter(|_| !matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT))
        else {
            return Ok(StreamableHttpPostResponse::Accepted);
        };
        let session = answer.headers().get(SESSION).and_then(|id| id.to_str().ok()).map(str::to_owned);
        if is_type(&answer, EVENT_STREAM) {
            let events = events::that_answer(events::of(answer), id);
            // What has to be a header of its calls, rmcp finds in a list only where it has read the list before it knows of
            // the stream's end, which may be seen first.
            return Ok(match request {
                ClientRequest::ListToolsRequest(_) => match events::as_one(events).await {
                    Ok(list) => StreamableHttpPostResponse::Json(list, session),
                    Err(events) => StreamableHttpPostResponse::Sse(events, session),
                },
                _ => StreamableHttpPostResponse::Sse(events, session),
            });
        }
        let kind = answer
            .headers()
            .get(CONTENT_TYPE)
            .map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
        let is_json = is_type(&answer, JSON);
        let body = body_of(answer, LARGEST_ANSWER).await?;
        match aside(|| reading::message(&body, Some(&id))).await {
            Ok(Some(read)) => match &read.message {
                ServerJsonRpcMessage::Error(error)
                    if has_session && read.is_of_nobody && speaks_of_a_session(&error.error.message) =>
                {
                    Err(StreamableHttpError::SessionExpired)
                }
                ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_) => {
                    Ok(StreamableHttpPostResponse::Json(read.message, session))
                }
                _ => Err(no_answer("it answered with a question or a notification")),
            },
            Ok(None) => Err(no_answer("it answered another request than it was asked")),
            Err(_) if !is_json => Err(StreamableHttpError::UnexpectedContentType(kind)),
            Err(reason) => Err(no_answer(&reason)),
        }
    }
}

fn no_answer(reason: &str) -> Failed {
    StreamableHttpError::Client(Failure::Unreadable(reason.to_owned()))
}

async fn body_of(answer: Response, most: usize) -> Result<Vec<u8>, Failed> {
    read_body(answer, most).await.map_err(|e| match e {
        HttpError::TooLarge { .. } => StreamableHttpError::ResponseBodyTooLarge { max_size: most },
        error => StreamableHttpError::Client(Failure::Http(error)),
    })
}

/// What an answer that is an error means for its request: it ends now.
async fn refusal(
    mut answer: Response,
    asked: Option<(RequestId, ClientRequest)>,
    has_session: bool,
) -> Result<StreamableHttpPostResponse, Failed> {
    let status = answer.status();
    let refused =
        |words: String| StreamableHttpError::Client(Failure::Status { status: status.as_u16(), words });
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS) {
        return Err(refused(String::new()));
    }
    if status == StatusCode::NOT_FOUND && has_session {
        return Err(StreamableHttpError::SessionExpired);
    }
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST_ERROR {
            body.truncate(LARGEST_ERROR);
            break;
        }
    }
    let error = reading::error_in(&body);
    let text = match &error {
        Some((_, said)) => said.clone(),
        None => String::from_utf8_lossy(&body).into_owned(),
    };
    let may_speak = matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE);
    if has_session && may_speak && speaks_of_a_session(&text) {
        return Err(StreamableHttpError::SessionExpired);
    }
    let Some((id, request)) = asked else { return Err(refused(line(&text))) };
    let is_handshake =
        matches!(request, ClientRequest::InitializeRequest(_) | ClientRequest::DiscoverRequest(_));
    let error = match error {
        // What the server, or whoever stands before it, says of itself and not of the request.
        _ if status == StatusCode::FORBIDDEN || (is_handshake && status.is_server_error()) => None,
        Some((code, message)) => Some(ErrorData::new(code, message, None)),
        // So answers a server that knows no `server/discover`, or whoever stands before it.
        None if matches!(request, ClientRequest::DiscoverRequest(_)) && status.is_client_error() => {
            Some(ErrorData::invalid_request(format!("HTTP {}", status.as_u16()), None))
        }
        None => None,
    };
    match error {
        Some(error) => {
            Ok(StreamableHttpPostResponse::Json(ServerJsonRpcMessage::error(error, Some(id)), None))
        }
        None => Err(refused(line(&text))),
    }
}

/// Whether an answer is of this media type.
fn is_type(answer: &Response, wanted: &str) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case(wanted)
}

/// A redirect's target, for people: no query, and no part of its path that may be the configured address's credential.
fn shown(to: &Url, uri: &str) -> String {
    let configured = Url::parse(uri).ok();
    let own: Vec<&str> = configured.as_ref().and_then(Url::path_segments).into_iter().flatten().collect();
    let known = |segment: &str| {
        if segment.len() >= 16 && own.contains(&segment) { "…".to_owned() } else { segment.to_owned() }
    };
    let path: Vec<String> = to.path_segments().into_iter().flatten().map(known).collect();
    let port = to.port().map_or_else(String::new, |port| format!(":{port}"));
    line(&format!("{}://{}{port}/{}", to.scheme(), to.host_str().unwrap_or("nowhere"), path.join("/")))
}

impl StreamableHttpClient for Client {
    type Error = Failure;

    fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: Headers,
    ) -> impl Future<Output = Result<StreamableHttpPostResponse, Failed>> + Send + '_ {
        self.post(uri, message, session, headers)
    }

    /// Its own bounds are rmcp's.
    fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: Headers,
        _: StreamableHttpResponseLimits,
    ) -> impl Future<Output = Result<StreamableHttpPostResponse, Failed>> + Send + '_ {
        self.post(uri, message, session, headers)
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        mut headers: Headers,
    ) -> Result<(), Failed> {
        if let Ok(id) = HeaderValue::from_str(&session) {
            headers.insert(SESSION, id);
        }
        let sent = self.send(Method::DELETE, &uri, &headers, "").await;
        sent.map(drop).map_err(StreamableHttpError::Client)
    }

    /// A stream that cannot be had, or not be gone on with, is none.
    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        _: Option<String>,
        mut headers: Headers,
    ) -> Result<Events, Failed> {
        headers.insert(ACCEPT, HeaderValue::from_static(EVENT_STREAM));
        for (name, value) in [(SESSION, session.as_deref()), (LAST_EVENT, last_event.as_deref())] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        let answer = self.send(Method::GET, &uri, &headers, "").await.map_err(StreamableHttpError::Client)?;
        match answer.status() {
            status if status.is_client_error() => Err(StreamableHttpError::ServerDoesNotSupportSse),
            status if !status.is_success() => {
                let words = String::new();
                Err(StreamableHttpError::Client(Failure::Status { status: status.as_u16(), words }))
            }
            _ if !is_type(&answer, EVENT_STREAM) => Err(StreamableHttpError::ServerDoesNotSupportSse),
            _ => Ok(events::of_nobody(events::of(answer))),
        }
    }

    /// Its own bounds are rmcp's.
    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        auth: Option<String>,
        headers: Headers,
        _: usize,
    ) -> Result<Events, Failed> {
        self.get_stream(uri, session, last_event, auth, headers).await
    }
}
