//! A small Slack: `auth.test`, `chat.postMessage` and `chat.update`, with its limits and its errors.
//!
//! It refuses what the real one refuses: a missing or wrong token, an unknown channel, too many or too long blocks, an
//! element without text, a thread or a message that is not there. What the real one would let pass and this project never
//! sends is refused too: markup outside of elements that are shown as they are, and links that are unfurled.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::server::{Log, Running, broken};

/// How Slack fails one call.
#[derive(Clone, Debug)]
pub enum Fails {
    /// It does not fail.
    Not,
    /// `200` with `ok: false` and this error.
    With(String),
    /// The same, and these words on what is wrong (`response_metadata.messages`).
    Because(String, Vec<String>),
    /// `429` with `Retry-After` in seconds.
    Limited(u64),
    /// This status and no JSON.
    Status(u16),
    /// It does what it is asked, and its answer is lost.
    Unheard,
    /// It does what it is asked, and never answers.
    Hangs,
}

/// A message as it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct SlackMessage {
    /// The channel's id.
    pub channel: String,
    /// Its name in Slack.
    pub ts: String,
    /// The message whose thread it is in.
    pub thread: Option<String>,
    /// What stands for the blocks.
    pub text: String,
    /// The blocks.
    pub blocks: Value,
    /// How often it was changed.
    pub updates: usize,
}

impl SlackMessage {
    /// The texts of its elements, one after the other.
    pub fn shown(&self) -> String {
        fn texts(value: &Value, to: &mut String) {
            match value {
                Value::Array(all) => all.iter().for_each(|value| texts(value, to)),
                Value::Object(object) => {
                    if let Some(Value::String(text)) = object.get("text") {
                        to.push_str(text);
                    }
                    object.values().for_each(|value| texts(value, to));
                }
                _ => {}
            }
        }
        if self.blocks.as_array().is_none_or(Vec::is_empty) {
            return self.text.clone();
        }
        let mut shown = String::new();
        texts(&self.blocks, &mut shown);
        shown
    }
}

struct Shared {
    token: String,
    /// Names and ids.
    channels: Vec<(String, String)>,
    messages: Mutex<Vec<SlackMessage>>,
    /// What is said of every message with blocks, once they are refused.
    no_blocks: Mutex<Option<String>>,
    /// No thread takes a reply any more.
    no_threads: AtomicBool,
    script: Mutex<Vec<Fails>>,
    calls: Log<(String, Value)>,
    stop: CancellationToken,
}

impl Shared {
    fn messages(&self) -> MutexGuard<'_, Vec<SlackMessage>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server. Dropping it stops it.
pub struct SlackServer {
    shared: Arc<Shared>,
    running: Running,
}

impl fmt::Debug for SlackServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlackServer").field("address", &self.running.address).finish_non_exhaustive()
    }
}

impl SlackServer {
    /// A workspace with these channels that takes `token`, and fails its calls as `script` says, one entry a call.
    pub async fn start(token: &str, channels: &[&str], script: impl IntoIterator<Item = Fails>) -> Self {
        let mut script: Vec<_> = script.into_iter().collect();
        script.reverse();
        let shared = Arc::new(Shared {
            token: token.to_owned(),
            channels: channels
                .iter()
                .enumerate()
                .map(|(n, c)| ((*c).to_owned(), format!("C{n:010}")))
                .collect(),
            messages: Mutex::default(),
            no_blocks: Mutex::default(),
            no_threads: AtomicBool::new(false),
            script: Mutex::new(script),
            calls: Log::default(),
            stop: CancellationToken::new(),
        });
        let stop = shared.stop.clone();
        let router = Router::new().route("/api/{method}", post(call)).with_state(Arc::clone(&shared));
        Self { shared, running: Running::start(router, stop).await }
    }

    /// Where its API is.
    pub fn api(&self) -> String {
        format!("http://{}/api/", self.running.address)
    }

    /// All messages, in the order of their posting.
    pub fn messages(&self) -> Vec<SlackMessage> {
        self.shared.messages().clone()
    }

    /// All calls: the method and the body.
    pub fn calls(&self) -> Vec<(String, Value)> {
        self.shared.calls.all()
    }

    /// Waits until at least `n` calls have come.
    pub async fn wait_for(&self, n: usize) {
        self.shared.calls.wait_for(n, "calls of Slack's API").await;
    }

    /// From now on no blocks are taken (`invalid_blocks`), with these words on what is wrong.
    pub fn refuse_blocks(&self, why: &str) {
        *self.shared.no_blocks.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// From now on no thread takes a reply (`cannot_reply_to_message`).
    pub fn lock_threads(&self) {
        self.shared.no_threads.store(true, Ordering::SeqCst);
    }

    /// Somebody deletes a message.
    pub fn delete(&self, ts: &str) {
        self.shared.messages().retain(|message| message.ts != ts);
    }
}

async fn call(
    State(shared): State<Arc<Shared>>,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    shared.calls.push((method.clone(), body.clone()));
    let next = shared.script.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or(Fails::Not);
    match &next {
        Fails::With(error) => return no(error, &[]),
        Fails::Because(error, why) => return no(error, why),
        Fails::Limited(seconds) => {
            let body = Json(json!({"ok": false, "error": "ratelimited"}));
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())], body)
                .into_response();
        }
        Fails::Status(status) => return StatusCode::from_u16(*status).expect("a status").into_response(),
        Fails::Not | Fails::Unheard | Fails::Hangs => {}
    }
    let shape = |()| if method == "auth.test" { Ok(()) } else { shape(&body) };
    let done = match authorized(&shared, &headers).and_then(shape) {
        Ok(()) => change(&shared, &method, &body),
        Err(error) => Err(error),
    };
    match done {
        Ok(_) if matches!(next, Fails::Unheard) => broken(),
        Ok(_) if matches!(next, Fails::Hangs) => {
            shared.stop.cancelled().await;
            broken()
        }
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            let why = shared.no_blocks.lock().unwrap_or_else(PoisonError::into_inner).clone();
            no(&error, &why.into_iter().filter(|_| error == "invalid_blocks").collect::<Vec<_>>())
        }
    }
}

