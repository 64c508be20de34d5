//! `incident-cards`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use sentinel_core::card::{
    Card, CheckRule, DedupeBy, EvidenceCall, FIRST_SERVICE, Matcher, ModelId, Otherwise, Prompt,
    PromptSource, Resource, Subscription, ToolId,
};
use sentinel_core::price;

use super::general::Defaults;
use super::sinks::{ROOM, is_room};
use super::{CardPlaces, json, services, unique};
use crate::diagnostic::Place;
use crate::nearest;
use crate::reader::{Field, Keys, MAP, Reader, Section, shown};
use crate::settings::{Models, Server, SinkKind, SinkSettings};
use crate::source::{built_in_prompt, read_text};
use crate::tree::Value;

pub(super) const CARD: Keys = &[
    ("name", &[]),
    ("resource", &[]),
    ("prompt", &["prompt-template"]),
    ("model", &["model-name"]),
    ("fallback-models", &[]),
    ("tools", &["tool-list"]),
    ("sinks", &["sink-list", "sink-configs"]),
    ("max-iterations", &[]),
    ("max-tokens", &[]),
    ("max-usd", &[]),
    ("dedupe-by", &[]),
    ("ignore-labels", &[]),
    ("wait", &[]),
    ("reinvestigate-after", &[]),
    ("continue", &[]),
    ("budget", &[]),
    ("evidence", &[]),
    ("policy", &[]),
    ("accept-not-read-only", &[]),
    ("checklist", &[]),
];
pub(super) const CALL: Keys = &[("tool", &[]), ("arguments", &["args"])];
pub(super) const ACCEPTED: Keys = &[("tool", &[]), ("because", &[])];
pub(super) const CHECK: Keys = &[("name", &[]), ("rule", &[]), ("otherwise", &[])];
const OTHERWISE: &[(&str, Otherwise)] = &[
    ("warn", Otherwise::Warn),
    ("inconclusive", Otherwise::Inconclusive),
    ("escalate", Otherwise::Escalate),
];
const DEDUPE_HELP: &str = "write `group`, `alert`, or a list of labels such as [namespace, deployment]";
const PROMPT_HELP: &str = "write the task for the model, or the path of a .md, .txt or .j2 file";
/// Labels in which HA senders differ.
const IGNORED: [&str; 4] = ["replica", "prometheus", "prometheus_replica", "__replica__"];

/// What cards refer to.
pub(super) struct Context<'a> {
    pub(super) resources: &'a [Resource],
    pub(super) servers: &'a [Server],
    pub(super) sinks: &'a [SinkSettings],
    pub(super) defaults: &'a Defaults,
    pub(super) models: &'a Models,
    pub(super) dedupe_ttl: Duration,
    pub(super) budget: &'a super::general::Budget,
    pub(super) lock: super::lock::Lock,
}

pub(super) fn cards(
    r: &mut Reader<'_>,
    top: &Section<'_>,
    context: &Context<'_>,
) -> (Vec<Card>, Vec<CardPlaces>) {
    let (mut all, mut names, mut warned) = ((vec![], vec![]), BTreeMap::new(), BTreeSet::new());
    for field in r.items(top, "incident-cards") {
        let s = r.section(&field, CARD);
        let name =
            r.required_text(&s, "name", "give it a name; the name becomes part of each incident's identity");
        let name = name.filter(|name| unique(r, &mut names, &s, name, "card"));
        let Some((card, places)) = card(r, &field, &s, name, context) else { continue };
        warn_models(r, &field, &s, &card, context.models, &mut warned);
        all.0.push(card);
        all.1.push(places);
    }
    if all.0.is_empty() && !r.has_errors() {
        let place =
            top.get("incident-cards").map_or_else(|| r.place_at(top.at, "incident-cards"), |f| r.place(&f));
        r.diagnostics
            .push(place.warning("there are no incident cards: every alert stays unmatched", "write one"));
    }
    all
}

