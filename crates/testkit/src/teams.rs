//! A workflow of Microsoft Teams: it takes one message with one Adaptive Card, and holds it against what Teams documents and
//! against what this project promises beside that.
//!
//! Refused with 400 and on record in [`TeamsServer::faults`]: a body of more than 28 KB, anything but the documented frame, an
//! element or a property that is not known here, an empty text, more than six actions, an address that is none of the web.
//! Markdown (`TextBlock`) and mentions (`entities`) are not known here, because nothing is told by them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::server::{Log, Running, broken};

/// The largest message that Teams takes.
pub const LARGEST: usize = 28 * 1024;
/// The credential in the address.
pub const SIGNATURE: &str = "sig-8hGf2kQ0aZx7";

/// How a workflow answers one request.
#[derive(Clone, Debug)]
pub enum Answers {
    /// It takes it: 202.
    Takes,
    /// It takes it: 200.
    TakesAtOnce,
    /// It takes it, and its answer is lost.
    TakesUnheard,
    /// It does not: this status, `Retry-After` in seconds, and this error's code.
    Refuses(u16, Option<u64>, &'static str),
}

#[derive(Default)]
struct Shared {
    posted: Log<Value>,
    faults: Mutex<Vec<String>>,
    script: Mutex<Vec<Answers>>,
}

/// The workflow. Dropping it stops it.
pub struct TeamsServer {
    shared: Arc<Shared>,
    running: Running,
}

impl fmt::Debug for TeamsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TeamsServer").field("address", &self.running.address).finish_non_exhaustive()
    }
}

impl TeamsServer {
    /// A workflow that answers as `script` says, one entry a request, and takes everything once that is over.
    pub async fn start(script: impl IntoIterator<Item = Answers>) -> Self {
        let mut script: Vec<_> = script.into_iter().collect();
        script.reverse();
        let shared = Arc::new(Shared { script: Mutex::new(script), ..Shared::default() });
        let path = "/workflows/0f3a/triggers/manual/paths/invoke";
        let router = Router::new().route(path, post(take)).with_state(Arc::clone(&shared));
        Self { shared, running: Running::start(router, CancellationToken::new()).await }
    }

    /// Where to post.
    pub fn url(&self) -> String {
        let at = self.running.address;
        format!("http://{at}/workflows/0f3a/triggers/manual/paths/invoke?api-version=1&sig={SIGNATURE}")
    }

    /// All bodies, in order.
    pub fn posted(&self) -> Vec<Value> {
        self.shared.posted.all()
    }

