use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::incident::State;
use sentinel_core::ports::Ports;
use sentinel_investigation::ports::{Model, ModelError, TurnRequest, TurnResponse};
use sentinel_testkit::aws::{FakeAws, Trouble};
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::gate::Gate;
use sentinel_testkit::lambda::{Outcome, sqs_event};
use sentinel_testkit::openai::{Scripted, ScriptedOpenAi, message};
use sentinel_testkit::process::closed_port;
use sentinel_worker::{Mind, lambda};
use serde_json::{Value, json};

use crate::support::{Bench, CARDS, with_model};

const LEFT: Duration = Duration::from_mins(12);

/// The messages that have to come back.
fn failures(outcome: &Outcome) -> Vec<&str> {
    let Outcome::Response(response) = outcome else { panic!("no answer: {outcome:?}") };
    let failures = response["batchItemFailures"].as_array().unwrap();
    failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_unreadable_body_fails_alone_and_its_neighbours_are_investigated() {
    let b = Bench::new(CARDS).await;
    let jobs = b.open(2).await;
    let function = b.start(&[]).await;
    let event = sqs_event(&[&jobs[0], "not a job", &jobs[1], "", r#"{"incident": 5}"#]);
    let outcome = function.invoke(event, LEFT).await;
    let mut failed = failures(&outcome);
    failed.sort_unstable();
    assert_eq!(failed, ["message-1", "message-3", "message-4"]);
    for job in &jobs {
        assert_eq!(b.head(job).await.state, State::Done);
    }
    let again = function.invoke(sqs_event(&[&jobs[0]]), LEFT).await;
    assert_eq!(failures(&again), Vec::<&str>::new(), "a message that comes twice is done with");
    let output = function.output();
    assert!(!output.contains("not a job"), "no bodies in the log:\n{output}");
    let line = output.lines().find(|line| line.contains("message is no job")).expect(&output);
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["request_id"], "request-1", "{line}");
}

#[tokio::test]
async fn short_of_time_it_puts_the_investigation_off_and_sends_itself_the_job_again() {
    let model = ScriptedOpenAi::answering(Vec::<Value>::new()).await;
    let b = Bench::new(&with_model(&model.base_url(), "sk-test")).await;
    let jobs = b.open(1).await;
    let function = b.start(&[]).await;
    let outcome = function.invoke(sqs_event(&[&jobs[0]]), Duration::from_secs(21)).await;
    assert_eq!(failures(&outcome), Vec::<&str>::new());
    let head = b.head(&jobs[0]).await;
    assert_eq!((head.state, head.slices, head.attempts), (State::Pending, 1, 0));
    let messages = b.aws.messages();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1].body, jobs[0]);
    assert!(model.requests().is_empty(), "nothing is paid that cannot end in time");
}

#[tokio::test]
async fn as_many_investigations_run_at_once_as_are_configured() {
    let gate = Gate::new();
    let held = gate.clone();
    let model = ScriptedOpenAi::with(move |_, _| {
        Scripted::After(held.clone(), Box::new(message("no report").into()))
    })
    .await;
    let config =
        ["dispatcher: {worker-concurrency: 3}\n", &with_model(&model.base_url(), "sk-test")].concat();
    let b = Bench::new(&config).await;
    let jobs = b.open(4).await;
    let function = b.start(&[]).await;
    let bodies: Vec<&str> = jobs.iter().map(String::as_str).collect();
    let (outcome, ()) = tokio::join!(function.invoke(sqs_event(&bodies), LEFT), async {
        model.wait_for_requests(3).await;
        let mut running = 0;
        for job in &jobs {
            running += usize::from(b.head(job).await.state == State::Running);
        }
        assert_eq!((model.requests().len(), running), (3, 3));
        gate.open();
    });
    assert_eq!(failures(&outcome), Vec::<&str>::new());
    for job in &jobs {
        assert_eq!(b.head(job).await.state, State::Done);
    }
}

