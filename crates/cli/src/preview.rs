//! `sentinel render`: what the model would be sent first, for one event. Nothing leaves this machine.
//!
//! The event goes through the whole pipeline, so that what is shown is what the same code would send; only the model
//! and the tools are others: the model keeps what it is asked and answers nothing, and each tool is as its server would
//! list it, with a placeholder wherever only that server could speak.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::bail;
use async_trait::async_trait;
use sentinel_config::{Caller, Diagnostic, Severity};
use sentinel_core::card::{Card, ModelId, ToolId};
use sentinel_core::incident::IncidentId;
use sentinel_core::intake::Receipt;
use sentinel_investigation::ports::{
    Item, Model, ModelError, ToolBox, ToolDefinition, ToolError, ToolOutput, TurnRequest, TurnResponse,
};
use sentinel_investigation::{Progress, estimated_tokens};
use sentinel_worker::Replacement;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use crate::Exit;
use crate::args::Render;
use crate::environment::Environment;
use crate::render::inert;
use crate::stage::{Stage, alone};
use crate::{replay, setup};

/// One request.
#[derive(Debug, Serialize)]
struct Rendered {
    card: String,
    incident: String,
    /// See [`estimated_tokens`].
    estimated_tokens: u64,
    /// What the card allows the whole investigation.
    max_tokens: u64,
    max_usd: f64,
    /// What stands for something that only a server can say.
    placeholders: bool,
    /// What the card's prompt asks for and these alerts do not have.
    unshown: Vec<Lacking>,
    request: TurnRequest,
}

/// Something that a prompt asks for and does not get.
#[derive(Clone, Debug, Serialize)]
struct Lacking {
    file: PathBuf,
    /// From 1.
    line: u32,
    variable: String,
    reason: String,
}

pub(crate) async fn run(args: Render, env: &Environment) -> anyhow::Result<Exit> {
    let mut loaded = match setup::load(args.config.config.as_deref(), env) {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(exit),
    };
    alone(&mut loaded);
    let playbooks = match sentinel_worker::compile(&loaded) {
        Ok(playbooks) => playbooks,
        Err(problems) => return Ok(setup::tell(&problems, env)),
    };
    let body = replay::read(&args.event)?;
    if let Some(name) = &args.card {
        let known: Vec<String> = loaded.settings.cards.iter().map(|c| c.name.clone()).collect();
        let position = known.iter().position(|card| card == name);
        let Some(position) = position else {
            bail!("no card is named {name:?}; there are {}", known.join(", "));
        };
        loaded.settings.cards = vec![loaded.settings.cards.swap_remove(position)];
        loaded.places = vec![loaded.places.swap_remove(position)];
    }
    let placeholders = args.recorded.is_none();
    // What was recorded was called by Sentinel itself.
    let servers = loaded.settings.servers.iter().filter(|_| placeholders);
    let hosted = servers.filter(|server| matches!(server.reach.caller, Caller::ModelService(_)));
    let labels = hosted.map(|server| (server.name.clone(), server.label.clone())).collect();
    let model = Arc::new(Keeps { requests: Mutex::default(), labels });
    let run = if let Some(path) = &args.recorded {
        Replacement { model: model.clone(), ..replay::recorded(path)? }
    } else {
        let tools = Arc::new(Blank::of(&loaded.settings.cards));
        Replacement { model: model.clone(), tools }
    };
    let name = args.event.display().to_string();
    let events = sentinel_investigation::events();
    let mut heard = events.subscribe();
    let mut stage = Stage::new(&loaded.settings, playbooks, None, Some(events)).await?;
    let receipt = stage.arrive(&loaded.settings.cards, &name, &body, Some(&run)).await?;
    stage.settle().await?;
    let details = stage.details().await?;
    if details.is_empty() {
        bail!("{name}: {}", nothing(&receipt, args.card.as_deref()));
    }
    let unshown = unshown(&mut heard);
    let mut requests = model.requests();
    let mut rendered = Vec::new();
    for detail in details {
        let Some(at) = requests.iter().position(|r| r.cache_key == detail.id.as_str()) else {
            let reason = detail.reason.or(detail.report.map(|report| report.summary));
            let reason = reason.unwrap_or_else(|| detail.state.to_string());
            bail!("incident {} of card {} never comes to ask a model: {reason}", detail.id, detail.card);
        };
        let request = requests.remove(at);
        let estimated_tokens = estimated_tokens(&request);
        let incident = detail.id.as_str().to_owned();
        let card = loaded.settings.cards.iter().find(|card| card.name == detail.card);
        rendered.push(Rendered {
            max_tokens: card.map_or(0, |card| card.max_tokens),
            max_usd: card.map_or(0.0, |card| card.max_usd.as_usd()),
            card: detail.card,
            incident,
            estimated_tokens,
            placeholders,
            unshown: unshown
                .iter()
                .filter(|(of, _)| *of == detail.id)
                .map(|(_, what)| what.clone())
                .collect(),
            request,
        });
    }
    let mut out = anstream::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&rendered)?)?;
    } else {
        rendered.iter().try_for_each(|r| write!(out, "{}", text(r)))?;
    }
    let lacking = rendered.iter().flat_map(|r| r.unshown.iter().map(move |what| (&r.card, what)));
    let told: Vec<Diagnostic> = lacking.map(|(card, what)| what.told(card)).collect();
    setup::print_diagnostics(&told, env);
    Ok(if told.is_empty() { Exit::Done } else { Exit::Failed })
}

