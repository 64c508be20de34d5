//! One reader for each part of the file.

mod cards;
mod display;
mod doors;
mod general;
mod hosting;
mod lock;
mod policy;
mod reach;
mod redact;
mod resources;
mod servers;
mod services;
mod sinks;

use std::collections::BTreeMap;

pub(crate) use cards::is_prompt_file;
pub use policy::PolicyPlaces;
use sentinel_core::alert::Labels;

use crate::diagnostic::Place;
use crate::reader::{Field, Keys, MAP, Reader, Section, kind, shown};
use crate::settings::{Level, Settings};
use crate::tree::{Entry, Node, Value};

const TOP: Keys = &[
    ("debug", &[]),
    ("log-level", &[]),
    ("display", &[]),
    ("ingest", &[]),
    ("api", &[]),
    ("server", &[]),
    ("openai", &["openai-settings"]),
    ("model-services", &[]),
    ("dispatcher", &[]),
    ("defaults", &[]),
    ("budget", &[]),
    ("tools", &[]),
    ("resources", &["resource-definitions"]),
    ("incident-cards", &[]),
    ("mcp-servers", &["hosted-mcp-servers"]),
    ("network", &[]),
    ("redact", &[]),
    ("sinks", &["sink-list", "sink-configs"]),
    ("watchers", &["prometheus-watchers"]),
];

/// The keys of each kind of section, by the section's name in the schema.
pub(crate) const SECTIONS: &[(&str, Keys)] = &[
    ("top", TOP),
    ("display", display::DISPLAY),
    ("ingest", general::INGEST),
    ("basic", general::BASIC),
    ("header", general::HEADER),
    ("hmac", general::HMAC),
    ("api", doors::API),
    ("api-token", doors::API_TOKEN),
    ("listener", doors::LISTENER),
    ("openai", services::OPENAI),
    ("model-service", services::SERVICE),
    ("auth", services::AUTH),
    ("aws", services::AWS),
    ("model", services::MODEL),
    ("model-id", services::MODEL_ID),
    ("price", services::PRICE),
    ("long", services::LONG),
    ("dispatcher", general::DISPATCHER),
    ("defaults", general::DEFAULTS),
    ("retry", general::RETRY),
    ("budget", general::BUDGET),
    ("tools", lock::TOOLS),
    ("resource", resources::RESOURCE),
    ("card", cards::CARD),
    ("call", cards::CALL),
    ("rule", policy::RULE),
    ("example", policy::EXAMPLE),
    ("accepted", cards::ACCEPTED),
    ("check", cards::CHECK),
    ("server", servers::SERVER),
    ("oauth", servers::OAUTH),
    ("approval", servers::APPROVAL),
    ("names", servers::NAMES),
    ("network", general::NETWORK),
    ("pattern", redact::PATTERN),
    ("sink", sinks::SINK),
    ("watcher", sinks::WATCHER),
];

/// Words for a log level.
const LEVELS: &[(&str, Level)] = &[
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
    ("warning", Level::Warn),
    ("critical", Level::Error),
];

/// Where the parts of a card stand that are compiled later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CardPlaces {
    /// The card's `name`.
    pub name: Place,
    /// Its prompt; of a block (`prompt: |`), the first line of its text. For a prompt file, where it is named.
    pub prompt: Place,
    /// The `rule` of each entry of its checklist.
    pub rules: Vec<Place>,
    /// The parts of each rule of its policy.
    pub policy: Vec<PolicyPlaces>,
    /// The `arguments` of each of its evidence calls (the call itself, where it has none).
    pub evidence: Vec<Place>,
}

