//! A job to an investigation to its deliveries.
//!
//! [`Worker::handle`] takes one queue message through its life: claim, investigate, commit, tell. It is the same on
//! Lambda and in the embedded service; the difference is who calls it and what the deadline is.
//!
//! The store is the truth: a job is done with (`Ok`) whatever became of its incident, unless the store or the queue
//! could not be reached. Then the caller lets the message come back; the sweeper would send it again anyhow.

mod deliver;
mod ending;
mod health;
pub mod lambda;
mod metrics;
mod running;
mod wiring;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::Abortable;
use sentinel_core::UnixMs;
use sentinel_core::alert::Alert;
use sentinel_core::budget::{Limits, Scope};
use sentinel_core::card::ModelId;
use sentinel_core::chain::{self, Sealed};
use sentinel_core::drive::{DriveError, Driven, Start, drive, drive_sealing};
use sentinel_core::incident::{Child, ChildName, DeliveryKey, Fence, Head, IncidentId, Job, State};
use sentinel_core::lifecycle::{
    Abort, Aborted, Claim, Claimed, Commit, Ended, Fail, Reopened, Rules, WindowOver, Yield, Yielded,
};
use sentinel_core::ports::{Appended, Ports, Sink, StoreError};
use sentinel_core::price::Price;
use sentinel_core::redact::{Redactor, TagKeys};
use sentinel_core::report::{Report, Verdict};
use sentinel_core::view::Display;
use sentinel_investigation::ports::{Model, ToolBox};
use sentinel_investigation::{EventSender, InvestigateError, Outcome, Progress, Run};
use sentinel_telemetry::Metrics;
use thiserror::Error;
use tracing::Instrument as _;

pub use deliver::told;
pub use ending::EndingModels;
pub use health::{Health, Last, Of};
pub use running::Running;
pub use wiring::{
    AssembleError, NO_MODEL_AT, Playbooks, Replacement, assemble, compile, http_client, mind, models_of,
    servers, services, sinks, warnings,
};

/// How long after a claim of which the store said nothing it is looked for: the store's client has tried again by then.
const CLAIM_PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Who concludes.
#[derive(Clone, Debug)]
pub enum Mind {
    /// This model.
    Model(Arc<dyn Model>),
    /// Nobody: reports hold the evidence only, and say why.
    None {
        /// Why, for the report.
        reason: String,
    },
}

/// Everything that a job needs.
#[derive(Clone)]
pub struct Worker {
    /// Store, queue, clock.
    pub ports: Ports,
    /// The cards, compiled, by name.
    pub playbooks: Arc<Playbooks>,
    /// Who concludes.
    pub mind: Mind,
    /// The tools, behind the cards' allow-lists.
    pub tools: Arc<dyn ToolBox>,
    /// Who is told, by the name that cards use.
    pub sinks: Arc<BTreeMap<String, Arc<dyn Sink>>>,
    /// What must not leave.
    pub redactor: Arc<Redactor>,
    /// How incidents are shown.
    pub display: Arc<Display>,
    /// US dollars per million tokens, by model.
    pub prices: Arc<BTreeMap<ModelId, Price>>,
    /// What all cards together may spend.
    pub budget: Limits,
    /// The most tokens of one answer.
    pub max_output_tokens: u32,
    /// The longest one model call may take.
    pub model_timeout: Duration,
    /// Where progress is told.
    pub events: Option<EventSender>,
    /// What runs in this process.
    pub running: Running,
    /// Which of the configured models are switched off soon.
    pub ending: EndingModels,
    /// Where measurements go; [`assemble`] leaves them off.
    pub metrics: Metrics,
}

impl Worker {
    /// The same, among whose investigations those are that another one began in this process.
    #[must_use]
    pub fn with_running(self, running: Running) -> Self {
        Self { running, ..self }
    }

