//! A Matrix room: the first event of an incident and generation is a message, and what comes later stands in its thread.
//!
//! It is told by [the client-server API, version 3](https://spec.matrix.org/v1.16/client-server-api/), without encryption, as
//! the account whose access token it has. A transaction's id is made of the delivery's key, so that a homeserver takes all
//! tries of one delivery as one event.
//!
//! The ids of events of today's rooms are longer than what a head keeps ([`MOST_REMOTE`]). Of such a one the beginning is kept,
//! and the whole one is looked for among this account's latest messages in the room. Where it is not found (it is too far back,
//! somebody has deleted it, the room is another one) what is to be told is told outside of a thread, and the delivery's record
//! says why; that message is the incident's from then on.

mod message;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use sentinel_core::lifecycle::MOST_REMOTE;
use sentinel_core::ports::{Sink, SinkError, Telling, Told};
use sentinel_http::{HttpClient, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::card::Card;
use crate::post::{Patience, Reply, hashed, refused, send};
use crate::text::inert;

/// The most of a homeserver's own words on what is wrong, in characters.
const MAX_DETAILS: usize = 200;
/// The most pages of the account's own messages in which the first one is looked for.
const MOST_PAGES: usize = 3;
/// The messages of one of them.
const PAGE: usize = 100;
/// One page: messages of the largest size. Together with the telling itself all of them stay within its time.
const LOOKING: Patience = Patience { timeout: Duration::from_secs(8), most: 8 << 20 };

/// Which homeserver, room and account.
#[derive(Debug)]
pub struct MatrixSettings {
    /// Where the homeserver's API is.
    pub homeserver: Url,
    /// The account's access token.
    pub token: SecretString,
    /// The room's id (`!…`).
    pub room: String,
}

/// Tells one Matrix room.
pub struct Matrix {
    settings: MatrixSettings,
    http: Arc<HttpClient>,
    /// Whose the token is, once that was asked.
    user: OnceLock<String>,
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matrix").field("room", &self.settings.room).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Sent {
    event_id: String,
}

#[derive(Deserialize)]
struct Whoami {
    user_id: String,
}

#[derive(Deserialize)]
struct Page {
    chunk: Vec<Event>,
    /// Where the next one begins; absent of the last.
    #[serde(default)]
    end: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    event_id: String,
    #[serde(default)]
    unsigned: Unsigned,
}

#[derive(Deserialize, Default)]
struct Unsigned {
    /// Who has deleted it, and why.
    #[serde(default)]
    redacted_because: Option<serde_json::Value>,
}

/// [Standard error response](https://spec.matrix.org/v1.16/client-server-api/#standard-error-response).
#[derive(Deserialize)]
struct Says {
    errcode: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

/// Why the homeserver did not do it.
enum Failed {
    /// The request is not one that it takes: of a message in a thread, that the thread is none.
    Bad(String),
    /// Anything else.
    Other(SinkError),
}

impl From<Failed> for SinkError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Bad(reason) => Self::Refused(reason),
            Failed::Other(error) => error,
        }
    }
}

impl Matrix {
    /// A sink that posts there.
    pub fn new(settings: MatrixSettings, http: Arc<HttpClient>) -> Self {
        Self { settings, http, user: OnceLock::new() }
    }

    /// The address of an endpoint; its segments are escaped.
    fn url(&self, segments: &[&str]) -> Result<Url, Failed> {
        let mut url = self.settings.homeserver.clone();
        url.set_query(None);
        url.set_fragment(None);
        {
            let no_base = |()| Failed::Other(SinkError::Refused("its address takes no path".to_owned()));
            let mut path = url.path_segments_mut().map_err(no_base)?;
            path.pop_if_empty().extend(["_matrix", "client", "v3"]).extend(segments);
        }
        Ok(url)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        url: &Url,
        body: Vec<u8>,
        patience: Patience,
    ) -> Result<T, Failed> {
        let bearer = format!("Bearer {}", self.settings.token.expose_secret());
        let mut bearer = HeaderValue::from_str(&bearer)
            .map_err(|_| Failed::Other(SinkError::Refused("the token is no header value".to_owned())))?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
        let reply = send(&self.http, method, url, headers, body, patience).await.map_err(Failed::Other)?;
        if !reply.status.is_success() {
            return Err(meant(&reply));
        }
        serde_json::from_slice(&reply.body).map_err(|_| {
            let reason = "the answer is not a homeserver's".to_owned();
            Failed::Other(SinkError::Retry { reason, after: None })
        })
    }

    async fn whoami(&self, patience: Patience) -> Result<String, Failed> {
        let url = self.url(&["account", "whoami"])?;
        let Whoami { user_id } = self.ask(Method::GET, &url, Vec::new(), patience).await?;
        Ok(user_id)
    }

    /// Sends the event, in the thread of `root` where there is one; gives its id.
    async fn say(&self, telling: &Telling, root: Option<&str>) -> Result<String, Failed> {
        let transaction = format!("sentinel-{}", hashed(&telling.idempotency_key));
        let url = self.url(&["rooms", &self.settings.room, "send", "m.room.message", &transaction])?;
        let content = message::content(Card::of(telling), root);
        let body = serde_json::to_vec(&content)
            .map_err(|e| Failed::Other(SinkError::Refused(format!("the event cannot be written: {e}"))))?;
        let Sent { event_id } = self.ask(Method::PUT, &url, body, Patience::USUAL).await?;
        Ok(event_id)
    }

