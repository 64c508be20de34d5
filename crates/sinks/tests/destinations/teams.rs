//! The Teams sink: one card an event, within Teams's limits, with nothing in it but text.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::incident::{Event, State};
use sentinel_core::ports::{Sink as _, SinkError, Told};
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_sinks::{Teams, TeamsSettings};
use sentinel_testkit::teams::{Answers, LARGEST, SIGNATURE, TeamsServer, shown};
use serde_json::Value;

use crate::support::{http, telling};
use crate::tellings::{Kind, NASTY, fill, of, outline};

fn teams(server: &TeamsServer) -> Teams {
    Teams::new(TeamsSettings { url: server.url().parse().unwrap() }, http())
}

/// The card for a person: its texts, and what its actions lead to.
fn read(body: &Value) -> String {
    let actions = body.pointer("/attachments/0/content/actions").and_then(Value::as_array);
    let word = |action: &Value, name: &str| action.get(name).and_then(Value::as_str).unwrap().to_owned();
    let link = |action: &Value| format!("[{}]({})\n", word(action, "title"), word(action, "url"));
    let links = actions.into_iter().flatten().map(link);
    shown(body) + &links.collect::<String>()
}

#[tokio::test]
async fn every_event_is_a_card_of_its_own_that_teams_takes_however_long_or_hostile_its_texts_are() {
    let server = TeamsServer::start([]).await;
    let sink = teams(&server);
    for (event, kind) in Event::ALL.into_iter().flat_map(|event| Kind::ALL.map(|kind| (event, kind))) {
        assert_eq!(sink.tell(&of(event, kind)).await.unwrap(), Told::default(), "{event} {kind}");
        let body = server.posted().pop().unwrap();
        let text = read(&body);
        assert!(text.contains("incident 0f3a, card "), "{text}");
        insta::assert_snapshot!(format!("{event}_{kind}"), outline(kind, &text));
    }
    assert_eq!(server.faults(), Vec::<String>::new());
    assert_eq!(server.posted().len(), Event::ALL.len() * Kind::ALL.len());
}

#[tokio::test]
async fn the_findings_are_one_card_of_text_runs_containers_and_actions() {
    let server = TeamsServer::start([]).await;
    let _ = teams(&server).tell(&of(Event::Findings, Kind::Short)).await.unwrap();
    insta::assert_json_snapshot!("body", server.posted()[0]);
}

#[tokio::test]
async fn no_character_makes_a_body_too_large_and_what_is_left_out_is_named() {
    let server = TeamsServer::start([]).await;
    let sink = teams(&server);
    for text in ["x", "\"", "\\", "🔥", "\u{1b}", "\u{202e}", "&", "ß"] {
        for event in Event::ALL {
            let mut telling = of(event, Kind::Short);
            fill(&mut telling, &text.repeat(1_000), if event == Event::Storm { 70 } else { 8 });
            telling.head.card = text.repeat(1_000);
            let _ = sink.tell(&telling).await.unwrap();
            let body = server.posted().pop().unwrap();
            assert!(body.to_string().len() <= LARGEST, "{event} {text:?}");
            if event == Event::Findings {
                let shown = shown(&body);
                assert!(shown.contains("… left out: "), "{shown}");
                assert!(shown.contains("sentinel incidents show 0f3a"), "{shown}");
            }
        }
    }
    assert_eq!(server.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn texts_from_outside_are_text_and_only_links_of_the_view_are_links() {
    let server = TeamsServer::start([]).await;
    let _ = teams(&server).tell(&of(Event::Findings, Kind::Hostile)).await.unwrap();
    assert_eq!(server.faults(), Vec::<String>::new(), "no kind of element in it knows markup");
    let body = server.posted().pop().unwrap();
    let text = body.to_string();
    assert!(!text.contains('\u{202e}') && !text.contains("\\u001b"), "{text}");
    assert!(!text.contains("entities") && !text.contains("\"TextBlock\""), "{text}");
    assert_eq!(body["attachments"][0]["content"].get("actions"), None, "none of these is a link of the view");
    assert!(shown(&body).contains(NASTY.split("evil.example **").next().unwrap()), "{}", shown(&body));
}

#[tokio::test]
async fn two_hundred_and_two_hundred_and_two_mean_taken() {
    let server = TeamsServer::start([Answers::TakesAtOnce, Answers::Takes]).await;
    let sink = teams(&server);
    for _ in 0..2 {
        assert_eq!(sink.tell(&telling(Event::Started, State::Running)).await.unwrap(), Told::default());
    }
}

#[tokio::test]
async fn answers_say_whether_to_try_again_and_what_to_do() {
    let script = [
        (
            Answers::Refuses(429, Some(17), "TooManyRequests"),
            Some(Duration::from_secs(17)),
            "TooManyRequests",
        ),
        (Answers::Refuses(503, None, "ServerBusy"), Some(Duration::ZERO), "503"),
        (Answers::Refuses(408, None, "Timeout"), Some(Duration::ZERO), "408"),
        (Answers::Refuses(401, None, "DirectApiAuthorizationRequired"), None, "copy the workflow's again"),
        (Answers::Refuses(404, None, "WorkflowNotFound"), None, "the workflow is gone"),
        (Answers::Refuses(400, None, "WorkflowTriggerIsNotEnabled"), None, "(WorkflowTriggerIsNotEnabled)"),
        (Answers::Refuses(413, None, "RequestEntityTooLarge"), None, "413"),
    ];
    let server = TeamsServer::start(script.iter().map(|(answers, ..)| answers.clone())).await;
    let sink = teams(&server);
    for (_, after, says) in &script {
        let error = sink.tell(&telling(Event::Findings, State::Done)).await.unwrap_err();
        assert_eq!(error.retry_after(), *after, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!format!("{error} {error:?} {sink:?}").contains(SIGNATURE), "the address is a credential");
    }
}

#[tokio::test]
async fn a_card_whose_answer_was_lost_is_posted_again() {
    let server = TeamsServer::start([Answers::TakesUnheard]).await;
    let sink = teams(&server);
    let lost = sink.tell(&telling(Event::Findings, State::Done)).await;
    assert!(matches!(&lost, Ok(_) | Err(SinkError::Retry { .. })), "{lost:?}");
}

#[tokio::test]
async fn the_address_is_shown_nowhere_and_is_not_called_where_the_network_does_not_allow_it() {
    let server = TeamsServer::start([]).await;
    let settings = TeamsSettings { url: server.url().parse().unwrap() };
    assert!(!format!("{settings:?}").contains(SIGNATURE), "{settings:?}");
    let sink = Teams::new(settings, Arc::new(HttpClient::new(AddressPolicy::default())));
    let error = sink.tell(&telling(Event::Findings, State::Done)).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("allow-insecure-hosts"), "{error}");
    assert!(!error.to_string().contains(SIGNATURE), "{error}");
    assert_eq!(sink.check().await.unwrap(), None, "it cannot be asked without telling it something");
    assert!(server.posted().is_empty());
}
