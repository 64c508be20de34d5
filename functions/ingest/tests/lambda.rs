//! The real binary under a simulated Lambda, with a `DynamoDB` in memory and a fake SQS and Secrets Manager.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sentinel_aws::{Aws, CallLimits, Credentials, DynamoStore, create_table};
use sentinel_core::incident::Job;
use sentinel_core::ports::IncidentStore as _;
use sentinel_testkit::aws::{FakeAws, Trouble, dynamo};
use sentinel_testkit::gate::Gate;
use sentinel_testkit::lambda::{Function, Outcome, http_event, sqs_event};
use serde_json::{Value, json};
use tempfile::TempDir;

const CARDS: &str = "incident-cards: [{name: pods, resource: KubePodNotReady, prompt: look}]\n";
const BEARER: &str = "ingest: {bearer: ['${SENTINEL_TOKEN}']}\n";
const SECRET: &str = "ingest: {bearer: ['${secret:token#current}']}\n";
const WEBHOOK: &str = "/webhook/alertmanager";
const LEFT: Duration = Duration::from_secs(15);

struct Bench {
    aws: FakeAws,
    store: DynamoStore,
    dynamo: String,
    folder: TempDir,
}

impl Bench {
    async fn new(config: &str) -> Self {
        let (aws, dynamo) = (FakeAws::start().await, dynamo().await);
        let keys = Credentials::new("test", "test", None, None, "test");
        let client = Aws::at_endpoint(&dynamo, "us-east-1", keys, CallLimits::EMBEDDED).dynamo();
        create_table(&client, "incidents").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("infra")).unwrap();
        std::fs::write(folder.path().join("infra/aws.yaml"), config).unwrap();
        Self { aws, store: DynamoStore::new(client, "incidents"), dynamo, folder }
    }

    /// The function with these variables changed; an empty value unsets one.
    async fn start(&self, change: &[(&str, &str)]) -> Function {
        let (url, queue_url) = (self.aws.url(), self.aws.queue_url());
        let mut env = vec![
            ("SENTINEL_TABLE", "incidents"),
            ("SENTINEL_QUEUE_URL", &*queue_url),
            ("SENTINEL_TOKEN", "right"),
            ("AWS_ENDPOINT_URL", &*url),
            ("AWS_ENDPOINT_URL_DYNAMODB", &*self.dynamo),
        ];
        env.retain(|(name, _)| change.iter().all(|(changed, _)| changed != name));
        env.extend(change.iter().filter(|(_, value)| !value.is_empty()));
        Function::start(Path::new(env!("CARGO_BIN_EXE_sentinel-ingest")), self.folder.path(), &env).await
    }
}

fn webhook(pod: &str) -> String {
    json!({
        "version": "4", "status": "firing", "receiver": "sentinel", "groupKey": "{}",
        "groupLabels": {"alertname": "KubePodNotReady", "pod": pod}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://am.example",
        "alerts": [{
            "status": "firing", "labels": {"alertname": "KubePodNotReady", "pod": pod}, "annotations": {},
            "startsAt": "2026-11-22T12:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "f"
        }]
    })
    .to_string()
}

/// The answer's status and its body.
fn answer(outcome: &Outcome) -> (u64, Value) {
    let Outcome::Response(response) = outcome else { panic!("no answer: {outcome:?}") };
    assert_eq!(response["isBase64Encoded"], false, "{response}");
    let body = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
    (response["statusCode"].as_u64().unwrap(), body)
}

async fn post(function: &Function, headers: &[(&str, &str)], body: &str) -> (u64, Value) {
    answer(&function.invoke(http_event("$default", "POST", WEBHOOK, headers, body), LEFT).await)
}

const RIGHT: (&str, &str) = ("authorization", "Bearer right");