    /// The whole id of the event of which this is kept; `None`: it is not there any more.
    async fn whole(&self, kept: &str) -> Result<Option<String>, Failed> {
        if kept.len() < MOST_REMOTE {
            return Ok(Some(kept.to_owned()));
        }
        let user = if let Some(user) = self.user.get() {
            user
        } else {
            let user = self.whoami(LOOKING).await?;
            self.user.get_or_init(|| user)
        };
        let filter = json!({"types": ["m.room.message"], "senders": [user]}).to_string();
        let mut from: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut url = self.url(&["rooms", &self.settings.room, "messages"])?;
            url.query_pairs_mut()
                .append_pair("dir", "b")
                .append_pair("limit", &PAGE.to_string())
                .append_pair("filter", &filter);
            if let Some(from) = &from {
                url.query_pairs_mut().append_pair("from", from);
            }
            let page: Page = self.ask(Method::GET, &url, Vec::new(), LOOKING).await?;
            if let Some(event) = page.chunk.into_iter().find(|event| event.event_id.starts_with(kept)) {
                let is_there = event.unsigned.redacted_because.is_none();
                return Ok(is_there.then_some(event.event_id));
            }
            match page.end {
                Some(end) => from = Some(end),
                None => break,
            }
        }
        Ok(None)
    }
}

/// What an answer means that is no success.
fn meant(reply: &Reply) -> Failed {
    let Ok(says) = serde_json::from_slice::<Says>(&reply.body) else {
        return Failed::Other(refused(reply, ""));
    };
    let said = format!("{}: {}", inert(&says.errcode, 60), inert(&says.error, MAX_DETAILS));
    let limited = says.errcode == "M_LIMIT_EXCEEDED" || reply.status == StatusCode::TOO_MANY_REQUESTS;
    if limited {
        let after = says.retry_after_ms.map(Duration::from_millis).or(reply.after);
        return Failed::Other(SinkError::Retry { reason: said, after });
    }
    let passes = matches!(reply.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY);
    if passes || reply.status.is_server_error() {
        return Failed::Other(SinkError::Retry { reason: said, after: reply.after });
    }
    let hint = match says.errcode.as_str() {
        "M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN" => "; the access token is no longer good",
        "M_FORBIDDEN" => "; invite its account to the room, let it join, and let it send messages",
        "M_NOT_FOUND" => "; write the room's id, and let its account join it",
        "M_UNRECOGNIZED" => "; the address is that of no homeserver",
        _ if reply.status == StatusCode::BAD_REQUEST => return Failed::Bad(said),
        _ => "",
    };
    Failed::Other(SinkError::Refused(format!("{said}{hint}")))
}

/// As much of an event's id as a head keeps.
fn kept(id: &str) -> Option<String> {
    if id.len() <= MOST_REMOTE { Some(id.to_owned()) } else { id.get(..MOST_REMOTE).map(str::to_owned) }
}

#[async_trait]
impl Sink for Matrix {
    /// By `whoami`, which tells whose the token is.
    async fn check(&self) -> Result<Option<String>, SinkError> {
        let user = self.whoami(Patience::USUAL).await?;
        Ok(Some(format!("{}, posting to {}", inert(&user, 255), self.settings.room)))
    }

    async fn tell(&self, telling: &Telling) -> Result<Told, SinkError> {
        let mut amiss = None;
        if let Some(first) = telling.parent.as_deref().or(telling.remote.as_deref()) {
            let why = match self.whole(first).await {
                Ok(Some(root)) => match self.say(telling, Some(&root)).await {
                    Ok(_) => return Ok(Told { remote: kept(&root), amiss: None }),
                    Err(Failed::Bad(reason)) => reason,
                    Err(failed) => return Err(failed.into()),
                },
                Ok(None) => "the first message is not found in the room any more".to_owned(),
                // A thread is worth no wait: what there is to tell is told without.
                Err(failed) => format!("the first message cannot be looked for: {}", SinkError::from(failed)),
            };
            amiss = Some(format!("told outside of the thread: {why}"));
        }
        let id = self.say(telling, None).await?;
        Ok(Told { remote: kept(&id), amiss })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> SinkError {
        let status = StatusCode::from_u16(status).unwrap();
        SinkError::from(meant(&Reply { status, after: None, body: body.as_bytes().to_vec() }))
    }

    #[test]
    fn errors_are_told_in_matrixs_own_words_and_say_whether_trying_again_helps() {
        for code in ["M_FORBIDDEN", "M_UNKNOWN_TOKEN", "M_NOT_FOUND"] {
            let error = error(403, &format!(r#"{{"errcode":"{code}","error":"no way"}}"#));
            assert!(
                !error.is_retryable() && error.to_string().starts_with(&format!("{code}: no way; ")),
                "{error}"
            );
        }
        let limited = error(429, r#"{"errcode":"M_LIMIT_EXCEEDED","error":"slow","retry_after_ms":2500}"#);
        assert_eq!(limited.retry_after(), Some(Duration::from_millis(2_500)));
        assert!(error(502, "<html>").is_retryable());
        assert!(error(500, r#"{"errcode":"M_UNKNOWN"}"#).is_retryable());
        let long = "x\\u202e".repeat(400);
        let error = error(400, &format!(r#"{{"errcode":"M_UNKNOWN","error":"{long}"}}"#)).to_string();
        assert!(error.chars().count() < 300 && !error.contains('\u{202e}'), "{error}");
    }

    #[test]
    fn of_a_long_id_the_beginning_is_kept() {
        let id = format!("${}", "Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg");
        assert_eq!(kept(&id).unwrap().len(), MOST_REMOTE);
        assert!(id.starts_with(&kept(&id).unwrap()));
        assert_eq!(kept("$1:old.example").unwrap(), "$1:old.example");
    }
}
