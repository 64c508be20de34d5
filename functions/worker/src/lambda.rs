//! The function on AWS: a batch of SQS messages, each on its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use futures::stream::{self, StreamExt};
use lambda_runtime::LambdaEvent;
use sentinel_aws::{SecretError, SecretTexts, Secrets, SqsQueue, deadline};
use sentinel_config::{Loaded, Problems, Reading, Settings, Source, load_for};
use sentinel_core::UnixMs;
use sentinel_core::incident::Job;
use sentinel_core::ports::Ports;
use sentinel_core::redact::{Redactor, TagKeys};
use sentinel_telemetry::{Metric, Metrics};
use thiserror::Error;
use tracing::Instrument;

use crate::{AssembleError, Worker, assemble, compile};

/// The function's time-out, where the platform names no deadline; as in infra/template.yaml.
const TIMEOUT: Duration = Duration::from_mins(12);
/// How long before the platform's deadline nothing may be begun any more: what runs still has to be stored.
const MARGIN: Duration = Duration::from_secs(20);
/// How long before it whatever still runs is left, so that its neighbours' results are not lost with it.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// A worker that is built again when the secrets that it was built with have changed.
pub struct Live {
    source: Source,
    env: BTreeMap<String, String>,
    ports: Ports,
    secrets: Secrets,
    metrics: Metrics,
    keys: Option<Arc<TagKeys>>,
    built: Mutex<(Arc<SecretTexts>, Building)>,
    /// Knows the secrets of the worker that was built last.
    redactor: Arc<RwLock<Redactor>>,
}

/// A worker whose cards are being compiled beside whatever else is done.
type Building = Shared<BoxFuture<'static, Result<Arc<Worker>, LiveError>>>;

/// Why there is no worker.
#[derive(Clone, Debug, Error)]
pub enum LiveError {
    /// The secret store.
    #[error(transparent)]
    Secrets(#[from] SecretError),
    /// The configuration.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// What the configuration comes to.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// A card made the compiler panic.
    #[error("the cards could not be compiled: {0}")]
    Panic(String),
}

impl LiveError {
    /// Whether the same call may work later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Secrets(error) => error.is_retryable(),
            Self::Problems(_) | Self::Assemble(_) | Self::Panic(_) => false,
        }
    }
}

impl Live {
    /// Reads the secrets and begins to build the first worker, whose end [`Self::worker`] waits for. `first` is the
    /// configuration as it was read without them, `keys` what tells secrets apart in placeholders. It also gives the
    /// settings that the worker is built from.
    ///
    /// # Errors
    /// [`LiveError`], but for those of the cards.
    pub async fn start(
        first: Loaded,
        source: Source,
        env: BTreeMap<String, String>,
        ports: Ports,
        secrets: Secrets,
        metrics: Metrics,
        keys: Option<Arc<TagKeys>>,
    ) -> Result<(Self, Arc<Settings>), LiveError> {
        let values = secrets.values().await?;
        let loaded = if first.secret_ids.is_empty() { first } else { load(&source, &env, &values)? };
        let settings = Arc::new(loaded.settings.clone());
        let redactor = Arc::new(RwLock::new(settings.redactor()));
        let built = Mutex::new((values, build(loaded, &env, &ports, &metrics, keys.as_ref())));
        Ok((Self { source, env, ports, secrets, metrics, keys, built, redactor }, settings))
    }

    /// A line of the log without the secrets as they are now, also where they have changed since the start.
    pub fn redacted(&self, line: &str) -> String {
        self.redactor.read().unwrap_or_else(PoisonError::into_inner).redact(line).into_owned()
    }

    /// The worker for one invocation, with secrets that are at most five minutes old.
    ///
    /// Where the secret store does not answer, or holds what does not fit, the worker that there is goes on: its secrets
    /// are most likely still good, and if they are not, whoever refuses them says so in the report.
    ///
    /// # Errors
    /// There has never been one: the cards do not compile, or [`AssembleError`].
    pub async fn worker(&self) -> Result<Arc<Worker>, LiveError> {
        let (values, built) = self.built.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let renewed = self.renewed(&values).await;
        if self.secrets.take_stale() > 0 || matches!(&renewed, Err(LiveError::Secrets(_))) {
            self.metrics.emit(self.ports.clock.now().get(), &[Metric::SecretsStale]);
        }
        match renewed {
            Ok(Some((values, worker))) => {
                *self.redactor.write().unwrap_or_else(PoisonError::into_inner) = (*worker.redactor).clone();
                let building = std::future::ready(Ok(Arc::clone(&worker))).boxed().shared();
                *self.built.lock().unwrap_or_else(PoisonError::into_inner) = (values, building);
                tracing::info!("secrets have changed; the new ones are used");
                Ok(worker)
            }
            Ok(None) => built.await,
            Err(error) => {
                tracing::error!(%error, "secrets could not be read again; those of before are used");
                built.await
            }
        }
    }

    async fn renewed(
        &self,
        before: &Arc<SecretTexts>,
    ) -> Result<Option<(Arc<SecretTexts>, Arc<Worker>)>, LiveError> {
        let values = self.secrets.values().await?;
        if Arc::ptr_eq(&values, before) {
            return Ok(None);
        }
        let loaded = load(&self.source, &self.env, &values)?;
        let worker = build(loaded, &self.env, &self.ports, &self.metrics, self.keys.as_ref()).await?;
        Ok(Some((values, worker)))
    }
}

fn load(source: &Source, env: &BTreeMap<String, String>, values: &SecretTexts) -> Result<Loaded, LiveError> {
    let variable = |name: &str| env.get(name).cloned();
    let loaded = load_for(Reading::Worker, source, &variable, values)?;
    loaded.settings.refuse_unread_secrets()?;
    Ok(loaded)
}

