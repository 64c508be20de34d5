//! The Slack sink: one message an incident, a thread, Slack's limits and errors.

use std::time::Duration;

use sentinel_core::incident::{Delivery, DeliveryKey, DeliveryState, Event, State};
use sentinel_core::ports::{Sink as _, SinkError, Telling};
use sentinel_sinks::{Slack, SlackSettings};
use sentinel_testkit::builders::{NOON, alert, notification};
use sentinel_testkit::slack::{Fails, SlackServer};

use crate::support::{http, telling};

const TOKEN: &str = "xoxb-1";

fn slack(server: &SlackServer, channel: &str) -> Slack {
    let settings =
        SlackSettings { api: server.api().parse().unwrap(), token: TOKEN.into(), channel: channel.into() };
    Slack::new(settings, http())
}

/// After this sink was told of something, and its message has this id.
fn after(parent: &str, telling: Telling) -> Telling {
    Telling { parent: Some(parent.to_owned()), ..telling }
}

/// The same where that was the start.
fn after_start(parent: &str, telling: Telling) -> Telling {
    let mut telling = after(parent, telling);
    telling.head.deliveries.push(Delivery {
        key: DeliveryKey { event: Event::Started, sink: "chat".into() },
        state: DeliveryState::Sent,
        at: NOON,
        tries: 1,
        claimer: None,
        remote: Some(parent.to_owned()),
        rearmed: false,
        armed: None,
        error: None,
    });
    telling
}

#[tokio::test]
async fn an_incident_is_one_message_that_is_kept_up_to_date_and_a_thread() {
    let server = SlackServer::start(TOKEN, &["oncall"], []).await;
    let sink = slack(&server, "oncall");
    let parent = sink.tell(&telling(Event::Started, State::Running)).await.unwrap().remote.unwrap();
    let started = server.messages();
    let [message] = &started[..] else { panic!("{started:?}") };
    assert!(message.shown().starts_with("INVESTIGATING PodDown"), "{}", message.shown());

    let again = sink.tell(&after_start(&parent, telling(Event::Findings, State::Done))).await.unwrap();
    assert_eq!((again.remote.as_ref(), again.amiss), (Some(&parent), None));
    let mut resolved = telling(Event::Resolved, State::Done);
    resolved.head.resolved_at = Some(NOON);
    let _ = sink.tell(&after_start(&parent, telling(Event::Updated, State::Done))).await.unwrap();
    let _ = sink.tell(&after_start(&parent, resolved)).await.unwrap();

    let messages = server.messages();
    let main = &messages[0];
    assert_eq!((messages.len(), main.updates), (4, 3));
    assert!(messages[1..].iter().all(|reply| reply.thread.as_ref() == Some(&main.ts)));
    assert_eq!(main.text, "ACTION REQUIRED: api cannot pull its image");
    insta::assert_json_snapshot!("main", main.blocks);
    insta::assert_json_snapshot!("findings", messages[1].blocks);
    assert!(messages[2].shown().contains("alertname=PodDown, namespace=web"), "{}", messages[2].shown());
    assert!(messages[3].shown().contains("resolved at 2026-11-22T12:00:00Z"), "{}", messages[3].shown());
}

#[tokio::test]
async fn a_sink_that_is_told_no_start_posts_the_findings_in_one_message() {
    let server = SlackServer::start(TOKEN, &["oncall"], []).await;
    let told = slack(&server, "#oncall").tell(&telling(Event::Findings, State::Done)).await.unwrap();
    let remote = told.remote.unwrap();
    let messages = server.messages();
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(remote, format!("{}:{}", message.channel, message.ts));
    let shown = message.shown();
    assert!(shown.starts_with("ACTION REQUIRED") && shown.contains("The tag does not exist."), "{shown}");
}