/// Reads the whole tree. What could not be read has its default and an error among the diagnostics.
pub(crate) fn settings(r: &mut Reader<'_>, root: &Node) -> (Settings, Vec<CardPlaces>) {
    let root = unwrap(r, root);
    let top = r.section(&Field { node: &root, path: String::new() }, TOP);
    let part = |key: &str| top.get(key);

    let debug = r.flag(&top, "debug", false);
    let log_level = part("log-level").and_then(|f| r.choice(&f, LEVELS));
    let display = display::display(r, part("display"));
    let ingest = general::ingest(r, part("ingest"));
    let api = doors::api(r, part("api"), &ingest);
    let listener = doors::listener(r, part("server"));
    let network = general::network(r, part("network"));
    let models = services::models(r, &top, &network);
    let dispatcher = general::dispatcher(r, part("dispatcher"));
    let defaults = general::defaults(r, part("defaults"));
    let budget = part("budget").map_or_else(general::Budget::usual, |f| general::budget(r, &f));
    let lock = lock::lock(r, &top);
    let resources = resources::resources(r, &top);
    let servers = servers::servers(r, &top, &models.first, &network);
    let sinks = sinks::sinks(r, &top, &network);
    let redact = redact::patterns(r, &top);
    let watchers = sinks::watchers(r, &top, &resources, &network);
    let context = cards::Context {
        resources: &resources,
        servers: &servers,
        sinks: &sinks,
        defaults: &defaults,
        models: &models,
        dedupe_ttl: dispatcher.dedupe_ttl,
        budget: &budget,
        lock,
    };
    let (cards, places) = cards::cards(r, &top, &context);
    reach::warn_unreachable(r, &cards, &places);

    let settings = Settings {
        debug,
        log_level: log_level.unwrap_or(if debug { Level::Debug } else { Level::Info }),
        display,
        ingest,
        api,
        listener,
        models,
        dispatcher,
        budget: budget.limits,
        cards,
        servers,
        sinks,
        watchers,
        network,
        redact,
        audit_retention: defaults.audit_retention,
        unread_secrets: std::mem::take(&mut r.unread),
        secrets: std::mem::take(&mut r.secrets),
    };
    (settings, places)
}

/// The root without its `sentinel:` wrapper: what stands beside the wrapper counts as if it stood inside.
fn unwrap(r: &mut Reader<'_>, root: &Node) -> Node {
    let mut node = root.clone();
    let Value::Map(entries) = &mut node.value else { return node };
    let Some(index) = entries.iter().position(|e| e.key == "sentinel") else { return node };
    let wrapper = entries.remove(index);
    match wrapper.node.value {
        Value::Map(inner) => entries.extend(inner),
        _ if wrapper.node.is_null() => {}
        _ => {
            r.wrong_type(&Field { node: &wrapper.node, path: "sentinel".into() }, MAP);
        }
    }
    node
}

/// Tells the second of two with one name; gives the names that stand.
fn unique(
    r: &mut Reader<'_>,
    seen: &mut BTreeMap<String, usize>,
    section: &Section<'_>,
    name: &str,
    what: &str,
) -> bool {
    let Some(field) = section.get("name") else { return true };
    let line = field.node.at.line;
    if let Some(first) = seen.get(name) {
        let message =
            format!("a second {what} is named {}; the first is in line {first}", shown(&field, name));
        r.error(&field, message, "give each its own name");
        return false;
    }
    seen.insert(name.to_owned(), line);
    true
}

/// A map of texts with names of the user's own.
fn labels(r: &mut Reader<'_>, field: &Field<'_>) -> Labels {
    let fields = r.free_map(field);
    fields.iter().filter_map(|(name, f)| Some(((*name).to_owned(), r.loose_text(f)?.0))).collect()
}

/// A YAML value as JSON, references to the environment replaced, plain scalars typed as YAML 1.2 does.
fn json(r: &mut Reader<'_>, field: &Field<'_>) -> serde_json::Value {
    use serde_json::Value as Json;
    match &field.node.value {
        Value::List(_) => Json::Array(r.list(field).iter().map(|f| json(r, f)).collect()),
        Value::Map(entries) => {
            let entries: Vec<&Entry> = entries.iter().collect();
            let read = |e: &Entry, r: &mut Reader<'_>| {
                let path = format!("{}.{}", field.path, e.key);
                (e.key.clone(), json(r, &Field { node: &e.node, path }))
            };
            Json::Object(entries.into_iter().map(|e| read(e, r)).collect())
        }
        Value::Scalar { text, .. } => match kind(field.node) {
            "nothing" => Json::Null,
            "a truth value" => Json::Bool(text.eq_ignore_ascii_case("true")),
            "a number" => match text.parse::<i64>() {
                Ok(n) => n.into(),
                Err(_) => text
                    .parse::<f64>()
                    .ok()
                    .and_then(serde_json::Number::from_f64)
                    .map_or(Json::Null, Json::Number),
            },
            _ => r.loose_text(field).map_or(Json::Null, |(text, _)| Json::String(text)),
        },
    }
}