/// Tells once of each model what a card that names it has to expect.
fn warn_models(
    r: &mut Reader<'_>,
    field: &Field<'_>,
    s: &Section<'_>,
    card: &Card,
    models: &Models,
    warned: &mut BTreeSet<ModelId>,
) {
    let fallbacks = card.fallback_models.iter().map(|model| (model, "fallback-models"));
    for (model, key) in [(&card.model, "model")].into_iter().chain(fallbacks) {
        let Some(service) = models.service(model).filter(|_| warned.insert(model.clone())) else { continue };
        let place = s.get(key).map_or_else(|| r.place(field), |f| r.place(&f));
        if models.price(model).is_none() {
            let message = format!(
                "the model `{model}` has no price, so its cost will read \"unknown\" and no limit in dollars holds it"
            );
            let help = match &service.name {
                first if first == FIRST_SERVICE => "add it to `openai.prices`".to_owned(),
                name => format!("add it to the `models` of the service `{name}`"),
            };
            r.diagnostics.push(place.warning(message, help));
        }
        if service.name != FIRST_SERVICE && !service.can_be_asked() {
            let message =
                format!("the service `{}` has no key, so that `{model}` is not asked", service.name);
            r.diagnostics.push(place.warning(message, "set the variable of its `api-key`"));
        }
        if let Some(end) = price::end_of_life(&model.name) {
            let message = format!("OpenAI switches the model `{model}` off on {}", end.day);
            let help = format!("name another before, such as `{}`", end.successor);
            r.diagnostics.push(place.warning(message, help));
        }
    }
}

fn card(
    r: &mut Reader<'_>,
    field: &Field<'_>,
    s: &Section<'_>,
    name: Option<String>,
    c: &Context<'_>,
) -> Option<(Card, CardPlaces)> {
    let resource = r.required(s, "resource", "name one of `resources`, or an alert");
    let resource = resource.and_then(|f| resource_of(r, &f, c.resources));
    let prompt = r.required(s, "prompt", PROMPT_HELP).and_then(|f| prompt_of(r, &f));
    let budget = s.get("budget").map(|f| super::general::budget(r, &f));
    let generations_per_hour = budget
        .as_ref()
        .and_then(|b| b.generations_per_hour)
        .or(c.budget.generations_per_hour)
        .unwrap_or(super::general::GENERATIONS_PER_HOUR);
    let tools = tools(r, field, s, c.servers);
    let (evidence, evidence_places) = evidence(r, s, c.servers, &tools);
    let (policy, policy_places) = super::policy::policy(r, s, c.servers, &tools);
    if let Some(lock) = &c.lock.lock {
        super::lock::warn_unpinned(r, &s.get("tools").unwrap_or_else(|| field.clone()), &tools, lock);
    }
    let not_read_only = not_read_only(r, s, c.servers, &tools);
    let (checklist, rules) = checklist(r, s);
    let own = s.get("model").and_then(|f| services::model_id(r, &f, c.models));
    let fallback_models = match (s.get("model"), s.get("fallback-models")) {
        (None, None) => c.models.fallbacks.clone(),
        _ => services::model_ids(r, s, "fallback-models", c.models),
    };
    let ignore_labels = match s.get("ignore-labels") {
        Some(_) => r.texts(s, "ignore-labels").into_iter().collect(),
        None => IGNORED.iter().map(|l| (*l).to_owned()).collect(),
    };
    let places = CardPlaces {
        name: s.get("name").map_or_else(|| r.place(field), |f| r.place(&f)),
        prompt: s.get("prompt").map_or_else(|| r.place(field), |f| r.place(&f)),
        rules,
        policy: policy_places,
        evidence: evidence_places,
    };
    let (sinks, dedupe_by) = (sinks(r, s, c.sinks), dedupe_by(r, s));
    let (wait, reinvestigate_after) =
        (s.get("wait").and_then(|f| r.duration(&f, Duration::ZERO)), reinvestigate(r, s));
    let max_iterations =
        r.number_or(s, "max-iterations", super::general::ITERATIONS, c.defaults.max_iterations);
    let max_tokens = r.number_or(s, "max-tokens", super::general::TOKENS, c.defaults.max_tokens);
    let max_usd = super::general::usd_or(r, s, "max-usd", c.defaults.max_usd);
    let continues = r.flag(s, "continue", false);
    let card = Card {
        name: name?,
        resource: resource?,
        prompt: prompt?,
        model: own.unwrap_or_else(|| c.models.default.clone()),
        fallback_models,
        tools,
        policy,
        lock: c.lock.lock.clone(),
        lock_undecided: c.lock.undecided,
        not_read_only,
        sinks,
        max_iterations,
        timeout: c.defaults.timeout,
        max_tokens,
        max_usd,
        max_tool_output_tokens: c.defaults.max_tool_output_tokens,
        attempts: c.defaults.attempts,
        dedupe_by,
        ignore_labels,
        wait: wait.unwrap_or_default(),
        dedupe_ttl: c.dedupe_ttl,
        reinvestigate_after,
        budget: budget.map(|b| b.limits).unwrap_or_default(),
        generations_per_hour: Some(generations_per_hour),
        continues,
        evidence,
        checklist,
    };
    Some((card, places))
}

