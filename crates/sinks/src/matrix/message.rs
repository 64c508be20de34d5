//! What a room is given to show: the card as plain text, and the same as HTML in which all texts are escaped
//! ([m.text](https://spec.matrix.org/v1.16/client-server-api/#mtext)). Links are those of the view only: a word that a client
//! could make a link or a mention by itself stands in `<code>`, which clients leave as it is.

use serde_json::{Value, json};

use crate::card::{Card, Part};

/// The largest content of an event, in bytes. The whole event may have 65,536, with what servers add to it.
const MOST_CONTENT: usize = 58_000;
/// What is kept of that for the words on what was left out, and for the thread.
const FOR_THE_REST: usize = 6_000;

/// The content of an event, in the thread of `root` where there is one.
pub(super) fn content(card: Card, root: Option<&str>) -> Value {
    let frame = length(&written(&card, &[]));
    let left = MOST_CONTENT.saturating_sub(frame + FOR_THE_REST);
    let card = card.within(left, |part| {
        let (mut text, mut html) = (String::new(), String::new());
        plain_part(part, &mut text);
        html_part(part, &mut html);
        length(&json!(text)) + length(&json!(html))
    });
    let mut content = written(&card, &card.parts);
    if let (Some(root), Some(content)) = (root, content.as_object_mut()) {
        let thread = json!({
            "rel_type": "m.thread",
            "event_id": root,
            // For clients without threads it is an answer to the first message.
            "is_falling_back": true,
            "m.in_reply_to": {"event_id": root},
        });
        content.insert("m.relates_to".to_owned(), thread);
    }
    content
}

fn written(card: &Card, parts: &[Part]) -> Value {
    json!({
        "msgtype": "m.text",
        "body": plain(card, parts),
        "format": "org.matrix.custom.html",
        "formatted_body": html(card, parts),
        // Nobody is mentioned, whatever stands in the text.
        "m.mentions": {},
    })
}

fn plain(card: &Card, parts: &[Part]) -> String {
    let mut to = format!("{}: {}\n", card.standing, card.title);
    for part in parts {
        plain_part(part, &mut to);
    }
    for link in &card.links {
        push(&mut to, &[&link.text, ": ", &link.address, "\n"]);
    }
    if let Some(left_out) = &card.left_out {
        push(&mut to, &[left_out, "\n"]);
    }
    to + &card.foot
}

fn plain_part(part: &Part, to: &mut String) {
    match part {
        Part::Line { name, text } => push(to, &[name, ": ", text, "\n"]),
        Part::Text { text, .. } => push(to, &[text, "\n"]),
        Part::Cause { name, statement, carried, quotes, .. } => {
            push(to, &[name, ": ", statement, " (", carried, ")\n"]);
            for quote in quotes {
                push(to, &["    ", quote, "\n"]);
            }
        }
        Part::List { name, entries } => {
            push(to, &[name, ":\n"]);
            for entry in entries {
                push(to, &["• ", entry, "\n"]);
            }
        }
    }
}

fn html(card: &Card, parts: &[Part]) -> String {
    let mut to = String::new();
    push(&mut to, &["<strong>", &guarded(&card.standing), "</strong> "]);
    push(&mut to, &["<strong>", &guarded(&card.title), "</strong><br>"]);
    for part in parts {
        html_part(part, &mut to);
    }
    for (n, link) in card.links.iter().enumerate() {
        push(&mut to, &[if n == 0 { "" } else { " · " }]);
        // The text says the host; inside of a link no client makes another one.
        push(&mut to, &["<a href=\"", &escaped(&link.address), "\">", &escaped(&link.text), "</a>"]);
    }
    if !card.links.is_empty() {
        to.push_str("<br>");
    }
    if let Some(left_out) = &card.left_out {
        push(&mut to, &["<strong>", &guarded(left_out), "</strong><br>"]);
    }
    push(&mut to, &["<em>", &guarded(&card.foot), "</em>"]);
    to
}

fn html_part(part: &Part, to: &mut String) {
    match part {
        Part::Line { name, text } => push(to, &["<strong>", name, ":</strong> ", &guarded(text), "<br>"]),
        Part::Text { text, .. } => push(to, &[&guarded(text), "<br>"]),
        Part::Cause { name, statement, carried, supported, quotes } => {
            let (open, close) = if *supported { ("(", ")") } else { ("<del>", "</del>") };
            push(to, &["<strong>", name, ":</strong> ", &guarded(statement), " ", open, carried, close]);
            for quote in quotes {
                push(to, &["<blockquote>", &guarded(quote), "</blockquote>"]);
            }
            if quotes.is_empty() {
                to.push_str("<br>");
            }
        }
        Part::List { name, entries } => {
            push(to, &["<strong>", &guarded(name), "</strong><ul>"]);
            for entry in entries {
                push(to, &["<li>", &guarded(entry), "</li>"]);
            }
            to.push_str("</ul>");
        }
    }
}

/// The text escaped, its words that are no plain words in `<code>`.
fn guarded(text: &str) -> String {
    let mut to = String::new();
    for (n, word) in text.split(' ').enumerate() {
        push(&mut to, &[if n == 0 { "" } else { " " }]);
        if is_more_than_a_word(word) {
            push(&mut to, &["<code>", &escaped(word), "</code>"]);
        } else {
            to.push_str(&escaped(word));
        }
    }
    to
}

/// Whether a client could make it a link, a room or a person: it has an `@`, or a dot or a colon inside, and is no number and
/// no time of day.
fn is_more_than_a_word(word: &str) -> bool {
    let inside = word.trim_end_matches(['.', ':']);
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let plain = inside.split_once(['.', ':']).is_some_and(|(a, b)| is_number(a) && is_number(b));
    inside.contains(['@', '.', ':']) && !plain
}

fn escaped(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => to.push_str("&amp;"),
            '<' => to.push_str("&lt;"),
            '>' => to.push_str("&gt;"),
            '"' => to.push_str("&quot;"),
            '\'' => to.push_str("&#39;"),
            c => to.push(c),
        }
    }
    to
}

fn push(to: &mut String, pieces: &[&str]) {
    to.extend(pieces.iter().copied());
}

/// The bytes that it takes in a request.
fn length(value: &Value) -> usize {
    value.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_could_make_a_link_or_a_mention_of_is_code() {
        let shown = guarded(
            "see https://evil.example/x or evil.example, ask @room and #ops:evil.example. All: done, 0.5 at 12:00.",
        );
        let wanted = "see <code>https://evil.example/x</code> or <code>evil.example,</code> ask <code>@room</code> \
                      and <code>#ops:evil.example.</code> All: done, 0.5 at 12:00.";
        assert_eq!(shown, wanted);
    }

    #[test]
    fn no_character_of_a_text_is_markup() {
        let shown = guarded("<a href='x'>&amp;\"</a>");
        assert_eq!(shown, "&lt;a href=&#39;x&#39;&gt;&amp;amp;&quot;&lt;/a&gt;");
    }
}