impl Lacking {
    fn told(&self, card: &str) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            file: self.file.clone(),
            line: usize::try_from(self.line).unwrap_or(usize::MAX),
            column: 1,
            key: String::new(),
            message: format!("in the prompt of the card {card}: {}", inert(&self.reason)),
            help: "give it a default, {{ labels.x | default('none') }}, or ask whether it is there"
                .to_owned(),
        }
    }
}

/// What prompts asked for and did not get, of each incident.
fn unshown(heard: &mut Receiver<Progress>) -> Vec<(IncidentId, Lacking)> {
    let mut all = Vec::new();
    loop {
        match heard.try_recv() {
            Ok(Progress::Unshown { incident, file, line, variable, reason, .. }) => {
                all.push((incident, Lacking { file, line, variable, reason }));
            }
            Ok(_) | Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return all,
        }
    }
}

/// Why an event has opened no incident.
fn nothing(receipt: &Receipt, card: Option<&str>) -> String {
    match card {
        Some(card) if receipt.unmatched > 0 => format!("the card {card} does not take its alerts"),
        _ if receipt.unmatched > 0 => "no card takes its alerts".to_owned(),
        _ => "none of its alerts opens an incident: they are resolved, or cannot be read".to_owned(),
    }
}

fn text(r: &Rendered) -> String {
    let mut out = String::new();
    let request = &r.request;
    let mut line = |text: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{text}");
    };
    line(&format!(
        "\x1b[1mCard {}\x1b[0m  model {}  about {} tokens of {} (and ${}) in all",
        inert(&r.card),
        inert(&request.model.to_string()),
        r.estimated_tokens,
        r.max_tokens,
        r.max_usd
    ));
    if r.placeholders {
        line("\x1b[33m(placeholder …) stands for what only a server can say: nothing was called.\x1b[0m");
    }
    line("\n\x1b[1mInstructions\x1b[0m");
    request.instructions.lines().for_each(|l| line(&inert(l)));
    for item in &request.input {
        line("\n\x1b[1mInput\x1b[0m");
        match item {
            Item::User { text } => text.lines().for_each(|l| line(&inert(l))),
            other => line(&inert(&json!(other).to_string())),
        }
    }
    line("\n\x1b[1mTools\x1b[0m");
    for tool in &request.tools {
        line(&format!("{}: {}", inert(&tool.name), inert(&tool.description)));
        line(&format!("\x1b[2m  {}\x1b[0m", inert(&tool.parameters.to_string())));
    }
    for hosted in &request.hosted {
        let tools = hosted.tools.join(", ");
        line(&format!(
            "{}: hosted by the model's service, which lists {}",
            inert(&hosted.label),
            inert(&tools)
        ));
    }
    line("");
    out
}

/// A model that keeps what it is asked.
#[derive(Debug)]
struct Keeps {
    requests: Mutex<Vec<TurnRequest>>,
    /// The labels of the servers that the model's service calls, by their names.
    labels: BTreeMap<String, String>,
}

impl Keeps {
    fn requests(&self) -> Vec<TurnRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Model for Keeps {
    async fn respond(&self, request: &TurnRequest, _: Duration) -> Result<TurnResponse, ModelError> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        Err(ModelError::Refused("only what it would be asked was wanted".to_owned()))
    }

    fn hosts(&self, _model: &ModelId, server: &str) -> Option<String> {
        self.labels.get(server).cloned()
    }

    fn is_recorded(&self) -> bool {
        true
    }
}

/// Servers that offer what the cards allow, and say nothing.
#[derive(Debug)]
struct Blank(BTreeMap<String, BTreeMap<String, ToolDefinition>>);

impl Blank {
    fn of(cards: &[Card]) -> Self {
        let mut servers: BTreeMap<String, BTreeMap<String, ToolDefinition>> = BTreeMap::new();
        for (tool, lock) in cards.iter().flat_map(|card| card.tools.iter().map(|tool| (tool, &card.lock))) {
            let pinned = lock.as_ref().and_then(|lock| lock.definition(tool));
            let (description, input_schema, more) = pinned.map_or_else(
                || {
                    let description = "(placeholder: the server's own description and schema)";
                    (description, json!({"type": "object"}), Map::new())
                },
                |said| (said.description, said.input_schema.clone(), said.more.clone()),
            );
            let definition = ToolDefinition {
                tool: tool.tool.clone(),
                description: description.to_owned(),
                input_schema,
                read_only_hint: None,
                destructive_hint: None,
                more,
                unusable: None,
            };
            servers.entry(tool.server.clone()).or_default().insert(tool.tool.clone(), definition);
        }
        Self(servers)
    }
}

#[async_trait]
impl ToolBox for Blank {
    async fn list(&self, server: &str, _: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        Ok(self.0.get(server).into_iter().flat_map(BTreeMap::values).cloned().collect())
    }

    async fn call(
        &self,
        tool: &ToolId,
        _: &Map<String, Value>,
        _: Duration,
    ) -> Result<ToolOutput, ToolError> {
        let text = format!("(placeholder: what {tool} gives for these arguments)");
        Ok(ToolOutput { text, is_error: false, remarks: Vec::new() })
    }
}
