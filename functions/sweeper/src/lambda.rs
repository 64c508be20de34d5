//! The function on AWS: one sweep an invocation.

use std::collections::BTreeMap;
use std::time::Duration;

use lambda_runtime::Context;
use sentinel_aws::{Calls, DynamoStore, deadline};
use sentinel_core::card::Card;
use sentinel_core::lifecycle::Rules;
use sentinel_core::ports::Ports;
use sentinel_telemetry::{Metric, Metrics};
use tokio::time::Instant;
use tracing::Instrument;

use crate::{SweepError, When, sweep};

/// The function's time-out in infra/template.yaml, where the platform names no deadline.
const TIMEOUT: Duration = Duration::from_mins(1);
/// How long before the invocation's deadline no page is begun any more: what is left is due again in a minute.
const LAST_PAGE: Duration = Duration::from_secs(10);
/// How long before it every call to AWS has ended.
const CALLS_END_BEFORE: Duration = Duration::from_secs(1);

/// The rules of each card, by its name. They need no prompt and no secret.
pub fn rules(cards: &[Card]) -> BTreeMap<String, Rules> {
    cards.iter().map(|card| (card.name.clone(), Rules::of(card))).collect()
}

/// Sweeps one table as its cards say.
#[derive(Debug)]
pub struct Sweeper {
    store: DynamoStore,
    ports: Ports,
    rules: BTreeMap<String, Rules>,
    metrics: Metrics,
    stack: String,
}

impl Sweeper {
    /// Sweeps `store`, which is that of `ports`, for the deployment of this name.
    pub fn new(store: DynamoStore, ports: Ports, cards: &[Card], metrics: Metrics, stack: String) -> Self {
        Self { store, ports, rules: rules(cards), metrics, stack }
    }

    /// Sweeps once, as long as there is time.
    ///
    /// # Errors
    /// As [`sweep`]: the invocation fails, and the alarm on errors shows it.
    pub async fn minute(&self, calls: &Calls, context: Context) -> Result<(), lambda_runtime::Error> {
        let now = self.ports.clock.now();
        let deadline = deadline(context.deadline, now, TIMEOUT);
        let left = deadline.since(now);
        calls.end_by(Instant::now() + left.saturating_sub(CALLS_END_BEFORE));
        let span = sentinel_telemetry::invocation(&context.request_id, context.xray_trace_id.as_deref());
        let swept = async {
            let from = self.store.sweeping(&self.stack, self.ports.clock.now()).await;
            let when = When { from: from.map_err(SweepError::Due)?, end: deadline.minus(LAST_PAGE) };
            let of = |card: &str| self.rules.get(card).cloned().unwrap_or_else(Rules::of_no_card);
            sweep(&self.ports, of, when).await
        };
        let swept = async { swept.await.inspect_err(|error| tracing::error!(%error, "sweep failed")) };
        let swept = swept.instrument(span).await;
        let mut measured = vec![Metric::Throttled(calls.take_throttled())];
        if let Ok(done) | Err(SweepError::Some { swept: done, .. }) = &swept {
            measured.push(Metric::OldestDue(done.longest));
            if done.sent > 0 {
                measured.push(Metric::Sent(u64::try_from(done.sent).unwrap_or(u64::MAX)));
            }
        }
        self.metrics.emit(self.ports.clock.now().get(), &measured);
        let _ = swept?;
        Ok(())
    }

    /// A changed configuration was not taken.
    pub fn configuration_refused(&self) {
        self.metrics.emit(self.ports.clock.now().get(), &[Metric::ConfigurationRefused]);
    }
}