    /// The same, with the key of placeholders' tags; `None`: they have none.
    #[must_use]
    pub fn with_tag_keys(self, keys: Option<Arc<TagKeys>>) -> Self {
        let redactor = (*self.redactor).clone().with_tag_keys(keys);
        Self { redactor: Arc::new(redactor), ..self }
    }

    /// The same, counting what it does in `metrics`.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same, whose model, tools and sinks leave word in `health` how each call went. What they say is kept without the
    /// secrets that this worker knows by now.
    #[must_use]
    pub fn with_health(self, health: &Health) -> Self {
        health.watch(self)
    }
}

/// What became of a job.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handled {
    /// Nothing was to be done: it is over, newer than the job, or someone else's.
    Acknowledged,
    /// It was too early; the job was sent again.
    Deferred,
    /// The report is stored.
    Concluded(Verdict),
    /// The run was put off; the job was sent again.
    PutOff,
    /// The incident has failed, with its reason.
    Failed,
    /// Only deliveries were owed.
    Told,
    /// It fires again, and its window is over: the next generation was opened, and its job sent.
    Reopened,
    /// Another worker took over: nothing was published.
    LeaseLost,
}

/// What keeps a job from being done with.
#[derive(Debug, Error)]
pub enum WorkError {
    /// The store or the queue.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The investigation could not go on.
    #[error(transparent)]
    Investigate(#[from] InvestigateError),
}

impl From<StoreError> for WorkError {
    fn from(e: StoreError) -> Self {
        Self::Drive(e.into())
    }
}

impl WorkError {
    /// Whether the same job may be handled again later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Drive(e) => e.is_retryable(),
            Self::Investigate(e) => e.is_retryable(),
        }
    }
}

impl Worker {
    /// Handles one job. Nothing is begun that cannot end before `deadline`.
    ///
    /// # Errors
    /// The store or the queue could not be reached, or refused. Handling the job again is harmless.
    pub async fn handle(&self, job: &Job, deadline: UnixMs) -> Result<Handled, WorkError> {
        self.ending.tell(self.ports.clock.now());
        // A span below the log's level has no fields: this one is there at every level.
        let span = tracing::error_span!("job", incident = %job.incident, gen = %job.generation);
        Box::pin(self.take(job, deadline)).instrument(span).await
    }

    async fn take(&self, job: &Job, deadline: UnixMs) -> Result<Handled, WorkError> {
        let Some(mut head) = self.ports.store.load(&job.incident).await? else {
            tracing::debug!("job for an unknown incident");
            return Ok(Handled::Acknowledged);
        };
        // Who took the alerts in may know fewer secrets. What is written from here on lacks those, too.
        head.redact(&self.redactor.for_incident(&head.id));
        let rules = self.rules(&head.card);
        let was_over = head.state.is_terminal();
        let claim = Claim { generation: job.generation, owner: (self.ports.fresh)() };
        let Driven { outcome, head } = self.claim(head, &claim, &rules).await?;
        let Some(head) = head else { return Ok(Handled::Acknowledged) };
        let now = self.ports.clock.now();
        if !was_over && head.state == State::Failed {
            metrics::failed(self);
        }
        match outcome {
            Claimed::Acknowledge => Ok(Handled::Acknowledged),
            Claimed::Deferred => Ok(Handled::Deferred),
            Claimed::Deliver(due) => {
                self.tell_end(&head);
                self.tell_all(head, &due, &rules).await?;
                Ok(Handled::Told)
            }
            Claimed::WindowOver => self.reopen(head, &rules).await,
            Claimed::Investigate(fence) => {
                metrics::claimed(self, &head, now);
                Box::pin(self.begin(head, fence, &rules, deadline, now)).await
            }
        }
    }

