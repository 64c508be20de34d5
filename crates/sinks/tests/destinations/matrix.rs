//! The Matrix sink: a message, its thread, transactions, and a homeserver's errors.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::incident::{Event, State};
use sentinel_core::lifecycle::MOST_REMOTE;
use sentinel_core::ports::{Sink as _, SinkError, Telling};
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_sinks::{Matrix, MatrixSettings};
use sentinel_testkit::matrix::{Does, MatrixServer, USER};
use serde_json::{Value, json};

use crate::support::{http, telling};
use crate::tellings::{Kind, fill, of, outline, state};

const TOKEN: &str = "syt-token-that-nobody-may-see";
const ROOM: &str = "!ops/1:hs.example";

fn matrix(server: &MatrixServer, room: &str) -> Matrix {
    with_token(server, room, TOKEN)
}

fn with_token(server: &MatrixServer, room: &str, token: &str) -> Matrix {
    let homeserver = server.url().parse().unwrap();
    Matrix::new(MatrixSettings { homeserver, token: token.into(), room: room.into() }, http())
}

/// Tells this as the next thing, and gives what is kept of it.
async fn next(sink: &Matrix, parent: Option<String>, event: Event) -> (Option<String>, Option<String>) {
    let telling = Telling { parent, ..telling(event, state(event)) };
    let told = sink.tell(&telling).await.unwrap();
    (told.remote, told.amiss)
}

/// The event for a person: the plain text, and the HTML a line for each part.
fn read(content: &Value) -> String {
    let html = content["formatted_body"].as_str().unwrap();
    let html = ["<br>", "</ul>", "</li>", "</blockquote>", "<ul>"]
        .iter()
        .fold(html.to_owned(), |html, tag| html.replace(tag, &format!("{tag}\n")));
    format!("{}\n\n{html}\n", content["body"].as_str().unwrap())
}

#[tokio::test]
async fn every_event_is_a_message_that_a_homeserver_takes_however_long_or_hostile_its_texts_are() {
    let server = MatrixServer::start(TOKEN, &[ROOM], []).await;
    let sink = matrix(&server, ROOM);
    for (event, kind) in Event::ALL.into_iter().flat_map(|event| Kind::ALL.map(|kind| (event, kind))) {
        let mut telling = of(event, kind);
        telling.idempotency_key = format!("{event} {kind}");
        let _ = sink.tell(&telling).await.unwrap();
        let said = server.events().pop().unwrap();
        assert!(said.text().contains("incident 0f3a, card "), "{}", said.text());
        insta::assert_snapshot!(format!("{event}_{kind}"), outline(kind, &read(&said.content)));
    }
    assert_eq!(server.events().len(), Event::ALL.len() * Kind::ALL.len());
}

#[tokio::test]
async fn what_comes_after_the_first_event_stands_in_its_thread_and_mentions_nobody() {
    let server = MatrixServer::start(TOKEN, &[ROOM], []).await;
    let sink = matrix(&server, ROOM);
    let (first, _) = next(&sink, None, Event::Started).await;
    let mut kept = first.clone();
    for event in [Event::Findings, Event::Updated, Event::Resolved] {
        let (remote, amiss) = next(&sink, kept, event).await;
        assert_eq!((&remote, amiss), (&first, None), "{event}");
        kept = remote;
    }
    let events = server.events();
    assert_eq!(first.unwrap(), events[0].id[..MOST_REMOTE], "a head keeps no more of it");
    assert_eq!((events.len(), events[0].thread()), (4, None));
    for event in &events[1..] {
        let wanted = json!({
            "rel_type": "m.thread",
            "event_id": events[0].id,
            "is_falling_back": true,
            "m.in_reply_to": {"event_id": events[0].id},
        });
        assert_eq!(event.content["m.relates_to"], wanted);
    }
    assert!(events.iter().all(|event| event.content["m.mentions"] == json!({})));
    assert_eq!(server.calls().iter().filter(|call| *call == "whoami").count(), 1, "asked once");
}

#[tokio::test]
async fn an_id_that_a_head_keeps_whole_is_not_looked_for() {
    let server = MatrixServer::old(TOKEN, &[ROOM]).await;
    let sink = matrix(&server, ROOM);
    let (first, _) = next(&sink, None, Event::Started).await;
    assert_eq!(first.as_deref(), Some("$1:hs.example"));
    let (second, amiss) = next(&sink, first.clone(), Event::Findings).await;
    assert_eq!((second, amiss), (first, None));
    assert_eq!(server.events()[1].thread(), Some("$1:hs.example"));
    assert!(!server.calls().iter().any(|call| call == "messages"), "{:?}", server.calls());
}

