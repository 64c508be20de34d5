//! A service at one address: one exchange with raw JSON at the boundary, the retries, the breaker, and what its models have
//! been found not to take.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sentinel_http::{HttpClient, HttpError};
use sentinel_investigation::ports::{Api, Item, ModelError, TurnRequest, TurnResponse};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::adapt::{Adapted, ForcedTurn};
use crate::breaker::Breaker;
use crate::failure::Failure;
use crate::fit::Tools;
use crate::hosted::HostedSpec;
use crate::wire::{Auth, Endpoint};
use crate::{chat, messages, responses};

/// The longest wait between two tries that nobody asked for.
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
/// The longest `Retry-After` that is waited for here. A longer one is the caller's to plan with.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);
/// How much sooner than the caller's own limit the last try ends, so that its reason is told and counted.
const MARGIN: Duration = Duration::from_millis(50);
/// The most that is learned in one turn of what a model does not take: each costs an exchange, and no answer.
const MOST_LEARNED: u32 = 16;

/// A service of models, and how it is asked.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// How cards name it.
    pub name: String,
    /// The interface that it speaks.
    pub api: Api,
    /// The API's root, e.g. `https://api.openai.com/v1`. A query of it (`?api-version=…`) is sent with each request.
    pub base_url: String,
    /// How it knows who asks.
    pub auth: Auth,
    /// Sent where there is one, to models that take it.
    pub temperature: Option<f64>,
    /// `none`, `minimal`, `low`, `medium`, `high`, … Sent to models that take it.
    pub reasoning_effort: Option<String>,
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
    /// By model: how a turn that has to call one function says so, where it is known.
    pub forced_turns: BTreeMap<String, ForcedTurn>,
}

/// A service at one address, with one credential.
pub(crate) struct Service {
    settings: ServiceSettings,
    endpoint: Endpoint,
    http: Arc<HttpClient>,
    hosted: BTreeMap<String, HostedSpec>,
    /// By model: one may be overloaded while another at the same address answers.
    breakers: Mutex<BTreeMap<String, Breaker>>,
    /// By model: what it does not take.
    adapted: Mutex<BTreeMap<String, Adapted>>,
    tools: Tools,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A turn's last failure, how many tries it had, and whether an earlier one may have cost something.
#[derive(Debug)]
struct Failed {
    failure: Failure,
    tries: u32,
    billed: bool,
}

impl Service {
    /// Fails where the base URL may not be called or the key cannot be a header. `hosted` are the servers that it calls
    /// itself. Nothing is loaded or called yet.
    pub(crate) fn new(
        settings: ServiceSettings,
        hosted: Vec<HostedSpec>,
        http: Arc<HttpClient>,
    ) -> Result<Self, ModelError> {
        let secrets = hosted.iter().flat_map(HostedSpec::secrets).collect();
        let endpoint = Endpoint::new(&settings, secrets, &http)?;
        let hosted = hosted.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        let (breakers, adapted, tools) = (Mutex::default(), Mutex::default(), Tools::default());
        Ok(Self { settings, endpoint, http, hosted, breakers, adapted, tools })
    }

    /// The label under which it calls a server itself.
    pub(crate) fn hosts(&self, server: &str) -> Option<String> {
        self.hosted.get(server).map(|spec| spec.label.clone())
    }

    /// The models of it that were asked, and of each whether it is left alone for a while.
    pub(crate) fn left_alone(&self) -> Vec<(String, bool)> {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        breakers.iter().map(|(model, breaker)| (model.clone(), breaker.is_open(Instant::now()))).collect()
    }

    /// Asks one of its models.
    pub(crate) async fn respond(
        &self,
        request: &TurnRequest,
        within: Duration,
    ) -> Result<TurnResponse, ModelError> {
        self.ask(request, within).await.map_err(|failed| {
            let Failed { failure, tries, billed } = failed;
            hosted_out(&failure, request).unwrap_or_else(|| failure.into_model_error(tries, billed))
        })
    }

