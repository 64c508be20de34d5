//! A Slack channel: one message per incident and generation, which always says how things stand, and a thread that says
//! what happened. A channel that was told no start gets what happened in the message itself.
//!
//! What is to be told reaches the channel in some form: where the message or its thread is gone as a new message, where
//! Slack refuses the blocks as plain text. What Slack said to that is kept with the delivery.
//!
//! Methods: [chat.postMessage](https://docs.slack.dev/reference/methods/chat.postMessage) and
//! [chat.update](https://docs.slack.dev/reference/methods/chat.update), with a bot token that has `chat:write`
//! (and `chat:write.public` for channels that the app has not joined). An id of the destination is
//! `CHANNEL:TIMESTAMP`, Slack's own name of a message.
//!
//! Slack takes no idempotency key: a crash between its answer and the record of it posts that one message again.

mod message;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use sentinel_core::incident::Event;
use sentinel_core::ports::{Sink, SinkError, Telling, Told};
use sentinel_http::{HttpClient, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::post::post;
use crate::text::inert;
use message::Message;

/// Where Slack's API is, unless the configuration says otherwise (for the government: `https://slack-gov.com/api/`).
pub const API: &str = "https://slack.com/api/";
/// Slack's advice for a limit without `Retry-After` is one message a second and channel.
const LIMITED: Duration = Duration::from_secs(1);
/// The most of Slack's own words on what is wrong with a request, in characters.
const MAX_DETAILS: usize = 200;

/// Which workspace and channel.
#[derive(Debug)]
pub struct SlackSettings {
    /// Where its API is; ends in a slash.
    pub api: Url,
    /// The bot's token (`xoxb-…`).
    pub token: SecretString,
    /// A channel's id or name.
    pub channel: String,
}

/// Tells one Slack channel.
pub struct Slack {
    settings: SlackSettings,
    http: Arc<HttpClient>,
}

impl fmt::Debug for Slack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slack").field("channel", &self.settings.channel).finish_non_exhaustive()
    }
}

/// A message in Slack.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    channel: String,
    ts: String,
}

impl Place {
    fn read(remote: &str) -> Option<Self> {
        let (channel, ts) = remote.split_once(':')?;
        Some(Self { channel: channel.to_owned(), ts: ts.to_owned() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.channel, self.ts)
    }
}

/// What Slack answers, always with status 200.
#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    channel: String,
    #[serde(default)]
    ts: String,
    /// Of `auth.test`: who the token's holder is.
    #[serde(default)]
    user: String,
    #[serde(default)]
    team: String,
    #[serde(default)]
    response_metadata: Metadata,
}

#[derive(Deserialize, Default)]
struct Metadata {
    /// What is wrong, and with which part: `[ERROR] no more than 50 items allowed [json-pointer:/blocks]`.
    #[serde(default)]
    messages: Vec<String>,
}

/// Why Slack did not do it, in its own words.
enum Failed {
    /// The message or its thread is gone, or takes nothing any more.
    Gone(String),
    /// It does not take these blocks.
    Blocks(String),
    /// Anything else.
    Other(SinkError),
}

impl From<Failed> for SinkError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Gone(reason) | Failed::Blocks(reason) => Self::Refused(reason),
            Failed::Other(error) => error,
        }
    }
}

