//! The function on AWS: one sweep an invocation.

use std::collections::BTreeMap;

use lambda_runtime::Context;
use sentinel_core::card::Card;
use sentinel_core::lifecycle::Rules;
use sentinel_core::ports::Ports;
use sentinel_telemetry::{Metric, Metrics};
use tracing::Instrument;

use crate::{SweepError, Swept, sweep};

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
    context: Context,
) -> Result<(), lambda_runtime::Error> {
    let span = sentinel_telemetry::invocation(&context.request_id, context.xray_trace_id.as_deref());
    let swept = async {
        let of = |card: &str| rules.get(card).cloned().unwrap_or_else(Rules::of_no_card);
        sweep(ports, of, LIMIT).await.inspect_err(|error| tracing::error!(%error, "sweep failed"))
    };
    let swept = swept.instrument(span).await;
    if let Ok(Swept { sent, .. }) | Err(SweepError::Some { swept: Swept { sent, .. }, .. }) = &swept
        && *sent > 0
    {
        metrics.emit(ports.clock.now().get(), &[Metric::Sent(u64::try_from(*sent).unwrap_or(u64::MAX))]);
    }
    let _ = swept?;
    Ok(())
}
