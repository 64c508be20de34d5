//! What is measured while a job is handled. The investigation itself knows nothing of it: it tells its progress, and
//! the report says what it took.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use sentinel_core::UnixMs;
use sentinel_core::card::ModelId;
use sentinel_core::incident::{DeliveryKey, Head};
use sentinel_core::ports::{SinkError, Told};
use sentinel_core::price::{Price, Tokens};
use sentinel_core::report::{ReportSource, Usage, Verdict};
use sentinel_investigation::{InvestigateError, Outcome, Progress, Run, events, investigate};
use sentinel_telemetry::{Metric, SinkOutcome};
use tokio::sync::broadcast::error::RecvError;

use crate::Worker;

/// A claim that leads to an investigation. The first of a generation says how long its alert waited; one after an
/// attempt that did not come back is a retry; one after a yield is neither.
pub(crate) fn claimed(worker: &Worker, head: &Head, now: UnixMs) {
    let metric = if head.attempts > 1 {
        Metric::Retries(1)
    } else if head.slices == 0 {
        Metric::AlertToClaim(now.since(UnixMs::new(head.generation.0)))
    } else {
        return;
    };
    worker.metrics.emit(now.get(), &[metric]);
}

/// A report that is committed.
pub(crate) fn concluded(worker: &Worker, verdict: Verdict, source: ReportSource, usage: &Usage) {
    let mut metrics = vec![
        Metric::Concluded { verdict, source },
        Metric::StartToReport(Duration::from_millis(usage.ms)),
        Metric::Turns(usage.turns.into()),
        Metric::Tokens(usage.input_tokens.saturating_add(usage.output_tokens)),
    ];
    metrics.extend(usage.usd.map(Metric::Usd));
    worker.metrics.emit(worker.ports.clock.now().get(), &metrics);
}

/// A try to tell a sink.
pub(crate) fn told(worker: &Worker, key: &DeliveryKey, told: &Result<Told, SinkError>) {
    let result = match told {
        Ok(_) => SinkOutcome::Sent,
        Err(error) if error.is_retryable() => SinkOutcome::Retry,
        Err(_) => SinkOutcome::Refused,
    };
    let mut metrics = vec![Metric::SinkResult { sink: key.sink.clone(), result }];
    metrics.extend((result == SinkOutcome::Refused).then_some(Metric::SinkRefused));
    worker.metrics.emit(worker.ports.clock.now().get(), &metrics);
}

/// An investigation that is given up.
pub(crate) fn failed(worker: &Worker) {
    worker.metrics.emit(worker.ports.clock.now().get(), &[Metric::InvestigationFailed]);
}

/// Investigates, listens to the progress on its way to whoever watches, and writes down what it heard. `claimed` is
/// when the lease was taken.
pub(crate) async fn measured(
    worker: &Worker,
    run: Run<'_>,
    claimed: UnixMs,
) -> Result<Outcome, InvestigateError> {
    if !worker.metrics.is_on() {
        return investigate(run).await;
    }
    let mut heard = Heard::new(run.prices);
    let events = events();
    let mut progress = events.subscribe();
    // The sender is dropped with the run, and that ends the listening.
    let running = async move { investigate(Run { events: Some(&events), ..run }).await };
    let listening = async {
        loop {
            let step = match progress.recv().await {
                Ok(step) => step,
                // Both halves run in turns, so this one is never far behind.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => break,
            };
            heard.listen(&step, worker.ports.clock.now().since(claimed));
            if let Some(events) = &worker.events {
                // Nobody watches any more: nothing to do about it.
                let _ = events.send(step);
            }
        }
    };
    let (outcome, ()) = futures::join!(running, listening);
    if matches!(outcome, Ok(Outcome::Fail { .. })) {
        heard.failed();
    }
    worker.metrics.emit(worker.ports.clock.now().get(), &heard.metrics);
    outcome
}

struct Heard<'a> {
    prices: &'a BTreeMap<ModelId, Price>,
    /// What the model costs that was asked last.
    price: Option<Price>,
    /// What the turns cost, the model's cache left aside; `None`: one of the models has no price.
    usd: Option<f64>,
    metrics: Vec<Metric>,
    /// Calls that left: a refused one ends too, and took no time.
    left: HashSet<String>,
    turns: u64,
    input_tokens: u64,
    output_tokens: u64,
}

impl<'a> Heard<'a> {
    fn new(prices: &'a BTreeMap<ModelId, Price>) -> Self {
        Self {
            prices,
            price: None,
            usd: Some(0.0),
            metrics: Vec::new(),
            left: HashSet::new(),
            turns: 0,
            input_tokens: 0,
            output_tokens: 0,
        }
    }

    fn listen(&mut self, step: &Progress, since_claim: Duration) {
        match step {
            Progress::Started { .. } => self.metrics.push(Metric::ClaimToStart(since_claim)),
            Progress::Calling { id, .. } => {
                self.left.insert(id.clone());
            }
            Progress::Evidence { id, tool, ms, .. } | Progress::Called { id, tool, ms, .. }
                if self.left.remove(id) =>
            {
                let (server, tool) = tool.split_once('.').unwrap_or(("", tool));
                self.metrics.push(Metric::Tool {
                    server: server.to_owned(),
                    tool: tool.to_owned(),
                    took: Duration::from_millis(*ms),
                });
            }
            Progress::Refused { reason, .. } => {
                self.metrics.push(Metric::RefusedCall { reason: reason.as_str() });
            }
            Progress::BudgetUsedUp { .. } => self.metrics.push(Metric::BudgetExhausted),
            Progress::Asking { model, .. } => {
                let priced = self.prices.iter().find(|(id, _)| id.to_string() == *model);
                self.price = priced.map(|(_, price)| *price);
            }
            Progress::ModelRefused { .. } => self.metrics.push(Metric::ModelRefused),
            Progress::Answered { input_tokens, output_tokens, ms, .. } => {
                self.metrics.push(Metric::Turn(Duration::from_millis(*ms)));
                self.turns += 1;
                let tokens = Tokens { input: *input_tokens, output: *output_tokens, ..Tokens::default() };
                self.usd = self.usd.zip(self.price).map(|(sum, price)| sum + price.usd(tokens));
                self.input_tokens = self.input_tokens.saturating_add(*input_tokens);
                self.output_tokens = self.output_tokens.saturating_add(*output_tokens);
            }
            _ => {}
        }
    }

    /// Without a report nobody else says what was paid for: what was heard in this attempt counts.
    fn failed(&mut self) {
        if self.turns == 0 {
            return;
        }
        self.metrics.push(Metric::Turns(self.turns));
        self.metrics.push(Metric::Tokens(self.input_tokens.saturating_add(self.output_tokens)));
        self.metrics.extend(self.usd.map(Metric::Usd));
    }
}
