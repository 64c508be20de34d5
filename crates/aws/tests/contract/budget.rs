//! Budgets: what is reserved counts at once, once, and never beyond a limit.

use futures::future::join_all;
use sentinel_core::UnixMs;
use sentinel_core::budget::{
    Amount, Entered, Entry, Limit, Limits, MicroUsd, Reservation, Scope, UsedUp, Window,
};
use sentinel_core::ports::{IncidentStore, StoreError};

use crate::support::{all_due, with_every_store, with_racing_stores, with_table};

/// 2026-11-25, 20:30 UTC.
const EVENING: i64 = 1_795_638_600_000;
const HOUR: i64 = 3_600_000;

fn reservation(scope: Scope, at: i64, id: impl Into<String>, amount: Amount) -> Reservation {
    Reservation { scope, at: UnixMs::new(at), id: id.into(), amount }
}

fn one(id: impl Into<String>) -> Reservation {
    reservation(Scope::Overall, EVENING, id, Amount::INVESTIGATION)
}

fn money(id: impl Into<String>, usd: u64) -> Reservation {
    reservation(Scope::Overall, EVENING, id, Amount::of(MicroUsd(usd)))
}

async fn reserve(store: &dyn IncidentStore, reservation: &Reservation, limits: Limits) -> Entered {
    store.budget(&Entry::Reserve { reservation: reservation.clone(), limits }).await.unwrap()
}

async fn settle(store: &dyn IncidentStore, reservation: &Reservation, actual: Amount) {
    let entry = Entry::Settle { reservation: reservation.clone(), actual };
    assert_eq!(store.budget(&entry).await.unwrap(), Entered::Done);
}

fn an_hour(most: u32) -> Limits {
    Limits { per_hour: Some(most), ..Limits::default() }
}

fn usd_a_day(most: u64) -> Limits {
    Limits { usd_per_day: Some(MicroUsd(most)), ..Limits::default() }
}

#[tokio::test]
async fn reservations_are_granted_up_to_the_limit_and_the_answer_names_it() {
    with_every_store(async |store| {
        for id in ["a", "b"] {
            assert_eq!(reserve(&**store, &one(id), an_hour(2)).await, Entered::Done);
        }
        let refused = UsedUp { scope: Scope::Overall, window: Window::Hour, limit: Limit::Investigations(2) };
        assert_eq!(reserve(&**store, &one("c"), an_hour(2)).await, Entered::UsedUp(refused));
        // Nothing of the refused one was counted.
        assert_eq!(reserve(&**store, &one("c"), an_hour(3)).await, Entered::Done);
        let none = Limits { per_day: Some(0), ..Limits::default() };
        assert!(matches!(reserve(&**store, &one("d"), none).await, Entered::UsedUp(_)));
    })
    .await;
}

#[tokio::test]
async fn every_limit_holds_and_each_hour_has_its_own() {
    with_every_store(async |store| {
        let limits = Limits { per_hour: Some(1), per_day: Some(2), ..Limits::default() };
        let at =
            |hours: i64, id| reservation(Scope::Overall, EVENING + hours * HOUR, id, Amount::INVESTIGATION);
        assert_eq!(reserve(&**store, &at(0, "a"), limits).await, Entered::Done);
        let Entered::UsedUp(hour) = reserve(&**store, &at(0, "b"), limits).await else { panic!("granted") };
        assert_eq!(hour.window, Window::Hour);
        assert_eq!(reserve(&**store, &at(1, "b"), limits).await, Entered::Done);
        let Entered::UsedUp(day) = reserve(&**store, &at(2, "c"), limits).await else { panic!("granted") };
        assert_eq!(day.window, Window::Day);
        // Four hours later it is another day.
        assert_eq!(reserve(&**store, &at(4, "c"), limits).await, Entered::Done);
    })
    .await;
}

