//! Takes secrets out of text before it reaches a model, a transcript, a log or a sink.
//!
//! Three nets: the values that the configuration holds, in every encoding (`known.rs`); tokens of well-known shapes,
//! encoded or broken over lines as well (`kinds.rs`, `encoded.rs`); and what a name beside it says is a secret, as
//! settings, headers, manifests, connection strings and people write it (`pairs.rs`, `urls.rs`, `manifest.rs`,
//! `values.rs`). A text is read as it stands and with its escapes resolved (`view.rs`); JSON string by string (`json.rs`).
//!
//! What is taken out is replaced by a placeholder, so that a reader sees that something was there: `[redacted: KIND]`,
//! and `[redacted: KIND a1f3]` within an incident, where the tag tells two secrets apart (`tag.rs`).

mod encoded;
mod json;
mod kinds;
mod known;
mod manifest;
mod pairs;
mod tag;
#[cfg(test)]
mod tests;
mod urls;
mod values;
mod view;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::incident::IncidentId;
use json::Cleaned;
use kinds::Which;
use known::Known;
use pairs::Pairs;
use view::View;

pub use known::{Pattern, PatternError, is_searched_for};
pub use tag::{TagKey, TagKeys};
pub use values::stands_for_no_secret;

/// What finds secrets in text and takes them out. Cheap to clone.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<Known>,
    /// Where the key of the tags comes from.
    keys: Option<Arc<TagKeys>>,
    /// The incident whose secrets the tags tell apart.
    incident: Option<IncidentId>,
}

/// The kind of a value that the configuration holds.
const CONFIGURED: &str = "configured-secret";
/// How a placeholder begins.
const OPENING: &str = "[redacted: ";
/// How often a text is gone through: what was taken out may bring its neighbours together.
const MOST_PASSES: usize = 4;
/// How many strings a JSON document may stand in, each in the next.
const DEEPEST: usize = 12;
/// How many layers of escapes are resolved in text that is no JSON.
const MOST_LAYERS: usize = 5;

/// A secret that was found.
struct Hit {
    /// Where it stands.
    range: Range<usize>,
    kind: Cow<'static, str>,
    /// As it reads when nothing encodes it: what the tag is made of.
    secret: String,
}

