//! Messages of Amazon SNS, signed by a key that was thrown away: `openssl dgst -sign` over what SNS signs, with SHA-1 for
//! version 1 and SHA-256 for version 2. The files in `sns` are whole requests, and the certificate is self-signed.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use sentinel_core::UnixMs;
use sentinel_core::ports::Ports;
use sentinel_core::redact::Redactor;
use sentinel_http::{AddressPolicy, HttpClient, HttpError, Url};
use sentinel_ingest::{Authenticator, Credentials, Fetch, Ingest, WEBHOOK_PATH};
use sentinel_local::{Backend, LocalQueue};
use sentinel_testkit::builders::{NOON, card};
use sentinel_testkit::clock::ManualClock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const TOPIC: &str = "arn:aws:sns:eu-west-1:000000000000:alerts";
const CERTIFICATE: &[u8] = include_bytes!("sns/certificate.pem");
const ALARM: &str = include_str!("sns/alarm.json");
const PROMETHEUS: &str = include_str!("sns/prometheus.json");
const SUBSCRIBE: &str = include_str!("sns/subscribe.json");

/// Amazon SNS, as far as it is asked.
#[derive(Debug)]
struct FakeSns {
    answer: Mutex<Result<(u16, Vec<u8>), HttpError>>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Fetch for FakeSns {
    async fn get(&self, url: &Url) -> Result<(u16, Vec<u8>), HttpError> {
        self.asked.lock().unwrap().push(url.to_string());
        self.answer.lock().unwrap().clone()
    }
}

struct Bench {
    ingest: Ingest,
    ports: Ports,
    sns: Arc<FakeSns>,
    clock: Arc<ManualClock>,
}

impl Bench {
    /// With these topics beside a bearer token.
    async fn new(topics: &[&str]) -> Self {
        let clock = Arc::new(ManualClock::default());
        let (queue, _) = LocalQueue::new(clock.clone());
        let fresh = AtomicUsize::new(0);
        let ports = Ports {
            store: Backend::memory().await.unwrap().store(),
            queue: Arc::new(queue),
            clock: clock.clone(),
            fresh: Arc::new(move || format!("writer-{}", fresh.fetch_add(1, Ordering::SeqCst))),
            signing_key: None,
        };
        let auth = Authenticator::new(Credentials {
            bearer: vec!["right-token".into()],
            sns: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            ..Credentials::default()
        });
        let sns = Arc::new(FakeSns {
            answer: Mutex::new(Ok((200, CERTIFICATE.to_vec()))),
            asked: Mutex::default(),
        });
        let ingest = Ingest::new(ports.clone(), [card("any").build()].into(), auth, Redactor::default());
        Self { ingest: ingest.with_fetch(sns.clone()), ports, sns, clock }
    }

    /// Posts a message as SNS does.
    async fn post(&self, message: &str) -> (u16, Value) {
        self.post_with(message, None).await
    }

    async fn post_with(&self, message: &str, token: Option<&str>) -> (u16, Value) {
        let mut request = Request::post(WEBHOOK_PATH).header("content-type", "text/plain; charset=UTF-8");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = self.ingest.handle(request.body(Bytes::from(message.to_owned())).unwrap()).await;
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.sns.asked.lock().unwrap())
    }
}

/// The message with another value in a field.
fn with(message: &str, field: &str, value: impl Into<Value>) -> String {
    let mut read: Value = serde_json::from_str(message).unwrap();
    read[field] = value.into();
    serde_json::to_string_pretty(&read).unwrap()
}

#[tokio::test]
async fn a_message_of_a_listed_topic_comes_in_with_either_version_and_its_alerts_are_taken() {
    let bench = Bench::new(&["arn:aws:sns:eu-west-1:000000000000:other", TOPIC]).await;
    for (message, alertname) in [(PROMETHEUS, "CheckoutErrors"), (ALARM, "orders-queue-age")] {
        let (status, receipt) = bench.post(message).await;
        assert_eq!((status, &receipt["accepted"]), (200, &json!(1)), "{receipt}");
        let head = bench.ports.store.recent(10).await.unwrap();
        let head = head.iter().find(|head| head.labels["alertname"] == alertname).unwrap();
        let kept = bench.ports.store.received(&head.id, head.generation).await.unwrap();
        let kept: Value = serde_json::from_str(&kept[0].body).unwrap();
        assert_eq!(kept["envelope"]["verifiedBy"], "sns[1]");
    }
    assert_eq!(bench.asked().len(), 1, "the certificate is kept");
    bench.clock.advance(Duration::from_mins(20));
    assert_eq!(bench.post(ALARM).await.0, 200, "the same again, as SNS sends it");
}

