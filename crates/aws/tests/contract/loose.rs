//! The adapter over a `DynamoDB` that does everything it may: reads from some writes ago unless they ask for
//! consistency, indexes that lag, pages of one, unprocessed keys, failed conditions that do not say what stood there.

use std::sync::Arc;

use sentinel_aws::{CallLimits, PART_BYTES};
use sentinel_core::UnixMs;
use sentinel_core::budget::{Amount, Entered, Entry, Limits, Reservation, Scope};
use sentinel_core::incident::{ChildName, Gen, Head, State};
use sentinel_core::ports::{Appended, Created, IncidentStore as _, Swapped};
use sentinel_testkit::loose::{Liberties, Loose};
use serde_json::Value;

use crate::support::{all_due, child, head, id, loose, next, store_in};

const ONCE: CallLimits = CallLimits::EMBEDDED;
const FAR: UnixMs = UnixMs::new(i64::MAX);

/// Which requests read, and whether each asked for consistency.
fn reads(loose: &Loose) -> Vec<(String, bool)> {
    let consistent = |body: &Value| match body.get("RequestItems").and_then(Value::as_object) {
        Some(tables) => tables.values().all(|asked| asked["ConsistentRead"] == true),
        None => body["ConsistentRead"] == true,
    };
    let is_read = |operation: &str| matches!(operation, "GetItem" | "BatchGetItem" | "Query");
    let asked = loose.asked().into_iter().filter(|(operation, _)| is_read(operation));
    asked.map(|(operation, body)| (operation, consistent(&body))).collect()
}

#[tokio::test]
async fn a_head_is_read_as_the_last_write_left_it() {
    let (loose, store) = loose(Liberties::default(), ONCE).await;
    let first = head(1, 1_000);
    assert_eq!(store.create(&first).await.unwrap(), Created::New);
    assert_eq!(store.load(&id(1)).await.unwrap(), Some(first.clone()));
    let second = next(&first, "second");
    assert_eq!(store.swap(&second).await.unwrap(), Swapped::Stored);
    loose.asked();
    assert_eq!(store.load(&id(1)).await.unwrap(), Some(second));
    assert_eq!(reads(&loose), [("GetItem".to_owned(), true)]);
}

#[tokio::test]
async fn what_the_index_lists_late_is_read_as_it_is_by_now() {
    let (loose, store) = loose(Liberties { index_lags: true, ..Liberties::default() }, ONCE).await;
    let pending: Vec<Head> = (1..=3).map(|n| head(n, 1_000)).collect();
    for head in &pending {
        assert_eq!(store.create(head).await.unwrap(), Created::New);
    }
    loose.catch_up();
    let done = Head { state: State::Done, ttl: Some(FAR), ..next(&pending[0], "second") };
    let joined = next(&pending[1], "third");
    for head in [&done, &joined] {
        assert_eq!(store.swap(head).await.unwrap(), Swapped::Stored);
    }
    loose.asked();
    // The index still says that all three are due.
    let mut due = all_due(&store, FAR, 10).await;
    due.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(due, [joined.clone(), pending[2].clone()]);
    let mut recent = store.recent(10).await.unwrap();
    recent.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(recent, [done, joined, pending[2].clone()]);
    let reads = reads(&loose);
    let heads: Vec<_> = reads.iter().filter(|(operation, _)| operation == "BatchGetItem").collect();
    assert!(!heads.is_empty() && heads.iter().all(|(_, consistent)| *consistent), "{reads:?}");
}

#[tokio::test]
async fn heads_whose_keys_come_back_unprocessed_are_asked_for_until_all_are_there() {
    let (loose, store) = loose(Liberties::default(), ONCE).await;
    for n in 0..130 {
        assert_eq!(store.create(&head(n, 1_000 + i64::from(n))).await.unwrap(), Created::New);
    }
    loose.asked();
    let due: Vec<_> = all_due(&store, FAR, 1_000).await.iter().map(|head| head.generation.0).collect();
    assert_eq!(due, (1_000..1_130).collect::<Vec<_>>());
    let batches = loose.asked().into_iter().filter(|(operation, _)| operation == "BatchGetItem").count();
    assert!(batches > 10, "half of each batch came back: {batches}");
}