impl Redactor {
    /// A redactor that also takes out these values: the secrets that the configuration holds. Those that
    /// [`is_searched_for`] does not name are left out.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        Self { known: Arc::new(Known::new(values)), keys: None, incident: None }
    }

    /// The same with patterns of the configuration. The last call counts.
    #[must_use]
    pub fn with_patterns(self, patterns: Vec<Pattern>) -> Self {
        let known = Known::new(self.known.values().iter().cloned()).with_patterns(patterns);
        Self { known: Arc::new(known), ..self }
    }

    /// The same, which also takes out these values: secrets that were read since.
    #[must_use]
    pub fn and(&self, values: impl IntoIterator<Item = String>) -> Self {
        let known = Known::new(self.known.values().iter().cloned().chain(values));
        Self { known: Arc::new(known.with_patterns(self.known.patterns().to_vec())), ..self.clone() }
    }

    /// The same rules, with the key that the tags of [`Self::for_incident`] are made with; `None`: there are no tags.
    #[must_use]
    pub fn with_tag_keys(self, keys: Option<Arc<TagKeys>>) -> Self {
        Self { keys, ..self }
    }

    /// The same rules for the texts of one incident: placeholders get a tag that is the same for one secret and, within
    /// the incident, another for another. Without a key there are no tags.
    #[must_use]
    pub fn for_incident(&self, incident: &IncidentId) -> Self {
        Self { incident: Some(incident.clone()), ..self.clone() }
    }

    /// The text without secrets. Redacting twice gives the same as once; a text that is JSON stays JSON, and all of its
    /// strings that hold no secret stay byte for byte.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = Cow::Borrowed(text);
        for _ in 0..MOST_PASSES {
            match self.clean(&out, 0) {
                Some(new) if new != out => out = Cow::Owned(new),
                _ => break,
            }
        }
        out
    }

    /// The value of something named `name` (a label, an annotation, a header) without secrets: all of it where the name
    /// says that it is one.
    pub fn redact_named<'t>(&self, name: &str, value: &'t str) -> Cow<'t, str> {
        match json::clean_named(self, name, value) {
            Some(new) => Cow::Owned(self.redact(&new).into_owned()),
            None => Cow::Borrowed(value),
        }
    }

    /// Redacts every string of a parsed value, names included. Numbers, truth values and the shape stay.
    pub fn redact_json(&self, value: &mut Value) {
        json::clean_value(self, value);
    }

    /// The kind of the first thing in `text` that is a secret beyond doubt: one that the configuration holds or its
    /// patterns find, or a token of a known shape. What only its surroundings make suspicious (`password: x`) does not
    /// count. `None`: nothing.
    ///
    /// For text that must not be altered, as a tool's arguments: who meets one refuses.
    pub fn is_unmistakable(&self, text: &str) -> Option<String> {
        let hits = self.find(text, Which::Unmistakable);
        hits.into_iter().next().map(|hit| hit.kind.into_owned())
    }

    /// One pass over a text that stands in `depth` strings; `None`: it holds nothing.
    fn clean(&self, text: &str, depth: usize) -> Option<String> {
        if depth > DEEPEST {
            return self.clean_plain(text);
        }
        let is_document = |text: &str| {
            let text = text.trim();
            text.starts_with('{') && text.ends_with('}')
                || text.starts_with('[') && text.ends_with(']')
                || text.len() > 1 && text.starts_with('"') && text.ends_with('"')
        };
        if is_document(text)
            && let Some(cleaned) = json::clean_text(self, text, depth)
        {
            return match cleaned {
                Cleaned::Same => None,
                Cleaned::New(new) => Some(new),
            };
        }
        self.clean_mixed(text, depth)
    }

    /// The same for text among which documents stand: each of them is read as such, what stands between them as text.
    fn clean_mixed(&self, text: &str, depth: usize) -> Option<String> {
        let mut out = String::new();
        let (mut changed, mut plain) = (false, 0);
        for document in json::documents(text) {
            let Some(cleaned) =
                text.get(document.clone()).and_then(|text| json::clean_text(self, text, depth))
            else {
                continue;
            };
            let before = text.get(plain..document.start)?;
            let new = self.clean_plain(before);
            changed |= new.is_some();
            out.push_str(new.as_deref().unwrap_or(before));
            match cleaned {
                Cleaned::Same => out.push_str(text.get(document.clone())?),
                Cleaned::New(new) => {
                    changed = true;
                    out.push_str(&new);
                }
            }
            plain = document.end;
        }
        let rest = text.get(plain..)?;
        let new = self.clean_plain(rest);
        changed |= new.is_some();
        out.push_str(new.as_deref().unwrap_or(rest));
        changed.then_some(out)
    }

    /// The same for a text that is no document.
    fn clean_plain(&self, text: &str) -> Option<String> {
        let hits = self.find(text, Which::All);
        if hits.is_empty() {
            return None;
        }
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        for hit in hits {
            out.push_str(text.get(copied..hit.range.start)?);
            out.push_str(&self.placeholder(&hit.kind, &hit.secret));
            copied = hit.range.end;
        }
        out.push_str(text.get(copied..)?);
        Some(out)
    }

    /// All secrets of a text, in order, none over another.
    fn find(&self, text: &str, which: Which) -> Vec<Hit> {
        let mut layers: Vec<View> = Vec::new();
        while layers.len() < MOST_LAYERS
            && let Some(next) = View::plainer(layers.last().map_or(text, |layer| &layer.text))
        {
            layers.push(next);
        }
        let mut hits = Vec::new();
        for depth in 0..=layers.len() {
            let below = layers.get(..depth).unwrap_or_default();
            let reading = below.last().map_or(text, |layer| &layer.text);
            let place =
                |range: Range<usize>| below.iter().rev().try_fold(range, |range, layer| layer.place(&range));
            hits.extend(
                self.look(reading, which)
                    .into_iter()
                    .filter_map(|hit| Some(Hit { range: place(hit.range)?, ..hit })),
            );
            if let Some(joined) = View::joined(reading) {
                let found = self.look(&joined.text, Which::Unmistakable).into_iter();
                hits.extend(
                    found.filter_map(|hit| Some(Hit { range: place(joined.place(&hit.range)?)?, ..hit })),
                );
            }
        }
        let placed = self.placeholders(text);
        hits.retain(|hit| {
            !placed.iter().any(|place| place.start < hit.range.end && hit.range.start < place.end)
        });
        merged(hits, text)
    }

    /// What stands in one reading of a text.
    fn look(&self, text: &str, which: Which) -> Vec<Hit> {
        let mut found = Vec::new();
        for (range, secret) in self.known.find(text) {
            found.push(Hit { range, kind: CONFIGURED.into(), secret: secret.to_owned() });
        }
        let mut add = |range: Range<usize>, kind: Cow<'static, str>| {
            if let Some(secret) = text.get(range.clone()) {
                found.push(Hit { secret: canonical(&kind, secret).into_owned(), range, kind });
            }
        };
        for pattern in self.known.patterns() {
            for range in pattern.find(text) {
                add(range, pattern.name().to_owned().into());
            }
        }
        let hints = kinds::hints(text.as_bytes());
        for (range, kind) in kinds::find(text.as_bytes(), &hints, which) {
            add(range, kind.into());
        }
        if which == Which::All {
            let manifest = if hints.manifest { manifest::find(text) } else { Vec::new() };
            let urls = hints.urls.iter().filter_map(|at| urls::find(text, *at));
            for (range, kind) in urls.chain(Pairs::new(text).find(&hints.names)).chain(manifest) {
                add(range, kind.into());
            }
        }
        for (range, said) in encoded::runs(text.as_bytes(), &hints.encoded) {
            let inner = kinds::find(&said, &kinds::hints(&said), Which::Unmistakable);
            if let Some((secret, kind)) = inner.into_iter().next() {
                let secret = said.get(secret).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
                found.push(Hit { range, kind: kind.into(), secret });
            }
        }
        found
    }

    /// What stands for a secret.
    fn placeholder(&self, kind: &str, secret: &str) -> String {
        let key = self.keys.as_deref().filter(|_| self.incident.is_some()).and_then(TagKeys::get);
        match self.incident.as_ref().zip(key) {
            Some((incident, key)) => format!("{OPENING}{kind} {:04x}]", key.tag(incident, secret)),
            None => format!("{OPENING}{kind}]"),
        }
    }

    /// Where placeholders stand: they are left as they are. Only the kinds that there are make one, so that no secret
    /// hides in what looks like one.
    fn placeholders(&self, text: &str) -> Vec<Range<usize>> {
        let mut held = Vec::new();
        for (at, _) in text.match_indices(OPENING) {
            let rest = text.get(at + OPENING.len()..).unwrap_or_default();
            let Some(end) = rest.bytes().take(64).position(|b| b == b']') else { continue };
            let inside = rest.get(..end).unwrap_or_default();
            let (kind, tag) = inside.split_once(' ').map_or((inside, None), |(kind, tag)| (kind, Some(tag)));
            let is_tag = |tag: &str| {
                tag.len() == 4 && tag.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
            };
            if self.is_kind(kind) && tag.is_none_or(is_tag) {
                held.push(at..at + OPENING.len() + end + 1);
            }
        }
        held
    }

    fn is_kind(&self, kind: &str) -> bool {
        const OTHERS: [&str; 12] = [
            CONFIGURED,
            manifest::SECRET,
            "password",
            "authorization",
            "cookie",
            "url-password",
            "private-key",
            "token",
            "secret",
            "credentials",
            "session",
            "key",
        ];
        OTHERS.contains(&kind)
            || kind == "signature"
            || kinds::is_slug(kind)
            || self.known.patterns().iter().any(|pattern| pattern.name() == kind)
    }
}

/// A secret as it reads when nothing encodes it.
fn canonical<'t>(kind: &str, secret: &'t str) -> Cow<'t, str> {
    let decoded = (kind == manifest::SECRET).then(|| encoded::text(secret)).flatten();
    decoded.map_or(Cow::Borrowed(secret), Cow::Owned)
}

/// Hits in order, those that overlap as one: the longest names the kind.
fn merged(mut hits: Vec<Hit>, text: &str) -> Vec<Hit> {
    // Where two are the same stretch, the one that was found first knows best what it is.
    hits.sort_by(|a, b| a.range.start.cmp(&b.range.start).then(b.range.end.cmp(&a.range.end)));
    let mut out: Vec<Hit> = Vec::new();
    for hit in hits {
        match out.last_mut() {
            Some(last) if hit.range.start < last.range.end => {
                if hit.range.end > last.range.end {
                    last.range.end = hit.range.end;
                    text.get(last.range.clone()).unwrap_or_default().clone_into(&mut last.secret);
                }
            }
            _ => out.push(hit),
        }
    }
    out
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} configured values)", self.known.values().len())
    }
}
