//! A chat or channel of Microsoft Teams, by the address of a workflow ("Post to a channel when a webhook request is received"):
//! one Adaptive Card an event
//! ([webhooks](https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using)).
//!
//! Texts of alerts and models stand in `TextRun`s and nowhere else: those know no Markdown, so that no link, no mention and no
//! markup can stand in them ([`TextRun`](https://adaptivecards.io/explorer/TextRun.html)). A mention would need an entity
//! beside the card, and none is ever sent. Links are actions, each with the host that it leads to.
//!
//! A workflow gives no ids and takes no idempotency key: there are no threads, and a crash between its answer and the record of
//! it posts that one message again.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, Method, StatusCode};
use sentinel_core::ports::{Sink, SinkError, Telling, Told};
use sentinel_http::{HttpClient, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::card::{Card, CardLink, Part};
use crate::post::{Patience, Reply, refused, send};
use crate::text::inert;

/// The largest body, in bytes: Teams takes 28 KB.
const MOST_BODY: usize = 27_000;
/// What is kept of that for the words on what was left out.
const FOR_WHAT_IS_LEFT_OUT: usize = 1_800;
/// The most of the workflow's own word on what is wrong, in characters.
const MAX_CODE: usize = 60;

/// Which workflow.
pub struct TeamsSettings {
    /// Its address, which is a credential as a whole.
    pub url: Url,
}

impl fmt::Debug for TeamsSettings {
    /// Without the address, which is the credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TeamsSettings").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// Tells one workflow of Teams.
pub struct Teams {
    settings: TeamsSettings,
    http: Arc<HttpClient>,
}

impl fmt::Debug for Teams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teams").field("host", &self.settings.url.host_str()).finish_non_exhaustive()
    }
}

/// What a workflow says that does not take a card: `{"error": {"code": "WorkflowTriggerIsNotEnabled", …}}`.
#[derive(Deserialize)]
struct Says {
    error: SaysCode,
}

#[derive(Deserialize)]
struct SaysCode {
    code: String,
}

impl Teams {
    /// A sink that posts there.
    pub fn new(settings: TeamsSettings, http: Arc<HttpClient>) -> Self {
        Self { settings, http }
    }
}

#[async_trait]
impl Sink for Teams {
    async fn tell(&self, telling: &Telling) -> Result<Told, SinkError> {
        let body = serde_json::to_vec(&body(Card::of(telling)))
            .map_err(|e| SinkError::Refused(format!("the card cannot be written: {e}")))?;
        let url = &self.settings.url;
        let reply = send(&self.http, Method::POST, url, HeaderMap::new(), body, Patience::USUAL).await?;
        if reply.status.is_success() { Ok(Told::default()) } else { Err(meant(&reply)) }
    }
}

/// What an answer means that is no success, with the workflow's own word and what to do about it.
fn meant(reply: &Reply) -> SinkError {
    let code = serde_json::from_slice::<Says>(&reply.body).ok().map(|says| inert(&says.error.code, MAX_CODE));
    let hint = match reply.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; its address is no longer good: copy the workflow's again"
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            "; the workflow is gone: make a new one, and take its address"
        }
        StatusCode::BAD_REQUEST => "; look whether the workflow is turned on, in its run history",
        _ => "",
    };
    let code = code.map_or_else(String::new, |code| format!(" ({code})"));
    refused(reply, &format!("{code}{hint}"))
}

/// The body of a request: at most [`MOST_BODY`] bytes.
fn body(card: Card) -> Value {
    let frame = length(&message(&[], &card));
    let left = MOST_BODY.saturating_sub(frame + FOR_WHAT_IS_LEFT_OUT);
    let card = card.within(left, |part| elements(part).iter().map(|element| length(element) + 1).sum());
    let shown: Vec<Value> = card.parts.iter().flat_map(elements).collect();
    message(&shown, &card)
}

/// The message around these elements.
fn message(shown: &[Value], card: &Card) -> Value {
    let heading = json!([
        with(run(&card.standing), &[("weight", "Bolder"), ("size", "Large")]),
        with(run(&format!(" {}", card.title)), &[("weight", "Bolder"), ("size", "Large")]),
    ]);
    let mut all = vec![json!({"type": "RichTextBlock", "inlines": heading})];
    all.extend(shown.iter().cloned());
    if let Some(left_out) = &card.left_out {
        all.push(block(&[with(run(left_out), &[("weight", "Bolder")])]));
    }
    let mut foot = with(run(&card.foot), &[("size", "Small")]);
    if let Some(foot) = foot.as_object_mut() {
        foot.insert("isSubtle".to_owned(), json!(true));
    }
    all.push(block(&[foot]));
    let link = |link: &CardLink| json!({"type": "Action.OpenUrl", "title": link.text, "url": link.address});
    let mut content = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.5",
        "msteams": {"width": "Full"},
        "body": all,
    });
    if let (false, Some(content)) = (card.links.is_empty(), content.as_object_mut()) {
        content.insert("actions".to_owned(), card.links.iter().map(link).collect());
    }
    let attachment = json!({
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": null,
        "content": content,
    });
    json!({"type": "message", "attachments": [attachment]})
}

/// A part as elements of the card.
fn elements(part: &Part) -> Vec<Value> {
    match part {
        Part::Line { name, text } => vec![block(&[bold(&format!("{name}: ")), run(text)])],
        Part::Text { text, .. } => vec![block(&[run(text)])],
        Part::Cause { name, statement, carried, supported, quotes } => {
            let mut sure = run(&format!("({carried})"));
            if let (false, Some(sure)) = (*supported, sure.as_object_mut()) {
                sure.insert("strikethrough".to_owned(), json!(true));
            }
            let mut all = vec![block(&[bold(&format!("{name}: ")), run(statement), run(" "), sure])];
            if !quotes.is_empty() {
                let quotes: Vec<Value> = quotes.iter().map(|quote| block(&[run(quote)])).collect();
                all.push(json!({"type": "Container", "style": "emphasis", "items": quotes}));
            }
            all
        }
        Part::List { name, entries } => {
            let entry = |text: &String| block(&[run(&format!("• {text}"))]);
            std::iter::once(block(&[bold(name)])).chain(entries.iter().map(entry)).collect()
        }
    }
}

fn block(inlines: &[Value]) -> Value {
    json!({"type": "RichTextBlock", "inlines": inlines})
}

fn bold(text: &str) -> Value {
    with(run(text), &[("weight", "Bolder")])
}

/// Text as it is.
fn run(text: &str) -> Value {
    // An element without text is refused.
    json!({"type": "TextRun", "text": if text.is_empty() { "–" } else { text }})
}

fn with(mut run: Value, properties: &[(&str, &str)]) -> Value {
    if let Some(run) = run.as_object_mut() {
        run.extend(properties.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    }
    run
}

/// The bytes that it takes in a request.
fn length(value: &Value) -> usize {
    value.to_string().len()
}