#[tokio::test]
async fn a_limit_in_the_thread_is_waited_for() {
    let server = SlackServer::start(TOKEN, &["oncall"], [Fails::Not, Fails::Not, Fails::Limited(9)]).await;
    let sink = slack(&server, "oncall");
    let parent = sink.tell(&telling(Event::Started, State::Running)).await.unwrap().remote.unwrap();
    let findings = after_start(&parent, telling(Event::Findings, State::Done));
    let error = sink.tell(&findings).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(9)), "{error}");
    let _ = sink.tell(&findings).await.unwrap();
    let messages = server.messages();
    assert_eq!(messages.iter().map(|m| m.thread.is_some()).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn a_lost_answer_doubles_one_message_at_most() {
    for lost in 0..4 {
        let mut script = vec![Fails::Not; lost];
        script.push(Fails::Unheard);
        let server = SlackServer::start(TOKEN, &["oncall"], script).await;
        let sink = slack(&server, "oncall");
        let mut parent: Option<String> = None;
        for (event, state) in [(Event::Started, State::Running), (Event::Findings, State::Done)] {
            let telling = match &parent {
                Some(parent) => after_start(parent, telling(event, state)),
                None => telling(event, state),
            };
            parent = match sink.tell(&telling).await {
                Ok(told) => told.remote,
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    sink.tell(&telling).await.unwrap().remote
                }
            };
        }
        assert!(server.messages().len() <= 3, "{lost}: {:#?}", server.messages());
    }
}

