//! What Slack is given to show: the one view of the incident. Texts of alerts and models go into `rich_text` elements, which
//! Slack shows as they are: no markup, no mention, no link can stand in them
//! ([Block Kit, rich text](https://docs.slack.dev/reference/block-kit/blocks/rich-text-block)). The links of the view are
//! elements of their own, with the host that each leads to.

use sentinel_core::incident::Event;
use sentinel_core::ports::Telling;
use sentinel_core::storm::Listed;
use sentinel_core::view::{Claim, Findings, Link, Quote};
use serde_json::{Value, json};

use crate::text::inert;
use crate::words::{
    MAX_ENTRIES, MAX_ENTRY, MAX_LINK, MAX_QUOTES, MAX_TEXT, about, again_words, firing_now, happened, labels,
    quoted, standing, took,
};

/// The longest half of a message, in characters of all its elements: Slack refuses longer ones (`msg_blocks_too_long`).
const MAX_MESSAGE: usize = 5_500;
/// The longest fallback text, for notifications and screen readers.
const MAX_FALLBACK: usize = 300;
/// The longest plain text, in characters after escaping: `chat.update` refuses longer ones (`msg_too_long`).
const MAX_PLAIN: usize = 3_900;

/// A message: its blocks, and what stands for them where blocks are not shown.
#[derive(Debug)]
pub(super) struct Message {
    fallback: String,
    elements: Vec<Value>,
    /// Characters that still fit.
    left: usize,
}

impl Message {
    /// The body of a request.
    pub(super) fn body(&self, channel: &str) -> Value {
        let blocks = json!([{"type": "rich_text", "elements": self.elements}]);
        request(channel, &escaped(&self.fallback), &blocks)
    }

    /// The same as plain text, for a destination that takes no blocks. `over` another message: an empty list of them is
    /// what takes away those that it had ([chat.update, "blocks"](https://docs.slack.dev/reference/methods/chat.update)).
    pub(super) fn plain_body(&self, channel: &str, over: bool) -> Value {
        let mut text = String::new();
        for element in &self.elements {
            lines(element, "", &mut text);
        }
        let mut body = request(channel, &within(&text, MAX_PLAIN), &json!([]));
        if let Some(body) = body.as_object_mut() {
            if !over {
                body.remove("blocks");
            }
            // Only chat.postMessage knows it. In a message that is changed a `*` may make something bold, and no more.
            body.insert("mrkdwn".to_owned(), json!(false));
        }
        body
    }

    /// This and then that in one message.
    pub(super) fn with(mut self, rest: Option<Self>) -> Self {
        self.elements.extend(rest.into_iter().flat_map(|rest| rest.elements));
        self
    }

    fn new(fallback: &str) -> Self {
        Self { fallback: inert(fallback, MAX_FALLBACK), elements: Vec::new(), left: MAX_MESSAGE }
    }

    /// Adds an element whole, or, where it does not fit, what says so, and then nothing more.
    fn push(&mut self, kind: &str, elements: &[Value]) {
        if self.left == 0 {
            return;
        }
        let chars = elements.iter().map(characters).sum();
        let Some(left) = self.left.checked_sub(chars) else {
            self.left = 0;
            let rest = plain("\n… the rest is in the stored report (sentinel incidents show)");
            self.elements.push(json!({"type": "rich_text_section", "elements": [rest]}));
            return;
        };
        self.left = left;
        let mut element = json!({"type": kind, "elements": elements});
        if kind == "rich_text_list"
            && let Some(list) = element.as_object_mut()
        {
            list.insert("style".to_owned(), json!("bullet"));
        }
        self.elements.push(element);
    }

    fn section(&mut self, elements: &[Value]) {
        self.push("rich_text_section", elements);
    }

    fn line(&mut self, name: &str, text: &str) {
        self.section(&[bold(&format!("\n{name}: ")), plain(text)]);
    }

    fn quote(&mut self, quote: &Quote) {
        self.push("rich_text_quote", &[plain(&quoted(quote))]);
    }

