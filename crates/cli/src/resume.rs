//! `sentinel aws resume`, and `sentinel incidents resume` of a table by its name: decides about what fell due while nobody swept a table.

use std::collections::HashSet;
use std::io::Write as _;
use std::ops::RangeInclusive;

use sentinel_aws::{Aws, CallLimits, DynamoStore, MachineClock};
use sentinel_core::UnixMs;
use sentinel_core::incident::IncidentId;
use sentinel_core::lifecycle::Owed;
use sentinel_core::ports::{Clock as _, IncidentStore, StoreError};
use serde_json::json as value;

use crate::Exit;
use crate::args::Resume;

/// Incidents that are counted at once.
const PAGE: usize = 500;

pub(crate) async fn run(args: Resume) -> anyhow::Result<Exit> {
    let client = Aws::of_environment(CallLimits::default()).await.dynamo();
    since(&DynamoStore::new(client, args.table), args.since, args.json).await
}

/// What fell due in this table since then goes on, and the rest is left.
pub(crate) async fn since(store: &DynamoStore, since: UnixMs, json: bool) -> anyhow::Result<Exit> {
    let before = store.resume(since, MachineClock::default().now()).await?;
    let first = UnixMs::new(0);
    let goes_on = if since < before {
        due(store, since..=UnixMs::new(before.get().saturating_sub(1))).await?
    } else {
        0
    };
    let left = due(store, first..=UnixMs::new(since.get().saturating_sub(1))).await?;
    let mut out = anstream::stdout();
    if json {
        writeln!(out, "{}", value!({"since": since.to_string(), "go_on": goes_on, "left": left}))?;
    } else {
        writeln!(
            out,
            "What fell due from {since} on goes on: {goes_on} incidents that were left until now, within a minute. {left} \
             from before are left."
        )?;
    }
    Ok(Exit::Done)
}

/// How many incidents fell due within this time, and still are.
async fn due(store: &dyn IncidentStore, within: RangeInclusive<UnixMs>) -> Result<usize, StoreError> {
    let mut seen: HashSet<IncidentId> = HashSet::new();
    for owed in Owed::ALL {
        let (mut from, mut limit) = (*within.start(), PAGE);
        loop {
            let page = store.due(owed, from..=*within.end(), limit).await?;
            seen.extend(page.heads.into_iter().map(|head| head.id));
            let Some(next) = page.next else { break };
            limit = if next > from { PAGE } else { limit.saturating_mul(2) };
            from = next;
        }
    }
    Ok(seen.len())
}