#[tokio::test]
async fn a_webhook_is_stored_and_its_job_is_sent() {
    let b = Bench::new(&[BEARER, CARDS].concat()).await;
    let function = b.start(&[]).await;
    let (status, receipt) = post(&function, &[RIGHT], &webhook("a")).await;
    assert_eq!((status, &receipt["accepted"]), (200, &json!(1)), "{receipt}");
    let messages = b.aws.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].queue_url, b.aws.queue_url());
    let job: Job = serde_json::from_str(&messages[0].body).unwrap();
    let head = b.store.load(&job.incident).await.unwrap().unwrap();
    assert_eq!(head.generation, job.generation);
    let (_, receipt) = post(&function, &[RIGHT], &webhook("a")).await;
    assert_eq!(receipt["duplicates"], 1, "{receipt}");
}

#[tokio::test]
async fn stages_base64_and_header_case_are_understood_and_the_rest_has_its_status() {
    let b = Bench::new(&[BEARER, CARDS].concat()).await;
    let function = b.start(&[]).await;
    let event = http_event("prod", "POST", WEBHOOK, &[("Authorization", "Bearer right")], &webhook("a"));
    assert_eq!(answer(&function.invoke(event, LEFT).await).0, 200);
    let mut event = http_event("$default", "POST", WEBHOOK, &[RIGHT], &BASE64_STANDARD.encode(webhook("b")));
    event["isBase64Encoded"] = true.into();
    assert_eq!(answer(&function.invoke(event, LEFT).await).0, 200);
    assert_eq!(b.aws.messages().len(), 2);

    assert_eq!(post(&function, &[("authorization", "Bearer wrong")], &webhook("c")).await.0, 401);
    assert_eq!(post(&function, &[], &webhook("c")).await.0, 401);
    assert_eq!(post(&function, &[RIGHT, ("content-encoding", "gzip")], &webhook("c")).await.0, 415);
    assert_eq!(post(&function, &[RIGHT], "{").await.0, 400);
    let get = http_event("$default", "GET", WEBHOOK, &[], "");
    assert_eq!(answer(&function.invoke(get, LEFT).await).0, 405);
    let elsewhere = http_event("prod", "POST", "/elsewhere", &[RIGHT], "");
    assert_eq!(answer(&function.invoke(elsewhere, LEFT).await).0, 404);
    let health = http_event("prod", "GET", "/healthz", &[], "");
    assert_eq!(answer(&function.invoke(health, LEFT).await).0, 200);
    assert_eq!(b.aws.messages().len(), 2, "what is refused writes nothing");
}

#[tokio::test]
async fn nothing_that_a_sender_may_write_makes_an_invocation_fail() {
    let b = Bench::new(&[BEARER, CARDS].concat()).await;
    let function = b.start(&[]).await;
    let odd = ["", ":", "a b", "a:99999", "[", "@", "é", "x/../y", "<>", "%"];
    for (n, odd) in odd.into_iter().enumerate() {
        for header in ["host", "x-forwarded-proto", "cookie", "user-agent"] {
            let status = post(&function, &[RIGHT, (header, odd)], &webhook(&n.to_string())).await.0;
            assert_eq!(status, 200, "{header}: {odd:?}");
        }
        let mut event = http_event("$default", "POST", WEBHOOK, &[RIGHT], &webhook(&n.to_string()));
        event["rawQueryString"] = odd.into();
        event["cookies"] = json!([odd]);
        event["requestContext"]["domainName"] = odd.into();
        assert_eq!(answer(&function.invoke(event, LEFT).await).0, 200, "the query {odd:?}");
        for path in [odd.to_owned(), format!("/{odd}"), format!("{WEBHOOK}//{odd}")] {
            for stage in ["$default", "prod", ""] {
                let event = http_event(stage, "POST", &path, &[RIGHT], &webhook("a"));
                assert_eq!(
                    answer(&function.invoke(event, LEFT).await).0,
                    404,
                    "the path {path:?} in {stage}"
                );
            }
        }
    }
    let incident = |body: &str| serde_json::from_str::<Job>(body).unwrap().incident;
    let incidents: HashSet<_> = b.aws.messages().iter().map(|message| incident(&message.body)).collect();
    assert_eq!(incidents.len(), odd.len(), "one of each alert, however it came");
}

