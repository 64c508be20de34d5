//! A Slack channel: one message per incident and generation, which always says how things stand, and a thread that says
//! what happened. A channel that was told no start gets what happened in the message itself.
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
use sentinel_core::ports::{Sink, SinkError, Telling};
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
}

/// Why Slack did not do it.
enum Failed {
    /// There is no such message (any more), or it cannot be changed.
    NoMessage,
    /// Anything else.
    Other(SinkError),
}

impl From<Failed> for SinkError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NoMessage => Self::Refused("Slack has no such message".to_owned()),
            Failed::Other(error) => error,
        }
    }
}

impl Slack {
    /// A sink that posts there.
    pub fn new(settings: SlackSettings, http: Arc<HttpClient>) -> Self {
        Self { settings, http }
    }

    async fn call(&self, method: &str, body: &Value) -> Result<Place, Failed> {
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
            return Ok(Place { channel: answer.channel, ts: answer.ts });
        }
        Err(meant(&answer.error))
    }

    async fn new_message(&self, message: &Message, thread: Option<&Place>) -> Result<Place, Failed> {
        let channel = thread.map_or(self.settings.channel.as_str(), |place| &place.channel);
        let mut body = message.body(channel);
        if let (Some(thread), Some(body)) = (thread, body.as_object_mut()) {
            body.insert("thread_ts".to_owned(), json!(thread.ts));
        }
        self.call("chat.postMessage", &body).await
    }

    /// Makes the incident's message say how things stand.
    async fn update(&self, message: &Message, place: &Place) -> Result<(), Failed> {
        let mut body = message.body(&place.channel);
        if let Some(body) = body.as_object_mut() {
            body.insert("ts".to_owned(), json!(place.ts));
        }
        self.call("chat.update", &body).await.map(|_| ())
    }
}

/// What an error of Slack's means ([chat.postMessage, "Errors"](https://docs.slack.dev/reference/methods/chat.postMessage)).
fn meant(error: &str) -> Failed {
    let hint = match error {
        "message_not_found" | "cant_update_message" | "edit_window_closed" | "thread_not_found" => {
            return Failed::NoMessage;
        }
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
        | "" => {
            let reason = format!("Slack says {:?}", inert(error, 60));
            return Failed::Other(SinkError::Retry { reason, after: None });
        }
        "not_in_channel" => "; invite the app to the channel, or give it chat:write.public",
        "channel_not_found" => "; write the channel's id, and invite the app if it is private",
        "missing_scope" => "; the app needs the scope chat:write",
        "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired" => {
            "; the token is no longer good"
        }
        _ => "",
    };
    Failed::Other(SinkError::Refused(format!("Slack says {:?}{hint}", inert(error, 60))))
}

#[async_trait]
impl Sink for Slack {
    async fn tell(&self, telling: &Telling) -> Result<Option<String>, SinkError> {
        let there = telling.parent.as_deref().or(telling.remote.as_deref()).and_then(Place::read);
        let (main, reply) = (message::main(telling), message::reply(telling));
        if let Some(place) = there {
            // A message that was not posted at the start has the findings in itself, and keeps them.
            let (main, reply) = match (telling.event.is_ending(), message::findings_of(telling)) {
                _ if began_with(telling, &place) => (main, reply),
                (true, _) => (main.with(reply), None),
                (false, findings) => (main.with(findings), reply),
            };
            match self.update(&main, &place).await {
                Ok(()) => {
                    if let Some(reply) = reply {
                        self.new_message(&reply, Some(&place)).await?;
                    }
                    return Ok(Some(place.to_string()));
                }
                // Somebody has deleted it, or the workspace forbids changes after a time.
                Err(Failed::NoMessage) => {}
                Err(failed) => return Err(failed.into()),
            }
        }
        // All in one message, so that a crash before its id is recorded doubles no more than this one.
        let message = message::main(telling).with(message::reply(telling));
        Ok(Some(self.new_message(&message, None).await?.to_string()))
    }
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
        let error = |code| SinkError::from(meant(code));
        for later in ["ratelimited", "internal_error", "service_unavailable"] {
            assert!(error(later).is_retryable(), "{later}");
        }
        for never in ["invalid_auth", "channel_not_found", "msg_too_long", "message_not_found"] {
            assert!(!error(never).is_retryable(), "{never}");
        }
        assert!(error("not_in_channel").to_string().contains("invite the app"));
        assert!(error("x\u{202e}y").to_string().chars().all(|c| c != '\u{202e}'));
    }

    #[test]
    fn an_id_is_a_channel_and_a_time_and_fits_a_head() {
        let place = Place::read("C0123456789:1795348800.123456").unwrap();
        assert_eq!(place, Place { channel: "C0123456789".into(), ts: "1795348800.123456".into() });
        assert!(place.to_string().len() <= sentinel_core::lifecycle::MOST_REMOTE);
        assert_eq!(Place::read("gibberish"), None);
    }
}