#[tokio::test]
async fn scopes_are_counted_apart() {
    with_every_store(async |store| {
        let scopes = [Scope::Overall, Scope::Card("pods".into()), Scope::Card("nodes # ALL äöü".into())];
        for scope in scopes {
            let r = |id| reservation(scope.clone(), EVENING, id, Amount::INVESTIGATION);
            assert_eq!(reserve(&**store, &r("a"), an_hour(1)).await, Entered::Done);
            assert!(matches!(reserve(&**store, &r("b"), an_hour(1)).await, Entered::UsedUp(_)));
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_settled_counts_as_what_it_came_to() {
    with_every_store(async |store| {
        let first = money("a", 800);
        assert_eq!(reserve(&**store, &first, usd_a_day(1_000)).await, Entered::Done);
        assert!(matches!(reserve(&**store, &money("b", 300), usd_a_day(1_000)).await, Entered::UsedUp(_)));
        settle(&**store, &first, Amount::of(MicroUsd(700))).await;
        let second = money("b", 300);
        assert_eq!(reserve(&**store, &second, usd_a_day(1_000)).await, Entered::Done);
        // A call may come to more than was thought: that counts too.
        settle(&**store, &second, Amount::of(MicroUsd(500))).await;
        assert!(matches!(reserve(&**store, &money("c", 1), usd_a_day(1_200)).await, Entered::UsedUp(_)));
        assert_eq!(reserve(&**store, &money("c", 1), usd_a_day(1_201)).await, Entered::Done);
    })
    .await;
}

#[tokio::test]
async fn the_same_entry_twice_counts_once() {
    with_every_store(async |store| {
        assert_eq!(reserve(&**store, &one("a"), an_hour(1)).await, Entered::Done);
        assert_eq!(reserve(&**store, &one("a"), an_hour(1)).await, Entered::Already);
        for _ in 0..2 {
            settle(&**store, &one("a"), Amount::NOTHING).await;
        }
        // Given back twice it would now leave room for two.
        assert_eq!(reserve(&**store, &one("b"), an_hour(1)).await, Entered::Done);
        assert!(matches!(reserve(&**store, &one("c"), an_hour(1)).await, Entered::UsedUp(_)));
        // What was never reserved gives nothing back.
        settle(&**store, &one("never"), Amount::NOTHING).await;
        assert!(matches!(reserve(&**store, &one("c"), an_hour(1)).await, Entered::UsedUp(_)));
    })
    .await;
}

#[tokio::test]
async fn a_reservation_that_is_made_again_takes_one_place_where_there_is_room_for_more() {
    with_every_store(async |store| {
        assert_eq!(reserve(&**store, &one("a"), an_hour(3)).await, Entered::Done);
        for _ in 0..3 {
            assert_eq!(reserve(&**store, &one("a"), an_hour(3)).await, Entered::Already);
        }
        for id in ["b", "c"] {
            assert_eq!(reserve(&**store, &one(id), an_hour(3)).await, Entered::Done);
        }
        assert!(matches!(reserve(&**store, &one("d"), an_hour(3)).await, Entered::UsedUp(_)));
        let held = money("m", 400);
        for _ in 0..3 {
            let _ = reserve(&**store, &held, usd_a_day(1_000)).await;
        }
        assert_eq!(reserve(&**store, &money("n", 600), usd_a_day(1_000)).await, Entered::Done);
    })
    .await;
}

#[tokio::test]
async fn what_is_settled_in_the_next_hour_is_given_back_to_its_own() {
    with_every_store(async |store| {
        let late = one("a");
        assert_eq!(reserve(&**store, &late, an_hour(1)).await, Entered::Done);
        let next = reservation(Scope::Overall, EVENING + HOUR, "b", Amount::INVESTIGATION);
        assert_eq!(reserve(&**store, &next, an_hour(1)).await, Entered::Done);
        settle(&**store, &late, Amount::NOTHING).await;
        let more = Reservation { id: "c".into(), ..next };
        assert!(matches!(reserve(&**store, &more, an_hour(1)).await, Entered::UsedUp(_)));
        assert_eq!(reserve(&**store, &one("c"), an_hour(1)).await, Entered::Done);
    })
    .await;
}

#[tokio::test]
async fn of_fifty_concurrent_reservations_as_many_win_as_there_is_room_for() {
    with_racing_stores(async |store| {
        // Seven places, then one more: the last one of a limit has one winner.
        for (round, most, free) in [("first", 7, 7), ("second", 8, 1), ("third", 8, 0)] {
            let asked =
                (0..50).map(async |n| reserve(&**store, &one(format!("{round}-{n}")), an_hour(most)).await);
            let won = join_all(asked).await.into_iter().filter(|e| *e == Entered::Done).count();
            assert_eq!(won, free, "{round}");
        }
    })
    .await;
}

#[tokio::test]
async fn counters_expire_after_their_day_and_no_head_is_made_of_them() {
    with_table(async |t| {
        assert_eq!(reserve(&t.store, &one("a"), an_hour(1)).await, Entered::Done);
        let items = t.client.scan().table_name(&t.table).send().await.unwrap().items.unwrap();
        assert_eq!(items.len(), 1);
        // The end of 2026-11-26, in seconds.
        assert_eq!(items[0]["expires"].as_n().unwrap(), "1795737600");
        assert_eq!(items[0]["pk"].as_s().unwrap(), "BUDGET#2026-11-25#ALL");
        assert_eq!(t.store.recent(10).await.unwrap(), []);
        assert_eq!(all_due(&t.store, UnixMs::new(i64::MAX), 10).await, []);
    })
    .await;
}

#[tokio::test]
async fn counters_that_cannot_be_read_refuse() {
    with_table(async |t| {
        assert_eq!(reserve(&t.store, &one("a"), an_hour(1)).await, Entered::Done);
        let key = |name: &str| aws_sdk_dynamodb::types::AttributeValue::S(name.into());
        t.client
            .update_item()
            .table_name(&t.table)
            .key("pk", key("BUDGET#2026-11-25#ALL"))
            .key("sk", key("SPENT"))
            .update_expression("SET #c = :c")
            .expression_attribute_names("#c", "investigations#20")
            .expression_attribute_values(":c", key("many"))
            .send()
            .await
            .unwrap();
        let entry = Entry::Reserve { reservation: one("b"), limits: an_hour(9) };
        let error = t.store.budget(&entry).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Unreadable { .. } if error.to_string().contains("many")),
            "{error}"
        );
    })
    .await;
}