fn resource_of(r: &mut Reader<'_>, field: &Field<'_>, resources: &[Resource]) -> Option<Resource> {
    let name = r.text(field)?;
    if let Some(found) = resources.iter().find(|res| res.name == name) {
        return Some(found.clone());
    }
    let near = nearest(&name, resources.iter().map(|res| res.name.as_str()));
    let help =
        near.map_or_else(|| "define it in `resources`".into(), |near| format!("did you mean `{near}`?"));
    r.warn(
        field,
        format!("no resource is named {}; it means the alert of that name", shown(field, &name)),
        help,
    );
    let matchers = vec![Matcher::equal("alertname", name.clone())];
    Some(Resource { name, kind: "prometheus_alert".into(), matchers, annotations: BTreeMap::new() })
}

/// Whether a prompt is the path of the file in which it stands.
pub(crate) fn is_prompt_file(path: &str) -> bool {
    !path.contains('\n') && [".md", ".txt", ".j2"].iter().any(|end| path.ends_with(end))
}

/// One line that ends like a text file is a file; anything else is the prompt itself, `${…}` and all.
fn prompt_of(r: &mut Reader<'_>, field: &Field<'_>) -> Option<Prompt> {
    let Value::Scalar { text, .. } = &field.node.value else {
        r.wrong_type(field, "text");
        return None;
    };
    let path = text.trim();
    if path.is_empty() {
        r.error(field, "is empty", PROMPT_HELP);
        return None;
    }
    if !is_prompt_file(path) {
        return Some(Prompt { source: PromptSource::Inline, text: text.clone() });
    }
    let found = match &r.source.base_dir {
        None => built_in_prompt(path)
            .map(|text| (PromptSource::BuiltIn(path.to_owned()), text.to_owned()))
            .ok_or_else(|| "it is not compiled in".to_owned()),
        Some(dir) => {
            let file = dir.join(Path::new(path));
            if !r.needs_prompts() {
                return Some(Prompt { source: PromptSource::File(file), text: String::new() });
            }
            read_text(&file).map(|text| (PromptSource::File(file), text)).map_err(|e| e.to_string())
        }
    };
    match found {
        Ok((_, text)) if text.trim().is_empty() => {
            r.error(
                field,
                format!("the prompt file `{path}` is empty"),
                "write the task for the model into it",
            );
            None
        }
        Ok((source, text)) => Some(Prompt { source, text }),
        Err(reason) => {
            let help = "its path is relative to the folder of this file";
            r.error(field, format!("the prompt file `{path}` cannot be read: {reason}"), help);
            None
        }
    }
}

/// Whether a text can be a tool's name, as the MCP specification has them.
pub(super) fn is_tool_name(name: &str) -> bool {
    !name.is_empty()
        && name.split('.').all(|part| !part.is_empty())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
}

/// `server.tool`; `server` or `server.*` have no tool. What names no known server is told.
fn tool_reference<'s>(
    r: &mut Reader<'_>,
    field: &Field<'_>,
    servers: &'s [Server],
) -> Option<(&'s Server, Option<String>)> {
    const HELP: &str = "write `server.tool`, or `server` for its default-allowed-tools";
    let text = r.text(field)?;
    let (server, tool) = match text.split_once('.') {
        None => (text.as_str(), None),
        Some((server, "*")) => (server, None),
        Some((server, tool)) => (server, Some(tool)),
    };
    let good =
        !server.is_empty() && server.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !good || tool.is_some_and(|t| !is_tool_name(t)) {
        r.error(field, format!("{} is not a tool", shown(field, &text)), HELP);
        return None;
    }
    let Some(found) = servers.iter().find(|s| s.name == server) else {
        let help = match nearest(server, servers.iter().map(|s| s.name.as_str())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "define it in `mcp-servers`".into(),
        };
        r.error(field, format!("no server is named {}", shown(field, server)), help);
        return None;
    };
    Some((found, tool.map(str::to_owned)))
}