    /// Opens the next generation of what fires again, about what is stored of it.
    async fn reopen(&self, head: Head, rules: &Rules) -> Result<Handled, WorkError> {
        let children = deliver::readable(self.ports.store.children(&head.id, head.generation).await)?;
        let mut told = told(&children, &head);
        if let Some(told) = &mut told {
            told.alerts.retain(Alert::is_firing);
            told.redact(&self.redactor.for_incident(&head.id));
        }
        let firing = told.iter().flat_map(|told| &told.alerts).filter_map(|alert| alert.member).collect();
        let input = WindowOver { generation: head.generation, firing };
        let id = head.id.clone();
        let start = Start::Known(Box::new(head));
        match drive(&self.ports, &id, &input, rules, start, told.as_ref()).await?.outcome {
            Reopened::Reopened => Ok(Handled::Reopened),
            Reopened::Left => Ok(Handled::Acknowledged),
        }
    }

    /// Claims. Where the store does not say what became of that, it is asked again: a claim that was made is an attempt,
    /// the last one perhaps, and nobody but its owner can tell that it is his.
    async fn claim(&self, head: Head, claim: &Claim, rules: &Rules) -> Result<Driven<Claimed>, DriveError> {
        let id = head.id.clone();
        let mut start = Start::Known(Box::new(head));
        for pause in CLAIM_PAUSES {
            match drive(&self.ports, &id, claim, rules, start, None).await {
                Err(DriveError::Store(error)) if error.is_retryable() => {
                    tracing::warn!(%error, "whether the claim was made is not known; looking again");
                }
                driven => return driven,
            }
            tokio::time::sleep(pause).await;
            start = Start::Load;
        }
        drive(&self.ports, &id, claim, rules, start, None).await
    }

    /// Investigates, and beside it tells who wants to know that this has started: neither waits for the other.
    async fn begin(
        &self,
        head: Head,
        fence: Fence,
        rules: &Rules,
        deadline: UnixMs,
        claimed: UnixMs,
    ) -> Result<Handled, WorkError> {
        let due = head.due_deliveries(claimed);
        if due.is_empty() {
            return Box::pin(self.investigate(head, fence, rules, deadline, claimed)).await;
        }
        let id = head.id.clone();
        let investigation = Box::pin(self.investigate(head.clone(), fence, rules, deadline, claimed));
        let (handled, told) = futures::join!(investigation, self.tell_all(head, &due, rules));
        if let Err(error) = told {
            // The delivery stays on the record: the next to come by, or the sweeper, goes on with it.
            tracing::warn!(%error, "the start was not told");
        }
        let handled = handled?;
        // What ended before its start was told had to wait for that.
        if let Some(head) = self.ports.store.load(&id).await? {
            let due = head.due_deliveries(self.ports.clock.now());
            if head.generation == fence.generation {
                self.tell_all(head, &due, rules).await?;
            }
        }
        Ok(handled)
    }

    /// The same worker with another model and other tools: for incidents that replay a recorded run.
    #[must_use]
    pub fn replaced(mut self, by: &Replacement) -> Self {
        self.mind = Mind::Model(Arc::clone(&by.model));
        self.tools = Arc::clone(&by.tools);
        self
    }

    /// The rules of a card, as far as this worker knows it.
    pub fn rules(&self, card: &str) -> Rules {
        self.playbooks.get(card).map_or_else(Rules::of_no_card, |p| Rules::of(p.card()))
    }

    /// Stops an incident. What runs for it in this process is cut off at once, in the middle of a call if it is in
    /// one; what runs elsewhere finds out before its next call.
    ///
    /// # Errors
    /// The store or the queue could not be reached.
    pub async fn abort(&self, id: &IncidentId, who: String) -> Result<Aborted, DriveError> {
        let card = self.ports.store.load(id).await?.map(|head| head.card).unwrap_or_default();
        let rules = self.rules(&card);
        let who = self.redactor.for_incident(id).redact(&who).into_owned();
        let driven = drive(&self.ports, id, &Abort { who }, &rules, Start::Load, None).await?;
        if let (Aborted::Aborted, Some(head)) = (&driven.outcome, &driven.head) {
            self.running.cut_off(id);
            self.tell_end(head);
        }
        Ok(driven.outcome)
    }