#[tokio::test]
async fn what_api_gateway_never_sends_fails_its_invocation_and_the_next_is_answered() {
    let b = Bench::new(&[BEARER, CARDS].concat()).await;
    let function = b.start(&[]).await;
    let mut no_base64 = http_event("$default", "POST", WEBHOOK, &[RIGHT], "{}");
    no_base64["isBase64Encoded"] = true.into();
    let mut no_method = http_event("$default", "POST", WEBHOOK, &[RIGHT], &webhook("a"));
    no_method["requestContext"]["http"] = json!({});
    for (event, why) in [
        (no_base64, "`isBase64Encoded` is true, but `body` is not base64: Invalid symbol 123, offset 0."),
        (no_method, "requestContext.http: missing field `method`"),
        (sqs_event(&["{}"]), "missing field `requestContext`"),
    ] {
        let Outcome::Error(error) = function.invoke(event, LEFT).await else {
            panic!("an answer instead of {why}")
        };
        assert!(error["errorMessage"].as_str().unwrap().contains(why), "{why}: {error}");
    }
    assert_eq!(post(&function, &[RIGHT], &webhook("a")).await.0, 200);
    assert_eq!(b.aws.messages().len(), 1);
}

#[tokio::test]
async fn a_missing_table_is_503_and_the_log_names_it_with_the_request() {
    let b = Bench::new(&[BEARER, CARDS].concat()).await;
    let function = b.start(&[("SENTINEL_TABLE", "elsewhere")]).await;
    assert_eq!(post(&function, &[RIGHT], &webhook("a")).await.0, 503);
    let output = function.output();
    let line = output.lines().find(|line| line.contains("elsewhere")).expect(&output);
    let line: Value = serde_json::from_str(line).unwrap();
    assert!(line["error"].as_str().unwrap().contains("in table elsewhere"), "{line}");
    assert_eq!(line["request_id"], "request-1");
    assert!(line["xray_trace_id"].as_str().unwrap().starts_with("Root=1-"), "{line}");
    assert!(!output.contains("right"), "{output}");
}

#[tokio::test]
async fn a_table_that_the_role_may_not_write_to_is_503_and_the_log_names_the_action_and_the_table() {
    let b = Bench::new(&[BEARER, CARDS].concat()).await;
    let denied = FakeAws::start().await;
    denied.always(Some(Trouble::Error { status: 400, code: "AccessDeniedException" }));
    let function = b.start(&[("AWS_ENDPOINT_URL_DYNAMODB", &denied.url())]).await;
    assert_eq!(post(&function, &[RIGHT], &webhook("a")).await.0, 503);
    let output = function.output();
    let line = output.lines().find(|line| line.contains("AccessDeniedException")).expect(&output);
    assert!(line.contains("creating ") && line.contains("in table incidents: AccessDenied"), "{line}");
    assert!(line.contains("\"level\":\"ERROR\"") && line.contains("request-1"), "{line}");
    assert!(b.aws.asked().is_empty(), "nothing is sent for what is not stored");
    assert_eq!(denied.asked().len(), 1, "what is refused is not tried again");
}

#[tokio::test]
async fn a_queue_that_refuses_is_503_and_the_log_names_it() {
    for (status, code) in [(403, "AccessDeniedException"), (400, "QueueDoesNotExist")] {
        let b = Bench::new(&[BEARER, CARDS].concat()).await;
        let function = b.start(&[]).await;
        b.aws.always(Some(Trouble::Error { status, code }));
        assert_eq!(post(&function, &[RIGHT], &webhook("a")).await.0, 503);
        let output = function.output();
        let named = format!("sending to queue {}: {code}", b.aws.queue_url());
        assert!(output.contains(&named), "{named}:\n{output}");
        b.aws.always(None);
        assert_eq!(post(&function, &[RIGHT], &webhook("a")).await.0, 200, "the same again mends it");
        assert_eq!(b.aws.messages().len(), 1);
    }
}

