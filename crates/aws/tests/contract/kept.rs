//! What is kept, for how long, how all of it is reached, and how it is taken away.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use sentinel_aws::PART_BYTES;
use sentinel_core::UnixMs;
use sentinel_core::incident::{ChildName, Gen, Head, State};
use sentinel_core::lifecycle::Owed;
use sentinel_core::ports::{Created, IncidentStore as _, Swapped};

use crate::support::{child, head, id, next, with_every_store, with_table};

const DAY: Duration = Duration::from_hours(24);
/// After this test was written: an opening from before that would be one of long ago.
const OPENED: i64 = 4_000_000_000_000;

#[tokio::test]
async fn what_is_removed_of_an_incident_is_all_of_the_generations_before_one_and_nothing_else() {
    with_every_store(async |store| {
        let _ = store.create(&head(1, 3)).await.unwrap();
        let _ = store.create(&head(2, 3)).await.unwrap();
        let large = "x".repeat(2 * PART_BYTES);
        for generation in 1..=3 {
            for (name, body) in [
                (ChildName::Snapshot("d".into()), "{}"),
                (ChildName::Turn(1), "{}"),
                (ChildName::Output(1), &*large),
                (ChildName::Report, "{}"),
            ] {
                let _ = store.append(&id(1), &child(generation, name, body)).await.unwrap();
            }
        }
        let _ = store.append(&id(2), &child(1, ChildName::Report, "another's")).await.unwrap();
        assert!(store.remove(&id(1), Gen(3)).await.unwrap() >= 8);
        let left = store.all_children(&id(1)).await.unwrap();
        assert!(left.len() == 4 && left.iter().all(|child| child.generation == Gen(3)), "{left:?}");
        assert_eq!(store.all_children(&id(2)).await.unwrap().len(), 1);
        assert!(store.load(&id(1)).await.unwrap().is_some(), "the head stays");
        assert_eq!(store.remove(&id(1), Gen(3)).await.unwrap(), 0, "once more is harmless");
        // What had parts can be written again.
        let again = child(1, ChildName::Output(1), &large);
        let _ = store.append(&id(1), &again).await.unwrap();
        assert_eq!(store.children(&id(1), Gen(1)).await.unwrap(), [again]);
    })
    .await;
}

#[tokio::test]
async fn what_is_due_comes_in_pages_and_what_waits_to_be_begun_apart() {
    with_every_store(async |store| {
        for n in 0..25 {
            let _ = store.create(&head(n, 1_000 + i64::from(n % 5))).await.unwrap();
        }
        let running = |n: u32, until: i64| {
            let lease_until = Some(UnixMs::new(until));
            Head { state: State::Running, owner: Some("w".into()), epoch: 1, lease_until, ..head(n, 1_000) }
        };
        let _ = store.create(&running(100, 90_000)).await.unwrap();
        let _ = store.create(&running(101, 80_000)).await.unwrap();
        let until = UnixMs::new(1_000_000);
        let soon = store.due(Owed::Soon, UnixMs::new(0)..=until, 10).await.unwrap();
        assert_eq!(soon.next, None);
        let ids: Vec<_> = soon.heads.iter().map(|head| head.id.clone()).collect();
        assert_eq!(ids, [id(101), id(100)], "the longest overdue first");
        let late = store.due(Owed::Soon, UnixMs::new(85_000)..=until, 10).await.unwrap();
        assert_eq!(late.heads.len(), 1, "what was due before is left");

        let (mut from, mut seen, mut pages) = (UnixMs::new(0), HashMap::new(), 0);
        loop {
            let page = store.due(Owed::Queued, from..=until, 7).await.unwrap();
            assert!(page.heads.len() <= 7);
            pages += 1;
            seen.extend(page.heads.into_iter().map(|head| (head.id.clone(), head)));
            let Some(next) = page.next else { break };
            assert!(next > from, "five are due at one time, and seven fit into a page");
            from = next;
        }
        assert_eq!((seen.len(), pages > 3), (25, true));
    })
    .await;
}

#[tokio::test]
async fn older_generations_are_reached_from_where_a_page_ended() {
    with_every_store(async |store| {
        for n in 0..30 {
            let _ = store.create(&head(n, 1_000 + i64::from(n * 11 % 30))).await.unwrap();
        }
        let mut all = Vec::new();
        let mut before = Gen(i64::MAX);
        loop {
            let page = store.recent_before(before, 8).await.unwrap();
            let Some(last) = page.last() else { break };
            before = last.generation;
            all.extend(page.iter().map(|head| head.generation.0));
        }
        assert_eq!(all, (1_000..1_030).rev().collect::<Vec<_>>());
    })
    .await;
}

/// When an item goes, in seconds, by its two keys.
async fn expiries(t: &crate::support::Bench) -> HashMap<(String, String), Option<i64>> {
    let text = |value: Option<&AttributeValue>| value.unwrap().as_s().unwrap().clone();
    let pages = t.client.scan().table_name(&t.table).into_paginator().items().send();
    let items = pages.collect::<Result<Vec<_>, _>>().await.unwrap().into_iter();
    let expires = |item: &HashMap<String, AttributeValue>| {
        item.get("expires").map(|value| value.as_n().unwrap().parse().unwrap())
    };
    items.map(|item| ((text(item.get("pk")), text(item.get("sk"))), expires(&item))).collect()
}

#[tokio::test]
async fn every_item_of_what_is_over_has_its_end_and_no_head_goes_before_its_children() {
    with_table(async |t| {
        let store = t.store.clone().keeping(100 * DAY);
        let pending = head(1, OPENED);
        assert_eq!(store.create(&pending).await.unwrap(), Created::New);
        let names = [
            ChildName::Snapshot("d".into()),
            ChildName::Turn(1),
            ChildName::Output(1),
            ChildName::Report,
            ChildName::Entries(1),
            ChildName::IntakeEntries(1),
            ChildName::List("l".into()),
        ];
        let large = "x".repeat(2 * PART_BYTES);
        for (n, name) in names.into_iter().enumerate() {
            let body = if n % 2 == 0 { &*large } else { "{}" };
            let _ = store.append(&id(1), &child(OPENED, name, body)).await.unwrap();
        }
        let heads = |all: &HashMap<(String, String), Option<i64>>| {
            all.iter().find(|((_, sk), _)| sk == "HEAD").map(|(_, expires)| *expires).unwrap()
        };
        assert_eq!(heads(&expiries(t).await), None, "what is not over does not go");

        let settled = UnixMs::new(OPENED).plus(30 * DAY);
        let done = Head { state: State::Done, ttl: Some(settled), ..next(&pending, "second") };
        assert_eq!(store.swap(&done).await.unwrap(), Swapped::Stored);
        let all = expiries(t).await;
        let wanted = Some(OPENED / 1_000 + 130 * 24 * 3_600);
        assert_eq!(heads(&all), wanted, "not before its children");
        let children: Vec<_> = all.iter().filter(|((_, sk), _)| sk.starts_with("GEN#")).collect();
        // Those whose bodies are alike share their parts.
        assert!(children.len() >= 7 + 2 * 2, "{children:?}");
        assert!(children.iter().all(|(_, expires)| **expires == wanted), "{children:?}");
        let others: Vec<_> =
            all.iter().filter(|(_, expires)| expires.is_none()).map(|(key, _)| &key.1).collect();
        assert_eq!(others, ["SINCE"], "since when the table is written so is all that stays");
    })
    .await;
}
