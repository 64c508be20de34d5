//! The real binary under a simulated Lambda, with a `DynamoDB` in memory and a fake SQS.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sentinel_aws::{Aws, CallLimits, Credentials, Deployment, DynamoStore, MachineClock, create_table};
use sentinel_core::intake::intake;
use sentinel_core::ports::{Clock as _, Ports};
use sentinel_core::redact::Redactor;
use sentinel_testkit::aws::{FakeAws, dynamo};
use sentinel_testkit::builders::{alert, card, message};
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::lambda::{Function, Outcome};
use serde_json::{Value, json};

/// Neither its secret nor its variable nor its broken prompt is the sweeper's business.
const CONFIG: &str = "openai: {api-key: '${secret:model}'}\n\
                      ingest: {bearer: ['${SENTINEL_TOKEN}']}\n\
                      incident-cards: [{name: pods, resource: KubePodNotReady, prompt: '{{ broken'}]\n";

async fn invoke(table: &str, waited: Duration) -> (Outcome, usize, String) {
    let (swept, messages, output) = invoke_after(table, waited, async |_: DynamoStore| {}).await;
    (swept, messages, output)
}

/// The same, after something was done to the table.
async fn invoke_after(
    table: &str,
    waited: Duration,
    before: impl AsyncFnOnce(DynamoStore),
) -> (Outcome, usize, String) {
    let (aws, dynamo) = (FakeAws::start().await, dynamo().await);
    let client = |url: &str| {
        let keys = Credentials::new("test", "test", None, None, "test");
        Aws::at_endpoint(url, "us-east-1", keys, CallLimits::EMBEDDED)
    };
    create_table(&client(&dynamo).dynamo(), "incidents").await.unwrap();
    let deployment = Deployment { table: "incidents".into(), queue_url: aws.queue_url() };
    let clock = Arc::new(ManualClock::at(MachineClock::default().now().minus(waited)));
    let queue = {
        let aws = client(&aws.url());
        deployment.ports(deployment.store(&aws), &aws, clock.clone()).queue
    };
    let ports =
        Ports { queue, ..deployment.ports(deployment.store(&client(&dynamo)), &client(&dynamo), clock) };
    let cards = [card("pods").matching("alertname", "KubePodNotReady").build()];
    intake(&ports, &cards, &Redactor::default(), &message([alert("KubePodNotReady")])).await.unwrap();
    assert_eq!(aws.messages().len(), 1);

    before(deployment.store(&client(&dynamo))).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("other.yaml"), CONFIG).unwrap();
    let env = [
        ("SENTINEL_TABLE", table),
        ("SENTINEL_QUEUE_URL", &*aws.queue_url()),
        ("SENTINEL_CONFIG", "other.yaml"),
        ("SENTINEL_STACK", "alerts-eu"),
        ("AWS_ENDPOINT_URL", &*aws.url()),
        ("AWS_ENDPOINT_URL_DYNAMODB", &*dynamo),
    ];
    let program = Path::new(env!("CARGO_BIN_EXE_sentinel-sweeper"));
    let function = Function::start(program, folder.path(), &env).await;
    let event = json!({"source": "aws.scheduler", "detail-type": "Scheduled Event", "detail": {}});
    let outcome = function.invoke(event, Duration::from_mins(1)).await;
    (outcome, aws.messages().len(), function.output())
}

#[tokio::test]
async fn an_incident_that_nobody_began_has_its_job_sent_again() {
    let (outcome, messages, output) = invoke("incidents", Duration::from_mins(3)).await;
    assert_eq!(outcome, Outcome::Response(Value::Null), "{output}");
    assert_eq!(messages, 2, "{output}");
    assert!(output.contains(r#""Sent":1"#) && output.contains(r#""request_id":"request-1""#), "{output}");
}

#[tokio::test]
async fn one_that_was_sent_just_now_is_left() {
    let (outcome, messages, output) = invoke("incidents", Duration::ZERO).await;
    assert_eq!((outcome, messages), (Outcome::Response(Value::Null), 1), "{output}");
}

#[tokio::test]
async fn a_missing_table_fails_the_invocation_and_is_named() {
    let (outcome, _, output) = invoke("elsewhere", Duration::from_mins(3)).await;
    let Outcome::Error(error) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("in table elsewhere"), "{error}");
    assert!(output.contains("in table elsewhere"), "{output}");
}

#[tokio::test]
async fn what_fell_due_in_a_table_that_comes_back_is_left_until_somebody_decides() {
    let (outcome, messages, output) = invoke_after("incidents", Duration::from_mins(3), async |store| {
        // The backup is of another deployment, or this one's under another name.
        let _ = store.sweeping("alerts-us", MachineClock::default().now()).await.unwrap();
    })
    .await;
    assert_eq!((outcome, messages), (Outcome::Response(Value::Null), 1), "{output}");
    assert!(output.contains("incidents resume --table NAME --since TIME"), "{output}");
    assert!(
        output.contains(r#""OldestDueSeconds":0"#) && output.contains(r#""Stack":"alerts-eu""#),
        "{output}"
    );

    let (outcome, messages, output) = invoke_after("incidents", Duration::from_mins(3), async |store| {
        let now = MachineClock::default().now();
        let _ = store.sweeping("alerts-us", now.minus(Duration::from_hours(1))).await.unwrap();
        let left = store.sweeping("alerts-eu", now).await.unwrap();
        assert_eq!(left, now, "all that was due before it came");
        let before = store.resume(now.minus(Duration::from_mins(5)), now).await.unwrap();
        assert_eq!(before, now);
    })
    .await;
    assert_eq!((outcome, messages), (Outcome::Response(Value::Null), 2), "{output}");
}
