//! A write that is done while its reply is lost: the SDK tries again and meets its own write.

use sentinel_core::UnixMs;
use sentinel_core::budget::{Amount, Entered, Entry, Limits, Reservation, Scope};
use sentinel_core::incident::{ChildName, Gen};
use sentinel_core::ports::{Appended, Created, IncidentStore as _, Swapped};

use crate::proxy::Proxy;
use crate::support::{child, head, id, next, with_table};

#[tokio::test]
async fn a_write_whose_reply_was_lost_is_recognised_as_ones_own() {
    with_table(async |t| {
        let proxy = Proxy::before(t).await;
        let first = head(1, 1_000);
        assert_eq!(proxy.lose_next().create(&first).await.unwrap(), Created::New);
        let second = next(&first, "second");
        assert_eq!(proxy.lose_next().swap(&second).await.unwrap(), Swapped::Stored);
        let turn = child(1_000, ChildName::Turn(1), "paid for");
        assert_eq!(proxy.lose_next().append(&id(1), &turn).await.unwrap(), Appended::Written);
        assert_eq!(proxy.happened(), 3);
        assert_eq!(t.store.load(&id(1)).await.unwrap(), Some(second));
        assert_eq!(t.store.children(&id(1), Gen(1_000)).await.unwrap(), [turn]);
    })
    .await;
}

#[tokio::test]
async fn spending_whose_reply_was_lost_is_counted_once() {
    with_table(async |t| {
        let proxy = Proxy::before(t).await;
        let limits = Limits { per_hour: Some(1), ..Limits::default() };
        let named = |id: &str| Reservation {
            scope: Scope::Overall,
            at: UnixMs::new(1_000),
            id: id.into(),
            amount: Amount::INVESTIGATION,
        };
        let reserve = |id| Entry::Reserve { reservation: named(id), limits };
        assert_eq!(proxy.lose_next().budget(&reserve("a")).await.unwrap(), Entered::Already);
        assert!(matches!(t.store.budget(&reserve("b")).await.unwrap(), Entered::UsedUp(_)));
        let settle = Entry::Settle { reservation: named("a"), actual: Amount::NOTHING };
        assert_eq!(proxy.lose_next().budget(&settle).await.unwrap(), Entered::Done);
        assert_eq!(proxy.happened(), 2);
        // Given back once: there is room for one.
        assert_eq!(t.store.budget(&reserve("b")).await.unwrap(), Entered::Done);
        assert!(matches!(t.store.budget(&reserve("c")).await.unwrap(), Entered::UsedUp(_)));
    })
    .await;
}
