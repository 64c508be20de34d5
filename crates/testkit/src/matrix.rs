//! A small Matrix homeserver: `whoami`, sending into a room, and a room's messages, newest first.
//!
//! A transaction's id is taken once, and answered with the same event ever after. It refuses what a real one refuses: a wrong
//! token, a room that is not there or not joined, an event of more than 65,536 bytes, a relation to an event that is not
//! there or has a relation itself. What a real one would let pass and this project never sends is refused too
//! (`M_TEST`): mentions, and HTML that is more than the few tags of a card.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::server::{Log, Running, broken};

/// The account.
pub const USER: &str = "@sentinel:hs.example";
/// What servers add to an event's content, at the most.
const ADDED: usize = 5_000;
/// The tags of a card.
const TAGS: &[&str] = &[
    "<strong>",
    "</strong>",
    "<em>",
    "</em>",
    "<del>",
    "</del>",
    "<code>",
    "</code>",
    "<ul>",
    "</ul>",
    "<li>",
    "</li>",
    "<blockquote>",
    "</blockquote>",
    "<br>",
    "</a>",
    "<a href=\"https://",
    "<a href=\"http://",
];

/// How a homeserver answers one request.
#[derive(Clone, Debug)]
pub enum Does {
    /// What it is asked.
    It,
    /// It does what it is asked, and its answer is lost.
    ItUnheard,
    /// This status, and this body, and `Retry-After` in seconds.
    Not(u16, Value, Option<u64>),
}

/// An event of a room.
#[derive(Clone, PartialEq, Debug)]
pub struct MatrixEvent {
    /// Its room.
    pub room: String,
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub sender: String,
    /// What it says.
    pub content: Value,
    /// Whether somebody has deleted it.
    pub redacted: bool,
}

impl MatrixEvent {
    /// The first event of the thread that it is in.
    pub fn thread(&self) -> Option<&str> {
        self.content.pointer("/m.relates_to/event_id")?.as_str()
    }

    /// The plain text.
    pub fn text(&self) -> &str {
        self.content.get("body").and_then(Value::as_str).unwrap_or_default()
    }
}

struct Shared {
    token: String,
    rooms: Vec<String>,
    long_ids: bool,
    events: Mutex<Vec<MatrixEvent>>,
    transactions: Mutex<BTreeMap<(String, String), String>>,
    script: Mutex<Vec<Does>>,
    calls: Log<String>,
}

impl Shared {
    fn events(&self) -> MutexGuard<'_, Vec<MatrixEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the next event: of today's rooms 44 bytes, of the first ones with the server's name.
    fn next_id(&self, n: usize) -> String {
        if self.long_ids {
            format!("${n:04}{}", "Rq-_9".repeat(8).get(..39).expect("ASCII"))
        } else {
            format!("${n}:hs.example")
        }
    }

    fn push(&self, room: &str, sender: &str, content: Value) -> String {
        let mut events = self.events();
        let id = self.next_id(events.len() + 1);
        let (room, sender) = (room.to_owned(), sender.to_owned());
        events.push(MatrixEvent { room, id: id.clone(), sender, content, redacted: false });
        id
    }
}

/// The server. Dropping it stops it.
pub struct MatrixServer {
    shared: Arc<Shared>,
    running: Running,
}

impl fmt::Debug for MatrixServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MatrixServer").field("address", &self.running.address).finish_non_exhaustive()
    }
}

impl MatrixServer {
    /// A homeserver whose account has joined these rooms, and that does as `script` says, one entry a request. Its events'
    /// ids are as long as today's.
    pub async fn start(token: &str, rooms: &[&str], script: impl IntoIterator<Item = Does>) -> Self {
        Self::with(token, rooms, script, true).await
    }

    /// The same with rooms of the first versions, whose events have short ids.
    pub async fn old(token: &str, rooms: &[&str]) -> Self {
        Self::with(token, rooms, [], false).await
    }

