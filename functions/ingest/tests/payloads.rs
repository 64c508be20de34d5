//! Webhooks in which one field is what nobody expects, against a store that refuses what DynamoDB refuses: each is kept, or
//! its sender is told where it is wrong. `cargo test -p sentinel-ingest --test payloads -- --nocapture` prints the table.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers and its table")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, StatusCode};
use sentinel_core::card::DedupeBy;
use sentinel_core::incident::IncidentId;
use sentinel_core::ports::Ports;
use sentinel_core::redact::Redactor;
use sentinel_ingest::{Authenticator, Credentials, Ingest, WEBHOOK_PATH};
use sentinel_local::{Backend, LocalQueue};
use sentinel_testkit::builders::card;
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::payloads::{KINDS, payloads};
use serde_json::Value;

fn ingest(backend: &Backend) -> (Ingest, Ports) {
    let clock = Arc::new(ManualClock::default());
    let (queue, _) = LocalQueue::new(clock.clone());
    let fresh = AtomicUsize::new(0);
    let ports = Ports {
        store: backend.store(),
        queue: Arc::new(queue),
        clock,
        fresh: Arc::new(move || format!("writer-{}", fresh.fetch_add(1, Ordering::SeqCst))),
        signing_key: None,
    };
    let mut by_group = card("by-group").build();
    by_group.continues = true;
    let mut by_alert = card("by-alert").build();
    by_alert.dedupe_by = DedupeBy::Alert;
    let open = Authenticator::new(Credentials { allow_anonymous: true, ..Credentials::default() });
    (Ingest::new(ports.clone(), [by_group, by_alert].into(), open, Redactor::default()), ports)
}

/// What became of the one alert of a webhook.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Became {
    Kept,
    /// There was none.
    Empty,
    /// 4xx, which names the place.
    Told,
}

async fn post(ingest: &Ingest, ports: &Ports, body: &str) -> Became {
    let request = Request::post(WEBHOOK_PATH).body(Bytes::from(body.to_owned())).unwrap();
    let answer = ingest.handle(request).await;
    let (status, read): (StatusCode, Value) =
        (answer.status(), serde_json::from_slice(answer.body()).unwrap());
    let start: String = body.chars().take(900).collect();
    if status.is_client_error() {
        assert!(read["path"].as_str().is_some_and(|path| !path.is_empty()), "{start}\n{read}");
        return Became::Told;
    }
    assert_eq!(status, StatusCode::OK, "{start}\n{read}");
    let sum = |names: &[&str]| names.iter().map(|name| read[*name].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum(&["unmatched", "refused"]), 0, "{start}\n{read}");
    let kept = sum(&["accepted", "joined", "duplicates", "resolved", "suppressed"]);
    if kept == 0 {
        return Became::Empty;
    }
    let incidents = read["incidents"].as_array().unwrap();
    assert_eq!((kept, incidents.len()), (1, 2), "{start}\n{read}");
    for incident in incidents {
        let id = IncidentId::new(incident["id"].as_str().unwrap());
        // What resolved and was never seen to fire leaves nothing.
        let Some(head) = ports.store.load(&id).await.unwrap() else {
            assert_eq!(incident["outcome"], "duplicate", "{start}");
            continue;
        };
        assert!(!ports.store.received(&id, head.generation).await.unwrap().is_empty(), "{start}");
    }
    Became::Kept
}

#[tokio::test]
async fn whatever_stands_in_a_field_the_alert_is_kept_or_its_sender_is_told_where() {
    let backend = Backend::memory().await.unwrap();
    let (ingest, ports) = ingest(&backend);
    let mut table: BTreeMap<String, BTreeMap<(&str, Became), usize>> = BTreeMap::new();
    let mut sums: BTreeMap<Became, usize> = BTreeMap::new();
    for payload in payloads() {
        let became = post(&ingest, &ports, &payload.body).await;
        if became == Became::Empty {
            assert_eq!(payload.field, "alerts", "{}", payload.body);
        }
        *table.entry(payload.field).or_default().entry((payload.kind, became)).or_default() += 1;
        *sums.entry(became).or_default() += 1;
    }
    println!("{:<28}{}", "field", KINDS.map(|kind| format!("{kind:<22}")).concat());
    for (field, row) in &table {
        let cell = |kind| {
            let of = |became, word| row.get(&(kind, became)).map(|n| format!("{n} {word}"));
            let words = [of(Became::Kept, "kept"), of(Became::Told, "told"), of(Became::Empty, "without")];
            format!("{:<22}", words.into_iter().flatten().collect::<Vec<_>>().join(", "))
        };
        println!("{field:<28}{}", KINDS.map(cell).concat());
    }
    let all: usize = sums.values().sum();
    println!("{all} payloads: {sums:?}; 0 lost, 0 of 5xx");
    assert!(all >= 500, "{all}");
    assert!(sums[&Became::Kept] > all / 2, "{sums:?}");
    // Only what is used refuses an alert.
    let used =
        ["alerts", "alerts[0]", "alerts[0].labels", "alerts[0].startsAt", "alerts[0].status", "groupLabels"];
    for (field, row) in &table {
        let told = row.keys().any(|(_, became)| *became == Became::Told);
        assert_eq!(told, used.contains(&field.as_str()), "{field}");
    }
}