#[tokio::test]
async fn children_are_all_there_though_each_page_holds_one() {
    let (loose, store) = loose(Liberties::default(), ONCE).await;
    let large = "x".repeat(2 * PART_BYTES + 1);
    let children = [
        child(1_000, ChildName::Snapshot("d".into()), "s"),
        child(1_000, ChildName::Turn(1), "t"),
        child(1_000, ChildName::Output(1), large),
        child(1_000, ChildName::Output(2), "o"),
        child(1_000, ChildName::Report, "r"),
    ];
    for child in &children {
        assert_eq!(store.append(&id(1), child).await.unwrap(), Appended::Written);
        loose.asked();
        assert!(store.children(&id(1), Gen(1_000)).await.unwrap().contains(child), "the last write is seen");
        assert!(reads(&loose).iter().all(|(_, consistent)| *consistent));
    }
    assert_eq!(store.children(&id(1), Gen(1_000)).await.unwrap(), children);
    assert_eq!(store.all_children(&id(1)).await.unwrap(), children);
    assert_eq!(store.received(&id(1), Gen(1_000)).await.unwrap(), children[..1]);
}

#[tokio::test]
async fn another_process_knows_at_once_since_when_records_are_apart() {
    let (loose, store) = loose(Liberties::default(), ONCE).await;
    let turn = child(i64::MAX / 1_000, ChildName::Turn(1), "mine");
    assert_eq!(store.append(&id(1), &turn).await.unwrap(), Appended::Written);
    let other = store_in(&loose, ONCE);
    assert_eq!(other.children(&id(1), turn.generation).await.unwrap(), std::slice::from_ref(&turn));
    let read = loose.asked().into_iter().filter(|(operation, _)| operation == "GetItem");
    assert!(read.map(|(_, body)| body["ConsistentRead"].clone()).all(|consistent| consistent == true));
}

#[tokio::test]
async fn whoever_dies_while_it_stores_a_large_child_leaves_nothing_that_cannot_be_read() {
    let large = child(1_000, ChildName::Output(1), "y".repeat(3 * PART_BYTES + 1));
    let mut died = 0;
    loop {
        let (loose, store) = loose(Liberties::default(), ONCE).await;
        let small = child(1_000, ChildName::Turn(1), "t");
        assert_eq!(store.append(&id(1), &small).await.unwrap(), Appended::Written);
        loose.take_writes(Some(died));
        let stored = store.append(&id(1), &large).await.is_ok();
        loose.take_writes(None);
        let children = store_in(&loose, ONCE).children(&id(1), Gen(1_000)).await.unwrap();
        assert_eq!(children.len(), 1 + usize::from(stored), "whole or not at all, after {died} writes");
        assert_eq!(store.append(&id(1), &large).await.unwrap(), Appended::Written, "whoever goes on");
        assert_eq!(store.children(&id(1), Gen(1_000)).await.unwrap(), [small, large.clone()]);
        if stored {
            break;
        }
        died += 1;
    }
    assert!(died > 3, "it has parts, of which each is a write: {died}");
}