    /// Tells whoever watches that an incident has ended.
    fn tell_end(&self, head: &Head) {
        if let (Some(events), Some(mut end)) = (&self.events, Progress::end_of(head)) {
            end.redact(&self.redactor.for_incident(&head.id));
            // Nobody watches: nothing to do about it.
            let _ = events.send(end);
        }
    }

    async fn investigate(
        &self,
        head: Head,
        fence: Fence,
        rules: &Rules,
        deadline: UnixMs,
        claimed: UnixMs,
    ) -> Result<Handled, WorkError> {
        let Some(playbook) = self.playbooks.get(&head.card) else {
            let reason = format!("the incident card {:?} is no longer configured", head.card);
            let unsealed = self.unsealed(&head).await?;
            return self.fail(head, fence, reason, rules, unsealed).await;
        };
        let (model, no_model_reason) = match &self.mind {
            Mind::Model(model) => (Some(model.as_ref()), None),
            Mind::None { reason } => (None, Some(reason.clone())),
        };
        let card = head.card.clone();
        let budget: Vec<(Scope, Limits)> =
            [(Scope::Card(card.clone()), playbook.card().budget), (Scope::Overall, self.budget)]
                .into_iter()
                .filter(|(_, limits)| !limits.is_none())
                .collect();
        let redactor = self.redactor.for_incident(&head.id);
        let last_attempt = (head.attempts >= rules.max_attempts).then(|| head.clone());
        let run = Run {
            ports: &self.ports,
            head,
            fence,
            rules,
            playbook,
            model,
            tools: self.tools.as_ref(),
            redactor: &redactor,
            prices: &self.prices,
            budget: &budget,
            max_output_tokens: self.max_output_tokens,
            deadline,
            model_timeout: self.model_timeout,
            no_model_reason,
            events: self.events.as_ref(),
        };
        let (_entered, registration) = self.running.enter(&run.head.id, fence);
        let measured = Box::pin(metrics::measured(self, run, claimed));
        let outcome = match AssertUnwindSafe(Abortable::new(measured, registration)).catch_unwind().await {
            // An abort has taken the lease away before it cuts off.
            Ok(ended) => ended.unwrap_or(Ok(Outcome::LeaseLost))?,
            // Another attempt may get through. After the last one, people are to read what stopped it.
            Err(panic) => match last_attempt {
                None => resume_unwind(panic),
                Some(head) => {
                    let reason = format!(
                        "gave up after {} attempts: the run panicked: {}",
                        head.attempts,
                        words(panic.as_ref())
                    );
                    let unsealed = self.unsealed(&head).await?;
                    return self.fail(head, fence, reason, rules, unsealed).await;
                }
            },
        };
        match outcome {
            Outcome::Report { report, head, unsealed } => {
                self.commit(*report, head, fence, rules, unsealed).await
            }
            Outcome::Fail { reason, head, unsealed } => self.fail(head, fence, reason, rules, unsealed).await,
            Outcome::LeaseLost => {
                tracing::info!(card, "the lease was lost; nothing is published");
                Ok(Handled::LeaseLost)
            }
            Outcome::Yield { not_before, reason, head, unsealed } => {
                tracing::info!(%not_before, reason, "investigation put off");
                let id = head.id.clone();
                let input = Yield { fence, not_before, reason };
                let start = Start::Known(Box::new(head));
                let Driven { outcome, head } =
                    drive_sealing(&self.ports, &id, &input, rules, start, &unsealed).await?;
                match (outcome, head) {
                    (Yielded::Yielded, _) => Ok(Handled::PutOff),
                    (Yielded::Failed, Some(head)) => {
                        metrics::failed(self);
                        self.tell_end(&head);
                        let due = head.due_deliveries(self.ports.clock.now());
                        self.tell_all(head, &due, rules).await?;
                        Ok(Handled::Failed)
                    }
                    (Yielded::NotMine | Yielded::Failed, _) => Ok(Handled::LeaseLost),
                }
            }
        }
    }