fn tools(r: &mut Reader<'_>, card: &Field<'_>, s: &Section<'_>, servers: &[Server]) -> BTreeSet<ToolId> {
    let mut all = BTreeSet::new();
    let items = r.items(s, "tools");
    for f in &items {
        let Some((server, tool)) = tool_reference(r, f, servers) else { continue };
        let named = |tool: &String| ToolId { server: server.name.clone(), tool: tool.clone() };
        match tool {
            Some(tool) => {
                all.insert(named(&tool));
            }
            None if server.default_allowed_tools.is_empty() => {
                // The Python project allowed everything here.
                let message = format!(
                    "allows nothing: the server `{}` has no default-allowed-tools, and what is not named is denied",
                    server.name
                );
                r.warn(f, message, "list the tools there, or name them here as `server.tool`");
            }
            None => all.extend(server.default_allowed_tools.iter().map(named)),
        }
    }
    if items.is_empty() && s.get("tools").is_none_or(|f| matches!(f.node.value, Value::List(_))) {
        let message =
            "has no tools, so the model sees nothing but the alert and its report stays inconclusive";
        r.warn(card, message, "list what may be called under `tools`");
    }
    all
}

/// Tools that the card takes although their servers say that they do not only read. It has to say why.
fn not_read_only(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    servers: &[Server],
    tools: &BTreeSet<ToolId>,
) -> BTreeMap<ToolId, String> {
    const BECAUSE: &str = "say why it may be called, such as \"it writes nothing but its own cache\"";
    let mut all = BTreeMap::new();
    for field in r.items(s, "accept-not-read-only") {
        let entry = r.section(&field, ACCEPTED);
        let (tool, because) = (one_tool(r, &entry, servers), r.required_text(&entry, "because", BECAUSE));
        let Some((tool, because)) = tool.zip(because) else { continue };
        if tools.contains(&tool) {
            all.insert(tool, because);
        } else if let Some(f) = entry.get("tool") {
            let message = format!("the card does not allow {}", shown(&f, &tool.to_string()));
            r.error(&f, message, "add it to the card's `tools`, or remove the entry");
        }
    }
    all
}

