//! Secrets Manager, with a cache that is never older than five minutes, or an hour more while the store is out of reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use futures::future::try_join_all;
use secrecy::{ExposeSecret, SecretString};
use sentinel_core::UnixMs;
use sentinel_core::ports::Clock;
use thiserror::Error;
use tokio::sync::Mutex;

use crate::error::Fault;

/// How long a value is used without asking again: a rotated secret takes effect within this time.
const FRESH: Duration = Duration::from_mins(5);
/// How much longer it is used where the store does not answer: an outage of it turns nobody away.
const STALE: Duration = Duration::from_hours(1);
/// How long the store is then left alone before it is asked again: whoever asks may have to wait for it.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// How long a failure stands: those who waited for the same request do not each wait for one of their own.
const FAILED: Duration = Duration::from_secs(1);

/// Whole secrets, by the ARN or name that they were asked for with.
pub type SecretTexts = BTreeMap<String, SecretString>;

/// A set of secrets, read together and cached together. Clones share the cache.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
    clock: Arc<dyn Clock>,
    ids: Arc<BTreeSet<String>>,
    cache: Arc<Mutex<Cache>>,
    /// How often they were used on since that was asked last.
    stale: Arc<AtomicU64>,
}

#[derive(Default)]
struct Cache {
    values: Option<(UnixMs, Arc<SecretTexts>)>,
    failure: Option<(UnixMs, SecretError)>,
}

/// Why secrets could not be read.
#[derive(Clone, Debug, Error)]
pub enum SecretError {
    /// Out of reach, throttled or timed out: the same call may work later.
    #[error("the secret store did not answer: {0}")]
    Unavailable(String),
    /// The store refuses: no such secret, no permission, no text in it.
    #[error("the secret store refused {action}: {reason}")]
    Refused {
        /// What was asked of which secret.
        action: String,
        /// Its answer.
        reason: String,
    },
}

impl SecretError {
    /// Whether the same call may work later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl Secrets {
    /// These secrets, by ARN or name. Nothing is asked before [`Self::values`] is.
    pub fn new(client: Client, clock: Arc<dyn Clock>, ids: BTreeSet<String>) -> Self {
        Self { client, clock, ids: Arc::new(ids), cache: Arc::default(), stale: Arc::default() }
    }

    /// How often secrets were used on beyond their five minutes since this was asked last.
    pub fn take_stale(&self) -> u64 {
        self.stale.swap(0, Ordering::Relaxed)
    }

    /// All of them, none read more than five minutes ago, or an hour more where the store does not answer; the same `Arc`
    /// as long as nothing has changed.
    ///
    /// Where there are none to read, nothing is asked. Those who come while they are being read wait for that.
    ///
    /// # Errors
    /// The cache is too old and the store did not give one of them. What it refuses is not used on.
    pub async fn values(&self) -> Result<Arc<SecretTexts>, SecretError> {
        let mut cache = self.cache.lock().await;
        let now = self.clock.now();
        // A clock that was set back makes nothing fresh for longer.
        let age = |at: UnixMs| now.since(at).max(at.since(now));
        if let Some((read, values)) = &cache.values
            && (age(*read) < FRESH || self.ids.is_empty())
        {
            return Ok(Arc::clone(values));
        }
        let usable = |cache: &Cache, error: &SecretError| match &cache.values {
            Some((read, values)) if error.is_retryable() && age(*read) < FRESH + STALE => {
                Some(Arc::clone(values))
            }
            _ => None,
        };
        if let Some((at, error)) = &cache.failure {
            let usable = usable(&cache, error);
            if age(*at) < if usable.is_some() { LEFT_ALONE } else { FAILED } {
                return self.used_on(usable, error);
            }
        }
        match try_join_all(self.ids.iter().map(|id| self.read(id))).await {
            Ok(read) => {
                let read: SecretTexts = read.into_iter().collect();
                let values = match &cache.values {
                    Some((_, before)) if same(before, &read) => Arc::clone(before),
                    _ => Arc::new(read),
                };
                *cache = Cache { values: Some((now, Arc::clone(&values))), failure: None };
                Ok(values)
            }
            Err(error) => {
                cache.failure = Some((self.clock.now(), error.clone()));
                let usable = usable(&cache, &error);
                if usable.is_some() {
                    tracing::warn!(%error, "secrets that were read before are used on, for an hour at most");
                }
                self.used_on(usable, &error)
            }
        }
    }

    /// The values from before, where they may be used on.
    fn used_on(
        &self,
        usable: Option<Arc<SecretTexts>>,
        error: &SecretError,
    ) -> Result<Arc<SecretTexts>, SecretError> {
        let values = usable.ok_or_else(|| error.clone())?;
        self.stale.fetch_add(1, Ordering::Relaxed);
        Ok(values)
    }

    async fn read(&self, id: &str) -> Result<(String, SecretString), SecretError> {
        let action = || format!("reading secret {id}");
        let got = self.client.get_secret_value().secret_id(id).send().await;
        let got = got.map_err(|e| match Fault::of(&e) {
            Fault::Passing(reason) => SecretError::Unavailable(format!("{}: {reason}", action())),
            Fault::Lasting(reason) => SecretError::Refused { action: action(), reason },
        })?;
        match got.secret_string {
            Some(text) => Ok((id.to_owned(), text.into())),
            None => Err(SecretError::Refused { action: action(), reason: "it holds no text".to_owned() }),
        }
    }
}

/// Not in constant time: both sides come from the store, and nobody outside sees how long this takes.
fn same(a: &SecretTexts, b: &SecretTexts) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((i, a), (j, b))| i == j && a.expose_secret() == b.expose_secret())
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("ids", &self.ids).finish_non_exhaustive()
    }
}