    /// Asks, and asks again where that may help and the time allows it.
    async fn ask(&self, request: &TurnRequest, within: Duration) -> Result<TurnResponse, Failed> {
        let model = &request.model.name;
        let deadline = Instant::now() + within.saturating_sub(MARGIN);
        let (mut tries, mut learned, mut billed) = (0, 0, false);
        loop {
            if let Err(open) = self.breaker(model, |breaker| breaker.ask(Instant::now())) {
                let failure = Failure::LeftAlone { reason: open.reason, left: open.left };
                return Err(Failed { failure, tries, billed });
            }
            tries += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let adapted = self.adapted(model, |adapted| adapted.clone());
            let body = self.body(&adapted.fit(request), &adapted);
            let exchange = self.endpoint.exchange(&self.http, self.settings.api, &body);
            let answer = match timeout(left.min(self.settings.timeout), exchange).await {
                Ok(answer) => answer
                    .and_then(|answer| self.read(answer, request))
                    .map_err(|failure| self.endpoint.cleaned(failure)),
                Err(_) => Err(Failure::Http(HttpError::TimedOut)),
            };
            let failure = match answer {
                Ok(answer) => {
                    self.breaker(model, Breaker::answered);
                    return Ok(TurnResponse { left_out: adapted.left_out(request), ..answer });
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
            let adapted = self.adapted(model, |adapted| adapted.learn(&failure, &body, request));
            // It answered at once and costs nothing, so it is no try.
            if let Some(instead) = adapted.filter(|_| learned < MOST_LEARNED) {
                tracing::warn!(model, instead, reason = %failure, "the model does not take what it was sent, asking it otherwise");
                (tries, learned) = (tries - 1, learned + 1);
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

    fn body(&self, request: &TurnRequest, adapted: &Adapted) -> Value {
        let tools: Vec<_> = request.tools.iter().map(|tool| self.tools.fitted(tool)).collect();
        match self.settings.api {
            Api::Responses => {
                responses::request::body(&self.settings, &self.hosted, request, &tools, adapted)
            }
            Api::Chat => chat::request::body(&self.settings, request, &tools, adapted),
            Api::Messages => messages::request::body(&self.settings, request, &tools, adapted),
        }
    }

    fn read(&self, answer: Value, request: &TurnRequest) -> Result<TurnResponse, Failure> {
        match self.settings.api {
            Api::Responses => responses::answer::read(answer),
            Api::Chat => {
                let (used, turn) = used_ids(&request.input);
                chat::answer::read(answer, &used, turn)
            }
            Api::Messages => {
                let (used, turn) = used_ids(&request.input);
                messages::answer::read(answer, &used, turn)
            }
        }
    }

    fn breaker<T>(&self, model: &str, with: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        with(breakers.entry(model.to_owned()).or_default())
    }

    fn adapted<T>(&self, model: &str, with: impl FnOnce(&mut Adapted) -> T) -> T {
        let mut all = self.adapted.lock().unwrap_or_else(PoisonError::into_inner);
        let known = || Adapted::new(self.settings.forced_turns.get(model).copied().unwrap_or_default());
        with(all.entry(model.to_owned()).or_insert_with(known))
    }
}

/// A hosted server that is out fails the whole request: which one it is, stands in the text only. An approval that is not
/// taken would be refused again.
fn hosted_out(failure: &Failure, request: &TurnRequest) -> Option<ModelError> {
    if request.hosted.is_empty() {
        return None;
    }
    let all = || request.hosted.iter().map(|h| h.label.clone());
    if let Some(reason) = failure.hosted_server_out() {
        let named: Vec<String> = all().filter(|label| reason.contains(&format!("'{label}'"))).collect();
        let labels = if named.is_empty() { all().collect() } else { named };
        return Some(ModelError::ServersOut { labels, reason: reason.to_owned() });
    }
    let answers = request.input.iter().any(|item| matches!(item, Item::Approval(_)));
    let reason = failure.approval_refused().filter(|_| answers)?;
    let reason = format!("an approval was not taken: {reason}");
    Some(ModelError::ServersOut { labels: all().collect(), reason })
}

/// The call ids that the conversation holds, and how many responses.
fn used_ids(input: &[Item]) -> (HashSet<String>, usize) {
    let ids = input.iter().filter_map(|item| match item {
        Item::CallOutput { call_id, .. } => Some(call_id.clone()),
        Item::User { .. } | Item::Response { .. } | Item::Approval(_) => None,
    });
    (ids.collect(), input.iter().filter(|item| matches!(item, Item::Response { .. })).count())
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
}