#[tokio::test]
async fn whatever_is_changed_in_a_signed_message_it_is_refused() {
    let bench = Bench::new(&[TOPIC]).await;
    for (field, value) in [
        ("Message", json!("{\"alerts\":[]}")),
        ("MessageId", json!("7f1c0f5e-2c55-5a4e-9a53-5e5f4c5d0002")),
        ("Subject", json!("OK")),
        ("Subject", Value::Null),
        ("Timestamp", json!("2026-11-22T11:59:31.250Z")),
        ("Signature", json!("AAAA")),
        ("Signature", json!("not base64")),
        ("SignatureVersion", json!("1")),
        ("SignatureVersion", json!("3")),
        ("Type", json!("UnsubscribeConfirmation")),
        ("SigningCertURL", json!("https://sns.eu-west-1.evil.com/SimpleNotificationService-0a.pem")),
        ("SigningCertURL", json!("http://169.254.169.254/SimpleNotificationService-0a.pem")),
    ] {
        let (status, answer) = bench.post(&with(ALARM, field, value.clone())).await;
        assert_eq!(status, 403, "{field}: {value}: {answer}");
    }
    assert!(bench.asked().iter().all(|url| url.starts_with("https://sns.eu-west-1.amazonaws.com/")));
    assert_eq!(bench.post(&with(ALARM, "Unknown", 1)).await.0, 200, "what is not signed says nothing");
    let twice = ALARM.replacen("\"MessageId\"", "\"Message\": \"x\", \"MessageId\"", 1);
    assert_eq!(bench.post(&twice).await.0, 401, "of two values nobody could say which was signed");
    assert!(bench.post_with(&with(ALARM, "Message", "{}"), Some("right-token")).await.0 == 403);
    assert_eq!(bench.ports.store.recent(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_over_an_hour_old_is_refused_and_nobody_is_asked() {
    let bench = Bench::new(&[TOPIC]).await;
    let at = UnixMs::parse_rfc3339("2026-11-22T11:59:30.250Z").unwrap();
    for (now, status) in [
        (at.plus(Duration::from_hours(1)), 200),
        (at.plus(Duration::from_millis(3_600_001)), 403),
        (at.minus(Duration::from_millis(3_600_001)), 403),
    ] {
        bench.clock.set(now);
        let (got, answer) = bench.post(ALARM).await;
        assert_eq!(got, status, "{now}: {answer}");
    }
    assert_eq!(bench.asked().len(), 1);
    assert_eq!(bench.post(&with(ALARM, "Timestamp", "yesterday")).await.0, 403);
}

#[tokio::test]
async fn a_topic_that_is_not_listed_opens_nothing_and_is_asked_about_nothing() {
    let bench = Bench::new(&["arn:aws:sns:eu-west-1:000000000000:other"]).await;
    assert_eq!(bench.post(ALARM).await.0, 401);
    assert_eq!(bench.post(SUBSCRIBE).await.0, 401);
    assert!(bench.ports.store.recent(10).await.unwrap().is_empty());

    let (status, answer) = bench.post_with(SUBSCRIBE, Some("right-token")).await;
    assert_eq!(status, 403);
    assert!(answer["error"].as_str().unwrap().contains("`ingest.sns`"), "{answer}");
    // Another credential opens the message of any topic; its signature then means nothing.
    let (status, receipt) = bench.post_with(ALARM, Some("right-token")).await;
    assert_eq!((status, &receipt["accepted"]), (200, &json!(1)));
    assert_eq!(bench.asked(), [""; 0]);
}

#[tokio::test]
async fn a_subscription_is_confirmed_for_a_listed_topic_with_sns_alone() {
    let bench = Bench::new(&[TOPIC]).await;
    assert_eq!(bench.post(SUBSCRIBE).await, (200, json!({"noted": true})));
    let asked = bench.asked();
    assert_eq!(asked.len(), 2);
    assert!(
        asked[1].starts_with("https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=")
    );
    let elsewhere = with(SUBSCRIBE, "SubscribeURL", "https://evil.example/?Action=ConfirmSubscription");
    assert_eq!(bench.post(&elsewhere).await.0, 403);
    assert_eq!(bench.post(include_str!("sns/unsubscribe.json")).await, (200, json!({"noted": true})));
    assert_eq!(bench.asked(), [""; 0], "an end is not confirmed, and not undone");
    *bench.sns.answer.lock().unwrap() = Ok((500, vec![]));
    assert_eq!(bench.post(SUBSCRIBE).await.0, 503);
}

#[tokio::test]
async fn where_sns_cannot_be_asked_the_sender_comes_again() {
    let bench = Bench::new(&[TOPIC]).await;
    for (answer, status) in [
        (Err(HttpError::TimedOut), 503),
        (Ok((503, vec![])), 503),
        (Err(HttpError::Redirect { host: "evil.example".into() }), 403),
        (Ok((404, vec![])), 403),
        (Ok((200, b"<html>".to_vec())), 403),
        (Ok((200, CERTIFICATE.to_vec())), 200),
    ] {
        *bench.sns.answer.lock().unwrap() = answer.clone();
        assert_eq!(bench.post(ALARM).await.0, status, "{answer:?}");
    }
}

#[tokio::test]
async fn a_certificate_is_fetched_again_after_a_day() {
    let bench = Bench::new(&[TOPIC]).await;
    bench.clock.set(NOON.minus(Duration::from_hours(24)));
    assert_eq!(bench.post(include_str!("sns/yesterday.json")).await.0, 200);
    bench.clock.set(NOON.minus(Duration::from_millis(1)));
    assert_eq!(bench.post(ALARM).await.0, 200);
    assert_eq!(bench.asked().len(), 1);
    bench.clock.set(NOON);
    assert_eq!(bench.post(ALARM).await.0, 200);
    assert_eq!(bench.asked().len(), 1);
}

#[tokio::test]
async fn what_a_topic_carries_that_is_no_json_is_told() {
    let bench = Bench::new(&[TOPIC]).await;
    let (status, answer) = bench.post(include_str!("sns/text.json")).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("not JSON"), "{answer}");
}

#[tokio::test]
async fn the_http_client_follows_no_redirect_for_a_certificate() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let mut served = 0;
        for answer in [
            "HTTP/1.1 307 x\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
            format!("HTTP/1.1 200 OK\r\ncontent-length: 65537\r\n\r\n{}", "x".repeat(65_537)),
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            served += 1;
        }
        served
    });
    let client = HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"]));
    let url = Url::parse(&format!("http://{at}/certificate.pem")).unwrap();
    assert!(matches!(client.get(&url).await, Err(HttpError::Redirect { .. })));
    assert_eq!(client.get(&url).await, Ok((200, b"ok".to_vec())));
    assert!(matches!(client.get(&url).await, Err(HttpError::TooLarge { .. })));
    assert_eq!(served.await.unwrap(), 3);
}
