//! One exchange over HTTP: where to, with which credential, and what of the answer is let in.

use std::borrow::Cow;
use std::fmt;

use async_openai::Client;
use async_openai::config::Config;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use http::header::{AUTHORIZATION, CONTENT_TYPE, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::{Request, Response};
use secrecy::{ExposeSecret, SecretString};
use sentinel_http::{HttpClient, HttpError, Url, read_body, retry_after, whole_characters};
use sentinel_investigation::ports::{Api, ModelError};
use serde::de::IgnoredAny;
use serde_json::Value;
use tower::{BoxError, Service, service_fn};

use crate::aws::Signer;
use crate::failure::Failure;
use crate::service::ServiceSettings;

/// The largest answer that is read.
const MAX_ANSWER: usize = 16 << 20;
/// What to look at where nothing is found at an address.
const NOT_FOUND: &str = "Is the model's name right, does `base-url` end where the service's API begins (often in /v1), and \
                         does the service speak this interface? Many speak `api: chat` only";
/// How much of an error's text is shown.
const MAX_MESSAGE: usize = 500;

/// How a service knows who asks.
#[derive(Clone)]
pub enum Auth {
    /// `Authorization: Bearer …`
    Bearer(SecretString),
    /// A header of another name, e.g. `api-key`.
    Header {
        /// Its name.
        name: HeaderName,
        /// Its value.
        key: SecretString,
    },
    /// A signature of each request.
    Aws(Signer),
    /// It does not ask.
    None,
}

impl Auth {
    fn key(&self) -> Option<&SecretString> {
        match self {
            Self::Bearer(key) | Self::Header { key, .. } => Some(key),
            Self::Aws(_) | Self::None => None,
        }
    }

    /// The header that carries the key, where there is one. `Err`: no header can carry it.
    fn header(&self) -> Result<HeaderMap, InvalidHeaderValue> {
        let (name, value) = match self {
            Self::Bearer(key) => (AUTHORIZATION, format!("Bearer {}", key.expose_secret().trim())),
            Self::Header { name, key } => (name.clone(), key.expose_secret().trim().to_owned()),
            Self::Aws(_) | Self::None => return Ok(HeaderMap::new()),
        };
        let mut value = HeaderValue::try_from(value)?;
        value.set_sensitive(true);
        Ok(HeaderMap::from_iter([(name, value)]))
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer",
            Self::Header { .. } => "Header",
            Self::Aws(_) => "Aws",
            Self::None => "None",
        })
    }
}

