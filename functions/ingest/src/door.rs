//! Who may come in, where the secrets change while the process runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use secrecy::{ExposeSecret as _, SecretString};
use sentinel_aws::{SecretError, SecretTexts, Secrets};
use sentinel_config::{Problems, Reading, Source, load_for};
use sentinel_core::redact::Redactor;
use thiserror::Error;

use crate::{Authenticator, Credentials};

/// Who may come in, as it stands now. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Door {
    /// The same as long as the process runs.
    Fixed(Authenticator),
    /// As the secret store says, at most five minutes ago.
    Rotating(Arc<Rotating>),
}

/// Credentials that come from the secret store: the configuration is read again when they have changed.
pub struct Rotating {
    /// The configuration.
    source: Source,
    /// The environment.
    env: BTreeMap<String, String>,
    /// The secrets that the configuration refers to.
    secrets: Secrets,
    /// Whether nobody needs credentials where none are configured: the listener is on loopback.
    loopback: bool,
    /// What was last made of them.
    made: Mutex<Option<Made>>,
}

/// What was made of secrets.
struct Made {
    of: Arc<SecretTexts>,
    authenticator: Authenticator,
    /// Every secret of the configuration.
    secrets: Vec<SecretString>,
    /// What takes them out of alerts.
    redactor: OnceLock<Redactor>,
}

/// Nobody can say now who may come in. Never a reason to turn somebody away for good.
#[derive(Debug, Error)]
pub enum DoorError {
    /// The secret store.
    #[error(transparent)]
    Secrets(#[from] SecretError),
    /// What the secret store holds now does not fit the configuration.
    #[error(transparent)]
    Problems(#[from] Problems),
}

impl DoorError {
    /// Whether it may pass by itself.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Secrets(error) => error.is_retryable(),
            Self::Problems(_) => false,
        }
    }
}

impl From<Authenticator> for Door {
    fn from(authenticator: Authenticator) -> Self {
        Self::Fixed(authenticator)
    }
}

impl Door {
    /// Who may come in now.
    ///
    /// # Errors
    /// The secret store did not say, and what it last said is too old.
    pub async fn now(&self) -> Result<Authenticator, DoorError> {
        match self {
            Self::Fixed(authenticator) => Ok(authenticator.clone()),
            Self::Rotating(rotating) => rotating.now().await,
        }
    }
}

impl Door {
    /// `redactor`, which also takes out the secrets that were read when somebody was let in last.
    pub(crate) fn redactor(&self, redactor: &Redactor) -> Redactor {
        match self {
            Self::Fixed(_) => redactor.clone(),
            Self::Rotating(rotating) => rotating.redactor(redactor),
        }
    }

    /// How often secrets from before were used on since this was asked last, because the secret store did not answer.
    pub(crate) fn take_stale(&self) -> u64 {
        match self {
            Self::Fixed(_) => 0,
            Self::Rotating(rotating) => rotating.secrets.take_stale(),
        }
    }
}

impl Rotating {
    /// Credentials of `source`, with `env` and `secrets`.
    pub fn new(source: Source, env: BTreeMap<String, String>, secrets: Secrets, loopback: bool) -> Self {
        Self { source, env, secrets, loopback, made: Mutex::default() }
    }

    async fn now(&self) -> Result<Authenticator, DoorError> {
        let values = self.secrets.values().await?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_ref()
            && Arc::ptr_eq(&made.of, &values)
        {
            return Ok(made.authenticator.clone());
        }
        let env = |name: &str| self.env.get(name).cloned();
        let settings = load_for(Reading::Ingest, &self.source, &env, &values)?.settings;
        settings.refuse_unread_secrets()?;
        let authenticator = Authenticator::new(Credentials::from(&settings.ingest));
        let authenticator = if self.loopback { authenticator.or_loopback() } else { authenticator };
        let secrets = settings.secrets();
        let redactor = OnceLock::new();
        *made = Some(Made { of: values, authenticator: authenticator.clone(), secrets, redactor });
        Ok(authenticator)
    }

    fn redactor(&self, redactor: &Redactor) -> Redactor {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(made) = made.as_ref() else { return redactor.clone() };
        let values = || made.secrets.iter().map(|secret| secret.expose_secret().to_owned());
        made.redactor.get_or_init(|| redactor.and(values())).clone()
    }
}

/// Without the environment, which holds secrets.
impl fmt::Debug for Rotating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotating").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}