#[tokio::test]
async fn where_the_store_is_out_of_reach_every_message_comes_back() {
    let b = Bench::new(CARDS).await;
    let jobs = b.open(2).await;
    let closed = closed_port();
    let nobody = format!("http://{}", closed.local_addr().unwrap());
    let function = b.start(&[("AWS_ENDPOINT_URL_DYNAMODB", &nobody)]).await;
    let outcome = function.invoke(sqs_event(&[&jobs[0], &jobs[1]]), LEFT).await;
    assert_eq!(failures(&outcome).len(), 2);
    assert!(function.output().contains("in table incidents"), "{}", function.output());
}

#[tokio::test]
async fn what_passing_trouble_keeps_is_seen_again_soon_and_what_is_refused_ages() {
    for (status, code, seen_again) in [
        (400, "ThrottlingException", true),
        (500, "InternalServerError", true),
        (400, "AccessDeniedException", false),
        (400, "ExpiredTokenException", false),
        (400, "SomethingNew", false),
    ] {
        let b = Bench::new(CARDS).await;
        let jobs = b.open(1).await;
        let dynamo = FakeAws::start().await;
        dynamo.always(Some(Trouble::Error { status, code }));
        let function =
            b.start(&[("AWS_ENDPOINT_URL_DYNAMODB", &dynamo.url()), ("SENTINEL_STACK", "eu")]).await;
        let mut event = sqs_event(&[&jobs[0]]);
        event["Records"][0]["attributes"]["ApproximateReceiveCount"] = "3".into();
        event["Records"][0]["receiptHandle"] = "the-handle".into();
        assert_eq!(failures(&function.invoke(event, LEFT).await), ["message-0"], "{code}");
        let asked = b.aws.asked();
        let changed: Vec<&Value> =
            asked.iter().filter(|a| a.operation == "ChangeMessageVisibility").map(|a| &a.body).collect();
        let wanted = json!({
            "QueueUrl": b.aws.queue_url(), "ReceiptHandle": "the-handle", "VisibilityTimeout": 120,
        });
        assert_eq!(changed, if seen_again { vec![&wanted] } else { vec![] }, "{code}");
        let output = function.output();
        assert!(output.contains("in table incidents") && output.contains(code), "{code}: {output}");
        assert!(
            output.contains(r#""JobsFailed":1"#) && output.contains(r#""Stack":"eu""#),
            "{code}: {output}"
        );
        assert_eq!(output.contains(r#""Throttled":"#), code == "ThrottlingException", "{code}: {output}");
    }
}

#[tokio::test]
async fn a_table_that_does_not_exist_is_named_in_the_log() {
    let b = Bench::new(CARDS).await;
    let jobs = b.open(1).await;
    let function = b.start(&[("SENTINEL_TABLE", "elsewhere")]).await;
    function.invoke(sqs_event(&[&jobs[0]]), LEFT).await;
    let output = function.output();
    assert!(
        output.contains("in table elsewhere") && output.contains("ResourceNotFoundException"),
        "{output}"
    );
}

#[tokio::test]
async fn whatever_the_store_refuses_with_is_a_failure_of_the_batch_and_named_in_the_log_with_table_and_action()
 {
    let b = Bench::new(CARDS).await;
    let jobs = b.open(1).await;
    for code in [
        "AccessDeniedException",
        "ResourceNotFoundException",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "UnrecognizedClientException",
        "ValidationException",
        "SomethingNobodyKnows",
    ] {
        let refusing = FakeAws::start().await;
        refusing.always(Some(Trouble::Error { status: 400, code }));
        let function = b.start(&[("AWS_ENDPOINT_URL_DYNAMODB", &refusing.url())]).await;
        let outcome = function.invoke(sqs_event(&[&jobs[0]]), LEFT).await;
        assert_eq!(
            failures(&outcome),
            ["message-0"],
            "{code}: it ages, and is seen in the dead-letter queue"
        );
        let output = function.output();
        let line = output.lines().find(|line| line.contains(code)).expect(&output);
        let told = format!("in table incidents: {code}");
        assert!(line.contains("reading ") && line.contains(&told), "{line}");
    }
}

#[tokio::test]
async fn a_job_that_panics_fails_alone() {
    let b = Bench::new(CARDS).await;
    let jobs = b.open(3).await;
    let calls = AtomicUsize::new(0);
    let fresh = Arc::clone(&b.ports.fresh);
    let ports = Ports {
        fresh: Arc::new(move || {
            assert!(calls.fetch_add(1, Ordering::SeqCst) != 0, "the first claim panics");
            fresh()
        }),
        ..b.ports.clone()
    };
    let worker = Arc::new(b.worker(ports));
    let bodies: Vec<&str> = jobs.iter().map(String::as_str).collect();
    let event = serde_json::from_value(sqs_event(&bodies)).unwrap();
    // One after the other, so that it is known which claims first.
    let response = lambda::batch(&worker, event, 1, UnixMs::new(i64::MAX), None).await;
    let response = serde_json::to_value(response).unwrap();
    assert_eq!(response, json!({"batchItemFailures": [{"itemIdentifier": "message-0"}]}));
    assert_eq!(b.head(&jobs[0]).await.state, State::Pending);
    assert_eq!(b.head(&jobs[1]).await.state, State::Done);
    assert_eq!(b.head(&jobs[2]).await.state, State::Done);
}

/// Takes down whoever asks it.
#[derive(Debug)]
struct Panicking;

#[async_trait]
impl Model for Panicking {
    async fn respond(&self, _: &TurnRequest, _: Duration) -> Result<TurnResponse, ModelError> {
        panic!("an answer that nobody thought of")
    }
}

#[tokio::test]
async fn an_incident_whose_run_keeps_panicking_fails_with_its_reason() {
    let b = Bench::new(CARDS).await;
    let jobs = b.open(1).await;
    let clock = Arc::new(ManualClock::at(b.ports.clock.now()));
    let mut worker = b.worker(Ports { clock: clock.clone(), ..b.ports.clone() });
    worker.mind = Mind::Model(Arc::new(Panicking));
    let worker = Arc::new(worker);

    for (attempt, again) in [(1, true), (2, true), (3, false)] {
        let event = serde_json::from_value(sqs_event(&[&jobs[0]])).unwrap();
        let response = lambda::batch(&worker, event, 1, UnixMs::new(i64::MAX), None).await;
        assert_eq!(response.batch_item_failures.len(), usize::from(again), "attempt {attempt}");
        assert_eq!(b.head(&jobs[0]).await.attempts, attempt);
        // Long after the lease, when the sweeper sends the job again.
        clock.advance(Duration::from_hours(1));
    }
    let head = b.head(&jobs[0]).await;
    let reason = "gave up after 3 attempts: the run panicked: an answer that nobody thought of";
    assert_eq!((head.state, head.reason.as_deref()), (State::Failed, Some(reason)));
}

#[tokio::test]
async fn a_killed_worker_leaves_what_the_next_one_goes_on_with() {
    let gate = Gate::new();
    let model = ScriptedOpenAi::answering([Scripted::Hang, message("no report").into()]).await;
    let b = Bench::new(&with_model(&model.base_url(), "sk-test")).await;
    let jobs = b.open(1).await;
    let function = b.start(&[]).await;
    let (outcome, ()) = tokio::join!(function.invoke(sqs_event(&[&jobs[0]]), LEFT), async {
        model.wait_for_requests(1).await;
        function.kill();
        gate.open();
    });
    assert_eq!(outcome, Outcome::Gone);
    let head = b.head(&jobs[0]).await;
    assert_eq!((head.state, head.attempts), (State::Running, 1));
    assert!(head.lease_until.is_some(), "the sweeper sends its job again once the lease is over");
}

#[tokio::test]
async fn its_configuration_may_be_in_a_bucket_with_the_prompts_beside_it() {
    let model = ScriptedOpenAi::with(|_, _| message("no report").into()).await;
    let config = with_model(&model.base_url(), "sk-test");
    let b = Bench::new(&config).await;
    b.aws.put_object(
        "conf/team/sentinel.yaml",
        Some(&config.replace("prompt: look", "prompt: prompts/pods.md")),
    );
    b.aws.put_object("conf/team/prompts/pods.md", Some("Look at the pod's last words."));
    let jobs = b.open(1).await;
    let function = b.start(&[("SENTINEL_CONFIG", "s3://conf/team/sentinel.yaml")]).await;
    assert_eq!(failures(&function.invoke(sqs_event(&[&jobs[0]]), LEFT).await), Vec::<&str>::new());
    let asked = model.requests()[0].body.to_string();
    assert!(asked.contains("the pod's last words"), "{asked}");
}
