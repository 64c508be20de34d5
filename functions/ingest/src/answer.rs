//! The answers, as JSON.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use sentinel_alertmanager::EnvelopeError;
use sentinel_core::intake::Receipt;
use sentinel_core::notification::Refusal;
use serde::Serialize;

/// Seconds after which a sender may come again. Alertmanager keeps its own back-off; others read it.
const RETRY_AFTER_SECONDS: &str = "5";
/// Refusals that an answer lists; the count is always whole. Lambda carries 6 MB of answer, and a body may hold
/// 65,536 broken alerts.
const MAX_REFUSALS: usize = 100;
/// Incidents that an answer lists, for the same reason.
const MAX_INCIDENTS: usize = 10_000;

/// What is wrong, where, and with which alerts.
#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'a str,
    #[serde(skip_serializing_if = "<[Refusal]>::is_empty")]
    refusals: &'a [Refusal],
}

impl<'a> Problem<'a> {
    const fn new(error: &'a str) -> Self {
        Self { error, path: "", refusals: &[] }
    }
}

#[derive(Serialize)]
struct Noted {
    noted: bool,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Bytes> {
    // These types have only text keys and numbers, which JSON always holds.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    with(&mut response, CONTENT_TYPE, HeaderValue::from_static("application/json"));
    with(&mut response, CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn problem(status: StatusCode, error: &str) -> Response<Bytes> {
    json(status, &Problem::new(error))
}

fn with(response: &mut Response<Bytes>, name: HeaderName, value: HeaderValue) {
    response.headers_mut().append(name, value);
}

pub(crate) fn receipt(mut receipt: Receipt) -> Response<Bytes> {
    receipt.refusals.truncate(MAX_REFUSALS);
    receipt.incidents.truncate(MAX_INCIDENTS);
    json(StatusCode::OK, &receipt)
}

pub(crate) fn healthy() -> Response<Bytes> {
    json(StatusCode::OK, &Health { status: "ok" })
}

pub(crate) fn not_found() -> Response<Bytes> {
    problem(StatusCode::NOT_FOUND, "nothing is here; webhooks go to POST /webhook/alertmanager")
}

pub(crate) fn method_not_allowed(allow: &'static str) -> Response<Bytes> {
    let mut response =
        problem(StatusCode::METHOD_NOT_ALLOWED, &format!("this address takes another method: {allow}"));
    with(&mut response, ALLOW, HeaderValue::from_static(allow));
    response
}

/// A 401 names at least one scheme (RFC 9110, section 15.5.2).
pub(crate) fn unauthorized(challenges: &[HeaderValue]) -> Response<Bytes> {
    let mut response = problem(StatusCode::UNAUTHORIZED, "valid credentials are needed");
    for challenge in challenges {
        with(&mut response, http::header::WWW_AUTHENTICATE, challenge.clone());
    }
    response
}

/// A 415 for an encoding names those that are read (RFC 9110, section 12.5.3).
pub(crate) fn unsupported_encoding() -> Response<Bytes> {
    let mut response = problem(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "a compressed body is not read; send it without Content-Encoding",
    );
    with(&mut response, ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    response
}

pub(crate) fn unsupported_type() -> Response<Bytes> {
    problem(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "a form is not read; send JSON with Content-Type: application/json",
    )
}

pub(crate) fn try_again() -> Response<Bytes> {
    let mut response = problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "not everything could be stored; send the same again, what is stored is not opened twice",
    );
    with(&mut response, RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
    response
}

/// Not a 401: the sender may well be in the right, and Alertmanager does not try again after a 4xx.
pub(crate) fn secrets_out_of_reach() -> Response<Bytes> {
    let mut response =
        problem(StatusCode::SERVICE_UNAVAILABLE, "credentials cannot be checked now; send the same again");
    with(&mut response, RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
    response
}

/// A message that holds no alerts.
pub(crate) fn noted() -> Response<Bytes> {
    json(StatusCode::OK, &Noted { noted: true })
}

pub(crate) fn not_listed() -> Response<Bytes> {
    problem(StatusCode::FORBIDDEN, "subscriptions are confirmed only for topics that `ingest.sns` lists")
}

pub(crate) fn refused_message(why: &str) -> Response<Bytes> {
    problem(StatusCode::FORBIDDEN, why)
}

pub(crate) fn sns_out_of_reach() -> Response<Bytes> {
    let mut response =
        problem(StatusCode::SERVICE_UNAVAILABLE, "Amazon SNS cannot be asked now; send the same again");
    with(&mut response, RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
    response
}

pub(crate) fn no_web_pages() -> Response<Bytes> {
    problem(StatusCode::FORBIDDEN, "webhooks without credentials are for programs, not for web pages")
}

pub(crate) fn unreadable(error: &EnvelopeError) -> Response<Bytes> {
    let refusals = match error {
        EnvelopeError::NoneReadable { refused } => refused.as_slice(),
        _ => &[],
    };
    let body = Problem {
        error: &error.to_string(),
        path: path(error),
        refusals: refusals.get(..MAX_REFUSALS).unwrap_or(refusals),
    };
    json(StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST), &body)
}

/// Where in the body it is wrong; empty: at the top.
pub(crate) fn path(error: &EnvelopeError) -> &str {
    match error {
        EnvelopeError::NotJson { path, .. } | EnvelopeError::TooDeep { path } => path,
        EnvelopeError::NoAlerts { .. }
        | EnvelopeError::TooManyAlerts { .. }
        | EnvelopeError::NoneReadable { .. } => "alerts",
        EnvelopeError::GroupLabels(refusal) => &refusal.path,
        EnvelopeError::TooLarge { .. }
        | EnvelopeError::NotUtf8 { .. }
        | EnvelopeError::NotAnObject { .. } => "",
    }
}
