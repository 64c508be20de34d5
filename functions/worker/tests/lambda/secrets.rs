use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sentinel_aws::Secrets;
use sentinel_config::{Reading, load_for};
use sentinel_core::incident::State;
use sentinel_core::intake::intake;
use sentinel_core::redact::Redactor;
use sentinel_telemetry::Metrics;
use sentinel_testkit::aws::Trouble;
use sentinel_testkit::builders::{self, alert};
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::lambda::sqs_event;
use sentinel_testkit::openai::{ScriptedOpenAi, message};
use sentinel_worker::lambda::{Live, LiveError};

use crate::support::{Bench, client, with_model};

const SECRET: &str = "arn:aws:secretsmanager:us-east-1:000000000000:secret:model-AbCdEf";

async fn live(b: &Bench, clock: &Arc<ManualClock>) -> Result<Live, LiveError> {
    let secrets = Secrets::new(client(&b.aws.url()).secrets(), clock.clone(), [SECRET.to_owned()].into());
    let first = load_for(Reading::Worker, &b.source(), &|_| None, &BTreeMap::new()).unwrap();
    let (ports, metrics) = (b.ports.clone(), Metrics::off());
    let started = Live::start(first, b.source(), BTreeMap::new(), ports, secrets, metrics, None).await;
    started.map(|(live, _)| live)
}

#[tokio::test]
async fn the_models_key_comes_from_the_secret_store_and_is_in_no_line_of_the_log() {
    let model = ScriptedOpenAi::with(|_, _| message("no report").into()).await;
    let b = Bench::new(&with_model(&model.base_url(), &format!("${{secret:{SECRET}#key}}"))).await;
    b.aws.put_secret(SECRET, r#"{"key": "sk-swordfish"}"#);
    let jobs = b.open(1).await;
    let function = b.start(&[]).await;
    function.invoke(sqs_event(&[&jobs[0]]), Duration::from_mins(12)).await;
    let requests = model.requests();
    assert_eq!(requests[0].headers["authorization"], "Bearer sk-swordfish");
    assert!(!function.output().contains("swordfish"), "{}", function.output());
}

#[tokio::test]
async fn a_rotated_secret_gives_a_new_worker_and_an_unchanged_one_none() {
    let b = Bench::new(&with_model("https://model.example/v1", &format!("${{secret:{SECRET}}}"))).await;
    b.aws.put_secret(SECRET, "sk-one");
    let clock = Arc::new(ManualClock::default());
    let live = live(&b, &clock).await.unwrap();
    let first = live.worker().await.unwrap();
    clock.advance(Duration::from_mins(5));
    assert!(Arc::ptr_eq(&first, &live.worker().await.unwrap()));
    b.aws.put_secret(SECRET, "sk-two");
    clock.advance(Duration::from_mins(5));
    let second = live.worker().await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(second.redactor.redact("sk-two"), first.redactor.redact("sk-one"));
    assert!(!live.redacted("a line with sk-two").contains("sk-two"), "the log knows the new one, too");

    b.aws.always(Some(Trouble::Error { status: 500, code: "InternalServiceError" }));
    clock.advance(Duration::from_mins(5));
    assert!(Arc::ptr_eq(&second, &live.worker().await.unwrap()), "it goes on with what it has");
}

#[tokio::test]
async fn what_ingest_did_not_know_to_be_a_secret_reaches_no_model_and_leaves_the_head() {
    const TOKEN: &str = "mcptok-without-a-known-shape-5544";
    let model = ScriptedOpenAi::with(|_, _| message("no report").into()).await;
    let server =
        format!("mcp-servers: [{{name: a, server-url: 'https://a.example/mcp', authorization: {TOKEN}}}]\n");
    let b = Bench::new(&(with_model(&model.base_url(), "sk-test") + &server)).await;
    let says = format!("the server says {TOKEN}");
    let told = alert("KubePodNotReady").label("note", &says).label(&says, "x").annotation(&says, &says);
    let cards = b.loaded().settings.cards;
    let receipt = intake(&b.ports, &cards, &Redactor::default(), &builders::message([told])).await.unwrap();
    let body = b.aws.messages().remove(0).body;
    assert!(format!("{:?}", b.head(&body).await).contains(TOKEN), "ingest knows only its own");

    let job = serde_json::from_str(&body).unwrap();
    let far = sentinel_core::UnixMs::new(i64::MAX);
    let _ = b.worker(b.ports.clone()).handle(&job, far).await.unwrap();
    let head = b.head(&body).await;
    assert_eq!((head.state, &head.id), (State::Done, &receipt.incidents[0].id));
    assert!(!format!("{head:?}").contains(TOKEN), "{head:?}");
    let asked: String = model.requests().iter().map(|request| request.body.to_string()).collect();
    assert!(asked.contains("the server says [redacted") && !asked.contains(TOKEN), "{asked}");
}

#[tokio::test]
async fn without_its_secrets_it_does_not_start_and_says_which() {
    let b = Bench::new(&with_model("https://model.example/v1", &format!("${{secret:{SECRET}}}"))).await;
    let (code, output) = b.start(&[]).await.ended().await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains(&format!("reading secret {SECRET}")), "{output}");
}

#[tokio::test]
async fn a_configuration_that_does_not_compile_ends_it_with_the_place() {
    let b = Bench::new("incident-cards:\n  - {name: pods, resource: X, prompt: '{{ broken'}\n").await;
    let (code, output) = b.start(&[]).await.ended().await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("infra/aws.yaml:2:") && output.contains("incident-cards[0].prompt"), "{output}");
}