    /// What was wrong with any of them.
    pub fn faults(&self) -> Vec<String> {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The texts of a card, one element a line.
pub fn shown(body: &Value) -> String {
    fn walk(value: &Value, to: &mut String) {
        match value {
            Value::Array(all) => all.iter().for_each(|value| walk(value, to)),
            Value::Object(object) => {
                to.push_str(object.get("text").and_then(Value::as_str).unwrap_or_default());
                object.values().filter(|value| !value.is_string()).for_each(|value| walk(value, to));
                if object.get("type") == Some(&json!("RichTextBlock")) {
                    to.push('\n');
                }
            }
            _ => {}
        }
    }
    let mut shown = String::new();
    walk(body.pointer("/attachments/0/content/body").unwrap_or(&Value::Null), &mut shown);
    shown
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, raw: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&raw).unwrap_or_default();
    shared.posted.push(body.clone());
    let next = shared.script.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or(Answers::Takes);
    if let Answers::Refuses(status, after, code) = next {
        let status = StatusCode::from_u16(status).expect("a status");
        let body = json!({"error": {"code": code, "message": "Could not execute workflow"}}).to_string();
        return match after {
            Some(seconds) => (status, [("retry-after", seconds.to_string())], body).into_response(),
            None => (status, body).into_response(),
        };
    }
    let mut faults = check(&body);
    if raw.len() > LARGEST {
        faults.push(format!("{} bytes", raw.len()));
    }
    let json =
        headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !json {
        faults.push("no JSON".to_owned());
    }
    if !faults.is_empty() {
        shared.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
        return StatusCode::BAD_REQUEST.into_response();
    }
    match next {
        Answers::TakesUnheard => broken(),
        Answers::TakesAtOnce => StatusCode::OK.into_response(),
        Answers::Takes | Answers::Refuses(..) => StatusCode::ACCEPTED.into_response(),
    }
}

/// What is wrong with a message.
fn check(body: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let wrong = |faults: &mut Vec<String>, what: &str| faults.push(what.to_owned());
    only(body, &["type", "attachments"], &mut faults);
    if body["type"] != "message" {
        wrong(&mut faults, "it is no message");
    }
    let [attachment] = body["attachments"].as_array().map_or(&[][..], Vec::as_slice) else {
        wrong(&mut faults, "not one attachment");
        return faults;
    };
    only(attachment, &["contentType", "contentUrl", "content"], &mut faults);
    if attachment["contentType"] != "application/vnd.microsoft.card.adaptive" {
        wrong(&mut faults, "its attachment is no card");
    }
    if !attachment["contentUrl"].is_null() {
        wrong(&mut faults, "its card is elsewhere");
    }
    let card = &attachment["content"];
    only(card, &["$schema", "type", "version", "msteams", "body", "actions"], &mut faults);
    if card["type"] != "AdaptiveCard" || card["version"] != "1.5" {
        wrong(&mut faults, "its card is none of version 1.5");
    }
    if card["msteams"] != json!({"width": "Full"}) {
        wrong(&mut faults, "it asks Teams for more than width");
    }
    let elements = card["body"].as_array().map_or(&[][..], Vec::as_slice);
    if elements.is_empty() {
        wrong(&mut faults, "the card is empty");
    }
    for element in elements {
        check_element(element, &mut faults);
    }
    if let Some(actions) = card.get("actions") {
        let actions = actions.as_array().map_or(&[][..], Vec::as_slice);
        if actions.is_empty() || actions.len() > 6 {
            faults.push(format!("{} actions", actions.len()));
        }
        for action in actions {
            only(action, &["type", "title", "url"], &mut faults);
            let url = action["url"].as_str().unwrap_or_default();
            let web = url.starts_with("https://") || url.starts_with("http://");
            if action["type"] != "Action.OpenUrl" || !web || !is_text(&action["title"]) {
                faults.push(format!("an action {action}"));
            }
        }
    }
    faults
}

fn check_element(element: &Value, faults: &mut Vec<String>) {
    match element["type"].as_str().unwrap_or_default() {
        "RichTextBlock" => {
            only(element, &["type", "inlines"], faults);
            let inlines = element["inlines"].as_array().map_or(&[][..], Vec::as_slice);
            if inlines.is_empty() {
                faults.push("a block without text".to_owned());
            }
            for run in inlines {
                let known = ["type", "text", "weight", "size", "isSubtle", "strikethrough"];
                only(run, &known, faults);
                if run["type"] != "TextRun" || !is_text(&run["text"]) {
                    faults.push(format!("a text {run}"));
                }
            }
        }
        "Container" => {
            only(element, &["type", "style", "items"], faults);
            let items = element["items"].as_array().map_or(&[][..], Vec::as_slice);
            if items.is_empty() || element["style"] != "emphasis" {
                faults.push("a container of nothing".to_owned());
            }
            for item in items {
                check_element(item, faults);
            }
        }
        other => faults.push(format!("an element of the kind {other:?}")),
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

fn only(value: &Value, known: &[&str], faults: &mut Vec<String>) {
    let none = Map::new();
    let names = value.as_object().unwrap_or(&none).keys();
    faults.extend(
        names.filter(|name| !known.contains(&name.as_str())).map(|name| format!("a property {name:?}")),
    );
}