/// The service's address and credential. async-openai's own configuration would read the environment, and panics on
/// a key that cannot be a header.
#[derive(Clone)]
pub(crate) struct Endpoint {
    base: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    key: SecretString,
    signer: Option<Signer>,
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
        settings: &ServiceSettings,
        secrets: Vec<SecretString>,
        http: &HttpClient,
    ) -> Result<Self, ModelError> {
        let service = &settings.name;
        let refused = |reason: String| ModelError::Refused(format!("{service}: base-url: {reason}"));
        let mut url = Url::parse(&settings.base_url).map_err(|e| refused(e.to_string()))?;
        http.check_url(&url).map_err(|e| refused(e.to_string()))?;
        let mut headers = settings
            .auth
            .header()
            .map_err(|_| ModelError::Refused(format!("{service}: api-key cannot be sent in a header")))?;
        if settings.api == Api::Messages {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        let query = url.query_pairs().into_owned().collect();
        url.set_query(None);
        let base = url.as_str().trim_end_matches('/').to_owned();
        let key = settings.auth.key().cloned().unwrap_or_default();
        let signer = match &settings.auth {
            Auth::Aws(signer) => Some(signer.clone()),
            Auth::Bearer(_) | Auth::Header { .. } | Auth::None => None,
        };
        Ok(Self { base, query, headers, key, signer, secrets })
    }

    /// One exchange: `body` is sent, and the JSON of a 2xx comes back.
    pub(crate) async fn exchange(&self, http: &HttpClient, api: Api, body: &Value) -> Result<Value, Failure> {
        let http = http.client()?.clone();
        // The service replaces async-openai's own retries, which honour any Retry-After.
        let client =
            Client::build(http.clone(), self.clone()).with_http_service(service(http.clone(), self.clone()));
        let answer: Result<Value, _> = match api {
            Api::Responses => client.responses().create_byot(body).await,
            Api::Chat => client.chat().create_byot(body).await,
            Api::Messages => return self.post(&http, "/messages", body).await,
        };
        answer.map_err(|error| match error {
            OpenAIError::Boxed(error) => match error.downcast::<Failure>() {
                Ok(failure) => *failure,
                Err(other) => Failure::Unreadable(other.to_string()),
            },
            OpenAIError::Reqwest(error) => Failure::Http((&error).into()),
            // Its text holds the whole answer.
            OpenAIError::JSONDeserialize(error, _) => Failure::Unreadable(error.to_string()),
            other => Failure::Unreadable(other.to_string()),
        })
    }

    /// One exchange of an interface that async-openai does not speak.
    async fn post(&self, http: &reqwest::Client, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = http.post(Config::url(self, path)).query(&self.query).headers(self.headers.clone());
        let request = request.json(body).build().map_err(|e| Failure::Http((&e).into()))?;
        let answer = self.send(http, request).await?;
        let bytes = answer.bytes().await.map_err(|e| Failure::Http(HttpError::from(&e)))?;
        serde_json::from_slice(&bytes).map_err(|e| Failure::Unreadable(e.to_string()))
    }

    /// The failure, its words as [`Self::clean`] leaves them: what stands in a 200 may quote the key too.
    pub(crate) fn cleaned(&self, mut failure: Failure) -> Failure {
        if let Failure::Status { message, .. } | Failure::Failed { message, .. } = &mut failure {
            *message = self.clean(message);
        }
        failure
    }

    /// What stands at `path` below the address, with a query beside its own.
    pub(crate) async fn get(
        &self,
        http: &HttpClient,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Value, Failure> {
        let client = http.client()?;
        let request = client.get(format!("{}{path}", self.base)).headers(self.headers.clone());
        let request = request.query(&self.query).query(query).build();
        let answer = self.send(client, request.map_err(|e| Failure::Http((&e).into()))?).await?;
        let body = read_body(answer, MAX_ANSWER).await?;
        serde_json::from_slice(&body).map_err(|e| Failure::Unreadable(e.to_string()))
    }

    /// Signs where that is asked for, sends, and lets in nothing but JSON of a 2xx.
    async fn send(&self, client: &reqwest::Client, mut request: Request) -> Result<Response, Failure> {
        if let Some(signer) = &self.signer {
            signer.sign(&mut request).await?;
        }
        let method = request.method().clone();
        let answer = client.execute(request).await.map_err(|e| Failure::Http(HttpError::from(&e)))?;
        take(answer, &method, self).await
    }

    /// `text` on one line, cut, and without the key or what looks like a part of one: the API quotes a wrong key
    /// with its middle masked.
    fn clean(&self, text: &str) -> String {
        let key = self.key.expose_secret().trim();
        let mut text = if key.is_empty() { text.to_owned() } else { text.replace(key, "[key]") };
        for secret in self.secrets.iter().map(ExposeSecret::expose_secret).filter(|s| !s.is_empty()) {
            text = text.replace(secret, "[secret]");
        }
        for secret in self.signer.iter().flat_map(Signer::secrets) {
            text = text.replace(&secret, "[credential]");
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
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        self.query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
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
fn service(
    http: reqwest::Client,
    endpoint: Endpoint,
) -> impl Service<HttpRequestFactory, Response = Response, Error = BoxError, Future: Send> + Clone + Send + Sync
{
    service_fn(move |request: HttpRequestFactory| {
        let (http, endpoint) = (http.clone(), endpoint.clone());
        async move { Ok(endpoint.send(&http, request.build().await?).await?) }
    })
}

async fn take(answer: Response, method: &Method, endpoint: &Endpoint) -> Result<Response, Failure> {
    let path = answer.url().path().to_owned();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = read_body(answer, MAX_ANSWER).await.map_err(|error| match error {
        // It is paid for; asking again would give the same.
        HttpError::TooLarge { .. } => Failure::Unreadable(error.to_string()),
        error => Failure::Http(error),
    })?;
    // A model may be cut off in the middle of a character, as may what a hosted server said.
    let body = match whole_characters(&body) {
        Cow::Owned(whole) => whole,
        Cow::Borrowed(_) => body,
    };
    if !status.is_success() {
        let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
        let Refusal { code, param, message } = refusal_of(&parsed);
        let shown = body.get(..body.len().min(4 * MAX_MESSAGE)).unwrap_or_default();
        let message = message.unwrap_or_else(|| String::from_utf8_lossy(shown).into_owned());
        let mut message = endpoint.clean(&message);
        let advice = endpoint.signer.as_ref().filter(|_| status.is_client_error());
        if let Some(advice) = advice.and_then(|signer| signer.advice(code.as_deref(), &message, &headers)) {
            message = format!("{message}. {advice}");
        }
        if status == StatusCode::NOT_FOUND {
            message = format!("{method} {path}: {message}. {NOT_FOUND}");
        }
        let (status, retry_after) = (status.as_u16(), retry_after(&headers));
        return Err(Failure::Status { status, code, param, message, retry_after });
    }
    // Some services call JSON a text.
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(&body) {
        let kind =
            headers.get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
        let kind = kind.map_or_else(String::new, |kind| format!(" of type {}", endpoint.clean(&kind)));
        let reason = format!("it is not JSON, {} bytes{kind}: {error}", body.len());
        return Err(Failure::Unreadable(reason));
    }
    Ok(http::Response::new(body).into())
}

/// What an error's body says. OpenAI and most others have an object `error`; some have its fields at the top, or a text.
struct Refusal {
    code: Option<String>,
    param: Option<String>,
    message: Option<String>,
}

fn refusal_of(body: &Value) -> Refusal {
    let error = body.get("error").filter(|error| error.is_object()).unwrap_or(body);
    let text = |key: &str| match error.get(key) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let words = ["message", "Message", "error", "msg"].into_iter().find_map(text);
    // FastAPI's, whatever its shape.
    let detail = || error.get("detail").map(|d| d.as_str().map_or_else(|| d.to_string(), str::to_owned));
    let code = ["code", "type", "__type"].into_iter().find_map(text);
    let param = text("param").filter(|param| !matches!(param.as_str(), "" | "None" | "null"));
    Refusal { code, param, message: words.or_else(detail) }
}
