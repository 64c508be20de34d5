//! The function on AWS: one sweep an invocation.

use std::collections::BTreeMap;

use lambda_runtime::Context;
use sentinel_aws::Calls;
use sentinel_core::card::Card;
use sentinel_core::lifecycle::Rules;
use sentinel_core::ports::Ports;
use sentinel_telemetry::{Metric, Metrics};
use tracing::Instrument;

use crate::{SweepError, sweep};

/// Incidents of one sweep. What is over is due again in a minute.
const LIMIT: usize = 1_000;

/// The rules of each card, by its name. They need no prompt and no secret.
pub fn rules(cards: &[Card]) -> BTreeMap<String, Rules> {
    cards.iter().map(|card| (card.name.clone(), Rules::of(card))).collect()
}

/// Sweeps once.
///
/// # Errors
/// As [`sweep`]: the invocation fails, and the alarm on errors shows it.
pub async fn minute(
    ports: &Ports,
    rules: &BTreeMap<String, Rules>,
    metrics: &Metrics,
    calls: &Calls,
    context: Context,
) -> Result<(), lambda_runtime::Error> {
    let span = sentinel_telemetry::invocation(&context.request_id, context.xray_trace_id.as_deref());
    let swept = async {
        let of = |card: &str| rules.get(card).cloned().unwrap_or_else(Rules::of_no_card);
        sweep(ports, of, LIMIT).await.inspect_err(|error| tracing::error!(%error, "sweep failed"))
    };
    let swept = swept.instrument(span).await;
    let mut measured = vec![Metric::Throttled(calls.take_throttled())];
    if let Ok(done) | Err(SweepError::Some { swept: done, .. }) = &swept {
        measured.push(Metric::OldestDue(done.longest));
        if done.sent > 0 {
            measured.push(Metric::Sent(u64::try_from(done.sent).unwrap_or(u64::MAX)));
        }
    }
    metrics.emit(ports.clock.now().get(), &measured);
    let _ = swept?;
    Ok(())
}
