//! The function on AWS: what API Gateway (HTTP API, payload version 2) or a function URL sends, as plain requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Uri};
use lambda_http::request::RequestContext;
use lambda_http::{Body, RequestExt};
use sentinel_aws::Secrets;
use sentinel_config::{Loaded, Problems, Source};
use thiserror::Error;
use tracing::Instrument;

use crate::{Authenticator, Credentials, Door, Ingest, Rotating};

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

/// Answers one event.
pub async fn answer(ingest: &Ingest, request: lambda_http::Request) -> Response<Body> {
    let context = request.lambda_context();
    let span = sentinel_telemetry::invocation(&context.request_id, context.xray_trace_id.as_deref());
    // Answers are JSON: as text they go as they are, as bytes they would go in base64.
    ingest
        .handle(plain(request))
        .instrument(span)
        .await
        .map(|body| String::from_utf8(body.into()).map_or_else(|e| Body::from(e.into_bytes()), Body::from))
}

/// The request as it was made: its path without the stage, its body decoded.
pub(crate) fn plain(request: lambda_http::Request) -> Request<Bytes> {
    let stage = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.stage.clone(),
        _ => None,
    };
    let (mut parts, body) = request.into_parts();
    if let Some(stage) = stage.filter(|stage| stage != "$default") {
        parts.uri = without_stage(parts.uri, &stage);
    }
    let body = match body {
        Body::Text(text) => text.into(),
        Body::Binary(bytes) => bytes.into(),
        // The empty one; nothing makes another.
        _ => Bytes::new(),
    };
    Request::from_parts(parts, body)
}

/// A named stage is the first part of the path that API Gateway hands over.
fn without_stage(uri: Uri, stage: &str) -> Uri {
    let Some(rest) = uri.path().strip_prefix('/').and_then(|path| path.strip_prefix(stage)) else {
        return uri;
    };
    if !rest.starts_with('/') {
        return uri;
    }
    rest.parse().unwrap_or(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stage_itself_is_taken_off_the_path() {
        let path = |uri: &str, stage| without_stage(uri.parse().unwrap(), stage).path().to_owned();
        assert_eq!(path("https://x.example/prod/webhook/alertmanager", "prod"), "/webhook/alertmanager");
        assert_eq!(path("https://x.example/production/webhook", "prod"), "/production/webhook");
        assert_eq!(path("https://x.example/prod", "prod"), "/prod");
        assert_eq!(path("https://x.example/webhook/prod", "prod"), "/webhook/prod");
        assert_eq!(path("https://x.example/prod/prod/x", "prod"), "/prod/x");
    }
}
