use std::time::Duration;

use futures::future::join_all;
use futures::stream::{self, StreamExt as _};
use sentinel_aws::SqsQueue;
use sentinel_core::incident::{Gen, IncidentId, Job};
use sentinel_core::ports::{JobQueue as _, QueueError};
use sentinel_testkit::aws::{FakeAws, Trouble};
use sentinel_testkit::gate::Gate;
use serde_json::json;

use crate::{aws, nobody};

fn queue(fake: &FakeAws) -> SqsQueue {
    SqsQueue::new(aws(&fake.url()).sqs(), fake.queue_url())
}

fn job(n: u32) -> Job {
    Job { incident: IncidentId::new(format!("{n:064x}")), generation: Gen(1_000) }
}

#[tokio::test]
async fn a_single_job_is_one_request_with_the_pointer_and_its_delay() {
    let fake = FakeAws::start().await;
    queue(&fake).send(&job(7), Duration::from_millis(59_100)).await.unwrap();
    let asked = fake.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].operation, "SendMessage");
    let body = json!({"incident": format!("{:064x}", 7), "gen": 1_000}).to_string();
    let sent: serde_json::Value =
        serde_json::from_str(asked[0].body["MessageBody"].as_str().unwrap()).unwrap();
    assert_eq!(sent, serde_json::from_str::<serde_json::Value>(&body).unwrap());
    assert_eq!(asked[0].body["DelaySeconds"], 60);
    assert_eq!(asked[0].body["QueueUrl"], fake.queue_url());
}

#[tokio::test]
async fn a_longer_delay_is_cut_to_what_sqs_can_do() {
    let fake = FakeAws::start().await;
    queue(&fake).send(&job(1), Duration::from_hours(2)).await.unwrap();
    assert_eq!(fake.messages()[0].delay_seconds, 900);
}

#[tokio::test]
async fn jobs_that_come_while_a_request_is_under_way_go_together() {
    let fake = FakeAws::start().await;
    let (queue, gate) = (queue(&fake), Gate::new());
    fake.script(Trouble::Held(gate.clone()));
    let first = tokio::spawn({
        let queue = queue.clone();
        async move { queue.send(&job(0), Duration::ZERO).await }
    });
    fake.wait_for_asked(1).await;
    let jobs: Vec<Job> = (1..10).map(job).collect();
    let others = join_all(jobs.iter().map(|job| queue.send(job, Duration::ZERO)));
    let (results, ()) = tokio::join!(others, async { gate.open() });
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    first.await.unwrap().unwrap();
    let operations: Vec<String> = fake.asked().into_iter().map(|a| a.operation).collect();
    assert_eq!(operations, ["SendMessage", "SendMessageBatch"]);
    assert_eq!(fake.messages().len(), 10);
}

#[tokio::test]
async fn a_storm_of_500_takes_little_more_than_50_requests() {
    let fake = FakeAws::start().await;
    let queue = queue(&fake);
    // As intake drives them: 32 at once.
    let sent = stream::iter(0..500)
        .map(|n| {
            let queue = queue.clone();
            async move { queue.send(&job(n), Duration::ZERO).await }
        })
        .buffer_unordered(32)
        .filter(|sent| std::future::ready(sent.is_ok()))
        .count()
        .await;
    assert_eq!(sent, 500);
    let mut bodies: Vec<String> = fake.messages().into_iter().map(|m| m.body).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 500);
    assert!(fake.asked().len() <= 60, "{}", fake.asked().len());
}

#[tokio::test]
async fn each_sender_learns_what_became_of_its_own_job() {
    let fake = FakeAws::start().await;
    let (queue, gate) = (queue(&fake), Gate::new());
    fake.script(Trouble::Held(gate.clone()));
    fake.script(Trouble::Entries { places: [1].into(), sender_fault: false });
    let first = tokio::spawn({
        let queue = queue.clone();
        async move { queue.send(&job(0), Duration::ZERO).await }
    });
    fake.wait_for_asked(1).await;
    let jobs: Vec<Job> = (1..4).map(job).collect();
    let (results, ()) =
        tokio::join!(join_all(jobs.iter().map(|job| queue.send(job, Duration::ZERO))), async { gate.open() });
    first.await.unwrap().unwrap();
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    let error = results[1].as_ref().unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains(&fake.queue_url()), "{error}");
    assert!(error.to_string().contains("InternalError: scripted"), "{error}");
}

#[tokio::test]
async fn a_message_that_the_sender_is_to_blame_for_is_refused() {
    let fake = FakeAws::start().await;
    let (queue, gate) = (queue(&fake), Gate::new());
    fake.script(Trouble::Held(gate.clone()));
    fake.script(Trouble::Entries { places: [0].into(), sender_fault: true });
    let first = tokio::spawn({
        let queue = queue.clone();
        async move { queue.send(&job(0), Duration::ZERO).await }
    });
    fake.wait_for_asked(1).await;
    let jobs = [job(1), job(2)];
    let (results, ()) =
        tokio::join!(join_all(jobs.iter().map(|job| queue.send(job, Duration::ZERO))), async { gate.open() });
    first.await.unwrap().unwrap();
    assert!(matches!(&results[0], Err(QueueError::Refused { .. })), "{results:?}");
    assert!(results[1].is_ok());
}

#[tokio::test]
async fn throttling_is_tried_again_and_then_passing() {
    let fake = FakeAws::start().await;
    fake.script(Trouble::Error { status: 400, code: "ThrottlingException" });
    queue(&fake).send(&job(1), Duration::ZERO).await.unwrap();
    assert_eq!(fake.asked().len(), 2);
    fake.always(Some(Trouble::Error { status: 400, code: "RequestThrottled" }));
    let error = queue(&fake).send(&job(1), Duration::ZERO).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_missing_queue_is_refused_by_name_and_not_tried_again() {
    let fake = FakeAws::start().await;
    fake.always(Some(Trouble::Error { status: 400, code: "QueueDoesNotExist" }));
    let error = queue(&fake).send(&job(1), Duration::ZERO).await.unwrap_err();
    assert!(!error.is_retryable());
    let text = error.to_string();
    assert!(text.starts_with(&format!("the queue refused sending to queue {}", fake.queue_url())), "{text}");
    assert!(text.contains("QueueDoesNotExist"), "{text}");
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_queue_that_is_down_is_passing_and_the_next_send_works() {
    let down = SqsQueue::new(aws(&nobody()).sqs(), "http://127.0.0.1/jobs");
    let error = down.send(&job(1), Duration::ZERO).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");

    let fake = FakeAws::start().await;
    let queue = queue(&fake);
    fake.script(Trouble::Error { status: 400, code: "QueueDoesNotExist" });
    queue.send(&job(1), Duration::ZERO).await.unwrap_err();
    queue.send(&job(2), Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_sender_that_stops_waiting_takes_no_other_with_it() {
    let fake = FakeAws::start().await;
    let (queue, gate) = (queue(&fake), Gate::new());
    fake.script(Trouble::Held(gate.clone()));
    let first = tokio::spawn({
        let queue = queue.clone();
        async move { queue.send(&job(0), Duration::ZERO).await }
    });
    fake.wait_for_asked(1).await;
    let second = tokio::spawn({
        let queue = queue.clone();
        async move { queue.send(&job(1), Duration::ZERO).await }
    });
    first.abort();
    gate.open();
    second.await.unwrap().unwrap();
    assert_eq!(fake.messages().len(), 2);
}