#[tokio::test]
async fn a_message_that_somebody_deleted_is_posted_anew() {
    let server = SlackServer::start(TOKEN, &["oncall"], []).await;
    let sink = slack(&server, "oncall");
    let parent = sink.tell(&telling(Event::Started, State::Running)).await.unwrap().remote.unwrap();
    server.delete(parent.split_once(':').unwrap().1);
    let told = sink.tell(&after(&parent, telling(Event::Findings, State::Done))).await.unwrap();
    assert_eq!(told.amiss.unwrap(), r#"posted as a new message: Slack says "message_not_found""#);
    let new = told.remote.unwrap();
    let _ = sink.tell(&after(&new, telling(Event::Resolved, State::Done))).await.unwrap();
    let messages = server.messages();
    assert_eq!(new, format!("{}:{}", messages[0].channel, messages[0].ts));
    assert_eq!((messages.len(), messages[1].thread.as_ref()), (2, Some(&messages[0].ts)));
}

#[tokio::test]
async fn where_the_thread_takes_no_reply_the_findings_are_a_new_message_which_is_then_the_incidents() {
    let server = SlackServer::start(TOKEN, &["oncall"], []).await;
    let sink = slack(&server, "oncall");
    let parent = sink.tell(&telling(Event::Started, State::Running)).await.unwrap().remote.unwrap();
    server.lock_threads();
    let told = sink.tell(&after_start(&parent, telling(Event::Findings, State::Done))).await.unwrap();
    let messages = server.messages();
    let [old, new] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((&new.thread, told.remote), (&None, Some(format!("{}:{}", new.channel, new.ts))));
    assert_eq!(told.amiss.unwrap(), r#"posted as a new message: Slack says "cannot_reply_to_message""#);
    assert!(new.shown().contains("The tag does not exist."), "{}", new.shown());
    assert!(old.shown().starts_with("ACTION REQUIRED"), "the old one is true as well: {}", old.shown());
}

/// Every error that says of a message or a thread that nothing can be done with it, at either of the two calls.
#[tokio::test]
async fn whatever_slack_calls_a_place_that_is_gone_the_findings_reach_the_channel() {
    let gone = [
        "message_not_found",
        "thread_not_found",
        "cannot_reply_to_message",
        "cant_update_message",
        "edit_window_closed",
        "restricted_action_thread_locked",
        "restricted_action_non_threadable_channel",
        "is_archived",
        "channel_not_found",
        "not_in_channel",
    ];
    for (error, nth) in gone.iter().flat_map(|error| [(error, 1), (error, 2)]) {
        let mut script = vec![Fails::Not; nth];
        script.push(Fails::With((*error).to_owned()));
        let server = SlackServer::start(TOKEN, &["oncall"], script).await;
        let sink = slack(&server, "oncall");
        let parent = sink.tell(&telling(Event::Started, State::Running)).await.unwrap().remote.unwrap();
        let told = sink.tell(&after_start(&parent, telling(Event::Findings, State::Done))).await.unwrap();
        let new = server.messages().pop().unwrap();
        assert_eq!((new.thread.as_ref(), told.remote.as_ref() == Some(&parent)), (None, false), "{error}");
        assert!(new.shown().contains("The tag does not exist."), "{error}: {}", new.shown());
        assert!(told.amiss.unwrap().contains(error), "{error}");
    }
}

#[tokio::test]
async fn where_blocks_are_refused_the_same_is_told_as_text_and_slacks_reason_is_kept() {
    const WHY: &str = "[ERROR] must be shorter [json-pointer:/blocks/0/elements/1]";
    const NASTY: &str = "<!channel> <https://evil.example|ok> & @here";
    let server = SlackServer::start(TOKEN, &["oncall"], []).await;
    let sink = slack(&server, "oncall");
    let parent = sink.tell(&telling(Event::Started, State::Running)).await.unwrap().remote.unwrap();
    server.refuse_blocks(WHY);
    let mut findings = after_start(&parent, telling(Event::Findings, State::Done));
    findings.report.as_mut().unwrap().summary = NASTY.into();
    let told = sink.tell(&findings).await.unwrap();
    assert_eq!(told.remote.as_ref(), Some(&parent), "the message stays the incident's");
    let amiss = told.amiss.unwrap();
    assert!(amiss.starts_with(r#"told as text: Slack says "invalid_blocks""#), "{amiss}");
    assert!(amiss.ends_with("/blocks/0/elements/1: must be shorter"), "{amiss}");
    let messages = server.messages();
    let [main, reply] = &messages[..] else { panic!("{messages:?}") };
    let said = main.shown();
    for part in
        ["ACTION REQUIRED api cannot pull its image", "Likeliest cause: ", "\nAlert: alertname=PodDown"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(reply.shown().starts_with("&lt;!channel&gt; &lt;https://evil.example|ok&gt; &amp; @here"));
    assert_eq!(reply.thread.as_ref(), Some(&main.ts));
}

/// Not even an empty list of blocks is taken for that message: it stays, and a new one says what there is to say.
#[tokio::test]
async fn a_message_that_cannot_become_text_is_followed_by_one_that_is() {
    let no =
        || Fails::Because("invalid_arguments".into(), vec!["[ERROR] no [json-pointer:/blocks/0]".into()]);
    let server = SlackServer::start(TOKEN, &["oncall"], [Fails::Not, no(), no(), no()]).await;
    let sink = slack(&server, "oncall");
    let parent = sink.tell(&telling(Event::Started, State::Running)).await.unwrap().remote.unwrap();
    let told = sink.tell(&after_start(&parent, telling(Event::Findings, State::Done))).await.unwrap();
    let messages = server.messages();
    let [_, new] = &messages[..] else { panic!("{messages:?}") };
    assert!(new.text.contains("The tag does not exist."), "{}", new.text);
    let amiss = told.amiss.unwrap();
    for part in ["posted as a new message", "told as text", "/blocks/0: no"] {
        assert!(amiss.contains(part), "{part}: {amiss}");
    }
}

#[tokio::test]
async fn texts_from_outside_are_shown_as_they_are() {
    const NASTY: &str = "<!channel> <https://evil.example|ok> *bold* `x` &lt; @here\n\u{202e}\u{1b}[2J";
    let server = SlackServer::start(TOKEN, &["oncall"], []).await;
    let mut findings = telling(Event::Findings, State::Done);
    let report = findings.report.as_mut().unwrap();
    report.title = NASTY.into();
    report.summary = NASTY.into();
    report.hypotheses[0].statement = NASTY.into();
    report.hypotheses[0].evidence[0].quote = NASTY.into();
    findings.head.labels.insert("pod".into(), NASTY.into());
    let sink = slack(&server, "oncall");
    let parent = sink.tell(&findings).await.unwrap().remote.unwrap();
    let _ = sink.tell(&after_start(&parent, findings)).await.unwrap();
    for (_, body) in server.calls() {
        let text = body.to_string();
        assert!(
            !text.contains('\u{202e}') && !text.contains("\\u001b") && !text.contains("mrkdwn"),
            "{text}"
        );
        assert!(!body["text"].as_str().unwrap().contains('<'));
        assert!(
            !text.contains("\"type\":\"broadcast\"") && !text.contains("\"url\":\"https://evil"),
            "{text}"
        );
    }
    assert!(server.messages()[1].shown().contains("<!channel> <https://evil.example|ok> *bold*"));
}

#[tokio::test]
async fn the_largest_report_stays_within_the_limits_and_says_that_it_is_cut() {
    let server = SlackServer::start(TOKEN, &["oncall"], []).await;
    let long = "x".repeat(5_000);
    let mut findings = telling(Event::Findings, State::Done);
    let report = findings.report.as_mut().unwrap();
    report.title.clone_from(&long);
    report.summary.clone_from(&long);
    let mut statement = report.hypotheses[0].clone();
    statement.statement.clone_from(&long);
    statement.evidence = vec![statement.evidence[0].clone(); 20];
    statement.evidence.iter_mut().for_each(|c| c.quote.clone_from(&long));
    report.hypotheses = vec![statement.clone(); 30];
    report.ruled_out = vec![statement; 30];
    report.gaps = vec![long.clone(); 30];
    report.notes = vec![long.clone(); 30];
    findings.notification =
        Some(notification("pods", (0..200).map(|n| alert(&long).label("n", &n.to_string()))));
    let sink = slack(&server, "oncall");
    let parent = sink.tell(&findings).await.unwrap().remote.unwrap();
    let updated = Telling { event: Event::Updated, ..after(&parent, findings) };
    let _ = sink.tell(&updated).await.unwrap();
    let messages = server.messages();
    assert!(messages[0].shown().contains("the rest is in the stored report (sentinel incidents show)"));
    assert!(messages[1].shown().ends_with("… and 195 more"), "{}", messages[1].shown());
    server.refuse_blocks("no");
    let mut findings = updated;
    findings.report.as_mut().unwrap().summary = "<&>".repeat(2_000);
    let _ = sink.tell(&findings).await.unwrap();
    let text = server.messages()[0].text.clone();
    assert!(text.ends_with("the rest is in the stored report (sentinel incidents show)"), "{text}");
    assert!(!text.contains(['<', '>']) && text.chars().count() <= 3_900, "{}", text.len());
}

#[tokio::test]
async fn every_event_can_be_told_of_every_end() {
    let server = SlackServer::start(TOKEN, &["oncall"], []).await;
    let sink = slack(&server, "oncall");
    let mut shown = Vec::new();
    for state in [State::Running, State::Done, State::Failed, State::Aborted, State::Suppressed] {
        for event in Event::ALL {
            let mut telling = telling(event, state);
            telling.head.reason = (state == State::Failed).then(|| "gave up after 3 attempts".into());
            if let Err(error) = sink.tell(&telling).await {
                panic!("{event} of {state}: {error}");
            }
        }
        shown.push(server.messages().last().unwrap().shown());
    }
    assert!(shown.iter().all(|text| !text.is_empty()));
}

#[tokio::test]
async fn what_slack_will_never_do_is_refused_with_what_to_do_about_it() {
    let server = SlackServer::start(TOKEN, &["oncall"], [Fails::With("not_in_channel".into())]).await;
    let error = slack(&server, "oncall").tell(&telling(Event::Started, State::Running)).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("invite the app"), "{error}");
    let error = slack(&server, "nowhere").tell(&telling(Event::Started, State::Running)).await.unwrap_err();
    assert!(error.to_string().contains("channel_not_found"), "{error}");
    let settings = SlackSettings {
        api: server.api().parse().unwrap(),
        token: "xoxb-old".into(),
        channel: "oncall".into(),
    };
    let old = Slack::new(settings, http());
    let error = old.tell(&telling(Event::Started, State::Running)).await.unwrap_err();
    assert!(matches!(&error, SinkError::Refused(why) if why.contains("no longer good")), "{error}");
    assert!(!format!("{old:?} {error}").contains("xoxb"), "a token is never shown");
}

#[tokio::test]
async fn trouble_that_passes_is_tried_again() {
    let script = [Fails::Status(502), Fails::With("internal_error".into()), Fails::Limited(30)];
    let server = SlackServer::start(TOKEN, &["oncall"], script).await;
    let sink = slack(&server, "oncall");
    let mut waits = Vec::new();
    for _ in 0..3 {
        waits.push(sink.tell(&telling(Event::Started, State::Running)).await.unwrap_err().retry_after());
    }
    assert_eq!(waits, [Some(Duration::ZERO), Some(Duration::ZERO), Some(Duration::from_secs(30))]);
    assert!(sink.tell(&telling(Event::Started, State::Running)).await.is_ok());
}