fn no(error: &str, why: &[String]) -> Response {
    if why.is_empty() {
        return Json(json!({"ok": false, "error": error})).into_response();
    }
    Json(json!({"ok": false, "error": error, "response_metadata": {"messages": why}})).into_response()
}

fn authorized(shared: &Shared, headers: &HeaderMap) -> Result<(), String> {
    let json =
        headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
    match shown {
        None => Err("not_authed".to_owned()),
        Some(shown) if shown != format!("Bearer {}", shared.token) => Err("invalid_auth".to_owned()),
        Some(_) if !json => Err("invalid_post_type".to_owned()),
        Some(_) => Ok(()),
    }
}

/// Slack's limits (<https://docs.slack.dev/reference/block-kit/blocks>), and what this project promises beside them.
fn shape(body: &Value) -> Result<(), String> {
    fn elements(value: &Value, chars: &mut usize) -> Result<(), String> {
        let kind = value["type"].as_str().unwrap_or_default();
        if let Some(inner) = value["elements"].as_array() {
            if !matches!(kind, "rich_text" | "rich_text_section" | "rich_text_list" | "rich_text_quote")
                || inner.is_empty()
            {
                return Err("invalid_blocks".to_owned());
            }
            return inner.iter().try_for_each(|element| elements(element, chars));
        }
        let text = value["text"].as_str().unwrap_or_default();
        let url = value["url"].as_str().unwrap_or_default();
        *chars += text.chars().count() + url.chars().count();
        let is_link = kind == "link" && url.starts_with("http") && url.chars().count() <= 3_000;
        if !(is_link || kind == "text" && url.is_empty()) || text.is_empty() || text.chars().count() > 3_000 {
            return Err("invalid_blocks".to_owned());
        }
        Ok(())
    }
    let text = body["text"].as_str().unwrap_or_default();
    if text.is_empty() {
        return Err("no_text".to_owned());
    }
    if text.contains(['<', '>']) || text.len() > 4_000 {
        return Err("test_text_is_not_inert".to_owned());
    }
    for off in ["unfurl_links", "unfurl_media", "link_names"] {
        if body[off] != json!(false) {
            return Err("test_would_unfurl".to_owned());
        }
    }
    let none = Vec::new();
    let blocks = match &body["blocks"] {
        Value::Null => &none,
        blocks => blocks.as_array().ok_or("invalid_blocks")?,
    };
    if blocks.is_empty() && body["mrkdwn"] != json!(false) {
        return Err("test_text_is_not_inert".to_owned());
    }
    let mut chars = 0;
    blocks.iter().try_for_each(|block| elements(block, &mut chars))?;
    if blocks.len() > 50 || chars > 12_000 {
        return Err("msg_blocks_too_long".to_owned());
    }
    Ok(())
}

fn change(shared: &Shared, method: &str, body: &Value) -> Result<Value, String> {
    if method == "auth.test" {
        return Ok(json!({"ok": true, "team": "Example", "user": "sentinel"}));
    }
    let wanted = body["channel"].as_str().unwrap_or_default();
    let found =
        shared.channels.iter().find(|(name, id)| wanted == id || wanted.trim_start_matches('#') == name);
    let (_, channel) = found.ok_or("channel_not_found")?;
    let mut messages = shared.messages();
    let no_blocks = shared.no_blocks.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    if no_blocks && body["blocks"].as_array().is_some_and(|blocks| !blocks.is_empty()) {
        return Err("invalid_blocks".to_owned());
    }
    let (text, blocks) = (body["text"].as_str().unwrap_or_default().to_owned(), body["blocks"].clone());
    match method {
        "chat.postMessage" => {
            let thread = body["thread_ts"].as_str().map(str::to_owned);
            if thread
                .as_ref()
                .is_some_and(|ts| !messages.iter().any(|m| m.ts == *ts && m.channel == *channel))
            {
                return Err("thread_not_found".to_owned());
            }
            if thread.is_some() && shared.no_threads.load(Ordering::SeqCst) {
                return Err("cannot_reply_to_message".to_owned());
            }
            let ts = format!("1795348800.{:06}", messages.len() + 1);
            let message =
                SlackMessage { channel: channel.clone(), ts: ts.clone(), thread, text, blocks, updates: 0 };
            messages.push(message);
            Ok(json!({"ok": true, "channel": channel, "ts": ts}))
        }
        "chat.update" => {
            // Slack wants the id here.
            if wanted != channel {
                return Err("channel_not_found".to_owned());
            }
            let ts = body["ts"].as_str().unwrap_or_default();
            let message = messages.iter_mut().find(|m| m.ts == ts && m.channel == *channel);
            let message = message.ok_or("message_not_found")?;
            (message.text, message.blocks) = (text, blocks);
            message.updates += 1;
            Ok(json!({"ok": true, "channel": channel, "ts": ts}))
        }
        _ => Err("unknown_method".to_owned()),
    }
}