/// Compiles the cards on a thread of their own: that takes longer than all the rest of a start, and Lambda can be asked
/// for the first event meanwhile.
fn build(
    loaded: Loaded,
    env: &BTreeMap<String, String>,
    ports: &Ports,
    metrics: &Metrics,
    keys: Option<&Arc<TagKeys>>,
) -> Building {
    let (ports, metrics, keys) = (ports.clone(), metrics.clone(), keys.cloned());
    let credentials = sentinel_aws::credentials_of_function(&|name| env.get(name).cloned()).ok();
    let built = tokio::task::spawn_blocking(move || {
        let worker = assemble(&loaded.settings, compile(&loaded)?, ports, credentials.as_ref(), None)?;
        Ok(Arc::new(Worker { metrics, ..worker.with_tag_keys(keys) }))
    });
    built.map(|ended| ended.unwrap_or_else(|e| Err(LiveError::Panic(e.to_string())))).boxed().shared()
}

/// Without the environment, which holds secrets.
impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

/// Answers one event: [`batch`] by the worker that there is now, `concurrency` messages at once.
///
/// # Errors
/// As [`Live::worker`]: the invocation fails, and its messages come back.
pub async fn answer(
    live: &Live,
    concurrency: usize,
    event: LambdaEvent<SqsEvent>,
    queue: &SqsQueue,
) -> Result<SqsBatchResponse, LiveError> {
    let (messages, context) = event.into_parts();
    let span = sentinel_telemetry::invocation(&context.request_id, context.xray_trace_id.as_deref());
    let handled = async {
        let worker = live.worker().await?;
        let deadline = deadline(context.deadline, worker.ports.clock.now(), TIMEOUT);
        Ok(batch(&worker, messages, concurrency, deadline, Some(queue)).await)
    };
    handled.instrument(span).await
}

/// Handles a batch, `concurrency` messages at once. `deadline` is the platform's.
///
/// The store is the truth, so a message is done with once the store says what became of its incident. The answer names
/// all others: those whose store or queue did not answer or refused, whose body cannot be read, whose task has panicked.
/// They come back until the queue gives them up to its dead-letter queue, where an alarm sees them. One that runs into the
/// deadline is done with: the sweeper sends its job again once its lease is over.
///
/// What a passing trouble of the store or the queue keeps is to be seen again soon: where `queue` is given, it is told so,
/// and does not hold the message back for as long as an investigation may take.
pub async fn batch(
    worker: &Arc<Worker>,
    event: SqsEvent,
    concurrency: usize,
    deadline: UnixMs,
    queue: Option<&SqsQueue>,
) -> SqsBatchResponse {
    let left = deadline.since(worker.ports.clock.now());
    let end = tokio::time::Instant::now() + left.saturating_sub(LAST_MOMENT);
    let stop_beginning = deadline.minus(MARGIN);
    let failures = stream::iter(event.records)
        .map(|message| one(Arc::clone(worker), message, stop_beginning, end, queue))
        .buffer_unordered(concurrency.max(1))
        .filter_map(std::future::ready)
        .collect::<Vec<_>>()
        .await;
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = failures;
    response
}

/// How long a message that was received so often is left alone: with five receives, trouble of some seven minutes is
/// outlived without a dead letter.
fn pause_after(received: u32) -> Duration {
    Duration::from_secs(30).saturating_mul(1 << received.saturating_sub(1).min(3))
}

/// Handles one message; gives its failure, if it has to come back.
async fn one(
    worker: Arc<Worker>,
    message: SqsMessage,
    stop_beginning: UnixMs,
    end: tokio::time::Instant,
    queue: Option<&SqsQueue>,
) -> Option<BatchItemFailure> {
    let receipt = message.receipt_handle.clone().zip(queue);
    let received =
        message.attributes.get("ApproximateReceiveCount").and_then(|n| n.parse().ok()).unwrap_or(1);
    let id = message.message_id.unwrap_or_default();
    let now = Arc::clone(&worker.ports.clock);
    let metrics = worker.metrics.clone();
    let failed = || {
        metrics.emit(now.now().get(), &[Metric::JobFailed]);
        let mut failure = BatchItemFailure::default();
        failure.item_identifier.clone_from(&id);
        Some(failure)
    };
    let job: Job = match serde_json::from_str(message.body.as_deref().unwrap_or_default()) {
        Ok(job) => job,
        Err(error) => {
            // It comes back until the queue gives it up: in the dead-letter queue somebody can look at it.
            tracing::error!(
                message_id = id,
                line = error.line(),
                column = error.column(),
                "message is no job"
            );
            return failed();
        }
    };
    let incident = job.incident.clone();
    // A task of its own, so that a panic ends this message only.
    let task = async move { worker.handle(&job, stop_beginning).await };
    let mut task = tokio::spawn(task.in_current_span());
    let Ok(ended) = tokio::time::timeout_at(end, &mut task).await else {
        task.abort();
        tracing::error!(%incident, "job left at the deadline; the sweeper sends it again");
        return None;
    };
    match ended {
        Ok(Ok(handled)) => {
            tracing::debug!(%incident, ?handled, "job handled");
            None
        }
        Ok(Err(error)) => {
            tracing::error!(%incident, %error, "job not handled");
            if let Some((receipt, queue)) = receipt.filter(|_| error.is_retryable())
                && let Err(error) = queue.see_again(&receipt, pause_after(received)).await
            {
                tracing::warn!(%incident, %error, "the job comes back when its visibility ends, not before");
            }
            failed()
        }
        Err(_) => {
            tracing::error!(%incident, "job panicked");
            failed()
        }
    }
}