#[tokio::test]
async fn a_bad_deployment_ends_at_once_and_says_why() {
    for (config, change, why) in [
        ([BEARER, CARDS].concat(), ("SENTINEL_TABLE", ""), "SENTINEL_TABLE is not set"),
        ([BEARER, CARDS].concat(), ("SENTINEL_QUEUE_URL", ""), "SENTINEL_QUEUE_URL is not set"),
        (
            [BEARER, CARDS].concat(),
            ("SENTINEL_TOKEN", ""),
            "infra/aws.yaml:1:19: error: ingest.bearer[0]: `SENTINEL_TOKEN` is not set",
        ),
        (
            "\ningest: {bearre: [a]}\n".to_owned(),
            ("X", ""),
            "infra/aws.yaml:2:10: error: ingest.bearre: unknown key; did you mean `bearer`?",
        ),
        (
            [BEARER, CARDS].concat(),
            ("SENTINEL_CONFIG", "absent.yaml"),
            "cannot read the configuration absent.yaml",
        ),
        (CARDS.to_owned(), ("X", ""), "`ingest` names no credentials"),
    ] {
        let b = Bench::new(&config).await;
        let (code, output) = b.start(&[change]).await.ended().await;
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains(why), "{why}:\n{output}");
    }
}

#[tokio::test]
async fn a_secret_store_that_is_down_is_503_and_then_its_token_is_right() {
    let b = Bench::new(&[SECRET, CARDS].concat()).await;
    b.aws.put_secret("token", r#"{"current": "right"}"#);
    b.aws.always(Some(Trouble::Error { status: 400, code: "AccessDeniedException" }));
    let function = b.start(&[]).await;
    function.ready().await;
    assert!(b.aws.asked().is_empty(), "the start asks nothing");
    let (status, body) = post(&function, &[RIGHT], &webhook("a")).await;
    assert_eq!(status, 503, "{body}");
    assert!(function.output().contains("reading secret token"), "{}", function.output());
    b.aws.always(None);
    // A failure stands for a second.
    let mut status = 503;
    while status == 503 {
        status = post(&function, &[RIGHT], &webhook("a")).await.0;
    }
    assert_eq!(status, 200);
    assert_eq!(post(&function, &[("authorization", "Bearer wrong")], &webhook("a")).await.0, 401);
}

#[tokio::test]
async fn it_needs_none_of_what_the_worker_needs() {
    let worker = "openai: {api-key: '${secret:model}'}\n\
                  mcp-servers: [{name: k8s, server-url: 'https://k8s.example/mcp', authorization: '${K8S_TOKEN}'}]\n";
    let b = Bench::new(&[BEARER, worker, CARDS].concat()).await;
    let function = b.start(&[]).await;
    assert_eq!(post(&function, &[RIGHT], &webhook("a")).await.0, 200);
    assert!(b.aws.asked().iter().all(|asked| asked.operation != "GetSecretValue"));
}

/// Webhooks of this many incidents, as one.
fn storm(incidents: usize) -> String {
    let mut storm: Value = serde_json::from_str(&webhook("0")).unwrap();
    let one = storm["alerts"][0].clone();
    let alerts = (0..incidents).map(|n| {
        let mut alert = one.clone();
        alert["labels"]["pod"] = n.to_string().into();
        alert
    });
    storm["alerts"] = alerts.collect();
    storm.to_string()
}

/// What was measured under this name, of all lines of the metrics.
fn measured(output: &str, name: &str) -> Vec<Value> {
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["_aws"].is_object()).filter(|line| line.get(name).is_some()).collect()
}

