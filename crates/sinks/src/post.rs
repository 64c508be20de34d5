//! One request with JSON, and what its answer means for the delivery.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use sentinel_core::digest::hex;
use sentinel_core::ports::SinkError;
use sentinel_http::{HttpClient, HttpError, Url, read_body, retry_after};
use sha2::{Digest as _, Sha256};

/// The longest that a destination may take to answer one request: two of them fit into one telling.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);
/// The most of an answer that is read.
pub(crate) const MAX_ANSWER: usize = 1 << 20;

/// An answer with a status that means "taken".
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
}

/// Any answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// Its `Retry-After`.
    pub(crate) after: Option<Duration>,
    /// Empty where a failure's could not be read.
    pub(crate) body: Vec<u8>,
}

/// How much patience one request has.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) timeout: Duration,
    /// The most bytes of an answer that are read.
    pub(crate) most: usize,
}

impl Patience {
    pub(crate) const USUAL: Self = Self { timeout: TIMEOUT, most: MAX_ANSWER };
}

/// Posts `body`. The errors name the destination's host at most, never its path, which often is a credential.
pub(crate) async fn post(
    http: &HttpClient,
    url: &Url,
    headers: HeaderMap,
    body: Vec<u8>,
) -> Result<Answer, SinkError> {
    let reply = send(http, Method::POST, url, headers, body, Patience::USUAL).await?;
    if reply.status.is_success() { Ok(Answer { body: reply.body }) } else { Err(refused(&reply, "")) }
}

/// Sends `body` and gives whatever is answered; the errors are as [`post`]'s.
pub(crate) async fn send(
    http: &HttpClient,
    method: Method,
    url: &Url,
    mut headers: HeaderMap,
    body: Vec<u8>,
    patience: Patience,
) -> Result<Reply, SinkError> {
    http.check_url(url).map_err(|e| failed(&e))?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    let client = http.client().map_err(|e| failed(&e))?;
    let request = client.request(method, url.clone()).headers(headers).timeout(patience.timeout).body(body);
    let answer = request.send().await.map_err(|e| failed(&HttpError::from(&e)))?;
    let (status, after) = (answer.status(), retry_after(answer.headers()));
    let body = match read_body(answer, patience.most).await {
        // What it means is said by its status.
        Err(_) if !status.is_success() => Vec::new(),
        // It was taken; so much is no answer that anybody here reads.
        Err(HttpError::TooLarge { .. }) => Vec::new(),
        body => body.map_err(|e| failed(&e))?,
    };
    Ok(Reply { status, after, body })
}

fn failed(error: &HttpError) -> SinkError {
    let reason = error.to_string();
    if error.is_retryable() { SinkError::Retry { reason, after: None } } else { SinkError::Refused(reason) }
}

/// What a status means that is no success; `says` is what the destination adds to it.
pub(crate) fn refused(reply: &Reply, says: &str) -> SinkError {
    let reason = format!("it answered {}{says}", reply.status);
    let later = matches!(
        reply.status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    );
    if later || reply.status.is_server_error() {
        SinkError::Retry { reason, after: reply.after }
    } else {
        SinkError::Refused(reason)
    }
}

/// A delivery's key in 32 hexadecimal digits: the same for every try, and without anything that a header, a signature or a
/// path would mind.
pub(crate) fn hashed(idempotency_key: &str) -> String {
    let mut hash = hex(&Sha256::digest(idempotency_key));
    hash.truncate(32);
    hash
}
