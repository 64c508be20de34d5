use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use secrecy::ExposeSecret as _;
use sentinel_aws::Secrets;
use sentinel_testkit::aws::{FakeAws, Trouble};
use sentinel_testkit::clock::ManualClock;

use crate::{aws, nobody};

const ID: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:token-AbCdEf";

struct Bench {
    fake: FakeAws,
    clock: Arc<ManualClock>,
    secrets: Secrets,
}

async fn bench() -> Bench {
    let fake = FakeAws::start().await;
    fake.put_secret(ID, "one");
    let clock = Arc::new(ManualClock::default());
    let secrets = Secrets::new(aws(&fake.url()).secrets(), clock.clone(), [ID.to_owned()].into());
    Bench { fake, clock, secrets }
}

impl Bench {
    async fn value(&self) -> String {
        self.secrets.values().await.unwrap()[ID].expose_secret().to_owned()
    }
}

#[tokio::test]
async fn a_value_is_kept_for_five_minutes_and_then_read_again() {
    let b = bench().await;
    assert_eq!(b.value().await, "one");
    b.fake.put_secret(ID, "two");
    b.clock.advance(Duration::from_secs(299));
    assert_eq!(b.value().await, "one");
    assert_eq!(b.fake.asked().len(), 1);
    b.clock.advance(Duration::from_secs(1));
    assert_eq!(b.value().await, "two");
    assert_eq!(b.fake.asked().len(), 2);
}

#[tokio::test]
async fn an_unchanged_value_stays_the_same_object() {
    let b = bench().await;
    let before = b.secrets.values().await.unwrap();
    b.clock.advance(Duration::from_mins(6));
    assert!(Arc::ptr_eq(&before, &b.secrets.values().await.unwrap()));
    assert_eq!(b.fake.asked().len(), 2);
}

#[tokio::test]
async fn those_who_come_together_share_one_request() {
    let b = bench().await;
    let all = join_all((0..20).map(|_| b.secrets.values())).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(b.fake.asked().len(), 1);
}

#[tokio::test]
async fn an_outage_of_the_store_is_outlived_by_an_hour_and_counted_and_the_store_is_asked_now_and_then() {
    let b = bench().await;
    b.value().await;
    b.fake.always(Some(Trouble::Error { status: 500, code: "InternalServiceError" }));
    b.clock.advance(Duration::from_mins(4));
    assert_eq!((b.value().await.as_str(), b.secrets.take_stale()), ("one", 0));
    b.clock.advance(Duration::from_mins(1));
    let asked = b.fake.asked().len();
    assert_eq!((b.value().await.as_str(), b.secrets.take_stale()), ("one", 1));
    let once = b.fake.asked().len();
    assert!(once > asked);
    b.clock.advance(Duration::from_secs(29));
    assert_eq!((b.value().await.as_str(), b.secrets.take_stale()), ("one", 1));
    assert_eq!(b.fake.asked().len(), once, "nobody waits for it again so soon");
    b.clock.advance(Duration::from_secs(1));
    assert_eq!(b.value().await, "one");
    assert!(b.fake.asked().len() > once);

    b.clock.advance(Duration::from_mins(59));
    assert_eq!(b.value().await, "one", "an hour, but for the last half minute of it");
    b.clock.advance(Duration::from_mins(1));
    assert!(b.secrets.values().await.unwrap_err().is_retryable());
    b.fake.put_secret(ID, "two");
    b.fake.always(None);
    b.clock.advance(Duration::from_secs(1));
    assert_eq!(b.value().await, "two");
}

#[tokio::test]
async fn what_the_store_refuses_is_not_used_on() {
    let b = bench().await;
    b.value().await;
    b.fake.always(Some(Trouble::Error { status: 400, code: "AccessDeniedException" }));
    b.clock.advance(Duration::from_mins(5));
    assert!(!b.secrets.values().await.unwrap_err().is_retryable());
    assert_eq!(b.secrets.take_stale(), 0);
}

#[tokio::test]
async fn without_values_from_before_a_store_that_is_down_is_an_error() {
    let b = bench().await;
    b.fake.always(Some(Trouble::Error { status: 500, code: "InternalServiceError" }));
    assert!(b.secrets.values().await.unwrap_err().is_retryable());
    b.fake.always(None);
    b.clock.advance(Duration::from_secs(1));
    assert_eq!(b.value().await, "one");
}

#[tokio::test]
async fn a_missing_secret_is_refused_by_name() {
    let b = bench().await;
    let absent = Secrets::new(aws(&b.fake.url()).secrets(), b.clock.clone(), ["absent".to_owned()].into());
    let error = absent.values().await.unwrap_err();
    assert!(!error.is_retryable());
    let text = error.to_string();
    assert!(text.starts_with("the secret store refused reading secret absent: ResourceNotFound"), "{text}");
}

#[tokio::test]
async fn where_nothing_is_to_be_read_nothing_is_asked() {
    let clock = Arc::new(ManualClock::default());
    let none = Secrets::new(aws(&nobody()).secrets(), clock.clone(), [].into());
    assert!(none.values().await.unwrap().is_empty());
    clock.advance(Duration::from_hours(1));
    assert!(none.values().await.unwrap().is_empty());
}

#[tokio::test]
async fn no_value_is_shown_when_debugging() {
    let b = bench().await;
    b.fake.put_secret(ID, "swordfish");
    let values = b.secrets.values().await.unwrap();
    assert!(!format!("{:?} {values:?}", b.secrets).contains("swordfish"));
}
