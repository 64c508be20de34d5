//! What both interfaces share: one exchange by async-openai with raw JSON at the boundary, the retries, the breaker.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_openai::Client;
use async_openai::error::OpenAIError;
use secrecy::SecretString;
use sentinel_http::{HttpClient, HttpError};
use sentinel_investigation::ports::{ModelError, TurnResponse};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::breaker::Breaker;
use crate::failure::Failure;
use crate::wire::{self, Endpoint};

/// The longest wait between two tries that nobody asked for.
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
/// The longest `Retry-After` that is waited for here. A longer one is the caller's to plan with.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);
/// How much sooner than the caller's own limit the last try ends, so that its reason is told and counted.
const MARGIN: Duration = Duration::from_millis(50);

/// How an answer is made, not what is asked: a model that does not take one of these is asked without it.
const OPTIONS: &[&str] = &[
    "temperature",
    "reasoning",
    "reasoning_effort",
    "include",
    "service_tier",
    "parallel_tool_calls",
    "prompt_cache_key",
];

/// How a service that speaks OpenAI's interfaces is asked.
#[derive(Clone, Debug)]
pub struct ModelSettings {
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
    /// Chance: spreads the waits, so that incidents which failed together do not come back together.
    pub random: fn() -> u32,
}

/// The two interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Api {
    Responses,
    Chat,
}

/// A service at one address, with one credential.
pub(crate) struct Service {
    pub(crate) settings: ModelSettings,
    endpoint: Endpoint,
    http: Arc<HttpClient>,
    /// By model: one may be overloaded while another at the same address answers.
    breakers: Mutex<BTreeMap<String, Breaker>>,
    /// By model: the options that it has refused, and is not sent any more.
    refused: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A turn's last failure, how many tries it had, and whether an earlier one may have cost something.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) tries: u32,
    pub(crate) billed: bool,
}

impl Service {
    /// Fails where the base URL may not be called or the key cannot be a header. `secrets` are what else must not
    /// stand in an error. Nothing is loaded or called yet.
    pub(crate) fn new(
        settings: ModelSettings,
        secrets: Vec<SecretString>,
        http: Arc<HttpClient>,
    ) -> Result<Self, ModelError> {
        let endpoint = Endpoint::new(&settings, secrets, &http)?;
        Ok(Self { settings, endpoint, http, breakers: Mutex::default(), refused: Mutex::default() })
    }