#[tokio::test]
async fn what_a_failed_condition_does_not_say_is_read_and_the_reading_sees_the_last_write() {
    let (loose, store) = loose(Liberties { hides_what_stood: true, ..Liberties::default() }, ONCE).await;
    let first = head(1, 1_000);
    assert_eq!(store.create(&first).await.unwrap(), Created::New);
    assert_eq!(store.create(&first).await.unwrap(), Created::New, "its own write");
    let another = Head { writer: "another".into(), ..head(1, 2_000) };
    assert_eq!(store.create(&another).await.unwrap(), Created::Exists(Box::new(first.clone())));
    let second = next(&first, "second");
    assert_eq!(store.swap(&second).await.unwrap(), Swapped::Stored);
    assert_eq!(store.swap(&second).await.unwrap(), Swapped::Stored, "its own write");
    let stale = store.swap(&next(&first, "loser")).await.unwrap();
    assert_eq!(stale, Swapped::Stale(Some(Box::new(second))));
    assert_eq!(store.swap(&next(&head(2, 1_000), "late")).await.unwrap(), Swapped::Stale(None));

    let turn = child(1_000, ChildName::Turn(1), "a");
    assert_eq!(store.append(&id(1), &turn).await.unwrap(), Appended::Written);
    assert_eq!(store.append(&id(1), &turn).await.unwrap(), Appended::Written);
    let other = child(1_000, ChildName::Turn(1), "b");
    assert_eq!(store.append(&id(1), &other).await.unwrap(), Appended::Other);
    assert_eq!(store_in(&loose, ONCE).append(&id(1), &other).await.unwrap(), Appended::Other);

    let limits = Limits { per_hour: Some(1), ..Limits::default() };
    let reserve = |name: &str| {
        let at = UnixMs::new(1_000);
        let reservation =
            Reservation { scope: Scope::Overall, at, id: name.into(), amount: Amount::INVESTIGATION };
        Entry::Reserve { reservation, limits }
    };
    assert_eq!(store.budget(&reserve("a")).await.unwrap(), Entered::Done);
    assert_eq!(store.budget(&reserve("a")).await.unwrap(), Entered::Already);
    assert!(matches!(store.budget(&reserve("b")).await.unwrap(), Entered::UsedUp(_)));
    assert!(reads(&loose).iter().all(|(_, consistent)| *consistent));
}

#[tokio::test(start_paused = true)]
async fn every_conditional_write_finds_itself_when_its_reply_was_lost() {
    let liberties = Liberties { loses_replies: Some((1, 0)), ..Liberties::default() };
    for hides_what_stood in [false, true] {
        let limits = CallLimits { attempts: 2, ..ONCE };
        let (loose, store) = loose(Liberties { hides_what_stood, ..liberties }, limits).await;
        let first = head(1, 1_000);
        assert_eq!(store.create(&first).await.unwrap(), Created::New);
        let second = next(&first, "second");
        assert_eq!(store.swap(&second).await.unwrap(), Swapped::Stored);
        let turn = child(1_000, ChildName::Turn(1), "paid for");
        let large = child(1_000, ChildName::Output(1), "z".repeat(PART_BYTES + 1));
        for child in [&turn, &large] {
            assert_eq!(store.append(&id(1), child).await.unwrap(), Appended::Written);
        }
        let limits = Limits { per_hour: Some(3), ..Limits::default() };
        let reservation = Reservation {
            scope: Scope::Overall,
            at: UnixMs::new(1_000),
            id: "a".into(),
            amount: Amount::INVESTIGATION,
        };
        let reserve = Entry::Reserve { reservation: reservation.clone(), limits };
        assert_eq!(store.budget(&reserve).await.unwrap(), Entered::Already, "it found itself");
        let settle = Entry::Settle { reservation: reservation.clone(), actual: Amount::NOTHING };
        assert_eq!(store.budget(&settle).await.unwrap(), Entered::Done);
        // Given back once, and counted once: there is room for all three.
        for name in ["b", "c", "d"] {
            let reservation = Reservation { id: name.into(), ..reservation.clone() };
            let reserve = Entry::Reserve { reservation, limits };
            assert!(!matches!(store.budget(&reserve).await.unwrap(), Entered::UsedUp(_)), "{name}");
        }
        let one_more = Reservation { id: "e".into(), ..reservation };
        let reserve = Entry::Reserve { reservation: one_more, limits };
        assert!(matches!(store.budget(&reserve).await.unwrap(), Entered::UsedUp(_)));

        let other: Arc<_> = Arc::new(store_in(&loose, ONCE));
        assert_eq!(other.load(&id(1)).await.unwrap(), Some(second));
        assert_eq!(other.children(&id(1), Gen(1_000)).await.unwrap(), [turn, large]);
    }
}
