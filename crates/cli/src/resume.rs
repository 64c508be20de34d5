//! `sentinel incidents resume`: decides about what fell due while nobody swept a table.

use std::collections::HashSet;
use std::io::Write as _;
use std::ops::RangeInclusive;

use sentinel_aws::{Aws, CallLimits, DynamoStore, MachineClock};
use sentinel_core::UnixMs;
use sentinel_core::incident::IncidentId;
use sentinel_core::lifecycle::Owed;
use sentinel_core::ports::{Clock as _, IncidentStore, StoreError};
use serde_json::json;

use crate::Exit;
use crate::args::Resume;

/// Incidents that are counted at once.
const PAGE: usize = 500;

pub(crate) async fn run(args: Resume) -> anyhow::Result<Exit> {
    let client = Aws::of_environment(CallLimits::default()).await.dynamo();
    let store = DynamoStore::new(client, args.table);
    let before = store.resume(args.since, MachineClock::default().now()).await?;
    let first = UnixMs::new(0);
    let goes_on = if args.since < before {
        due(&store, args.since..=UnixMs::new(before.get().saturating_sub(1))).await?
    } else {
        0
    };
    let left = due(&store, first..=UnixMs::new(args.since.get().saturating_sub(1))).await?;
    let mut out = anstream::stdout();
    if args.json {
        writeln!(out, "{}", json!({"since": args.since.to_string(), "go_on": goes_on, "left": left}))?;
    } else {
        writeln!(
            out,
            "What fell due from {} on goes on: {goes_on} incidents that were left until now, within a minute. {left} from \
             before are left.",
            args.since
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