/// Where a message goes.
#[derive(Clone, Copy)]
enum To<'a> {
    /// Into the configured channel, as a new one.
    Channel,
    /// Into the thread of this one.
    Thread(&'a Place),
    /// In the place of this one.
    Over(&'a Place),
}

impl Slack {
    /// A sink that posts there.
    pub fn new(settings: SlackSettings, http: Arc<HttpClient>) -> Self {
        Self { settings, http }
    }

    async fn call(&self, method: &str, body: &Value) -> Result<Place, Failed> {
        let Answer { channel, ts, .. } = self.ask(method, body).await?;
        Ok(Place { channel, ts })
    }

    /// Calls a method of Slack's API; gives its answer where that is ok.
    async fn ask(&self, method: &str, body: &Value) -> Result<Answer, Failed> {
        let refused = |reason: String| Failed::Other(SinkError::Refused(reason));
        let url = self.settings.api.join(method).map_err(|e| refused(format!("its address: {e}")))?;
        let bearer = format!("Bearer {}", self.settings.token.expose_secret());
        let mut bearer =
            HeaderValue::from_str(&bearer).map_err(|_| refused("the token is no header value".to_owned()))?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
        let body = serde_json::to_vec(body).map_err(|e| refused(e.to_string()))?;
        let answer = post(&self.http, &url, headers, body).await.map_err(Failed::Other)?;
        let answer: Answer = serde_json::from_slice(&answer.body).map_err(|_| {
            Failed::Other(SinkError::Retry { reason: "the answer is not Slack's".to_owned(), after: None })
        })?;
        if answer.ok {
            return Ok(answer);
        }
        Err(meant(&answer.error, &answer.response_metadata.messages))
    }

    /// Says it there; where Slack refuses the blocks, as plain text. What it said to them is pushed to `amiss`.
    async fn say(&self, message: &Message, to: To<'_>, amiss: &mut Vec<String>) -> Result<Place, Failed> {
        let (method, channel, at) = match to {
            To::Channel => ("chat.postMessage", self.settings.channel.as_str(), None),
            To::Thread(place) => ("chat.postMessage", place.channel.as_str(), Some(("thread_ts", &place.ts))),
            To::Over(place) => ("chat.update", place.channel.as_str(), Some(("ts", &place.ts))),
        };
        let placed = |mut body: Value| {
            if let (Some((name, ts)), Some(body)) = (at, body.as_object_mut()) {
                body.insert(name.to_owned(), json!(ts));
            }
            body
        };
        match self.call(method, &placed(message.body(channel))).await {
            Err(Failed::Blocks(reason)) => {
                amiss.push(format!("told as text: {reason}"));
                match self.call(method, &placed(message.plain_body(channel, matches!(to, To::Over(_))))).await
                {
                    // A message that keeps its blocks cannot be changed to a text.
                    Err(Failed::Blocks(reason)) => Err(Failed::Gone(reason)),
                    said => said,
                }
            }
            said => said,
        }
    }

    /// Makes the incident's message say how things stand, and its thread what happened.
    async fn say_at(
        &self,
        place: &Place,
        main: &Message,
        reply: Option<&Message>,
        amiss: &mut Vec<String>,
    ) -> Result<(), Failed> {
        self.say(main, To::Over(place), amiss).await?;
        if let Some(reply) = reply {
            self.say(reply, To::Thread(place), amiss).await?;
        }
        Ok(())
    }
}

/// What an error of Slack's means ([chat.postMessage, "Errors"](https://docs.slack.dev/reference/methods/chat.postMessage)).
/// `details` is what it says beside it.
fn meant(error: &str, details: &[String]) -> Failed {
    let about_blocks = details.iter().any(|detail| detail.contains("/blocks"));
    let details = match details {
        [] => String::new(),
        details => {
            let details: Vec<String> = details.iter().map(|detail| place_first(detail)).collect();
            format!(": {}", inert(&details.join("; "), MAX_DETAILS))
        }
    };
    let said = |hint: &str| format!("Slack says {:?}{hint}{details}", inert(error, 60));
    let hint = match error {
        // Somebody has deleted it, locked its thread, or closed the channel that it is in; the workspace forbids changes
        // after a time. The configured channel may be another one by now.
        "message_not_found"
        | "cant_update_message"
        | "edit_window_closed"
        | "thread_not_found"
        | "cannot_reply_to_message"
        | "restricted_action_thread_locked"
        | "restricted_action_non_threadable_channel"
        | "is_archived" => return Failed::Gone(said("")),
        "channel_not_found" => {
            return Failed::Gone(said("; write the channel's id, and invite the app if it is private"));
        }
        "not_in_channel" => {
            return Failed::Gone(said("; invite the app to the channel, or give it chat:write.public"));
        }
        "invalid_blocks"
        | "invalid_blocks_format"
        | "msg_blocks_too_long"
        | "msg_too_long"
        | "block_mismatch" => return Failed::Blocks(said("")),
        "ratelimited" | "rate_limited" => {
            let reason = "Slack limits the rate".to_owned();
            return Failed::Other(SinkError::Retry { reason, after: Some(LIMITED) });
        }
        "internal_error"
        | "fatal_error"
        | "service_unavailable"
        | "request_timeout"
        | "team_added_to_org"
        | "accesslimited"
        | "" => return Failed::Other(SinkError::Retry { reason: said(""), after: None }),
        "missing_scope" => "; the app needs the scope chat:write",
        "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired" => {
            "; the token is no longer good"
        }
        // `invalid_arguments` and whatever else there may be.
        _ if about_blocks => return Failed::Blocks(said("")),
        _ => "",
    };
    Failed::Other(SinkError::Refused(said(hint)))
}

/// `[ERROR] too long [json-pointer:/blocks/0]` as `/blocks/0: too long`: where, then what, so that what is cut is the less
/// important half.
fn place_first(detail: &str) -> String {
    let what = detail.strip_prefix("[ERROR] ").unwrap_or(detail);
    match what.rsplit_once(" [json-pointer:") {
        Some((what, place)) => format!("{}: {what}", place.trim_end_matches(']')),
        None => what.to_owned(),
    }
}

#[async_trait]
impl Sink for Slack {
    /// By `auth.test`, which tells whose the token is, and needs no scope.
    async fn check(&self) -> Result<Option<String>, SinkError> {
        let Answer { user, team, .. } = self.ask("auth.test", &json!({})).await?;
        Ok(Some(format!("{user} in {team}, posting to {}", self.settings.channel)))
    }

    async fn tell(&self, telling: &Telling) -> Result<Told, SinkError> {
        let there = telling.parent.as_deref().or(telling.remote.as_deref()).and_then(Place::read);
        let (main, reply) = (message::main(telling), message::reply(telling));
        let mut amiss = Vec::new();
        if let Some(place) = there {
            // A message that was not posted at the start has the findings in itself, and keeps them.
            let (main, reply) = match (telling.event.is_ending(), message::findings_of(telling)) {
                _ if began_with(telling, &place) => (main, reply),
                (true, _) => (main.with(reply), None),
                (false, findings) => (main.with(findings), reply),
            };
            match self.say_at(&place, &main, reply.as_ref(), &mut amiss).await {
                Ok(()) => return Ok(told(&place, &amiss)),
                Err(Failed::Gone(reason)) => amiss = vec![format!("posted as a new message: {reason}")],
                Err(failed) => return Err(failed.into()),
            }
        }
        // All in one message, so that a crash before its id is recorded doubles no more than this one.
        let message = message::main(telling).with(message::reply(telling));
        let place = self.say(&message, To::Channel, &mut amiss).await?;
        Ok(told(&place, &amiss))
    }
}

fn told(place: &Place, amiss: &[String]) -> Told {
    Told { remote: Some(place.to_string()), amiss: (!amiss.is_empty()).then(|| amiss.join("; ")) }
}

/// Whether this message was posted at the start, so that its thread has the findings.
fn began_with(telling: &Telling, place: &Place) -> bool {
    let started = telling.head.deliveries.iter().filter(|d| d.key.event == Event::Started);
    started.filter_map(|d| Place::read(d.remote.as_deref()?)).any(|started| started == *place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_whether_trying_again_helps_and_what_to_do() {
        let error = |code| SinkError::from(meant(code, &[]));
        for later in ["ratelimited", "internal_error", "service_unavailable"] {
            assert!(error(later).is_retryable(), "{later}");
        }
        for never in ["invalid_auth", "channel_not_found", "msg_too_long", "message_not_found"] {
            assert!(!error(never).is_retryable(), "{never}");
        }
        assert!(error("not_in_channel").to_string().contains("invite the app"));
        assert!(error("x\u{202e}y").to_string().chars().all(|c| c != '\u{202e}'));
        let long = SinkError::from(meant("invalid_arguments", &vec!["x\u{1b}".repeat(400); 9])).to_string();
        assert!(long.chars().count() < 300 && !long.contains('\u{1b}'), "{long}");
    }

    #[test]
    fn an_id_is_a_channel_and_a_time_and_fits_a_head() {
        let place = Place::read("C0123456789:1795348800.123456").unwrap();
        assert_eq!(place, Place { channel: "C0123456789".into(), ts: "1795348800.123456".into() });
        assert!(place.to_string().len() <= sentinel_core::lifecycle::MOST_REMOTE);
        assert_eq!(Place::read("gibberish"), None);
    }
}
