//! A whole pipeline of its own: a store, a queue, and a clock that jumps over every wait, so that a card that waits a
//! minute does not cost one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use futures::StreamExt;
use sentinel_aws::{MachineClock, fresh_ids};
use sentinel_config::{Loaded, Settings};
use sentinel_core::UnixMs;
use sentinel_core::budget::Limits;
use sentinel_core::card::Card;
use sentinel_core::incident::IncidentId;
use sentinel_core::intake::{Receipt, intake};
use sentinel_core::notification::Message;
use sentinel_core::ports::{Clock, IncidentStore, Ports};
use sentinel_investigation::EventSender;
use sentinel_local::{Backend, LocalQueue, Receiver, tag_keys};
use sentinel_worker::{Handled, Mind, Playbooks, Replacement, Worker};

use crate::api::{self, Detail};

/// Time jumps of one pipeline: an incident that never comes to rest must not keep it for ever.
const MOST_JUMPS: usize = 1000;

/// Takes everything out of a configuration that reaches beyond a run which only shows something: nobody is told, and
/// no budget is used up.
pub(crate) fn alone(loaded: &mut Loaded) {
    loaded.settings.budget = Limits::default();
    for card in &mut loaded.settings.cards {
        card.budget = Limits::default();
        card.generations_per_hour = None;
        card.sinks.clear();
    }
}

/// A pipeline.
pub(crate) struct Stage {
    clock: Arc<MachineClock>,
    receiver: Receiver,
    concurrency: usize,
    /// For incidents without a recorded run.
    default: Worker,
    /// For incidents with one.
    recorded: BTreeMap<IncidentId, Worker>,
    /// In the order in which they were opened.
    incidents: Vec<IncidentId>,
}

impl Stage {
    /// A pipeline that keeps its incidents in `folder`, or in memory.
    pub(crate) async fn new(
        settings: &Settings,
        playbooks: Arc<Playbooks>,
        folder: Option<&Path>,
        events: Option<EventSender>,
    ) -> anyhow::Result<Self> {
        let backend = match folder {
            Some(folder) => Backend::open(folder).await?,
            None => Backend::memory().await?,
        };
        let clock = Arc::new(MachineClock::default());
        let shared: Arc<dyn Clock> = clock.clone();
        let (queue, receiver) = LocalQueue::new(Arc::clone(&shared));
        let signing_key = folder.map(sentinel_local::signing_key).transpose()?.flatten();
        let ports = Ports {
            store: backend.store(),
            queue: Arc::new(queue),
            clock: shared,
            fresh: fresh_ids(),
            signing_key,
        };
        let keys = folder.map_or_else(sentinel_local::passing_tag_keys, |folder| Some(tag_keys(folder)));
        let credentials = sentinel_aws::credentials_of_environment();
        Ok(Self {
            clock,
            receiver,
            concurrency: settings.dispatcher.worker_concurrency,
            default: sentinel_worker::assemble(settings, playbooks, ports, Some(&credentials), events)?
                .with_tag_keys(keys),
            recorded: BTreeMap::new(),
            incidents: Vec::new(),
        })
    }

    /// Takes a webhook in. Its incidents are investigated by `run`, where one is given.
    pub(crate) async fn arrive(
        &mut self,
        cards: &[Card],
        name: &str,
        body: &[u8],
        run: Option<&Replacement>,
    ) -> anyhow::Result<Receipt> {
        let now = self.clock.now();
        let message = sentinel_alertmanager::parse(body, now)
            .with_context(|| format!("{name} is not a webhook that Sentinel takes"))?;
        self.take(cards, message, run).await
    }

    /// Takes alerts in that have been read.
    pub(crate) async fn take(
        &mut self,
        cards: &[Card],
        message: Message,
        run: Option<&Replacement>,
    ) -> anyhow::Result<Receipt> {
        let receipt = intake(&self.default.ports, cards, &self.default.redactor, &message).await?;
        for incident in &receipt.incidents {
            if !self.incidents.contains(&incident.id) {
                self.incidents.push(incident.id.clone());
            }
            if let Some(run) = run {
                self.recorded
                    .entry(incident.id.clone())
                    // What was recorded quotes placeholders as they were written then, and without tags.
                    .or_insert_with(|| self.default.clone().replaced(run).with_tag_keys(None));
            }
        }
        Ok(receipt)
    }

    /// Where it keeps its incidents.
    pub(crate) fn store(&self) -> Arc<dyn IncidentStore> {
        Arc::clone(&self.default.ports.store)
    }

    /// The configured model.
    pub(crate) fn mind(&self) -> &Mind {
        &self.default.mind
    }

    /// Handles what is due, then jumps to what is due next, until nothing is.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        for _ in 0..MOST_JUMPS {
            let mut jobs = Vec::new();
            while let Some(job) = self.receiver.pop_due(self.clock.now()) {
                jobs.push(job);
            }
            let handled: Vec<anyhow::Result<Handled>> = futures::stream::iter(jobs)
                .map(|job| async move {
                    let worker = self.recorded.get(&job.incident).unwrap_or(&self.default);
                    Ok(worker.handle(&job, UnixMs::new(i64::MAX)).await?)
                })
                .buffer_unordered(self.concurrency)
                .collect()
                .await;
            for handled in handled {
                let _ = handled?;
            }
            // What the queue does not know of is the sweeper's: deliveries that are to be tried again.
            let next = match self.receiver.next_due() {
                Some(next) => next,
                None => match self.next_owed().await? {
                    Some(next) => next,
                    None => return Ok(()),
                },
            };
            self.clock.jump_to(next);
            let rules = |card: &str| self.default.rules(card);
            let all = sentinel_sweeper::When::until(UnixMs::new(i64::MAX));
            let _ = sentinel_sweeper::sweep(&self.default.ports, rules, all).await?;
        }
        bail!("the incidents did not come to rest after {MOST_JUMPS} waits")
    }

    async fn next_owed(&self) -> anyhow::Result<Option<UnixMs>> {
        let mut next: Option<UnixMs> = None;
        for id in &self.incidents {
            let due =
                self.default.ports.store.load(id).await?.and_then(|h| sentinel_core::lifecycle::due_at(&h));
            next = match (next, due) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        Ok(next)
    }

    /// The incidents, in the order in which they were opened, as they are seen now: the clock here has jumped over waits,
    /// and would make the sender's times longer ago than they are.
    pub(crate) async fn details(&self) -> anyhow::Result<Vec<Detail>> {
        self.seen_at(MachineClock::default().now()).await
    }

    pub(crate) async fn seen_at(&self, now: UnixMs) -> anyhow::Result<Vec<Detail>> {
        let mut details = Vec::new();
        let Worker { ports, redactor, display, .. } = &self.default;
        for id in &self.incidents {
            details.extend(api::detail(ports.store.as_ref(), redactor, display, now, id).await?);
        }
        Ok(details)
    }
}