    async fn with(
        token: &str,
        rooms: &[&str],
        script: impl IntoIterator<Item = Does>,
        long_ids: bool,
    ) -> Self {
        let mut script: Vec<_> = script.into_iter().collect();
        script.reverse();
        let shared = Arc::new(Shared {
            token: token.to_owned(),
            rooms: rooms.iter().map(|room| (*room).to_owned()).collect(),
            long_ids,
            events: Mutex::default(),
            transactions: Mutex::default(),
            script: Mutex::new(script),
            calls: Log::default(),
        });
        let router = Router::new()
            .route("/_matrix/client/v3/account/whoami", get(whoami))
            .route("/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}", put(send))
            .route("/_matrix/client/v3/rooms/{room}/messages", get(messages))
            .with_state(Arc::clone(&shared));
        Self { shared, running: Running::start(router, CancellationToken::new()).await }
    }

    /// Where its API is.
    pub fn url(&self) -> String {
        format!("http://{}", self.running.address)
    }

    /// All events, in the order of their sending.
    pub fn events(&self) -> Vec<MatrixEvent> {
        self.shared.events().clone()
    }

    /// What was asked for: `whoami`, `send TRANSACTION`, `messages`.
    pub fn calls(&self) -> Vec<String> {
        self.shared.calls.all()
    }

    /// Somebody says something in a room; the account itself where `sender` is [`USER`].
    pub fn said(&self, room: &str, sender: &str) {
        self.shared.push(room, sender, json!({"msgtype": "m.text", "body": "hello"}));
    }

    /// Somebody deletes an event.
    pub fn delete(&self, id: &str) {
        for event in self.shared.events().iter_mut().filter(|event| event.id == id) {
            event.redacted = true;
        }
    }
}

fn no(status: StatusCode, code: &str, error: &str) -> Response {
    (status, Json(json!({"errcode": code, "error": error}))).into_response()
}

/// What comes before any answer: the log, the script, the token.
fn admitted(shared: &Shared, call: String, headers: &HeaderMap) -> Result<Does, Box<Response>> {
    shared.calls.push(call);
    let next = shared.script.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or(Does::It);
    if let Does::Not(status, body, after) = next {
        let status = StatusCode::from_u16(status).expect("a status");
        return Err(Box::new(match after {
            Some(seconds) => (status, [("retry-after", seconds.to_string())], Json(body)).into_response(),
            None => (status, Json(body)).into_response(),
        }));
    }
    let refused = |code: &str, why: &str| Err(Box::new(no(StatusCode::UNAUTHORIZED, code, why)));
    match headers.get("authorization").and_then(|value| value.to_str().ok()) {
        Some(shown) if shown == format!("Bearer {}", shared.token) => Ok(next),
        Some(_) => refused("M_UNKNOWN_TOKEN", "Invalid access token passed."),
        None => refused("M_MISSING_TOKEN", "Missing access token"),
    }
}

fn joined(shared: &Shared, room: &str) -> Result<(), Box<Response>> {
    let is = shared.rooms.iter().any(|known| known == room);
    let not = || no(StatusCode::FORBIDDEN, "M_FORBIDDEN", &format!("User {USER} not in room {room}"));
    if is { Ok(()) } else { Err(Box::new(not())) }
}

async fn whoami(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match admitted(&shared, "whoami".to_owned(), &headers) {
        Ok(_) => Json(json!({"user_id": USER, "device_id": "A"})).into_response(),
        Err(refusal) => *refusal,
    }
}

async fn send(
    State(shared): State<Arc<Shared>>,
    Path((room, transaction)): Path<(String, String)>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let next = match admitted(&shared, format!("send {transaction}"), &headers) {
        Ok(next) => next,
        Err(refusal) => return *refusal,
    };
    if let Err(refusal) = joined(&shared, &room) {
        return *refusal;
    }
    let key = (room.clone(), transaction);
    let before = shared.transactions.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let id = if let Some(id) = before {
        id
    } else {
        let content: Value = serde_json::from_str(&body).unwrap_or_default();
        if let Err(refusal) = good(&shared, &room, &content, body.len()) {
            return *refusal;
        }
        let id = shared.push(&room, USER, content);
        shared.transactions.lock().unwrap_or_else(PoisonError::into_inner).insert(key, id.clone());
        id
    };
    if matches!(next, Does::ItUnheard) { broken() } else { Json(json!({"event_id": id})).into_response() }
}

