//! A table of which too much is asked: the SDK tries again, and what it gives up may work later.

use sentinel_core::UnixMs;
use sentinel_core::budget::{Amount, Entered, Entry, Limits, Reservation, Scope};
use sentinel_core::incident::{ChildName, Gen};
use sentinel_core::ports::{Appended, Created, IncidentStore as _, Swapped};

use crate::proxy::Proxy;
use crate::support::{all_due, child, head, id, next, with_table};

#[tokio::test]
async fn a_throttled_call_is_tried_again_and_done_once() {
    with_table(async |t| {
        let proxy = Proxy::before(t).await;
        let first = head(1, 1_000);
        assert_eq!(proxy.throttle(1).create(&first).await.unwrap(), Created::New);
        let second = next(&first, "second");
        assert_eq!(proxy.throttle(1).swap(&second).await.unwrap(), Swapped::Stored);
        let turn = child(1_000, ChildName::Turn(1), "paid for");
        assert_eq!(proxy.throttle(1).append(&id(1), &turn).await.unwrap(), Appended::Written);
        assert_eq!(proxy.throttle(1).load(&id(1)).await.unwrap(), Some(second.clone()));
        assert_eq!(proxy.throttle(1).children(&id(1), Gen(1_000)).await.unwrap(), [turn]);
        let due = all_due(proxy.throttle(1), UnixMs::new(i64::MAX), 10).await;
        assert_eq!(due, std::slice::from_ref(&second));
        assert_eq!(proxy.throttle(1).recent(10).await.unwrap(), [second]);
        assert_eq!(proxy.happened(), 7);
    })
    .await;
}

fn investigation(id: &str) -> Reservation {
    Reservation {
        scope: Scope::Overall,
        at: UnixMs::new(1_000),
        id: id.into(),
        amount: Amount::INVESTIGATION,
    }
}

fn reserve(id: &str) -> Entry {
    let limits = Limits { per_hour: Some(1), ..Limits::default() };
    Entry::Reserve { reservation: investigation(id), limits }
}

#[tokio::test]
async fn spending_that_is_throttled_is_counted_once_or_not_at_all() {
    with_table(async |t| {
        let proxy = Proxy::before(t).await;
        let error = proxy.throttle(u32::MAX).budget(&reserve("a")).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        // Nothing is held of what was given up.
        assert_eq!(proxy.throttle(1).budget(&reserve("b")).await.unwrap(), Entered::Done);
        assert!(matches!(proxy.throttle(1).budget(&reserve("c")).await.unwrap(), Entered::UsedUp(_)));
        let settle = Entry::Settle { reservation: investigation("b"), actual: Amount::NOTHING };
        assert_eq!(proxy.throttle(1).budget(&settle).await.unwrap(), Entered::Done);
        assert_eq!(t.store.budget(&reserve("c")).await.unwrap(), Entered::Done);
    })
    .await;
}

#[tokio::test]
async fn what_is_throttled_for_too_long_is_not_done_and_may_work_later() {
    with_table(async |t| {
        let proxy = Proxy::before(t).await;
        let first = head(1, 1_000);
        let error = proxy.throttle(u32::MAX).create(&first).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(error.to_string().contains("ProvisionedThroughputExceeded"), "{error}");
        assert_eq!(t.store.load(&id(1)).await.unwrap(), None);
        assert_eq!(proxy.throttle(0).create(&first).await.unwrap(), Created::New);
    })
    .await;
}
