//! Typed reading of the located tree. Every reader says what is wrong and goes on: problems are reported all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use sentinel_core::redact::stands_for_no_secret;

use crate::Reading;
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::expand::{self, Expanded, Values, expand, meant_variable, secret_ids, without_line_ends};
use crate::source::Source;
use crate::tree::{Entry, Node, Position, Value};
use crate::{duration, nearest, secrets};

/// A section's keys: the name, and its other names, with dashes; with underscores they are the same.
pub(crate) type Keys = &'static [(&'static str, &'static [&'static str])];

/// A value and its dotted path.
#[derive(Clone, Debug)]
pub(crate) struct Field<'n> {
    pub(crate) node: &'n Node,
    pub(crate) path: String,
}

/// A map whose keys are known.
#[derive(Clone, Debug)]
pub(crate) struct Section<'n> {
    pub(crate) path: String,
    pub(crate) at: Position,
    fields: BTreeMap<&'static str, &'n Node>,
}

impl<'n> Section<'n> {
    /// A section that the file does not have.
    pub(crate) fn absent(path: &str) -> Self {
        Self { path: path.into(), at: Position { line: 1, column: 1 }, fields: BTreeMap::new() }
    }

    /// The value of a key, by its main name. A key without a value counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<Field<'n>> {
        let node = self.fields.get(key).copied().filter(|n| !n.is_null())?;
        Some(Field { node, path: join(&self.path, key) })
    }
}

/// `path.key`, or `key` at the top.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

/// What a map is called.
pub(crate) const MAP: &str = "a map of keys and values";
const DURATION_HELP: &str =
    "write a number and a unit: 250ms, 15s, 10m, 4h, 1h30m, 400d; a bare number is seconds";