fn sinks(r: &mut Reader<'_>, s: &Section<'_>, known: &[SinkSettings]) -> Vec<Subscription> {
    if s.get("sinks").is_none() {
        let log = known.iter().find(|sink| sink.name == "log");
        return log
            .map(|log| Subscription { sink: log.name.clone(), events: log.events.clone() })
            .into_iter()
            .collect();
    }
    let items = r.items(s, "sinks");
    let mut all: Vec<Subscription> = vec![];
    for f in &items {
        let Some(entry) = r.text(f) else { continue };
        let name = entry.split_once(':').map_or(entry.as_str(), |(name, _)| name);
        let Some(sink) = known.iter().find(|sink| sink.name == name) else {
            let help = match nearest(name, known.iter().map(|sink| sink.name.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "define it in `sinks`".into(),
            };
            r.error(f, format!("no sink is named {}", shown(f, name)), help);
            continue;
        };
        let route = entry.split_once(':').map(|(_, route)| route);
        match (&sink.kind, route) {
            (SinkKind::Slack { channel: None, .. }, None) => {
                let help = format!("write `{name}:CHANNEL`, or give the sink a `channel`");
                r.error(f, format!("{} has no channel", shown(f, &entry)), help);
            }
            (SinkKind::Matrix { room: None, .. }, None) => {
                let help = format!("write `{name}:!ID`, or give the sink a `room`");
                r.error(f, format!("{} has no room", shown(f, &entry)), help);
            }
            (SinkKind::Matrix { .. }, Some(route)) if !is_room(route) => {
                r.error(f, format!("{} names no room's id", shown(f, &entry)), ROOM);
            }
            _ => {}
        }
        if all.iter().any(|s| s.sink == entry) {
            r.warn(f, format!("names {} a second time", shown(f, &entry)), "each is told once");
        } else {
            all.push(Subscription { sink: entry, events: sink.events.clone() });
        }
    }
    all
}

fn dedupe_by(r: &mut Reader<'_>, s: &Section<'_>) -> DedupeBy {
    let Some(f) = s.get("dedupe-by") else { return DedupeBy::Group };
    if !matches!(f.node.value, Value::List(_)) {
        let text = r.text(&f);
        if !matches!(text.as_deref(), None | Some("group" | "alert")) {
            r.error(&f, "is none of the choices", DEDUPE_HELP);
        }
        return if text.as_deref() == Some("alert") { DedupeBy::Alert } else { DedupeBy::Group };
    }
    let labels = r.texts(s, "dedupe-by");
    if labels.is_empty() {
        r.error(&f, "names no label", DEDUPE_HELP);
    }
    DedupeBy::Labels(labels)
}

fn reinvestigate(r: &mut Reader<'_>, s: &Section<'_>) -> Option<Duration> {
    let f = s.get("reinvestigate-after")?;
    match &f.node.value {
        Value::Scalar { text, .. } if text == "never" => None,
        _ => r.duration(&f, Duration::from_secs(10)),
    }
}

fn evidence(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    servers: &[Server],
    allowed: &BTreeSet<ToolId>,
) -> (Vec<EvidenceCall>, Vec<Place>) {
    let (mut calls, mut places) = (vec![], vec![]);
    for field in r.items(s, "evidence") {
        let call = r.section(&field, CALL);
        let arguments_field = call.get("arguments");
        let arguments = match arguments_field.as_ref().map(|f| (f, json(r, f))) {
            None => serde_json::Map::new(),
            Some((_, serde_json::Value::Object(map))) => map,
            Some((f, _)) => {
                r.wrong_type(f, MAP);
                serde_json::Map::new()
            }
        };
        let Some(tool) = one_tool(r, &call, servers) else { continue };
        if !allowed.contains(&tool)
            && let Some(f) = call.get("tool")
        {
            r.error(
                &f,
                format!("the card does not allow {}", shown(&f, &tool.to_string())),
                "add it to the card's `tools`",
            );
        }
        let server = servers.iter().find(|server| server.name == tool.server);
        if let Some(f) = call.get("tool")
            && server.is_some_and(Server::is_hosted_only)
        {
            r.error(
                &f,
                "the card's own calls are made by Sentinel, which cannot call a connector or a tunnel",
                "give the server a `server-url` too, or let the model call it",
            );
        }
        places.push(arguments_field.map_or_else(|| r.place(&field), |f| r.place(&f)));
        calls.push(EvidenceCall { tool, arguments });
    }
    (calls, places)
}

/// The `tool` of an evidence call or a policy: exactly one.
pub(super) fn one_tool(r: &mut Reader<'_>, s: &Section<'_>, servers: &[Server]) -> Option<ToolId> {
    let f = r.required(s, "tool", "write `server.tool`")?;
    let (server, tool) = tool_reference(r, &f, servers)?;
    if tool.is_none() {
        r.error(&f, "names a server where one tool is needed", "write `server.tool`");
    }
    Some(ToolId { server: server.name.clone(), tool: tool? })
}

fn checklist(r: &mut Reader<'_>, s: &Section<'_>) -> (Vec<CheckRule>, Vec<Place>) {
    let (mut all, mut places, mut names) = (vec![], vec![], BTreeMap::new());
    for field in r.items(s, "checklist") {
        let s = r.section(&field, CHECK);
        let name = r.required_text(&s, "name", "say in a few words what is checked");
        let rule = r.required_text(&s, "rule", "write a CEL expression that is true where the check passes");
        let otherwise = s.get("otherwise").and_then(|f| r.choice(&f, OTHERWISE)).unwrap_or(Otherwise::Warn);
        let place = s.get("rule").map_or_else(|| r.place(&field), |f| r.place(&f));
        if let Some((name, rule)) = name.zip(rule)
            && unique(r, &mut names, &s, &name, "check")
        {
            all.push(CheckRule { name, rule, otherwise });
            places.push(place);
        }
    }
    (all, places)
}
