//! The function on AWS: what API Gateway (HTTP API, payload version 2) or a function URL sends, as plain requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Uri};
use lambda_http::aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use lambda_http::lambda_runtime::Diagnostic;
use lambda_http::{Body, LambdaEvent};
use sentinel_aws::{Calls, Secrets, deadline};
use sentinel_config::{Loaded, Problems, Source};
use sentinel_telemetry::Metric;
use thiserror::Error;
use tokio::time::Instant;
use tracing::Instrument;

use crate::{Admission, Authenticator, Credentials, Door, Ingest, Rotating};

/// The function's time-out in infra/template.yaml, where the platform names no deadline.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long before the platform's deadline every call to AWS has ended, with an error that names what hung. The rest is
/// for what has not been begun by then to be refused, and for the answer's way back.
pub const CALLS_END_BEFORE: Duration = Duration::from_secs(3);
/// How long before it an answer is given whatever else hangs: a certificate of Amazon SNS, a name server.
pub const ANSWERED_BEFORE: Duration = Duration::from_secs(1);

/// Why the function must not start. Worth no retry before the deployment is mended.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration asks for a protection that is not built.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// Nobody could ever come in.
    #[error(
        "`ingest` names no credentials, so that nobody may post webhooks: set `ingest.bearer` or another, or say \
         `ingest.allow-anonymous: true`"
    )]
    Shut,
}

/// Who may come in: credentials of the configuration alone stand, those of the secret store are followed.
///
/// The secret store is not asked yet: were it down, the function would start all the same and answer 503. `secrets` is
/// called only where there are any.
///
/// # Errors
/// [`StartError`].
pub fn door(
    loaded: &Loaded,
    source: Source,
    env: BTreeMap<String, String>,
    secrets: impl FnOnce() -> Secrets,
) -> Result<Door, StartError> {
    let settings = &loaded.settings;
    if !loaded.secret_ids.is_empty() {
        return Ok(Door::Rotating(Arc::new(Rotating::new(source, env, secrets(), false))));
    }
    let authenticator = Authenticator::new(Credentials::from(&settings.ingest));
    if authenticator.is_shut() { Err(StartError::Shut) } else { Ok(authenticator.into()) }
}

/// Why an event cannot be answered: its invocation fails, API Gateway answers 500, and Alertmanager comes again.
#[derive(Debug, Error)]
pub enum EventError {
    /// API Gateway writes the base64 itself: it is never the sender's.
    #[error("`isBase64Encoded` is true, but `body` is not base64: {0}")]
    Body(#[from] base64::DecodeError),
}

impl From<EventError> for Diagnostic {
    fn from(error: EventError) -> Self {
        Self { error_type: "EventError".to_owned(), error_message: error.to_string() }
    }
}

/// Answers one event, whatever its sender put into it, before the invocation's deadline: that of `calls` is set to it.
///
/// # Errors
/// [`EventError`].
pub async fn answer(
    ingest: &Ingest,
    calls: &Calls,
    event: LambdaEvent<ApiGatewayV2httpRequest>,
) -> Result<ApiGatewayV2httpResponse, EventError> {
    let context = &event.context;
    let span = sentinel_telemetry::invocation(&context.request_id, context.xray_trace_id.as_deref());
    let (now, at) = (Instant::now(), ingest.ports.clock.now());
    let left = deadline(context.deadline, at, TIMEOUT).since(at);
    calls.end_by(now + left.saturating_sub(CALLS_END_BEFORE));
    let (head, body) = plain(event.payload);
    // What a body is worth is known before it is decoded, as the head of a request comes before its body elsewhere.
    let answered = async {
        match ingest.admit(&head).await {
            Admission::Answered(response) => Ok::<_, EventError>(response),
            Admission::Webhook(admitted) => Ok(ingest.take(admitted, &head.headers, &body.decoded()?).await),
        }
    };
    let answered = async {
        let in_time = tokio::time::timeout_at(now + left.saturating_sub(ANSWERED_BEFORE), answered).await;
        in_time.unwrap_or_else(|_| Ok(ingest.put_off()))
    };
    let answered = answered.instrument(span).await;
    ingest.metrics.emit(ingest.ports.clock.now().get(), &[Metric::Throttled(calls.take_throttled())]);
    let (parts, body) = answered?.into_parts();
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = parts.status.as_u16().into();
    response.headers = parts.headers;
    // Answers are JSON: as text they go as they are, as bytes they would go in base64.
    let body = String::from_utf8(body.into()).map_or_else(|e| Body::from(e.into_bytes()), Body::from);
    response.is_base64_encoded = matches!(body, Body::Binary(_));
    response.body = Some(body);
    Ok(response)
}

/// A body as API Gateway hands it over.
#[derive(Debug)]
pub(crate) enum Carried {
    Text(String),
    Base64(String),
}

impl Carried {
    pub(crate) fn decoded(self) -> Result<Bytes, EventError> {
        Ok(match self {
            Self::Text(body) => body.into(),
            Self::Base64(body) => BASE64_STANDARD.decode(body)?.into(),
        })
    }
}

/// The request as it was made: its path without the stage, and its body as it came. Its host and query say nothing here.
///
/// `lambda_http` has a conversion of its own. It panics where host, scheme, path and query together are no URL, and all
/// four are the sender's: whoever likes could make invocations fail.
pub(crate) fn plain(event: ApiGatewayV2httpRequest) -> (Parts, Carried) {
    let context = event.request_context;
    let path = event.raw_path.unwrap_or_default();
    let path = context
        .stage
        .filter(|stage| stage != "$default")
        .map_or(&*path, |stage| without_stage(&path, &stage));
    let mut request = Request::new(());
    *request.method_mut() = context.http.method;
    // What cannot be a path is none that anything is found at, as the root is.
    *request.uri_mut() = path.parse::<PathAndQuery>().map(Uri::from).unwrap_or_default();
    *request.headers_mut() = event.headers;
    let body = event.body.unwrap_or_default();
    let body = if event.is_base64_encoded { Carried::Base64(body) } else { Carried::Text(body) };
    (request.into_parts().0, body)
}

/// A named stage is the first part of the path that API Gateway hands over.
fn without_stage<'a>(path: &'a str, stage: &str) -> &'a str {
    let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(stage));
    rest.filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stage_itself_is_taken_off_the_path() {
        assert_eq!(without_stage("/prod/webhook/alertmanager", "prod"), "/webhook/alertmanager");
        assert_eq!(without_stage("/production/webhook", "prod"), "/production/webhook");
        assert_eq!(without_stage("/prod", "prod"), "/prod");
        assert_eq!(without_stage("/webhook/prod", "prod"), "/webhook/prod");
        assert_eq!(without_stage("/prod/prod/x", "prod"), "/prod/x");
        assert_eq!(without_stage("prod/x", "prod"), "prod/x");
    }
}