    /// Asks, and asks again where that may help and the time allows it.
    pub(crate) async fn ask(
        &self,
        api: Api,
        model: &str,
        body: &Value,
        within: Duration,
        read: impl Fn(Value) -> Result<TurnResponse, Failure>,
    ) -> Result<TurnResponse, Failed> {
        let deadline = Instant::now() + within.saturating_sub(MARGIN);
        let (mut tries, mut billed) = (0, false);
        loop {
            if let Err(open) = self.breaker(model, |breaker| breaker.ask(Instant::now())) {
                let failure = Failure::LeftAlone { reason: open.reason, left: open.left };
                return Err(Failed { failure, tries, billed });
            }
            tries += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = {
                let body = self.without_refused(model, body);
                timeout(left.min(self.settings.timeout), self.exchange(api, &body)).await
            };
            let answer = match answer {
                Ok(answer) => answer.and_then(&read),
                Err(_) => Err(Failure::Http(HttpError::TimedOut)),
            };
            let failure = match answer {
                Ok(answer) => {
                    self.breaker(model, Breaker::answered);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            self.breaker(model, |breaker| {
                if failure.is_the_services() {
                    breaker.failed(failure.to_string(), Instant::now());
                } else {
                    breaker.answered();
                }
            });
            // It answered at once and costs nothing, so it is no try.
            if self.learn(model, body, &failure) {
                tries -= 1;
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = if tries < self.settings.attempts {
                wait_before_next(&failure, tries, self.settings.backoff, (self.settings.random)())
                    .filter(|wait| *wait < left)
            } else {
                None
            };
            let Some(wait) = wait else { return Err(Failed { failure, tries, billed }) };
            billed |= failure.may_be_billed();
            tracing::warn!(model, attempt = tries, wait_ms = wait.as_millis(), reason = %failure, "the model did not answer, trying again");
            sleep(wait).await;
        }
    }

    fn breaker<T>(&self, model: &str, with: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        with(breakers.entry(model.to_owned()).or_default())
    }

    /// Remembers an option that the model has refused; whether that is one that it was sent just now.
    fn learn(&self, model: &str, body: &Value, failure: &Failure) -> bool {
        let Some(option) = failure.refused_option() else { return false };
        if !OPTIONS.contains(&option) || body.get(option).is_none() {
            return false;
        }
        tracing::warn!(model, option, reason = %failure, "the model does not take an option, going on without it");
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.entry(model.to_owned()).or_default().insert(option.to_owned())
    }

    fn without_refused<'b>(&self, model: &str, body: &'b Value) -> Cow<'b, Value> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(options) = refused.get(model) else { return Cow::Borrowed(body) };
        let mut body = body.clone();
        if let Some(fields) = body.as_object_mut() {
            fields.retain(|name, _| !options.contains(name));
        }
        Cow::Owned(body)
    }

    async fn exchange(&self, api: Api, body: &Value) -> Result<Value, Failure> {
        let http = self.http.client()?.clone();
        // The service replaces async-openai's own retries, which honour any Retry-After.
        let client = Client::build(http.clone(), self.endpoint.clone())
            .with_http_service(wire::service(http, self.endpoint.clone()));
        let answer: Result<Value, _> = match api {
            Api::Responses => client.responses().create_byot(body).await,
            Api::Chat => client.chat().create_byot(body).await,
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
}

/// How long to wait after the `n`-th failed try, from 1; `None`: another try would fail the same way.
fn wait_before_next(failure: &Failure, n: u32, backoff: Duration, random: u32) -> Option<Duration> {
    if !failure.is_retryable() {
        return None;
    }
    if let Some(asked) = failure.retry_after() {
        // A longer wait is the caller's: a worker does not hold its lease for it.
        return Some(asked).filter(|asked| *asked <= LONGEST_RETRY_AFTER);
    }
    let full = backoff.saturating_mul(1 << (n - 1).min(16)).min(LONGEST_BACKOFF);
    // Somewhere in the upper half.
    Some(full / 2 + full / 2 * (random % 1000) / 1000)
}

/// Whether the model reasons: then it takes an effort and refuses a temperature. By OpenAI's names: the o series and
/// gpt-5, but for its chat models; a vendor's prefix (`openai/…`) does not matter.
pub(crate) fn is_reasoning(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let o_series = name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    o_series || (name.starts_with("gpt-5") && !name.contains("-chat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, code: Option<&str>, retry_after: Option<u64>) -> Failure {
        Failure::Status {
            status,
            code: code.map(str::to_owned),
            param: None,
            message: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn back_off_doubles_has_a_ceiling_and_spreads_incidents() {
        let wait = |n, random| {
            wait_before_next(&status(503, None, None), n, Duration::from_millis(500), random).unwrap()
        };
        for n in 1..40 {
            let full = Duration::from_millis(500).saturating_mul(1 << (n - 1).min(10)).min(LONGEST_BACKOFF);
            for random in [0, 1, 999, u32::MAX] {
                assert!(wait(n, random) >= full / 2 && wait(n, random) <= full, "{n} {random}");
            }
        }
        assert_ne!(wait(1, 1), wait(1, 2));
    }

    #[test]
    fn a_long_retry_after_is_cut_to_thirty_seconds() {
        let wait = |after| wait_before_next(&status(429, None, Some(after)), 1, Duration::ZERO, 0);
        assert_eq!(wait(7), Some(Duration::from_secs(7)));
        assert_eq!(wait(86_400), None);
    }

    #[test]
    fn a_refusal_and_an_empty_purse_are_not_tried_again() {
        let wait = |failure| wait_before_next(&failure, 1, Duration::ZERO, 0);
        for refused in [400, 401, 402, 403, 404, 422, 424] {
            assert_eq!(wait(status(refused, None, Some(1))), None, "{refused}");
        }
        assert_eq!(wait(status(429, Some("insufficient_quota"), Some(1))), None);
        for passing in [408, 409, 429, 500, 502, 503, 504, 529] {
            assert!(wait(status(passing, None, None)).is_some(), "{passing}");
        }
    }

    #[test]
    fn models_that_reason_are_told_by_their_names() {
        for model in
            ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5-mini", "gpt-5.2", "openai/gpt-5-nano"]
        {
            assert!(is_reasoning(model), "{model}");
        }
        for model in
            ["gpt-4.1-mini", "gpt-4o", "gpt-5-chat-latest", "gpt-5.2-chat-latest", "omni", "llama-3", ""]
        {
            assert!(!is_reasoning(model), "{model}");
        }
    }
}
