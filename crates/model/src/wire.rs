//! One exchange over HTTP: where to, with which credential, and what of the answer is let in.

use std::fmt;

use async_openai::config::Config;
use async_openai::middleware::HttpRequestFactory;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use reqwest::Response;
use secrecy::{ExposeSecret, SecretString};
use sentinel_http::{HttpClient, HttpError, Url, read_body, retry_after};
use sentinel_investigation::ports::ModelError;
use serde::de::IgnoredAny;
use serde_json::Value;
use tower::{BoxError, Service, service_fn};

use crate::failure::Failure;
use crate::service::ModelSettings;

/// The largest answer that is read.
const MAX_ANSWER: usize = 16 << 20;
/// How much of an error's text is shown.
const MAX_MESSAGE: usize = 500;

/// The service's address and credential. async-openai's own configuration would read the environment, and panics on
/// a key that cannot be a header.
#[derive(Clone)]
pub(crate) struct Endpoint {
    base: String,
    authorization: HeaderValue,
    key: SecretString,
    /// What else must not stand in an error: the credentials of hosted servers.
    secrets: Vec<SecretString>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = Url::parse(&self.base).ok().and_then(|url| url.host_str().map(str::to_owned));
        f.debug_struct("Endpoint").field("host", &host).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Checks that the address may be called and that the key can be sent.
    pub(crate) fn new(
        settings: &ModelSettings,
        secrets: Vec<SecretString>,
        http: &HttpClient,
    ) -> Result<Self, ModelError> {
        let refused = |reason: String| ModelError::Refused(format!("openai.base-url: {reason}"));
        let url = Url::parse(&settings.base_url).map_err(|e| refused(e.to_string()))?;
        http.check_url(&url).map_err(|e| refused(e.to_string()))?;
        let bearer = format!("Bearer {}", settings.api_key.expose_secret().trim());
        let mut authorization = HeaderValue::try_from(bearer)
            .map_err(|_| ModelError::Refused("openai.api-key cannot be sent in a header".to_owned()))?;
        authorization.set_sensitive(true);
        let base = settings.base_url.trim_end_matches('/').to_owned();
        Ok(Self { base, authorization, key: settings.api_key.clone(), secrets })
    }

    /// `text` on one line, cut, and without the key or what looks like a part of one: the API quotes a wrong key
    /// with its middle masked.
    fn clean(&self, text: &str) -> String {
        let key = self.key.expose_secret().trim();
        let mut text = if key.is_empty() { text.to_owned() } else { text.replace(key, "[key]") };
        for secret in self.secrets.iter().map(ExposeSecret::expose_secret).filter(|s| !s.is_empty()) {
            text = text.replace(secret, "[secret]");
        }
        let like_a_key =
            |word: &str| word.trim_start_matches(|c: char| !c.is_alphanumeric()).starts_with("sk-");
        let words = text.split_whitespace().map(|word| if like_a_key(word) { "[key]" } else { word });
        let mut line = words.collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = line.char_indices().nth(MAX_MESSAGE) {
            line.truncate(end);
            line.push('…');
        }
        line
    }
}

impl Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, self.authorization.clone())])
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.base
    }

    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

/// What async-openai sends by: one exchange, checked and bounded. It hands on nothing but JSON of a 2xx, so that
/// async-openai never logs a body (it does, at ERROR, when it cannot parse one).
pub(crate) fn service(
    http: reqwest::Client,
    endpoint: Endpoint,
) -> impl Service<HttpRequestFactory, Response = Response, Error = BoxError, Future: Send> + Clone + Send + Sync
{
    service_fn(move |request: HttpRequestFactory| {
        let (http, endpoint) = (http.clone(), endpoint.clone());
        async move {
            let request = request.build().await?;
            let answer = http.execute(request).await.map_err(|e| Failure::Http(HttpError::from(&e)))?;
            Ok(take(answer, &endpoint).await?)
        }
    })
}

async fn take(answer: Response, endpoint: &Endpoint) -> Result<Response, Failure> {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = read_body(answer, MAX_ANSWER).await.map_err(|error| match error {
        // It is paid for; asking again would give the same.
        HttpError::TooLarge { .. } => Failure::Unreadable(error.to_string()),
        error => Failure::Http(error),
    })?;
    if !status.is_success() {
        let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |key: &str| parsed.pointer(key).and_then(Value::as_str);
        let shown = body.get(..body.len().min(4 * MAX_MESSAGE)).unwrap_or_default();
        let message = text("/error/message").map_or_else(|| String::from_utf8_lossy(shown), Into::into);
        return Err(Failure::Status {
            status: status.as_u16(),
            code: text("/error/code").or_else(|| text("/error/type")).map(str::to_owned),
            param: text("/error/param").map(str::to_owned),
            message: endpoint.clean(&message),
            retry_after: retry_after(&headers),
        });
    }
    let kind =
        headers.get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase());
    if let Some(kind) = kind.filter(|kind| !kind.contains("json")) {
        return Err(Failure::Unreadable(format!("it is {}, not JSON", endpoint.clean(&kind))));
    }
    serde_json::from_slice::<IgnoredAny>(&body)
        .map_err(|e| Failure::Unreadable(format!("it is not JSON, {} bytes: {e}", body.len())))?;
    Ok(http::Response::new(body).into())
}
