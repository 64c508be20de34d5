//! One POST of JSON, and what its answer means for the delivery.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use sentinel_core::ports::SinkError;
use sentinel_http::{HttpClient, HttpError, Url, read_body, retry_after};

/// The longest that a destination may take to answer one request: two of them fit into one telling.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The most of an answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// An answer with a status that means "taken".
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
}

/// Posts `body`. The errors name the destination's host at most, never its path, which often is a credential.
pub(crate) async fn post(
    http: &HttpClient,
    url: &Url,
    mut headers: HeaderMap,
    body: Vec<u8>,
) -> Result<Answer, SinkError> {
    http.check_url(url).map_err(|e| failed(&e))?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    let client = http.client().map_err(|e| failed(&e))?;
    let request = client.post(url.clone()).headers(headers).timeout(TIMEOUT).body(body);
    let answer = request.send().await.map_err(|e| failed(&HttpError::from(&e)))?;
    let (status, after) = (answer.status(), retry_after(answer.headers()));
    if !status.is_success() {
        return Err(refused(status, after));
    }
    let body = match read_body(answer, MAX_ANSWER).await {
        // It was taken; so much is no answer that anybody here reads.
        Err(HttpError::TooLarge { .. }) => Vec::new(),
        body => body.map_err(|e| failed(&e))?,
    };
    Ok(Answer { body })
}

fn failed(error: &HttpError) -> SinkError {
    let reason = error.to_string();
    if error.is_retryable() { SinkError::Retry { reason, after: None } } else { SinkError::Refused(reason) }
}

fn refused(status: StatusCode, after: Option<Duration>) -> SinkError {
    let reason = format!("it answered {status}");
    let later =
        matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    if later || status.is_server_error() {
        SinkError::Retry { reason, after }
    } else {
        SinkError::Refused(reason)
    }
}