#[tokio::test]
async fn whatever_hangs_a_webhook_is_answered_before_the_deadline_and_the_log_names_it() {
    const ARN: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:team/token-AbCdEf";
    let left = Duration::from_secs(7);
    let by_alert = CARDS.replace("prompt: look", "prompt: look, dedupe-by: alert");
    let of_secret = SECRET.replace("token#", &format!("{ARN}#"));
    for (hangs, config, named) in [
        ("SQS", [BEARER, &by_alert].concat(), "sending to queue "),
        ("DYNAMODB", [BEARER, &by_alert].concat(), "in table incidents"),
        ("SECRETS_MANAGER", [&*of_secret, &by_alert].concat(), ARN),
    ] {
        let b = Bench::new(&config).await;
        let hung = FakeAws::start().await;
        hung.always(Some(Trouble::Held(Gate::new())));
        let variable = format!("AWS_ENDPOINT_URL_{hangs}");
        let function = b.start(&[(&variable, &hung.url()), ("SENTINEL_STACK", "alerts-eu")]).await;
        function.ready().await;
        let asked = Instant::now();
        let event = http_event("$default", "POST", WEBHOOK, &[RIGHT], &storm(100));
        let (status, body) = answer(&function.invoke(event, left).await);
        assert!(asked.elapsed() < left, "{hangs}: answered after {:?}", asked.elapsed());
        assert_eq!(status, 503, "{hangs}: {body}");
        let output = function.output();
        assert!(output.contains(named), "{hangs}: {named}:\n{output}");
        let put_off = measured(&output, "WebhooksPutOff");
        assert_eq!(put_off.len(), 1, "{output}");
        assert_eq!(put_off[0]["Stack"], "alerts-eu");
        drop(hung);
    }
}

#[tokio::test]
async fn who_is_refused_by_which_status_what_is_taken_and_what_was_throttled_is_measured() {
    let b = Bench::new(&[BEARER, CARDS].concat()).await;
    let function = b.start(&[("SENTINEL_STACK", "alerts-eu")]).await;
    assert_eq!(post(&function, &[("authorization", "Bearer wrong")], &webhook("a")).await.0, 401);
    assert_eq!(post(&function, &[RIGHT], "{").await.0, 400);
    b.aws.script(Trouble::Error { status: 400, code: "ThrottlingException" });
    assert_eq!(post(&function, &[RIGHT], &webhook("a")).await.0, 200);
    let output = function.output();
    let statuses: Vec<Value> =
        measured(&output, "RefusedWebhooks").iter().map(|line| line["Status"].clone()).collect();
    assert_eq!(statuses, ["401", "400"]);
    assert_eq!(measured(&output, "Webhooks").len(), 1);
    let throttled = measured(&output, "Throttled");
    assert_eq!(throttled.len(), 1, "once, and mended by the second attempt: {output}");
    assert_eq!(throttled[0]["Throttled"], 1);
    assert_eq!(throttled[0]["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["Stack"]]));
}

#[tokio::test]
async fn its_configuration_may_be_in_a_bucket_and_one_that_is_not_there_ends_it_and_is_named() {
    let b = Bench::new("ingest: {bearer: [of-the-zip]}\n").await;
    b.aws.put_object("conf/team/sentinel.yaml", Some(&[BEARER, CARDS].concat()));
    let function = b.start(&[("SENTINEL_CONFIG", "s3://conf/team/sentinel.yaml")]).await;
    assert_eq!(post(&function, &[RIGHT], &webhook("a")).await.0, 200);
    assert_eq!(post(&function, &[("authorization", "Bearer of-the-zip")], &webhook("a")).await.0, 401);
    let asked = b.aws.asked().into_iter().filter(|asked| asked.operation == "GetObject").count();
    assert_eq!(asked, 1, "once at the start, and not again within a minute");
    let (code, output) = b.start(&[("SENTINEL_CONFIG", "s3://conf/absent.yaml")]).await.ended().await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("reading s3://conf/absent.yaml") && output.contains("s3:GetObject"), "{output}");
}
