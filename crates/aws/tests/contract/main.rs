//! What every store of incidents must do: `DynamoDB` through the adapter and the SDK, and the test kit's store in memory.
//! Run against another `DynamoDB`: `SENTINEL_TEST_DYNAMODB_URL=http://… cargo nextest run -p sentinel-aws`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, as it should"
)]

mod budget;
mod cost;
mod kept;
mod loose;
mod lost_reply;
mod proxy;
mod support;
mod throttled;

use std::time::Duration;

use futures::future::join_all;
use sentinel_aws::{DynamoStore, PART_BYTES, create_table};
use sentinel_core::UnixMs;
use sentinel_core::drive::{Start, drive};
use sentinel_core::incident::{ChildName, Fence, Gen, Head, State};
use sentinel_core::lifecycle::{Claim, Claimed, Rules, due_at};
use sentinel_core::ports::{Appended, Created, IncidentStore as _, StoreError, Swapped};
use sentinel_testkit::process::closed_port;
use support::{
    all_due, child, client, head, id, next, ports, with_every_store, with_racing_stores, with_table,
};

#[tokio::test]
async fn a_head_is_created_once_and_a_conflict_shows_the_one_that_stands() {
    with_every_store(async |store| {
        assert_eq!(store.load(&id(1)).await.unwrap(), None);
        let first = head(1, 1_000);
        assert_eq!(store.create(&first).await.unwrap(), Created::New);
        let second = Head { writer: "another".into(), ..head(1, 2_000) };
        assert_eq!(store.create(&second).await.unwrap(), Created::Exists(Box::new(first.clone())));
        assert_eq!(store.load(&id(1)).await.unwrap(), Some(first));
    })
    .await;
}

#[tokio::test]
async fn a_conflict_with_ones_own_write_is_a_success() {
    with_every_store(async |store| {
        let first = head(1, 1_000);
        assert_eq!(store.create(&first).await.unwrap(), Created::New);
        assert_eq!(store.create(&first).await.unwrap(), Created::New);
        let second = next(&first, "second");
        assert_eq!(store.swap(&second).await.unwrap(), Swapped::Stored);
        assert_eq!(store.swap(&second).await.unwrap(), Swapped::Stored);
        assert_eq!(store.load(&id(1)).await.unwrap(), Some(second));
    })
    .await;
}

#[tokio::test]
async fn a_stale_swap_changes_nothing_and_shows_what_stands() {
    with_every_store(async |store| {
        let read = head(1, 1_000);
        let _ = store.create(&read).await.unwrap();
        let winner = next(&read, "winner");
        assert_eq!(store.swap(&winner).await.unwrap(), Swapped::Stored);
        let stale = store.swap(&next(&read, "loser")).await.unwrap();
        assert_eq!(stale, Swapped::Stale(Some(Box::new(winner.clone()))));
        assert_eq!(store.load(&id(1)).await.unwrap(), Some(winner));
    })
    .await;
}

