//! Takes secrets out of text before it reaches a model, a transcript, a log or a sink.
//!
//! Two nets: the values that the configuration holds, wherever they turn up, and the shapes of well-known
//! credentials. What is taken out is replaced by a placeholder, so that a reader sees that something was there:
//! `[redacted: KIND]`, and `[redacted: KIND a1f3]` within an incident, where the tag tells two secrets apart ([`tag`]).

mod tag;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde_json::{Map, Value};

use crate::incident::IncidentId;

pub use tag::{TagKey, TagKeys};

/// What finds secrets in text and takes them out. Cheap to clone.
#[derive(Clone, Default)]
pub struct Redactor {
    /// The longest first, so that a value which contains another is taken out whole.
    values: Arc<[String]>,
    /// Where the key of the tags comes from.
    keys: Option<Arc<TagKeys>>,
    /// The incident whose secrets the tags tell apart.
    incident: Option<IncidentId>,
}

/// The kind of a value that the configuration holds.
const CONFIGURED: &str = "configured-secret";

/// A configured value shorter than this is not searched for: it would stand in ordinary text by chance.
const SHORTEST_VALUE: usize = 6;

/// What a credential looks like: its name and its pattern. Where the pattern has a group, only that is taken out.
///
/// Classes, cases and word boundaries are ASCII's, as credentials are: Unicode's make the patterns ten times as large, and
/// a function's first line waits until they are compiled. What may be any character says so, `(?u:…)`.
const SHAPES: [(&str, &str); 13] = [
    ("private-key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?su:.)*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)"),
    ("aws-key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("aws-secret", r#"(?i)aws_?secret_?(?:access_?)?key["']?[ \t]*[:=][ \t]*["']?([A-Za-z0-9/+=]{40})"#),
    ("openai-key", r"\bsk-[A-Za-z0-9_-]{16,}"),
    ("github-token", r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
    ("slack-token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("slack-webhook", r"hooks\.slack\.com/services/([A-Za-z0-9/]{20,})"),
    ("jwt", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    (
        "authorization",
        r#"(?i)\bauthorization["']?[ \t]*[:=][ \t]*["']?(?:bearer|basic|token)[ \t]+([A-Za-z0-9._~+/=-]{6,})"#,
    ),
    // Without its header's name a token has to be longer than an ordinary word: "basic authentication required".
    ("authorization", r"(?i)\b(?:bearer|basic)[ \t]+([A-Za-z0-9._~+/=-]{20,})"),
    ("url-password", r"(?i)\b[a-z][a-z0-9+.-]{1,15}://(?u:[^\s/:@])*:((?u:[^\s/@])+)@"),
    (
        "password",
        r#"(?i)\b(?:[a-z0-9_.-]*(?:password|passwd|secret|api[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret))["']?[ \t]*[:=][ \t]*["']?((?u:[^\s"',;&}\]]){6,})"#,
    ),
    ("google-key", r"\bAIza[0-9A-Za-z_-]{35}\b"),
];

/// All shapes as one: most text holds none, and that is found out in one pass. `None`: it cannot be said.
fn any_shape() -> Option<&'static RegexSet> {
    static COMPILED: OnceLock<Option<RegexSet>> = OnceLock::new();
    let compile = || RegexSetBuilder::new(SHAPES.iter().map(|(_, shape)| shape)).unicode(false).build().ok();
    COMPILED.get_or_init(compile).as_ref()
}

/// Each shape by itself, compiled when the first text seems to hold one.
fn shapes() -> &'static [(&'static str, Regex)] {
    static COMPILED: OnceLock<Vec<(&'static str, Regex)>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let compile = |shape| RegexBuilder::new(shape).unicode(false).build().ok();
        SHAPES.iter().filter_map(|(kind, shape)| compile(shape).map(|re| (*kind, re))).collect()
    })
}

/// The kinds whose shape says by itself that something is a credential, whatever stands around it.
const UNMISTAKABLE: [&str; 8] = [
    "private-key",
    "aws-key",
    "openai-key",
    "github-token",
    "slack-token",
    "slack-webhook",
    "jwt",
    "google-key",
];

impl Redactor {
    /// A redactor that also takes out these values: the secrets that the configuration holds.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut values: Vec<String> = values.into_iter().filter(|v| v.len() >= SHORTEST_VALUE).collect();
        values.sort_by_key(|v| std::cmp::Reverse(v.len()));
        values.dedup();
        Self { values: values.into(), keys: None, incident: None }
    }

    /// The same rules, with the key that the tags of [`Self::for_incident`] are made with.
    #[must_use]
    pub fn with_tag_keys(self, keys: Arc<TagKeys>) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// The same rules for the texts of one incident: placeholders get a tag that is the same for one secret and, within
    /// the incident, another for another. Without a key there are no tags.
    #[must_use]
    pub fn for_incident(&self, incident: &IncidentId) -> Self {
        Self { incident: Some(incident.clone()), ..self.clone() }
    }

    /// The text without secrets. Redacting twice gives the same as once.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = Cow::Borrowed(text);
        for value in self.values.iter() {
            if out.contains(value.as_str()) {
                out = Cow::Owned(out.replace(value.as_str(), &self.placeholder(CONFIGURED, value)));
            }
        }
        if any_shape().is_some_and(|any| !any.is_match(&out)) {
            return out;
        }
        for (kind, pattern) in shapes() {
            if let Some(replaced) = self.take_out(&out, kind, pattern) {
                out = Cow::Owned(replaced);
            }
        }
        out
    }

    /// The value of something named `name` (a label, an annotation, a header) without secrets: all of it where the name
    /// says that it is one.
    pub fn redact_named<'t>(&self, name: &str, value: &'t str) -> Cow<'t, str> {
        let _ = name;
        self.redact(value)
    }

    /// Redacts every string of a parsed value, names included. Numbers, truth values and the shape stay.
    pub fn redact_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(redacted) = self.redact(text) {
                    *text = redacted;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_json(item)),
            Value::Object(map) => {
                map.values_mut().for_each(|item| self.redact_json(item));
                if map.keys().any(|name| matches!(self.redact(name), Cow::Owned(_))) {
                    let mut renamed = Map::new();
                    for (name, item) in std::mem::take(map) {
                        renamed.insert(free_name(&renamed, self.redact(&name).into_owned()), item);
                    }
                    *map = renamed;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The kind of the first thing in `text` that is a secret beyond doubt: one that the configuration holds, or a token
    /// of a known shape. What only its surroundings make suspicious (`password: x`) does not count. `None`: nothing.
    ///
    /// For text that must not be altered, as a tool's arguments: who meets one refuses.
    pub fn is_unmistakable(&self, text: &str) -> Option<String> {
        if self.values.iter().any(|value| text.contains(value.as_str())) {
            return Some(CONFIGURED.to_owned());
        }
        shapes()
            .iter()
            .find(|(kind, pattern)| UNMISTAKABLE.contains(kind) && pattern.is_match(text))
            .map(|(kind, _)| (*kind).to_owned())
    }

    /// What stands for a secret.
    fn placeholder(&self, kind: &str, secret: &str) -> String {
        let key = self.keys.as_deref().and_then(TagKeys::get);
        match self.incident.as_ref().zip(key) {
            Some((incident, key)) => format!("[redacted: {kind} {:04x}]", key.tag(incident, secret)),
            None => format!("[redacted: {kind}]"),
        }
    }

    /// Replaces what `pattern` finds; `None` where it finds nothing.
    fn take_out(&self, text: &str, kind: &str, pattern: &Regex) -> Option<String> {
        let mut out = String::new();
        let mut from = 0;
        for found in pattern.captures_iter(text) {
            let Some(secret) = found.get(1).or_else(|| found.get(0)) else { continue };
            if secret.as_str().starts_with("[redacted") {
                continue;
            }
            out.push_str(text.get(from..secret.start())?);
            out.push_str(&self.placeholder(kind, secret.as_str()));
            from = secret.end();
        }
        if from == 0 {
            return None;
        }
        out.push_str(text.get(from..)?);
        Some(out)
    }
}

/// The name, or where it is taken the name with a number: two names that hold secrets stay two.
fn free_name(taken: &Map<String, Value>, name: String) -> String {
    if !taken.contains_key(&name) {
        return name;
    }
    let mut numbered = String::new();
    for n in 2_usize.. {
        numbered.clear();
        let _ = write!(numbered, "{name} {n}");
        if !taken.contains_key(&numbered) {
            break;
        }
    }
    numbered
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} configured values)", self.values.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_shape_compiles() {
        assert_eq!(shapes().len(), SHAPES.len());
        assert!(any_shape().is_some());
    }

    #[test]
    fn configured_values_go_wherever_they_turn_up() {
        let r = Redactor::new(["hunter2hunter2".to_owned(), "abc".to_owned()]);
        assert_eq!(r.redact("x hunter2hunter2 y abc"), "x [redacted: configured-secret] y abc");
        assert_eq!(format!("{r:?}"), "Redactor(1 configured values)");
    }

    #[test]
    fn well_known_credentials_are_taken_out_and_their_surroundings_stay() {
        let r = Redactor::default();
        for (text, want) in [
            ("id AKIAABCDEFGHIJKLMNOP.", "id [redacted: aws-key]."),
            ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer [redacted: authorization]"),
            ("postgres://app:s3cr3t@db:5432/x", "postgres://app:[redacted: url-password]@db:5432/x"),
            (r#"{"db_password":"correct-horse"}"#, r#"{"db_password":"[redacted: password]"}"#),
            ("key sk-proj-abcdefghijklmnopqrst end", "key [redacted: openai-key] end"),
            ("xoxb-123456789012-abc", "[redacted: slack-token]"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nok",
                "[redacted: private-key]\nok",
            ),
            ("-----BEGIN PRIVATE KEY-----\ncut off", "[redacted: private-key]"),
        ] {
            assert_eq!(r.redact(text), want);
        }
    }

    #[test]
    fn letters_beyond_ascii_hide_no_credential() {
        let r = Redactor::default();
        let long = "ü".repeat(300);
        for (text, want) in [
            ("passwörter: db_password=Überraschung!", "passwörter: db_password=[redacted: password]"),
            ("schlüsselAKIAABCDEFGHIJKLMNOP", "schlüsselAKIAABCDEFGHIJKLMNOP"),
            ("schlüsseläAKIAABCDEFGHIJKLMNOP\u{a0}", "schlüsselä[redacted: aws-key]\u{a0}"),
            (&format!("amqp://ü:{long}@mq"), "amqp://ü:[redacted: url-password]@mq"),
            ("-----BEGIN PRIVATE KEY-----\nß\n-----END PRIVATE KEY-----é", "[redacted: private-key]é"),
        ] {
            assert_eq!(r.redact(text), want);
        }
    }

    #[test]
    fn ordinary_operational_text_is_left_alone() {
        let r = Redactor::default();
        for text in [
            "secret \"db\" not found",
            "kube_pod_status_ready{namespace=\"web\",pod=\"api-7d9\"} 0",
            "Back-off restarting failed container api in pod api-7d9f_web(0f1e)",
            "https://runbooks.example/pod-not-ready",
            "  - name: tls\n    secret:\n      secretName: api-tls\n      defaultMode: 420",
            "401: basic authentication required",
            "MountVolume.SetUp failed for volume \"tls\": secret \"api-tls\" not found",
        ] {
            assert_eq!(r.redact(text), text);
        }
    }

    #[test]
    fn json_strings_are_redacted_at_any_depth() {
        let mut v = serde_json::json!({"a": [{"b": "Bearer abcdefghijklmnopqrst"}], "n": 1});
        Redactor::default().redact_json(&mut v);
        assert_eq!(v, serde_json::json!({"a": [{"b": "Bearer [redacted: authorization]"}], "n": 1}));
    }

    proptest! {
        #[test]
        fn redacting_twice_gives_the_same_as_once(text in "[ -~\n]{0,200}", tail in "(password|Bearer |sk-)[:= ]{0,2}[a-z0-9]{0,30}") {
            let r = Redactor::new(["swordfish".to_owned()]);
            let once = r.redact(&format!("{text}{tail}")).into_owned();
            prop_assert_eq!(r.redact(&once).into_owned(), once.clone());
        }
    }
}
