//! Credentials of the secret store: rotated while the process runs, and the store out of reach.
#![expect(clippy::unwrap_used, reason = "a test part that cannot do its work fails the test")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use sentinel_aws::{Aws, CallLimits, Credentials as Keys, Secrets};
use sentinel_config::Source;
use sentinel_ingest::{Door, DoorError, Rotating};
use sentinel_testkit::aws::{FakeAws, Trouble};
use sentinel_testkit::clock::ManualClock;

const ID: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:token-AbCdEf";

struct Bench {
    fake: FakeAws,
    clock: Arc<ManualClock>,
    door: Door,
}

async fn bench() -> Bench {
    let fake = FakeAws::start().await;
    fake.put_secret(ID, r#"{"current": "one", "previous": "zero"}"#);
    let clock = Arc::new(ManualClock::default());
    let limits = CallLimits { attempts: 1, ..CallLimits::EMBEDDED };
    let aws = Aws::at_endpoint(&fake.url(), "us-east-1", Keys::new("k", "s", None, None, "test"), limits);
    let secrets = Secrets::new(aws.secrets(), clock.clone(), [ID.to_owned()].into());
    let text = format!("ingest: {{bearer: ['${{secret:{ID}#current}}', '${{secret:{ID}#previous}}']}}");
    let source = Source { name: PathBuf::from("config.yaml"), text, base_dir: None };
    let door = Door::Rotating(Arc::new(Rotating::new(source, BTreeMap::new(), secrets, false)));
    Bench { fake, clock, door }
}

impl Bench {
    async fn opens_for(&self, token: &str) -> Result<bool, DoorError> {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        let headers: HeaderMap = [(AUTHORIZATION, value)].into_iter().collect();
        Ok(self.door.now().await?.check(&headers).is_ok())
    }
}

#[tokio::test]
async fn a_rotated_secret_takes_effect_within_five_minutes_and_the_old_one_for_as_long_as_it_is_kept() {
    let b = bench().await;
    assert!(b.opens_for("one").await.unwrap() && b.opens_for("zero").await.unwrap());
    b.fake.put_secret(ID, r#"{"current": "two", "previous": "one"}"#);
    assert!(!b.opens_for("two").await.unwrap());
    b.clock.advance(Duration::from_mins(5));
    assert!(b.opens_for("two").await.unwrap() && b.opens_for("one").await.unwrap());
    assert!(!b.opens_for("zero").await.unwrap());
    assert_eq!(b.fake.asked().len(), 2);
}

#[tokio::test]
async fn a_store_that_is_down_is_an_error_and_never_a_refusal() {
    let b = bench().await;
    assert!(b.opens_for("one").await.unwrap());
    b.fake.always(Some(Trouble::Error { status: 500, code: "InternalServiceError" }));
    b.clock.advance(Duration::from_secs(299));
    assert!(b.opens_for("one").await.unwrap());
    b.clock.advance(Duration::from_secs(1));
    assert!(b.opens_for("one").await.unwrap() && !b.opens_for("wrong").await.unwrap(), "as it was last read");
    b.clock.advance(Duration::from_hours(1));
    assert!(b.opens_for("one").await.unwrap_err().is_retryable());
    assert!(b.opens_for("wrong").await.is_err());
}

#[tokio::test]
async fn a_rotation_that_breaks_the_secret_is_an_error_with_its_place() {
    let b = bench().await;
    b.fake.put_secret(ID, "not what it was");
    let error = b.opens_for("one").await.unwrap_err().to_string();
    assert!(error.contains("config.yaml:1:") && !error.contains("not what it was"), "{error}");
}