#[tokio::test]
async fn a_swap_of_a_deleted_head_is_stale_and_does_not_bring_it_back() {
    with_every_store(async |store| {
        let swapped = store.swap(&next(&head(1, 1_000), "late")).await.unwrap();
        assert_eq!(swapped, Swapped::Stale(None));
        assert_eq!(store.load(&id(1)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn of_fifty_concurrent_creators_one_wins_and_the_others_see_it() {
    with_racing_stores(async |store| {
        for round in 0..4 {
            let created = join_all((0..50).map(async |n| {
                let mine = Head { writer: format!("creator-{n}"), ..head(round, 1_000) };
                (mine.writer.clone(), store.create(&mine).await.unwrap())
            }))
            .await;
            let stored = store.load(&id(round)).await.unwrap().unwrap();
            let winners: Vec<_> =
                created.iter().filter(|(_, c)| *c == Created::New).map(|(w, _)| w).collect();
            assert_eq!(winners, [&stored.writer]);
            let losers = created.iter().filter(|(_, c)| *c == Created::Exists(Box::new(stored.clone())));
            assert_eq!(losers.count(), 49);
        }
    })
    .await;
}

#[tokio::test]
async fn of_fifty_concurrent_claimers_one_wins_and_the_others_leave_it_alone() {
    with_racing_stores(async |store| {
        for round in 0..100 {
            let pending = head(round, 1_000);
            assert_eq!(store.create(&pending).await.unwrap(), Created::New);
            // All have read the same head.
            let claimed = join_all((0..50).map(async |n| {
                let claim = Claim { generation: pending.generation, owner: format!("claimer-{n}") };
                let (ports, start) = (ports(store), Start::Known(Box::new(pending.clone())));
                let driven = drive(&ports, &pending.id, &claim, &Rules::of_no_card(), start, None).await;
                (claim.owner, driven.unwrap().outcome)
            }))
            .await;
            let stored = store.load(&pending.id).await.unwrap().unwrap();
            let mine = Claimed::Investigate(Fence { generation: pending.generation, epoch: 1 });
            let winners: Vec<_> = claimed.iter().filter(|(_, c)| *c == mine).map(|(o, _)| Some(o)).collect();
            assert_eq!(winners, [stored.owner.as_ref()], "round {round}");
            let losers = claimed.iter().filter(|(_, c)| *c == Claimed::Acknowledge);
            assert_eq!((losers.count(), stored.attempts, stored.version), (49, 1, 2), "round {round}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_child_is_written_once_and_the_first_one_stays() {
    with_every_store(async |store| {
        let first = child(1_000, ChildName::Turn(1), "{\"a\":1}");
        assert_eq!(store.append(&id(1), &first).await.unwrap(), Appended::Written);
        assert_eq!(store.append(&id(1), &first).await.unwrap(), Appended::Written);
        let other = child(1_000, ChildName::Turn(1), "{\"a\":2}");
        assert_eq!(store.append(&id(1), &other).await.unwrap(), Appended::Other);
        assert_eq!(store.children(&id(1), Gen(1_000)).await.unwrap(), [first]);
    })
    .await;
}

#[tokio::test]
async fn children_are_those_of_one_generation_in_the_order_of_their_names() {
    with_every_store(async |store| {
        let _ = store.create(&head(1, 1_000)).await.unwrap();
        let mine = [
            child(1_000, ChildName::Snapshot("d".into()), "s"),
            child(1_000, ChildName::Turn(1), "t1"),
            child(1_000, ChildName::Turn(2), "t2"),
            child(1_000, ChildName::Output(1), "o1"),
            child(1_000, ChildName::Report, "r"),
        ];
        for child in mine.iter().rev() {
            assert_eq!(store.append(&id(1), child).await.unwrap(), Appended::Written);
        }
        for (incident, generation) in [(1, 10_000), (1, 999), (2, 1_000)] {
            let other = child(generation, ChildName::Report, "of another");
            assert_eq!(store.append(&id(incident), &other).await.unwrap(), Appended::Written);
        }
        assert_eq!(store.children(&id(1), Gen(1_000)).await.unwrap(), mine);
        assert_eq!(store.children(&id(3), Gen(1_000)).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn intake_reads_what_it_stored_and_nothing_of_an_investigation() {
    with_every_store(async |store| {
        let mine = [
            child(1_000, ChildName::Snapshot("d".into()), "s"),
            child(1_000, ChildName::IntakeEntries(2), "[]"),
        ];
        let others = [
            child(1_000, ChildName::Turn(1), "t"),
            child(1_000, ChildName::Report, "r"),
            child(1_000, ChildName::Entries(2), "[]"),
            child(1_000, ChildName::List("l".into()), "[]"),
            child(2_000, ChildName::Output(1), "o"),
        ];
        for child in mine.iter().chain(&others) {
            assert_eq!(store.append(&id(1), child).await.unwrap(), Appended::Written);
        }
        assert_eq!(store.received(&id(1), Gen(1_000)).await.unwrap(), mine);
        let mut all: Vec<_> = mine.iter().chain(&others).cloned().collect();
        all.sort_by(|a, b| (a.generation, &a.name).cmp(&(b.generation, &b.name)));
        assert_eq!(store.all_children(&id(1)).await.unwrap(), all);
    })
    .await;
}

#[tokio::test]
async fn generations_are_those_of_which_intake_stored_something_the_oldest_first() {
    with_every_store(async |store| {
        for generation in [3_000, 1_000, 2_000] {
            let snapshot = child(generation, ChildName::Snapshot("d".into()), "s");
            assert_eq!(store.append(&id(1), &snapshot).await.unwrap(), Appended::Written);
        }
        let alone = child(2_500, ChildName::Turn(1), "an investigation that nothing was received for");
        assert_eq!(store.append(&id(1), &alone).await.unwrap(), Appended::Written);
        for (since, found) in [
            (0, vec![Gen(1_000), Gen(2_000), Gen(3_000)]),
            (2_000, vec![Gen(2_000), Gen(3_000)]),
            (2_001, vec![Gen(3_000)]),
            (3_001, vec![]),
        ] {
            assert_eq!(store.generations(&id(1), Gen(since)).await.unwrap(), found, "{since}");
        }
        assert_eq!(store.generations(&id(2), Gen(0)).await.unwrap(), []);
    })
    .await;
}

/// Puts an item into the table as one may who can write into incidents' partitions.
async fn put_child(t: &support::Bench, pk: String, sk: &str, body: &str) {
    let text = |s: &str| aws_sdk_dynamodb::types::AttributeValue::S(s.into());
    let put = t.client.put_item().table_name(&t.table).item("pk", text(&pk)).item("sk", text(sk));
    put.item("body", text(body)).send().await.unwrap();
}

#[tokio::test]
async fn an_investigation_is_in_a_partition_of_its_own_and_what_intake_could_put_beside_it_does_not_count() {
    with_table(async |t| {
        let late = i64::MAX / 1_000;
        let sk = |generation: i64, name: &str| format!("GEN#{generation:016}#{name}");
        // As an earlier Sentinel stored them.
        put_child(t, format!("INC#{}", id(1)), &sk(1_000, "TURN#000001"), "old").await;
        put_child(t, format!("INC#{}", id(1)), &sk(1_000, "REPORT"), "old").await;
        let names = async |generation| {
            let children = t.store.children(&id(1), Gen(generation)).await.unwrap();
            children.into_iter().map(|child| (child.name.to_string(), child.body)).collect::<Vec<_>>()
        };
        let old = [("TURN#000001", "old"), ("REPORT", "old")].map(|(n, b)| (n.to_owned(), b.to_owned()));
        assert_eq!(names(1_000).await, old);
        // The first write in the new form: what is older stays as it was read.
        let turn = child(1_000, ChildName::Turn(2), "new");
        assert_eq!(t.store.append(&id(1), &turn).await.unwrap(), Appended::Written);
        assert_eq!(names(1_000).await.len(), 3);
        // Whoever may write into `INC#…` alone puts a turn and a report into an incident of now.
        put_child(t, format!("INC#{}", id(1)), &sk(late, "TURN#000001"), "forged").await;
        put_child(t, format!("INC#{}", id(1)), &sk(late, "REPORT"), "forged").await;
        assert_eq!(names(late).await, []);
        let again = DynamoStore::new(t.client.clone(), &*t.table);
        assert_eq!(again.children(&id(1), Gen(late)).await.unwrap(), [], "nor for another process");
        let stored = async |pk: &str| {
            let query = t.client.query().table_name(&t.table).key_condition_expression("pk = :pk");
            let pk = aws_sdk_dynamodb::types::AttributeValue::S(format!("{pk}{}", id(1)));
            query.expression_attribute_values(":pk", pk).send().await.unwrap().count
        };
        assert_eq!((stored("INC#").await, stored("REC#").await), (4, 1));
    })
    .await;
}

#[tokio::test]
async fn children_of_several_megabytes_are_read_over_all_pages() {
    with_every_store(async |store| {
        let outputs: Vec<_> =
            (1..=12).map(|n| child(1_000, ChildName::Output(n), format!("{n:06}").repeat(50_000))).collect();
        for output in &outputs {
            assert_eq!(store.append(&id(1), output).await.unwrap(), Appended::Written);
        }
        assert_eq!(store.children(&id(1), Gen(1_000)).await.unwrap(), outputs);
    })
    .await;
}

#[tokio::test]
async fn a_child_larger_than_an_item_is_split_and_put_together() {
    with_every_store(async |store| {
        let large = child(1_000, ChildName::Output(1), "ä→😀 ".repeat(PART_BYTES / 4));
        let small = child(1_000, ChildName::Output(2), "small");
        for child in [&large, &small] {
            assert_eq!(store.append(&id(1), child).await.unwrap(), Appended::Written);
        }
        assert_eq!(store.append(&id(1), &large).await.unwrap(), Appended::Written);
        let other = child(1_000, ChildName::Output(1), "x".repeat(2 * PART_BYTES));
        assert_eq!(store.append(&id(1), &other).await.unwrap(), Appended::Other);
        assert_eq!(store.children(&id(1), Gen(1_000)).await.unwrap(), [large, small]);
    })
    .await;
}

#[tokio::test]
async fn bodies_at_the_size_limit_of_an_item_come_back_whole() {
    with_every_store(async |store| {
        let sizes = [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES + 1];
        let children: Vec<_> = sizes
            .iter()
            .zip(1..)
            .map(|(size, n)| child(1_000, ChildName::Output(n), "x".repeat(*size)))
            .collect();
        for child in &children {
            assert_eq!(store.append(&id(1), child).await.unwrap(), Appended::Written);
        }
        assert_eq!(store.children(&id(1), Gen(1_000)).await.unwrap(), children);
        for child in &children {
            assert_eq!(store.append(&id(1), child).await.unwrap(), Appended::Written, "its own write");
        }
    })
    .await;
}

#[tokio::test]
async fn due_heads_come_longest_overdue_first_and_no_others() {
    with_every_store(async |store| {
        let minute = 60_000;
        let opened: Vec<i64> = (0..130).map(|n| n * minute).collect();
        for (n, opened) in opened.iter().enumerate() {
            // The ids are in no order with the times.
            let n = u32::try_from(n).unwrap();
            let _ = store.create(&head(n * 7 % 130, *opened)).await.unwrap();
        }
        let _ = store.create(&Head { state: State::Done, ..head(500, 0) }).await.unwrap();
        // The last but nine: each is due two minutes after it opened.
        let now = UnixMs::new(122 * minute);
        let due = all_due(store.as_ref(), now, 1_000).await;
        let times: Vec<_> = due.iter().map(|head| head.generation.0).collect();
        assert_eq!(times, opened[..=120]);
        assert!(due.iter().all(|head| due_at(head).is_some_and(|due| due <= now)));
        let first: Vec<_> =
            all_due(store.as_ref(), now, 3).await.iter().map(|head| head.generation.0).collect();
        assert_eq!(first, opened[..3]);
        assert_eq!(all_due(store.as_ref(), now, 0).await, []);
        assert_eq!(all_due(store.as_ref(), UnixMs::new(0), 10).await, []);
    })
    .await;
}

#[tokio::test]
async fn a_head_leaves_the_due_ones_when_nothing_more_is_to_do() {
    with_every_store(async |store| {
        let pending = head(1, 1_000);
        let _ = store.create(&pending).await.unwrap();
        let later = UnixMs::new(1_000).plus(Duration::from_hours(1));
        assert_eq!(all_due(store.as_ref(), later, 10).await, std::slice::from_ref(&pending));
        let done = Head { state: State::Done, ttl: Some(later), ..next(&pending, "second") };
        assert_eq!(store.swap(&done).await.unwrap(), Swapped::Stored);
        assert_eq!(all_due(store.as_ref(), later, 10).await, []);
        assert_eq!(store.recent(10).await.unwrap(), [done]);
    })
    .await;
}

#[tokio::test]
async fn recent_heads_come_newest_generation_first() {
    with_every_store(async |store| {
        for n in 0..30 {
            let _ = store.create(&head(n, 1_000 + i64::from(n * 11 % 30))).await.unwrap();
        }
        let _ = store.append(&id(0), &child(9_999, ChildName::Report, "no head")).await.unwrap();
        let recent: Vec<_> = store.recent(100).await.unwrap().iter().map(|head| head.generation.0).collect();
        assert_eq!(recent, (1_000..1_030).rev().collect::<Vec<_>>());
        let first: Vec<_> = store.recent(4).await.unwrap().iter().map(|head| head.generation.0).collect();
        assert_eq!(first, [1_029, 1_028, 1_027, 1_026]);
    })
    .await;
}

#[tokio::test]
async fn a_record_of_a_newer_sentinel_is_refused_and_left_as_it_is() {
    with_table(async |t| {
        let newer = Head { schema: Head::SCHEMA + 1, writer: "newer".into(), ..head(1, 1_000) };
        assert_eq!(t.store.create(&newer).await.unwrap(), Created::New);
        let mine = head(1, 2_000);
        let errors = [
            t.store.load(&id(1)).await.unwrap_err(),
            t.store.create(&mine).await.unwrap_err(),
            t.store.swap(&next(&next(&mine, "x"), "y")).await.unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(&error, StoreError::Unreadable { reason, .. } if reason.contains("upgrade")),
                "{error}"
            );
        }
        // It stands in nobody else's way.
        let readable = head(2, 1_000);
        let _ = t.store.create(&readable).await.unwrap();
        assert_eq!(t.store.recent(10).await.unwrap(), std::slice::from_ref(&readable));
        assert_eq!(all_due(&t.store, UnixMs::new(i64::MAX), 10).await, [readable]);
        let key = |name: &str| aws_sdk_dynamodb::types::AttributeValue::S(name.into());
        let stored = t.client.get_item().table_name(&t.table).key("pk", key(&format!("INC#{}", id(1))));
        let stored = stored.key("sk", key("HEAD")).send().await.unwrap().item.unwrap();
        assert_eq!(stored["writer"], key("newer"));
    })
    .await;
}

#[tokio::test]
async fn a_missing_table_is_refused_by_name() {
    with_table(async |t| {
        let store = DynamoStore::new(t.client.clone(), "no-such-table");
        for error in [
            store.load(&id(1)).await.unwrap_err(),
            store.create(&head(1, 1)).await.unwrap_err(),
            store.recent(1).await.unwrap_err(),
        ] {
            assert!(!error.is_retryable(), "{error}");
            let error = error.to_string();
            assert!(error.contains("no-such-table") && error.contains("ResourceNotFound"), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_store_that_nobody_answers_for_is_unavailable() {
    let closed = closed_port();
    let url = format!("http://{}", closed.local_addr().unwrap());
    let client = client(&url, sentinel_aws::CallLimits { attempts: 2, ..support::PATIENT });
    let error = DynamoStore::new(client, "t").load(&id(1)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn creating_the_table_again_leaves_it_as_it_is() {
    with_table(async |t| {
        let stored = head(1, 1_000);
        let _ = t.store.create(&stored).await.unwrap();
        create_table(&t.client, &t.table).await.unwrap();
        assert_eq!(t.store.load(&id(1)).await.unwrap(), Some(stored));
    })
    .await;
}