#[tokio::test]
async fn a_first_message_is_found_behind_those_of_people_and_of_other_incidents() {
    let server = MatrixServer::start(TOKEN, &[ROOM], []).await;
    let sink = matrix(&server, ROOM);
    let (first, _) = next(&sink, None, Event::Started).await;
    (0..150).for_each(|_| server.said(ROOM, USER));
    (0..500).for_each(|_| server.said(ROOM, "@person:hs.example"));
    let (_, amiss) = next(&sink, first, Event::Findings).await;
    assert_eq!(amiss, None);
    let events = server.events();
    assert_eq!(events.last().unwrap().thread(), Some(events[0].id.as_str()));
}

#[tokio::test]
async fn where_the_first_message_is_gone_the_findings_stand_outside_of_a_thread_and_begin_the_next_one() {
    for how in ["deleted", "far back"] {
        let server = MatrixServer::start(TOKEN, &[ROOM], []).await;
        let sink = matrix(&server, ROOM);
        let (first, _) = next(&sink, None, Event::Started).await;
        if how == "deleted" {
            server.delete(&server.events()[0].id);
        } else {
            (0..400).for_each(|_| server.said(ROOM, USER));
        }
        let (second, amiss) = next(&sink, first.clone(), Event::Findings).await;
        assert_eq!(
            amiss.unwrap(),
            "told outside of the thread: the first message is not found in the room any more",
            "{how}"
        );
        assert_ne!(second, first, "{how}");
        let (third, amiss) = next(&sink, second.clone(), Event::Resolved).await;
        assert_eq!((&third, amiss), (&second, None), "{how}");
        let events = server.events();
        let [.., findings, resolved] = &events[..] else { panic!("{events:?}") };
        assert_eq!((findings.thread(), resolved.thread()), (None, Some(findings.id.as_str())), "{how}");
    }
}

#[tokio::test]
async fn where_the_room_takes_nothing_into_that_thread_it_is_told_outside_of_it_with_matrixs_reason() {
    let server = MatrixServer::old(TOKEN, &[ROOM, "!other:hs.example"]).await;
    let (first, _) = next(&matrix(&server, ROOM), None, Event::Started).await;
    let (_, amiss) = next(&matrix(&server, "!other:hs.example"), first, Event::Findings).await;
    assert_eq!(amiss.unwrap(), "told outside of the thread: M_UNKNOWN: Can't send relation to unknown event");
    assert_eq!(server.events()[1].thread(), None);
}

#[tokio::test]
async fn a_search_for_the_first_message_that_fails_holds_nobody_up() {
    let forbidden = Does::Not(403, json!({"errcode": "M_FORBIDDEN", "error": "no history"}), None);
    for script in [vec![Does::It, forbidden.clone()], vec![Does::It, Does::It, forbidden]] {
        let server = MatrixServer::start(TOKEN, &[ROOM], script).await;
        let sink = matrix(&server, ROOM);
        let (first, _) = next(&sink, None, Event::Started).await;
        let (_, amiss) = next(&sink, first, Event::Findings).await;
        assert!(amiss.unwrap().contains("cannot be looked for: M_FORBIDDEN: no history"));
        assert_eq!(server.events().len(), 2);
    }
}

#[tokio::test]
async fn all_tries_of_one_delivery_are_one_event() {
    let server = MatrixServer::start(TOKEN, &[ROOM], [Does::ItUnheard]).await;
    let sink = matrix(&server, ROOM);
    let started = telling(Event::Started, State::Running);
    let lost = sink.tell(&started).await.unwrap_err();
    assert!(lost.is_retryable(), "{lost}");
    let told = sink.tell(&started).await.unwrap();
    // A process that starts anew makes the same id of the same key.
    let again = matrix(&server, ROOM).tell(&started).await.unwrap();
    assert_eq!((server.events().len(), told.remote), (1, again.remote));
    let mut other = started;
    other.idempotency_key.push('x');
    let _ = sink.tell(&other).await.unwrap();
    assert_eq!(server.events().len(), 2);
}