    /// What is stored of an incident that no entry of its record's chain seals yet. What cannot be read is not sealed.
    async fn unsealed(&self, head: &Head) -> Result<Vec<Sealed>, StoreError> {
        match self.ports.store.children(&head.id, head.generation).await {
            Err(StoreError::Unreadable { .. }) => Ok(Vec::new()),
            children => Ok(chain::unsealed(head, &children?)),
        }
    }

    /// Stores the report, then says so: a commit never points at nothing.
    async fn commit(
        &self,
        report: Report,
        head: Head,
        fence: Fence,
        rules: &Rules,
        mut unsealed: Vec<Sealed>,
    ) -> Result<Handled, WorkError> {
        let body = serde_json::to_string(&report).map_err(|e| StoreError::Refused {
            action: format!("the report of incident {}", head.id),
            reason: e.to_string(),
        })?;
        let child = Child { generation: fence.generation, name: ChildName::Report, body };
        let report = match self.ports.store.append(&head.id, &child).await? {
            Appended::Written => {
                unsealed.push(Sealed::of(&child));
                report
            }
            // An earlier attempt stored its report and crashed before the commit: that one stands.
            Appended::Other => {
                let children = self.ports.store.children(&head.id, fence.generation).await?;
                unsealed = chain::unsealed(&head, &children);
                stored_report(&children)?.unwrap_or(report)
            }
        };
        let verdict = report.verdict;
        let id = head.id.clone();
        let input = Commit { fence, verdict };
        let start = Start::Known(Box::new(head));
        let Driven { outcome, head } =
            drive_sealing(&self.ports, &id, &input, rules, start, &unsealed).await?;
        if matches!(outcome, Ended::Ended(_)) {
            metrics::concluded(self, verdict, report.source, &report.usage);
        }
        self.ended(outcome, head, rules, Handled::Concluded(verdict)).await
    }

    async fn fail(
        &self,
        head: Head,
        fence: Fence,
        reason: String,
        rules: &Rules,
        unsealed: Vec<Sealed>,
    ) -> Result<Handled, WorkError> {
        let reason = self.redactor.for_incident(&head.id).redact(&reason).into_owned();
        tracing::error!(card = head.card, reason, "investigation failed");
        let id = head.id.clone();
        let input = Fail { fence, reason };
        let start = Start::Known(Box::new(head));
        let Driven { outcome, head } =
            drive_sealing(&self.ports, &id, &input, rules, start, &unsealed).await?;
        if matches!(outcome, Ended::Ended(_)) {
            metrics::failed(self);
        }
        self.ended(outcome, head, rules, Handled::Failed).await
    }

    async fn ended(
        &self,
        outcome: Ended,
        head: Option<Head>,
        rules: &Rules,
        handled: Handled,
    ) -> Result<Handled, WorkError> {
        match (outcome, head) {
            (Ended::Ended(due), Some(head)) => {
                self.tell_end(&head);
                self.tell_all(head, &due, rules).await?;
                Ok(handled)
            }
            _ => Ok(Handled::LeaseLost),
        }
    }

    async fn tell_all(&self, head: Head, due: &[DeliveryKey], rules: &Rules) -> Result<(), WorkError> {
        deliver::tell_all(self, head, due, rules).await
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let formatted = panic.downcast_ref::<String>().map(String::as_str);
    formatted.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words")
}

/// The report among an incident's children.
///
/// # Errors
/// It stands there and cannot be read.
pub fn stored_report(children: &[Child]) -> Result<Option<Report>, StoreError> {
    let Some(child) = children.iter().find(|c| c.name == ChildName::Report) else { return Ok(None) };
    serde_json::from_str(&child.body)
        .map(Some)
        .map_err(|e| StoreError::Unreadable { item: "REPORT".to_owned(), reason: e.to_string() })
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("ports", &self.ports).field("mind", &self.mind).finish_non_exhaustive()
    }
}