/// Collects what is found while reading.
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a Source,
    values: Values<'a>,
    reading: Reading,
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) unread: Vec<Diagnostic>,
    pub(crate) secrets: Vec<SecretString>,
    /// The secrets of the secret store that are referred to.
    pub(crate) secret_ids: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a Source, values: Values<'a>, reading: Reading) -> Self {
        Self {
            source,
            values,
            reading,
            diagnostics: vec![],
            unread: vec![],
            secrets: vec![],
            secret_ids: BTreeSet::new(),
        }
    }

    pub(crate) fn place_at(&self, at: Position, key: &str) -> Place {
        Place { file: self.source.name.clone(), line: at.line, column: at.column, key: key.into() }
    }

    pub(crate) fn place(&self, field: &Field<'_>) -> Place {
        self.place_at(field.node.at, &field.path)
    }

    pub(crate) fn error(&mut self, field: &Field<'_>, message: impl Into<String>, help: impl Into<String>) {
        let found = self.place(field).error(message, help);
        self.diagnostics.push(found);
    }

    pub(crate) fn warn(&mut self, field: &Field<'_>, message: impl Into<String>, help: impl Into<String>) {
        let found = self.place(field).warning(message, help);
        self.diagnostics.push(found);
    }

    pub(crate) fn missing(&mut self, section: &Section<'_>, key: &str, help: impl Into<String>) {
        let found = self.place_at(section.at, &join(&section.path, key)).error("is missing", help);
        self.diagnostics.push(found);
    }

    /// A feature that comes later.
    pub(crate) fn unbuilt(&mut self, field: &Field<'_>, what: &str, meanwhile: &str) {
        self.warn(field, format!("accepted, not built yet: {what}"), meanwhile);
    }

    /// Whether what stands at this path is of use to whoever reads.
    pub(crate) fn wants(&self, path: &str) -> bool {
        self.reading.wants(path)
    }

    /// Whether the text of prompts is of use to whoever reads.
    pub(crate) fn needs_prompts(&self) -> bool {
        self.reading.needs_prompts()
    }

    /// Whether the configuration is read for a function of a deployment that investigates.
    pub(crate) fn is_for_lambda(&self) -> bool {
        self.reading == Reading::Worker
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }

    /// A map with known keys. What is no map is told and read as empty.
    pub(crate) fn section<'n>(&mut self, field: &Field<'n>, keys: Keys) -> Section<'n> {
        let mut section = Section { path: field.path.clone(), at: field.node.at, fields: BTreeMap::new() };
        if field.node.is_null() {
            return section;
        }
        let Value::Map(entries) = &field.node.value else {
            self.wrong_type(field, MAP);
            return section;
        };
        let mut written: BTreeMap<&str, &str> = BTreeMap::new();
        for entry in entries {
            let wanted = entry.key.replace('_', "-");
            let known =
                keys.iter().find(|(name, aliases)| *name == wanted || aliases.contains(&wanted.as_str()));
            let Some((name, _)) = known else {
                let all: Vec<&str> = keys
                    .iter()
                    .flat_map(|(n, aliases)| std::iter::once(n).chain(*aliases))
                    .copied()
                    .collect();
                let help = match nearest(&wanted, all.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        format!("known here: {}", keys.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", "))
                    }
                };
                let place = self.place_at(entry.key_at, &join(&field.path, &entry.key));
                self.diagnostics.push(place.error("unknown key", help));
                continue;
            };
            if let Some(before) = written.insert(name, &entry.key) {
                let place = self.place_at(entry.key_at, &join(&field.path, name));
                let message = format!("is given twice, as `{before}` and as `{}`", entry.key);
                self.diagnostics.push(place.error(message, "they are one key: keep one of them"));
                continue;
            }
            section.fields.insert(name, &entry.node);
        }
        section
    }

    /// A map with keys of the user's own.
    pub(crate) fn free_map<'n>(&mut self, field: &Field<'n>) -> Vec<(&'n str, Field<'n>)> {
        let Value::Map(entries) = &field.node.value else {
            self.wrong_type(field, MAP);
            return vec![];
        };
        let field = |e: &'n Entry| Field { node: &e.node, path: join(&field.path, &e.key) };
        entries.iter().map(|e| (e.key.as_str(), field(e))).collect()
    }

    /// A list's items.
    pub(crate) fn list<'n>(&mut self, field: &Field<'n>) -> Vec<Field<'n>> {
        let Value::List(items) = &field.node.value else {
            self.wrong_type(field, "a list");
            return vec![];
        };
        items
            .iter()
            .enumerate()
            .map(|(i, node)| Field { node, path: format!("{}[{i}]", field.path) })
            .collect()
    }

    /// The items of a key's list, none where it is absent.
    pub(crate) fn items<'n>(&mut self, section: &Section<'n>, key: &str) -> Vec<Field<'n>> {
        section.get(key).map(|f| self.list(&f)).unwrap_or_default()
    }

    pub(crate) fn wrong_type(&mut self, field: &Field<'_>, expected: &str) {
        let help = match expected {
            "a list" => "write it in brackets, [a, b], or one item a line, each after a dash".into(),
            MAP => "write `{key: value}`, or one key a line, indented".into(),
            "a duration" => DURATION_HELP.into(),
            _ => format!("write {expected}"),
        };
        self.error(field, format!("expected {expected}, found {}", kind(field.node)), help);
    }

    /// The text of a scalar, references replaced. `None`: told already.
    fn scalar(&mut self, field: &Field<'_>, expected: &str) -> Option<(String, bool)> {
        let Value::Scalar { text: raw, .. } = &field.node.value else {
            self.wrong_type(field, expected);
            return None;
        };
        let wanted = self.reading.wants(&field.path);
        let ids = secret_ids(raw, &self.values);
        if wanted {
            self.secret_ids.extend(ids.iter().cloned());
        }
        match expand(raw, &self.values) {
            Expanded::Text(text, given) => {
                if !ids.is_empty() {
                    self.keep(secrets::whole(&text));
                }
                for (variable, value) in expand::given(raw, &self.values) {
                    self.keep(secrets::given(&field.path, variable, &value));
                }
                Some((text, given))
            }
            // What another part of Sentinel is told need not be known here.
            Expanded::Unset(_) | Expanded::Unread | Expanded::NoKey(_) if !wanted => None,
            Expanded::Unset(names) => {
                let names: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
                let (are, them) = if names.len() == 1 { ("is", "it") } else { ("are", "them") };
                self.error(
                    field,
                    format!("{} {are} not set in the environment", names.join(", ")),
                    format!("set {them}, or remove the key"),
                );
                None
            }
            Expanded::Unread => {
                let place = self.place(field);
                let found =
                    place.warning("is read from the secret store at the start, and not checked here", "");
                self.diagnostics.push(found);
                self.unread.push(place.error("was not read from the secret store", ""));
                None
            }
            Expanded::NoKey(key) => {
                self.error(
                    field,
                    format!("the secret has no key `{key}` with a text"),
                    "what follows `#` is a key of a secret that is a JSON object",
                );
                None
            }
            Expanded::Malformed => {
                self.error(
                    field,
                    "`${` begins a reference that cannot be read",
                    "write `${NAME}` for a variable of the environment, `$${` for the two characters themselves",
                );
                None
            }
        }
    }

    /// Text; a plain number or truth value is none.
    pub(crate) fn text(&mut self, field: &Field<'_>) -> Option<String> {
        if let Value::Scalar { plain: true, .. } = &field.node.value
            && kind(field.node) != "text"
        {
            self.error(field, format!("expected text, found {}", kind(field.node)), "put it in quotes");
            return None;
        }
        let (text, _) = self.scalar(field, "text")?;
        if text.trim().is_empty() {
            self.error(field, "is empty", "give it a value, or remove the key");
            return None;
        }
        Some(text)
    }

    /// Text where numbers and truth values cannot be anything else: label values, headers.
    pub(crate) fn loose_text(&mut self, field: &Field<'_>) -> Option<(String, bool)> {
        self.scalar(field, "text")
    }

    /// The text of an optional key.
    pub(crate) fn optional_text(&mut self, section: &Section<'_>, key: &str) -> Option<String> {
        section.get(key).and_then(|f| self.text(&f))
    }

    /// A key that must be there; `help` says what to write.
    pub(crate) fn required<'n>(&mut self, section: &Section<'n>, key: &str, help: &str) -> Option<Field<'n>> {
        let field = section.get(key);
        if field.is_none() {
            self.missing(section, key, help);
        }
        field
    }

    /// The text of a key that must be there.
    pub(crate) fn required_text(&mut self, section: &Section<'_>, key: &str, help: &str) -> Option<String> {
        self.required(section, key, help).and_then(|f| self.text(&f))
    }

    /// A secret; it is also kept for the redactor. Never empty.
    pub(crate) fn secret(&mut self, field: &Field<'_>) -> Option<SecretString> {
        self.refuse_meant_variable(field)?;
        let (text, _) = self.scalar(field, "text")?;
        let text = without_line_ends(&text).to_owned();
        if text.trim().is_empty() {
            self.error(field, "is empty", "give it a value, or remove the key");
            return None;
        }
        // A single character is no word.
        if text.trim().len() > 1 && stands_for_no_secret(&text) {
            self.warn(
                field,
                "is a word that ordinary text is full of, so that it is not taken out of texts",
                "nothing to do where the service needs no key; else give it a secret that is one",
            );
        }
        self.keep(secrets::whole(&text));
        Some(SecretString::from(text))
    }

    /// Tells where a variable stands without its braces as a secret: whoever wrote its name would come in.
    pub(crate) fn refuse_meant_variable(&mut self, field: &Field<'_>) -> Option<()> {
        let Value::Scalar { text, .. } = &field.node.value else { return Some(()) };
        let Some(name) = meant_variable(text) else { return Some(()) };
        self.error(
            field,
            format!("is the text `${name}`, not the value of a variable"),
            format!("write \"${{{name}}}\"; where the secret is that text, put it into a variable"),
        );
        None
    }

    /// Keeps secrets for the redactor.
    pub(crate) fn keep(&mut self, secrets: impl IntoIterator<Item = String>) {
        self.secrets.extend(secrets.into_iter().map(SecretString::from));
    }

    /// The secret of an optional key.
    pub(crate) fn optional_secret(&mut self, section: &Section<'_>, key: &str) -> Option<SecretString> {
        section.get(key).and_then(|f| self.secret(&f))
    }

    /// The one secret that may be unset: without a model key there are evidence-only reports.
    pub(crate) fn secret_or_unset(&mut self, field: &Field<'_>) -> Option<SecretString> {
        match &field.node.value {
            Value::Scalar { text, .. }
                if text.is_empty() || matches!(expand(text, &self.values), Expanded::Unset(_)) =>
            {
                None
            }
            _ => self.secret(field),
        }
    }

    /// A variable of the environment, for a key whose default is one.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        expand::of_env(name, &self.values)
    }

    /// A list of texts, none where the key is absent.
    pub(crate) fn texts(&mut self, section: &Section<'_>, key: &str) -> Vec<String> {
        let items = self.items(section, key);
        items.iter().filter_map(|item| self.text(item)).collect()
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, section: &Section<'_>, key: &str, default: bool) -> bool {
        let Some(field) = section.get(key) else { return default };
        let Some((text, _)) = self.scalar(&field, "true or false") else { return default };
        if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
            return text.eq_ignore_ascii_case("true");
        }
        self.wrong_type(&field, "true or false");
        default
    }

    /// A number within bounds.
    pub(crate) fn number<T>(&mut self, field: &Field<'_>, range: &RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let (text, from_env) = self.scalar(field, &expected)?;
        let text = text.trim();
        let why = match text.parse::<T>() {
            Ok(n) if range.contains(&n) => return Some(n),
            Ok(_) => "is out of range",
            Err(_) => match text.parse::<f64>() {
                Ok(n) if n.fract() == 0.0 => "is out of range",
                Ok(_) => "is not a whole number",
                Err(_) => {
                    self.wrong_type(field, &expected);
                    return None;
                }
            },
        };
        let found = if from_env { "the value of the variable" } else { text };
        self.error(field, format!("{found} {why}"), format!("write {expected}"));
        None
    }

    /// The number of an optional key.
    pub(crate) fn number_or<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<T>,
        default: T,
    ) -> T
    where
        T: FromStr + PartialOrd + Display,
    {
        section.get(key).and_then(|f| self.number(&f, &range)).unwrap_or(default)
    }

    /// A duration of at least `least`.
    pub(crate) fn duration(&mut self, field: &Field<'_>, least: Duration) -> Option<Duration> {
        let (text, _) = self.scalar(field, "a duration")?;
        match duration::parse(&text) {
            Some(d) if d >= least => Some(d),
            Some(_) => {
                let least = if least < Duration::from_secs(1) {
                    "above zero".into()
                } else {
                    format!("{least:?} or more")
                };
                self.error(field, "is too short", format!("make it {least}"));
                None
            }
            None => {
                self.error(field, "is not a duration", DURATION_HELP);
                None
            }
        }
    }

    /// The duration of an optional key, above zero.
    pub(crate) fn duration_or(&mut self, section: &Section<'_>, key: &str, default: Duration) -> Duration {
        section.get(key).and_then(|f| self.duration(&f, Duration::from_millis(1))).unwrap_or(default)
    }

    /// One of some words, in any case.
    pub(crate) fn choice<T: Copy>(&mut self, field: &Field<'_>, choices: &[(&str, T)]) -> Option<T> {
        let (text, _) = self.scalar(field, "text")?;
        let wanted = text.trim().to_ascii_lowercase();
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == wanted) {
            return Some(*value);
        }
        let words = choices.iter().map(|(w, _)| *w).collect::<Vec<_>>().join(", ");
        let found = shown(field, &text);
        let near = nearest(&wanted, choices.iter().map(|(w, _)| *w));
        let mean = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        self.error(field, format!("{found} is none of the choices"), format!("{mean}write one of: {words}"));
        None
    }

    /// An http or https address. `instead` says where credentials belong, which must not stand in it.
    pub(crate) fn url(&mut self, field: &Field<'_>, instead: &str) -> Option<Url> {
        const HELP: &str = "write an address such as https://host.example/path";
        let text = self.text(field)?;
        let Ok(url) =
            Url::parse(text.trim()).map_err(|e| self.error(field, format!("is not an address: {e}"), HELP))
        else {
            return None;
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            self.error(field, "is not an http or https address", HELP);
            return None;
        }
        if !url.username().is_empty() || url.password().is_some() {
            self.error(field, "carries a user or a password", instead);
            return None;
        }
        // A key in the query or the path stays out of logs and reports. The address of a destination is one as a whole.
        let given = matches!(&field.node.value, Value::Scalar { text, .. } if text.contains("${"));
        if given || field.path.starts_with("sink") {
            self.keep(secrets::of_address(&text).unwrap_or_default());
        }
        Some(url)
    }
}

/// A text in a message, unless any of its value came from the environment.
pub(crate) fn shown(field: &Field<'_>, text: &str) -> String {
    match &field.node.value {
        Value::Scalar { text: raw, .. } if raw.contains("${") => "the value of the variable".into(),
        _ => format!("`{text}`"),
    }
}

/// What a value looks like, without showing it.
pub(crate) fn kind(node: &Node) -> &'static str {
    match &node.value {
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Scalar { text, plain } => match (text.as_str(), plain) {
            (_, true) if node.is_null() => "nothing",
            ("true" | "True" | "TRUE" | "false" | "False" | "FALSE", true) => "a truth value",
            (text, true) if text.parse::<f64>().is_ok_and(f64::is_finite) => "a number",
            _ => "text",
        },
    }
}