fn good(shared: &Shared, room: &str, content: &Value, bytes: usize) -> Result<(), Box<Response>> {
    let bad = |code: &str, why: &str| Err(Box::new(no(StatusCode::BAD_REQUEST, code, why)));
    if bytes + ADDED > 65_536 {
        return Err(Box::new(no(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", "event too large")));
    }
    let text = content["body"].as_str().unwrap_or_default();
    if content["msgtype"] != "m.text" || text.is_empty() {
        return bad("M_BAD_JSON", "no text");
    }
    if content["m.mentions"] != json!({}) {
        return bad("M_TEST", "it mentions somebody");
    }
    if content["format"] != "org.matrix.custom.html" {
        return bad("M_TEST", "no HTML");
    }
    if let Some(fault) = fault_of_html(content["formatted_body"].as_str().unwrap_or_default()) {
        return bad("M_TEST", &fault);
    }
    let relation = &content["m.relates_to"];
    if !relation.is_null() {
        let (first, answered) = (&relation["event_id"], relation.pointer("/m.in_reply_to/event_id"));
        let events = shared.events();
        let found = events.iter().find(|event| event.room == room && *first == event.id.as_str());
        if found.is_none_or(|found| found.thread().is_some()) {
            return bad("M_UNKNOWN", "Can't send relation to unknown event");
        }
        let thread = relation["rel_type"] == "m.thread" && relation["is_falling_back"] == true;
        if !thread || answered != Some(first) {
            return bad("M_TEST", "it is in no thread");
        }
    }
    Ok(())
}

/// What is more than text and the tags of a card.
fn fault_of_html(html: &str) -> Option<String> {
    let mut open = Vec::new();
    for (at, _) in html.match_indices('<') {
        let rest = html.get(at..).unwrap_or_default();
        let Some(tag) = TAGS.iter().find(|tag| rest.starts_with(**tag)) else {
            return Some(format!("markup {:?}", rest.get(..rest.len().min(12))));
        };
        let name = tag.trim_matches(['<', '>', '/']).split(' ').next().unwrap_or_default();
        match tag {
            _ if name == "br" => {}
            tag if tag.starts_with("</") => {
                if open.pop() != Some(name) {
                    return Some(format!("{tag} closes nothing"));
                }
            }
            _ => open.push(name),
        }
    }
    (html.is_empty() || !open.is_empty()).then(|| format!("open: {open:?}"))
}

async fn messages(
    State(shared): State<Arc<Shared>>,
    Path(room): Path<String>,
    Query(asked): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = admitted(&shared, "messages".to_owned(), &headers).and(joined(&shared, &room)) {
        return *refusal;
    }
    let text = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
    let filter: &Value = &serde_json::from_str(text("filter")).unwrap_or_default();
    let limit: usize = text("limit").parse().unwrap_or(10);
    let begin: usize = text("from").parse().unwrap_or(0);
    if text("dir") != "b" || filter["types"] != json!(["m.room.message"]) {
        return no(StatusCode::BAD_REQUEST, "M_TEST", "it is asked for something else");
    }
    let events = shared.events();
    let of_sender = |event: &&MatrixEvent| filter["senders"] == json!([event.sender]);
    let all: Vec<&MatrixEvent> =
        events.iter().rev().filter(|event| event.room == room).filter(of_sender).collect();
    let page = all.iter().skip(begin).take(limit).map(|event| {
        let deleted = json!({"redacted_because": {"type": "m.room.redaction"}});
        let unsigned = if event.redacted { deleted } else { json!({}) };
        json!({"event_id": event.id, "type": "m.room.message", "sender": event.sender, "unsigned": unsigned})
    });
    let end = begin + limit;
    let page: Vec<Value> = page.collect();
    // The last one has none.
    let mut answer = json!({"chunk": page, "start": begin.to_string(), "end": end.to_string()});
    if let (true, Some(answer)) = (end >= all.len(), answer.as_object_mut()) {
        answer.remove("end");
    }
    Json(answer).into_response()
}
