//! The Responses API (`POST /responses`), asked through async-openai with raw JSON at the boundary: its typed output
//! item has no catch-all, and one item of a kind that it does not know would lose a paid answer.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_openai::Client;
use async_openai::error::OpenAIError;
use async_trait::async_trait;
use secrecy::SecretString;
use sentinel_http::HttpClient;
use sentinel_investigation::ports::{Model, ModelError, TurnRequest, TurnResponse};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

pub(crate) mod answer;
mod failure;
mod request;
mod wire;

use failure::Failure;
use wire::Endpoint;

/// The longest wait between two tries that nobody asked for.
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
/// The longest `Retry-After` that is waited for here. A longer one is the caller's to plan with.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// How a service that speaks the Responses API is asked.
#[derive(Clone, Debug)]
pub struct ResponsesSettings {
    /// The API's root, e.g. `https://api.openai.com/v1`.
    pub base_url: String,
    /// Sent as `Authorization: Bearer`.
    pub api_key: SecretString,
    /// 0 to 2. Not sent to models that refuse it.
    pub temperature: Option<f64>,
    /// `none`, `minimal`, `low`, `medium`, `high`, … Only sent to models that reason.
    pub reasoning_effort: Option<String>,
    /// The most tokens of one answer, reasoning included; at least 16.
    pub max_output_tokens: Option<u32>,
    /// `auto`, `default`, `flex`, `priority`, …
    pub service_tier: Option<String>,
    /// The longest that one try may take.
    pub timeout: Duration,
    /// How many tries a turn has, the first included.
    pub attempts: u32,
    /// The wait before the second try; it doubles from try to try, up to eight seconds.
    pub backoff: Duration,
}

/// A model behind the Responses API.
pub struct Responses {
    settings: ResponsesSettings,
    endpoint: Endpoint,
    http: Arc<HttpClient>,
}

impl fmt::Debug for Responses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responses").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Responses {
    /// A model as `settings` describe it, called through `http`. Fails where the base URL may not be called or the
    /// key cannot be a header. Nothing is loaded or called yet.
    pub fn new(settings: ResponsesSettings, http: Arc<HttpClient>) -> Result<Self, ModelError> {
        let endpoint = Endpoint::new(&settings, &http)?;
        Ok(Self { settings, endpoint, http })
    }

    /// One try.
    async fn ask(&self, body: &Value) -> Result<TurnResponse, Failure> {
        let http = self.http.client()?.clone();
        // The service replaces async-openai's own retries, which honour any Retry-After.
        let client = Client::build(http.clone(), self.endpoint.clone())
            .with_http_service(wire::service(http, self.endpoint.clone()));
        let answer: Result<Value, _> = client.responses().create_byot(body).await;
        match answer {
            Ok(answer) => answer::read(answer),
            Err(OpenAIError::Boxed(error)) => Err(match error.downcast::<Failure>() {
                Ok(failure) => *failure,
                Err(other) => Failure::Unreadable(other.to_string()),
            }),
            Err(OpenAIError::Reqwest(error)) => Err(Failure::Http((&error).into())),
            // Its text holds the whole answer.
            Err(OpenAIError::JSONDeserialize(error, _)) => Err(Failure::Unreadable(error.to_string())),
            Err(other) => Err(Failure::Unreadable(other.to_string())),
        }
    }
}

#[async_trait]
impl Model for Responses {
    async fn respond(&self, request: &TurnRequest, within: Duration) -> Result<TurnResponse, ModelError> {
        let deadline = Instant::now() + within;
        let body = request::body(&self.settings, request);
        let mut n = 1;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let failure = match timeout(left.min(self.settings.timeout), self.ask(&body)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Http(sentinel_http::HttpError::TimedOut),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = if n < self.settings.attempts {
                wait_before_next(&failure, n, self.settings.backoff, &request.cache_key)
                    .filter(|wait| *wait < left)
            } else {
                None
            };
            let Some(wait) = wait else { return Err(failure.into_model_error(n)) };
            tracing::warn!(attempt = n, wait_ms = wait.as_millis(), reason = %failure, "the model did not answer, trying again");
            sleep(wait).await;
            n += 1;
        }
    }
}

/// How long to wait after the `n`-th failed try, from 1; `None`: another try would fail the same way.
fn wait_before_next(failure: &Failure, n: u32, backoff: Duration, cache_key: &str) -> Option<Duration> {
    if !failure.is_retryable() {
        return None;
    }
    if let Some(asked) = failure.retry_after() {
        // A longer wait is the caller's: a worker does not hold its lease for it.
        return Some(asked).filter(|asked| *asked <= LONGEST_RETRY_AFTER);
    }
    let full = backoff.saturating_mul(1 << (n - 1).min(16)).min(LONGEST_BACKOFF);
    // Incidents that failed together must not come back together: each has its own place in the upper half.
    let mut place = DefaultHasher::new();
    (cache_key, n).hash(&mut place);
    let part = u32::try_from(place.finish() % 1000).unwrap_or_default();
    Some(full / 2 + full / 2 * part / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, code: Option<&str>, retry_after: Option<u64>) -> Failure {
        Failure::Status {
            status,
            code: code.map(str::to_owned),
            message: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn back_off_doubles_has_a_ceiling_and_spreads_incidents() {
        let wait = |n, key: &str| {
            wait_before_next(&status(503, None, None), n, Duration::from_millis(500), key).unwrap()
        };
        for n in 1..40 {
            let full = Duration::from_millis(500).saturating_mul(1 << (n - 1).min(10)).min(LONGEST_BACKOFF);
            assert!(wait(n, "a") >= full / 2 && wait(n, "a") <= full, "{n}");
        }
        assert_ne!(wait(1, "a"), wait(1, "b"));
    }

    #[test]
    fn a_long_retry_after_is_cut_to_thirty_seconds() {
        let wait = |after| wait_before_next(&status(429, None, Some(after)), 1, Duration::ZERO, "a");
        assert_eq!(wait(7), Some(Duration::from_secs(7)));
        assert_eq!(wait(86_400), None);
    }

    #[test]
    fn a_refusal_and_an_empty_purse_are_not_tried_again() {
        let wait = |failure| wait_before_next(&failure, 1, Duration::ZERO, "a");
        for refused in [400, 401, 403, 404, 422] {
            assert_eq!(wait(status(refused, None, Some(1))), None, "{refused}");
        }
        assert_eq!(wait(status(429, Some("insufficient_quota"), Some(1))), None);
        for passing in [408, 409, 429, 500, 502, 503, 504, 529] {
            assert!(wait(status(passing, None, None)).is_some(), "{passing}");
        }
    }
}