#[tokio::test]
async fn no_character_makes_an_event_too_large_and_what_is_left_out_is_named() {
    let server = MatrixServer::start(TOKEN, &[ROOM], []).await;
    let sink = matrix(&server, ROOM);
    for text in ["x", "\"", "a.b ", "\\", "🔥", "\u{1b}", "\u{202e}", "& ", "ß"] {
        for event in Event::ALL {
            let mut telling = of(event, Kind::Short);
            fill(&mut telling, &text.repeat(1_000), if event == Event::Storm { 70 } else { 8 });
            telling.head.card = text.repeat(1_000);
            telling.idempotency_key = format!("{event} {text}");
            let _ = sink.tell(&telling).await.unwrap();
            let said = server.events().pop().unwrap();
            assert!(said.content.to_string().len() < 60_000, "{event} {text:?}");
            if text == "\"" && matches!(event, Event::Storm | Event::Findings) {
                let text = said.text();
                assert!(text.contains("… left out: "), "{text}");
                assert!(text.contains("sentinel incidents show 0f3a"), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_homeserver_will_never_do_is_refused_in_its_own_words() {
    let not_found = Does::Not(404, json!({"errcode": "M_NOT_FOUND", "error": "Unknown room"}), None);
    let server = MatrixServer::start(TOKEN, &[ROOM], [not_found]).await;
    let started = telling(Event::Started, State::Running);
    let errors = [
        (matrix(&server, ROOM).tell(&started).await, "M_NOT_FOUND: Unknown room; "),
        (
            matrix(&server, "!no:hs.example").tell(&started).await,
            "M_FORBIDDEN: User @sentinel:hs.example not in room",
        ),
        (
            with_token(&server, ROOM, "old-token").tell(&started).await,
            "M_UNKNOWN_TOKEN: Invalid access token passed.; ",
        ),
    ];
    for (went, says) in errors {
        let error = went.unwrap_err();
        assert!(matches!(&error, SinkError::Refused(why) if why.starts_with(says)), "{error}");
    }
    let sink = with_token(&server, ROOM, "old-token");
    let shown = format!("{sink:?} {:?}", sink.tell(&started).await);
    assert!(!shown.contains("old-token"), "a token is never shown: {shown}");
}

#[tokio::test]
async fn limits_and_trouble_that_passes_are_tried_again() {
    let limited = |ms: Option<u64>| json!({"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests", "retry_after_ms": ms});
    let script = [
        (Does::Not(429, limited(Some(2_500)), Some(9)), Duration::from_millis(2_500)),
        (Does::Not(429, limited(None), Some(9)), Duration::from_secs(9)),
        (Does::Not(500, json!({"errcode": "M_UNKNOWN", "error": "Internal"}), None), Duration::ZERO),
        (Does::Not(502, json!("bad gateway"), None), Duration::ZERO),
        (Does::Not(504, json!(null), Some(3)), Duration::from_secs(3)),
        (Does::Not(200, json!({"no": "event"}), None), Duration::ZERO),
    ];
    let server = MatrixServer::start(TOKEN, &[ROOM], script.iter().map(|(does, _)| does.clone())).await;
    let sink = matrix(&server, ROOM);
    for (does, after) in &script {
        let error = sink.tell(&telling(Event::Started, State::Running)).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(*after), "{does:?}: {error}");
    }
    assert!(sink.tell(&telling(Event::Started, State::Running)).await.is_ok());
}

#[tokio::test]
async fn whose_the_token_is_can_be_asked_without_telling_anything() {
    let server = MatrixServer::start(TOKEN, &[ROOM], []).await;
    let who = matrix(&server, ROOM).check().await.unwrap().unwrap();
    assert_eq!(who, format!("{USER}, posting to {ROOM}"));
    assert!(
        with_token(&server, ROOM, "old").check().await.unwrap_err().to_string().contains("M_UNKNOWN_TOKEN")
    );
    assert!(server.events().is_empty());
}

#[tokio::test]
async fn an_address_that_the_network_does_not_allow_is_never_called() {
    let server = MatrixServer::start(TOKEN, &[ROOM], []).await;
    let settings =
        MatrixSettings { homeserver: server.url().parse().unwrap(), token: TOKEN.into(), room: ROOM.into() };
    assert!(!format!("{settings:?}").contains(TOKEN), "{settings:?}");
    let sink = Matrix::new(settings, Arc::new(HttpClient::new(AddressPolicy::default())));
    let error = sink.tell(&telling(Event::Findings, State::Done)).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("allow-insecure-hosts"), "{error}");
    assert!(server.calls().is_empty());
}
