//! The webhook sink: what it posts, how it signs, what it makes of answers.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sentinel_core::incident::{Event, State};
use sentinel_core::ports::{Sink as _, SinkError, Told};
use sentinel_sinks::webhook::MAX_ALERTS;
use sentinel_sinks::{BadSecret, Webhook, WebhookSettings};
use sentinel_testkit::builders::{NOON, alert, notification};
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::hook::{HookServer, Receives};
use sha2::Sha256;

use crate::support::{head, http, telling};

fn webhook(url: &str, secret: Option<&str>) -> Webhook {
    let settings = WebhookSettings { url: url.parse().unwrap(), secret: secret.map(Into::into) };
    Webhook::new(settings, http(), Arc::new(ManualClock::at(NOON))).unwrap()
}

#[tokio::test]
async fn findings_are_posted_whole_with_what_they_are_about() {
    let server = HookServer::start([]).await;
    let sink = webhook(&server.url(), Some("s3cret"));
    assert_eq!(sink.tell(&telling(Event::Findings, State::Done)).await.unwrap(), Told::default());
    let [posted] = &server.posted()[..] else { panic!("one request") };
    insta::assert_json_snapshot!(posted.body);
    let told = include_str!("../../README.md");
    for part in [&posted.body, &posted.body["incident"], &posted.body["alerts"][0], &posted.body["report"]] {
        for field in part.as_object().unwrap().keys() {
            assert!(told.contains(&format!("`{field}`")), "README.md lists no {field}");
        }
    }
    assert_eq!(posted.headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(posted.headers["sentinel-event"], "findings");
    assert_eq!(posted.headers["idempotency-key"], posted.id());
    assert_eq!(posted.body["id"], posted.id());
}

#[tokio::test]
async fn a_signature_covers_the_id_the_time_and_the_body() {
    let server = HookServer::start([]).await;
    let encoded = format!("whsec_{}", STANDARD.encode("key of bytes"));
    for (secret, key) in [("s3cret", "s3cret"), (encoded.as_str(), "key of bytes")] {
        let sink = webhook(&server.url(), Some(secret));
        let _ = sink.tell(&telling(Event::Started, State::Running)).await.unwrap();
        let posted = server.posted().pop().unwrap();
        let time = NOON.get() / 1000;
        assert_eq!(posted.headers["webhook-timestamp"], time.to_string());
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(
            format!("{}.{time}.{}", posted.id(), String::from_utf8(posted.raw.clone()).unwrap()).as_bytes(),
        );
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(posted.headers["webhook-signature"], expected);
    }
    let unsigned = webhook(&server.url(), None);
    let _ = unsigned.tell(&telling(Event::Started, State::Running)).await.unwrap();
    assert!(!server.posted().pop().unwrap().headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn a_try_whose_answer_was_lost_is_taken_once_by_its_id() {
    let server = HookServer::start([Receives::TakesUnheard]).await;
    let sink = webhook(&server.url(), Some("s3cret"));
    let telling = telling(Event::Findings, State::Done);
    let lost = sink.tell(&telling).await;
    assert!(matches!(&lost, Ok(_) | Err(SinkError::Retry { .. })), "{lost:?}");
    let _ = sink.tell(&telling).await.unwrap();
    assert_eq!((server.posted().len(), server.taken().len()), (2, 1));
}

#[tokio::test]
async fn other_events_incidents_and_sinks_have_other_ids() {
    let server = HookServer::start([]).await;
    let sink = webhook(&server.url(), None);
    for key in ["a-1-findings-hook-", "a-1-updated-hook-x", "b-1-findings-hook-", "a-1-findings-höok: 2-"] {
        let mut telling = telling(Event::Findings, State::Done);
        telling.idempotency_key = key.into();
        let _ = sink.tell(&telling).await.unwrap();
    }
    assert_eq!(server.taken().len(), 4);
}

#[tokio::test]
async fn answers_say_whether_to_try_again_and_when() {
    let elsewhere = HookServer::start([]).await;
    let script = [
        (Receives::Refuses(429, Some(17)), Some(Duration::from_secs(17)), "429"),
        (Receives::Refuses(503, None), Some(Duration::ZERO), "503"),
        (Receives::Refuses(408, None), Some(Duration::ZERO), "408"),
        (Receives::Refuses(404, None), None, "404"),
        (Receives::Refuses(410, Some(3)), None, "410"),
        (Receives::Redirects(elsewhere.url()), None, "redirects are not followed"),
    ];
    let server = HookServer::start(script.iter().map(|(receives, ..)| receives.clone())).await;
    let sink = webhook(&server.url(), Some("s3cret"));
    for (_, after, says) in &script {
        let error = sink.tell(&telling(Event::Findings, State::Done)).await.unwrap_err();
        assert_eq!(error.retry_after(), *after, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains("/hook"), "a path may be a credential: {error}");
    }
    assert!(elsewhere.posted().is_empty());
}

#[tokio::test]
async fn an_address_that_the_network_does_not_allow_is_never_called() {
    let server = HookServer::start([]).await;
    let settings = WebhookSettings { url: server.url().parse().unwrap(), secret: None };
    let http = Arc::new(sentinel_http::HttpClient::new(sentinel_http::AddressPolicy::default()));
    let sink = Webhook::new(settings, http, Arc::new(ManualClock::at(NOON))).unwrap();
    let error = sink.tell(&telling(Event::Findings, State::Done)).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("allow-insecure-hosts"), "{error}");
    assert!(server.posted().is_empty());
}

#[tokio::test]
async fn a_large_group_is_cut_and_says_so() {
    let server = HookServer::start([]).await;
    let mut telling = telling(Event::Updated, State::Done);
    let alerts = (0..MAX_ALERTS + 7).map(|n| alert("PodDown").label("pod", &format!("p{n}")));
    let mut many = notification("pods", alerts);
    many.envelope.truncated_alerts = 5;
    telling.notification = Some(many);
    let _ = webhook(&server.url(), None).tell(&telling).await.unwrap();
    let body = &server.posted()[0].body;
    assert_eq!(body["alerts"].as_array().unwrap().len(), MAX_ALERTS);
    assert_eq!(body["alerts_left_out"], 12);
}

#[tokio::test]
async fn an_incident_without_a_report_is_told_with_its_reason() {
    let server = HookServer::start([]).await;
    let mut failed = telling(Event::Failed, State::Failed);
    failed.head = sentinel_core::incident::Head {
        reason: Some("gave up after 3 attempts".into()),
        resolved_at: Some(NOON),
        ..head(State::Failed)
    };
    failed.notification = None;
    let _ = webhook(&server.url(), None).tell(&failed).await.unwrap();
    insta::assert_json_snapshot!(server.posted()[0].body);
}

#[test]
fn a_secret_that_is_not_what_it_says_is_refused() {
    let settings =
        WebhookSettings { url: "https://hooks.example/x".parse().unwrap(), secret: Some("whsec_%%%".into()) };
    assert_eq!(Webhook::new(settings, http(), Arc::new(ManualClock::at(NOON))).unwrap_err(), BadSecret);
}