    /// The links of the alert and of this incident, each with the host that it leads to.
    fn links(&mut self, links: &[Link]) {
        let mut elements = Vec::new();
        for link in links.iter().filter(|link| link.address.len() <= MAX_LINK) {
            elements.push(plain(if elements.is_empty() { "\n" } else { " · " }));
            let text = inert(&format!("{} ({})", link.kind, link.host), MAX_ENTRY);
            elements.push(json!({"type": "link", "url": link.address, "text": text}));
        }
        if !elements.is_empty() {
            self.section(&elements);
        }
    }

    fn list(&mut self, name: &str, entries: impl ExactSizeIterator<Item = String>) {
        let count = entries.len();
        if count == 0 {
            return;
        }
        self.section(&[bold(&format!("\n{name}"))]);
        let mut shown: Vec<String> = entries.take(MAX_ENTRIES).map(|text| inert(&text, MAX_ENTRY)).collect();
        if count > MAX_ENTRIES {
            shown.push(format!("… and {} more", count - MAX_ENTRIES));
        }
        let item = |text: &String| json!({"type": "rich_text_section", "elements": [plain(text)]});
        self.push("rich_text_list", &shown.iter().map(item).collect::<Vec<_>>());
    }
}

/// The body of a request: nothing in it is parsed, and no link is unfurled.
fn request(channel: &str, text: &str, blocks: &Value) -> Value {
    json!({
        "channel": channel,
        "text": text,
        "blocks": blocks,
        "parse": "none",
        "link_names": false,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

/// The texts of an element, one after the other; entries of a list and quotes on lines of their own.
fn lines(element: &Value, mark: &str, to: &mut String) {
    to.push_str(mark);
    to.push_str(element.get("text").and_then(Value::as_str).unwrap_or_default());
    let (mark, end) = match element.get("type").and_then(Value::as_str) {
        Some("rich_text_list") => ("\n• ", ""),
        Some("rich_text_quote") => ("\n    ", "\n"),
        _ => ("", ""),
    };
    for inner in element.get("elements").and_then(Value::as_array).into_iter().flatten() {
        lines(inner, mark, to);
    }
    to.push_str(end);
}

/// The text escaped, cut where it would be longer than `most` characters.
fn within(text: &str, most: usize) -> String {
    const CUT: &str = "\n… the rest is in the stored report (sentinel incidents show)";
    let whole = escaped(text);
    if whole.chars().count() <= most {
        return whole;
    }
    let mut left = most.saturating_sub(CUT.chars().count());
    let mut out = String::new();
    for c in text.chars() {
        let piece = escaped(c.encode_utf8(&mut [0; 4]));
        let Some(rest) = left.checked_sub(piece.chars().count()) else { break };
        left = rest;
        out.push_str(&piece);
    }
    out + CUT
}

/// The characters of all texts and addresses in an element.
fn characters(element: &Value) -> usize {
    let count = |name: &str| element.get(name).and_then(Value::as_str).map_or(0, |text| text.chars().count());
    let text = count("text") + count("url");
    let inner = element.get("elements").and_then(Value::as_array);
    text + inner.map_or(0, |elements| elements.iter().map(characters).sum())
}

/// Slack's three escapes ([formatting, "Escaping text"](https://docs.slack.dev/messaging/formatting-message-text)), for the
/// one text that is no element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn plain(text: &str) -> Value {
    // Slack refuses an element without text.
    let text = if text.is_empty() { "–".to_owned() } else { inert_lines(text) };
    json!({"type": "text", "text": text})
}

fn bold(text: &str) -> Value {
    json!({"type": "text", "text": inert_lines(text), "style": {"bold": true}})
}

fn struck(text: &str) -> Value {
    json!({"type": "text", "text": inert(text, MAX_TEXT), "style": {"strike": true}})
}

/// Our own line breaks stay, of which there is at most one in front.
fn inert_lines(text: &str) -> String {
    match text.strip_prefix('\n') {
        Some(rest) => format!("\n{}", inert(rest, MAX_TEXT)),
        None => inert(text, MAX_TEXT),
    }
}

/// How sure a cause is; struck where its evidence does not carry it.
fn carried(claim: &Claim) -> Vec<Value> {
    if claim.supported {
        vec![plain(&format!(" ({})", claim.carried()))]
    } else {
        vec![plain(" "), struck(&claim.carried())]
    }
}

/// A storm notice: what ended without a model, by card and labels, as many as fit.
fn storm(telling: &Telling) -> Message {
    let count = telling.listed.len();
    let mut m = Message::new(&format!("BUDGET USED UP: {count} incidents ended on their evidence alone"));
    m.section(&[bold("BUDGET USED UP"), plain(&format!(" {count} incidents ended on their evidence alone"))]);
    m.line("Why", telling.head.reason.as_deref().unwrap_or("no reason is recorded"));
    for of_card in telling.listed.chunk_by(|a, b| a.card == b.card) {
        let card = of_card.first().map_or("", |l| l.card.as_str());
        m.section(&[bold(&format!("\n{} of card {card}", of_card.len()))]);
        for some in of_card.chunks(MAX_ENTRIES) {
            let item = |l: &Listed| {
                let text = inert(&labels(&l.labels), MAX_ENTRY);
                json!({"type": "rich_text_section", "elements": [plain(&text)]})
            };
            m.push("rich_text_list", &some.iter().map(item).collect::<Vec<_>>());
        }
    }
    m
}

/// The incident's message.
pub(super) fn main(telling: &Telling) -> Message {
    if telling.event == Event::Storm {
        return storm(telling);
    }
    let v = telling.view();
    let standing = standing(telling, &v);
    let mut m = Message::new(&format!("{standing}: {}", v.title));
    m.section(&[bold(&standing), plain(" "), bold(&v.title)]);
    if let Some(again) = telling.head.again {
        m.line("Fires again", &again_words(again));
    }
    if let Some(cause) = &v.cause {
        let mut elements = vec![bold("\nLikeliest cause: "), plain(&cause.statement)];
        elements.extend(carried(cause));
        m.section(&elements);
        if let Some(quote) = cause.best_quote() {
            m.quote(quote);
        }
    }
    if let Some(step) = &v.next_step {
        m.line("Next step", &step.action);
    }
    for (name, said) in about(telling, &v) {
        m.line(name, &said);
    }
    m.links(&v.links);
    m.section(&[plain(&format!("\nincident {}, card {}", v.id, v.card))]);
    m
}

/// What the thread is told of this event; nothing of a start.
pub(super) fn reply(telling: &Telling) -> Option<Message> {
    let head = &telling.head;
    Some(match telling.event {
        // The notice is a message of its own, and says all.
        Event::Started | Event::Storm => return None,
        Event::Findings => findings_of(telling)?,
        Event::Failed | Event::Aborted => {
            let standing = standing(telling, &telling.view());
            let mut m = Message::new(&standing);
            m.section(&[bold(&standing)]);
            m.line("Why", head.reason.as_deref().unwrap_or("no reason is recorded"));
            m
        }
        Event::Suppressed | Event::Updated | Event::Flapping | Event::Resolved => {
            let (short, whole) = happened(telling)?;
            let mut m = Message::new(short);
            m.section(&[plain(&whole)]);
            m.list("Firing now", firing_now(telling).into_iter());
            m
        }
    })
}

/// The findings, once there are any.
pub(super) fn findings_of(telling: &Telling) -> Option<Message> {
    telling.view().findings.as_ref().map(findings)
}

fn findings(findings: &Findings) -> Message {
    let mut m = Message::new(&findings.summary);
    m.section(&[plain(&findings.summary)]);
    for (n, cause) in findings.causes.iter().take(MAX_ENTRIES).enumerate() {
        let mut elements = vec![bold(&format!("\nCause {}: ", n + 1)), plain(&cause.statement)];
        elements.extend(carried(cause));
        m.section(&elements);
        cause.quotes.iter().take(MAX_QUOTES).for_each(|quote| m.quote(quote));
    }
    m.list("Ruled out", findings.ruled_out.iter().map(|claim| claim.statement.clone()));
    m.list("Not found out", findings.gaps.iter().cloned());
    m.list("Next steps", findings.next_steps.iter().map(|step| format!("{}: {}", step.action, step.why)));
    let failed: Vec<_> = findings.checklist.iter().filter(|check| !check.passed).collect();
    m.list("Checks that failed", failed.iter().map(|check| check.name.clone()));
    m.list("Notes", findings.notes.iter().cloned());
    m.section(&[plain(&format!("\n{}", took(findings)))]);
    m
}
