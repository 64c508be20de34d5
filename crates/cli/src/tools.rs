//! `sentinel tools lock`: pins the tools that cards allow as they are now.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::join_all;
use sentinel_aws::MachineClock;
use sentinel_config::{Server, Settings, read_text};
use sentinel_core::card::{ModelId, ToolId};
use sentinel_core::ports::Clock;
use sentinel_core::redact::Redactor;
use sentinel_core::tools_lock::{Drift, FILE, ToolsLock};
use sentinel_investigation::hosted_tools;
use sentinel_investigation::ports::{HostedServer, Item, Model, ToolBox, ToolDefinition, TurnRequest};
use sentinel_worker::Mind;
use serde::Serialize;

use crate::Exit;
use crate::args::{Lock, Tools, ToolsCommand};
use crate::environment::Environment;
use crate::finding::Finding;
use crate::render::inert;
use crate::setup;

/// How long a server has to list its tools.
const LISTING: Duration = Duration::from_secs(30);

/// What `--json` prints.
#[derive(PartialEq, Debug, Serialize)]
struct Outcome {
    /// Whether the file was written.
    written: bool,
    tools: Vec<Line>,
}

/// One tool.
#[derive(PartialEq, Debug, Serialize)]
struct Line {
    tool: String,
    change: Change,
    /// Why it is not pinned, or how it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What it now says of itself, where that is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Unchanged,
    Added,
    Changed,
    /// As it was, and more of it is pinned than an older lock held.
    PinsMore,
    /// No card allows it any more.
    Removed,
    /// Its server did not answer: what the lock held of it stays.
    Kept,
    /// It cannot be pinned, and would not be called anyhow.
    Refused,
}

mod diff;

type Listed = BTreeMap<String, Result<Vec<ToolDefinition>, String>>;

pub(crate) async fn run(args: Tools, env: &Environment) -> anyhow::Result<Exit> {
    match args.command {
        ToolsCommand::Lock(args) => lock(&args, env).await,
        ToolsCommand::Diff(args) => diff::run(&args, env).await,
    }
}

/// The configuration's folder, its lock, and what the servers say now of the tools that its cards allow.
struct Looked {
    path: PathBuf,
    before: ToolsLock,
    /// The tools that cards allow.
    allowed: BTreeSet<ToolId>,
    /// Those of them that a card takes although they do not only read.
    accepted: BTreeSet<ToolId>,
    listed: Listed,
}

/// `Err`: the configuration cannot be used, and that is said.
async fn look(config: Option<&Path>, env: &Environment) -> anyhow::Result<Result<Looked, Exit>> {
    let to_run = match setup::load_whole(config, env).await? {
        Ok(to_run) => to_run,
        Err(exit) => return Ok(Err(exit)),
    };
    let Some(folder) = &to_run.source.base_dir else {
        bail!("the built-in configuration has no folder for {FILE}: name a file with --config");
    };
    setup::logs(&to_run.loaded, env)?;
    Ok(Ok(look_at(&to_run.loaded.settings, folder.join(FILE), env).await?))
}

async fn look_at(settings: &Settings, path: PathBuf, env: &Environment) -> anyhow::Result<Looked> {
    let before = read(&path)?;
    let allowed: BTreeSet<ToolId> = settings.cards.iter().flat_map(|card| card.tools.clone()).collect();
    let accepted = settings.cards.iter().flat_map(|card| card.not_read_only.keys().cloned()).collect();
    let listed = list(settings, &allowed, env).await?;
    Ok(Looked { path, before, allowed, accepted, listed })
}

/// How the tools are that cards allow, as a doctor says it: each server's, held against the lock in this folder.
pub(crate) async fn findings(
    settings: &Settings,
    folder: &Path,
    env: &Environment,
) -> anyhow::Result<Vec<Finding>> {
    let looked = look_at(settings, folder.join(FILE), env).await?;
    let is_pinned = looked.path.exists();
    let mut found = Vec::new();
    for (server, listed) in &looked.listed {
        let of = format!("server {server}");
        found.push(match listed {
            Ok(tools) => Finding::good(&of, format!("lists {} tools", tools.len())),
            Err(why) => Finding::trouble(&of, why, "mend its address, its credentials, or the server"),
        });
    }
    let answered = |tool: &str| {
        looked.listed.iter().any(|(server, listed)| listed.is_ok() && tool.starts_with(&format!("{server}.")))
    };
    for line in pin(&looked).1 {
        let of = format!("tool {}", line.tool);
        let reason = line.reason.unwrap_or_default();
        match line.change {
            Change::Unchanged | Change::PinsMore | Change::Removed => {}
            Change::Added if !is_pinned => {}
            Change::Added => found.push(Finding::trouble(
                &of,
                format!("a card allows it, and {FILE} does not hold it: it is not called"),
                "`sentinel tools diff` shows it; `sentinel tools lock` pins it",
            )),
            Change::Changed => found.push(Finding::trouble(
                &of,
                format!("it is not as {FILE} has it: {reason}"),
                "`sentinel tools diff` shows what changed; `sentinel tools lock` takes it",
            )),
            // Of a server that does not answer that is said once.
            Change::Kept | Change::Refused if !answered(&line.tool) => {}
            Change::Kept | Change::Refused => found.push(Finding::trouble(
                &of,
                format!("a card allows it, and it is not called: {reason}"),
                "name another tool in the card, or say there why it may be called",
            )),
        }
    }
    if !is_pinned && !looked.allowed.is_empty() {
        found.push(Finding::note(
            "tools",
            "nothing pins them: there is no tools.lock",
            "`sentinel tools lock` makes one",
        ));
    }
    Ok(found)
}

async fn lock(args: &Lock, env: &Environment) -> anyhow::Result<Exit> {
    let looked = match look(args.config.config.as_deref(), env).await? {
        Ok(looked) => looked,
        Err(exit) => return Ok(exit),
    };
    let (after, lines) = pin(&looked);
    let Looked { path, before, .. } = looked;
    let differs = after != before;
    if differs && !args.check {
        write(&path, &after)?;
    }
    let outcome = Outcome { written: differs && !args.check, tools: lines };
    tell(&outcome, args, env)?;
    let is_whole = outcome.tools.iter().all(|line| !matches!(line.change, Change::Kept | Change::Refused));
    Ok(if is_whole && !(args.check && differs) { Exit::Done } else { Exit::Failed })
}

/// The lock as it is; none is an empty one.
fn read(path: &Path) -> anyhow::Result<ToolsLock> {
    match read_text(path) {
        Ok(text) => ToolsLock::parse(&text).with_context(|| format!("{} cannot be used", path.display())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(ToolsLock::default()),
        Err(e) => Err(e).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Whole or not at all: a service may read the file at any moment.
fn write(path: &Path, lock: &ToolsLock) -> anyhow::Result<()> {
    let beside = path.with_extension("lock.new");
    std::fs::write(&beside, lock.to_text())
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// Asks each server for its tools, as it is asked in an investigation: those of a hosted one are what the model's service
/// shows of them.
async fn list(settings: &Settings, allowed: &BTreeSet<ToolId>, env: &Environment) -> anyhow::Result<Listed> {
    let http = sentinel_worker::http_client(settings);
    let servers = sentinel_worker::servers(settings, &http);
    let clock: Arc<dyn Clock> = Arc::new(MachineClock::default());
    let credentials = sentinel_aws::credentials_of_environment();
    let model = match sentinel_worker::mind(settings, &http, &clock, Some(&credentials))? {
        Mind::Model(model) => Some(model),
        Mind::None { .. } => None,
    };
    let redactor = settings.redactor();
    let names: BTreeSet<&str> = allowed.iter().map(|tool| tool.server.as_str()).collect();
    let first = settings.models.default.clone();
    let hosted_by = |name: &str| model.as_ref().and_then(|model| Some((model, model.hosts(&first, name)?)));
    let paid: Vec<&str> = names.iter().copied().filter(|name| hosted_by(name).is_some()).collect();
    if !paid.is_empty() {
        let about = paid.join(", ");
        env.note(&format!("asking the model's service, at the price of one short answer each: {about}"));
    }
    let (direct, redactor, hosted_by, first) = (&servers, &redactor, &hosted_by, &first);
    let asked = names.iter().map(|&name| async move {
        let answer = match hosted_by(name) {
            Some((model, label)) => {
                let tools = allowed.iter().filter(|tool| tool.server == name).map(|tool| tool.tool.clone());
                let hosted = HostedServer { server: name.to_owned(), label, tools: tools.collect() };
                shown(model.as_ref(), first, hosted, redactor).await
            }
            None if settings.server(name).is_some_and(Server::is_hosted_only) => {
                Err("only the model's service can list its tools, and there is no `openai.api-key`"
                    .to_owned())
            }
            None => direct.list(name, LISTING).await.map_err(|e| e.to_string()),
        };
        (name.to_owned(), answer)
    });
    let listed = join_all(asked).await.into_iter().collect();
    servers.close().await;
    Ok(listed)
}

/// The most tokens of an answer that is one word, with room to think.
const SHORT_ANSWER: u32 = 1_024;

/// What the model's service shows of a server's tools. It does so at the beginning of every answer.
async fn shown(
    model: &dyn Model,
    asked: &ModelId,
    hosted: HostedServer,
    redactor: &Redactor,
) -> Result<Vec<ToolDefinition>, String> {
    let label = hosted.label.clone();
    let request = TurnRequest {
        model: asked.clone(),
        instructions: "Answer with the word ok. Call no tool.".to_owned(),
        input: vec![Item::User { text: "ok?".to_owned() }],
        tools: Vec::new(),
        hosted: vec![hosted],
        max_hosted_calls: 1,
        force: None,
        max_output_tokens: SHORT_ANSWER,
        cache_key: "tools-lock".to_owned(),
    };
    let answer = model.respond(&request, LISTING).await.map_err(|e| e.to_string())?;
    hosted_tools(answer.outputs, &label, redactor)
}

/// The new lock, and what became of each tool.
fn pin(looked: &Looked) -> (ToolsLock, Vec<Line>) {
    let Looked { before, allowed, accepted, listed, .. } = looked;
    let pins_less: BTreeSet<&str> = before.pinned_less().collect();
    let mut after = ToolsLock::default();
    let mut lines = Vec::new();
    for tool in allowed {
        let line = |change, reason: Option<String>, description: Option<&str>| Line {
            tool: tool.to_string(),
            change,
            reason,
            description: description.map(str::to_owned),
        };
        let definitions = match listed.get(&tool.server) {
            Some(Ok(definitions)) => definitions,
            unlisted => {
                after.keep(tool, before);
                let reason = unlisted.and_then(|l| l.as_ref().err()).cloned();
                let change = if before.holds(tool) { Change::Kept } else { Change::Refused };
                lines.push(line(change, reason, None));
                continue;
            }
        };
        let found: Vec<&ToolDefinition> = definitions.iter().filter(|d| d.tool == tool.tool).collect();
        lines.push(match *found {
            [] => line(Change::Refused, Some("its server does not list it".to_owned()), None),
            [one] => {
                if let Err(unfit) = one.may_be_called(accepted.contains(tool)) {
                    lines.push(line(Change::Refused, Some(unfit.to_string()), None));
                    continue;
                }
                after.pin(tool, one.said());
                match before.check(tool, one.said()) {
                    Ok(()) if pins_less.contains(tool.to_string().as_str()) => line(
                        Change::PinsMore,
                        Some("the lock held its name, description and input schema only".to_owned()),
                        None,
                    ),
                    Ok(()) => line(Change::Unchanged, None, None),
                    Err(Drift::Unknown) => line(Change::Added, None, Some(&one.description)),
                    Err(drift) => line(Change::Changed, Some(drift.to_string()), Some(&one.description)),
                }
            }
            _ => line(Change::Refused, Some("its server lists it more than once".to_owned()), None),
        });
    }
    let names: BTreeSet<String> = allowed.iter().map(ToString::to_string).collect();
    let gone = before.names().filter(|name| !names.contains(*name));
    lines.extend(gone.map(|name| Line {
        tool: name.to_owned(),
        change: Change::Removed,
        reason: Some("no card allows it".to_owned()),
        description: None,
    }));
    (after, lines)
}

fn tell(outcome: &Outcome, args: &Lock, env: &Environment) -> anyhow::Result<()> {
    let mut out = anstream::stdout();
    if args.json {
        writeln!(out, "{}", env.json_without_secrets(outcome)?)?;
        return Ok(());
    }
    for line in &outcome.tools {
        let word = match line.change {
            Change::Unchanged => "unchanged",
            Change::Added => "added",
            Change::Changed => "CHANGED",
            Change::PinsMore => "pins more",
            Change::Removed => "removed",
            Change::Kept => "kept as it was",
            Change::Refused => "NOT PINNED",
        };
        let reason = line
            .reason
            .as_deref()
            .map(|r| format!(": {}", inert(&env.without_secrets(r))))
            .unwrap_or_default();
        writeln!(out, "{word:<14} {}{reason}", inert(&line.tool))?;
        if let Some(description) = &line.description {
            writeln!(out, "{:<14} {}", "", inert(&env.without_secrets(description)))?;
        }
    }
    let end = match (outcome.written, args.check) {
        (true, _) => "tools.lock is written. Read what is new in it, then commit it.",
        (false, true) => "Nothing was written (--check).",
        (false, false) => "tools.lock is as it was.",
    };
    writeln!(out, "{end}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(server: &str, tool: &str) -> ToolId {
        ToolId { server: server.into(), tool: tool.into() }
    }

    fn definition(tool: &str, description: &str) -> ToolDefinition {
        ToolDefinition {
            tool: tool.into(),
            description: description.into(),
            input_schema: json!({"type": "object"}),
            read_only_hint: None,
            destructive_hint: (tool == "delete").then_some(true),
            more: serde_json::Map::new(),
            unusable: None,
        }
    }

    #[test]
    fn each_tool_is_pinned_kept_or_refused_and_what_happened_is_told() {
        let mut before = ToolsLock::default();
        for (tool, description) in [("same", "s"), ("other", "old"), ("gone", "g")] {
            before.pin(&id("k8s", tool), definition(tool, description).said());
        }
        before.pin(&id("down", "known"), definition("known", "k").said());
        let all =
            ["same", "other", "new", "twice", "delete", "missing", "writes"].map(|tool| id("k8s", tool));
        let down = [id("down", "known"), id("down", "unknown")];
        let allowed: BTreeSet<ToolId> = all.into_iter().chain(down).collect();
        let listed = [
            definition("same", "s"),
            definition("other", "new words"),
            definition("new", "n"),
            definition("twice", "t"),
            definition("twice", "t"),
            definition("delete", "d"),
            ToolDefinition { read_only_hint: Some(false), ..definition("writes", "w") },
        ];
        let listed: Listed = [
            ("k8s".to_owned(), Ok(listed.to_vec())),
            ("down".to_owned(), Err("the MCP server down cannot be reached".to_owned())),
        ]
        .into();
        let (path, accepted) = (PathBuf::new(), BTreeSet::new());
        let mut looked = Looked { path, before, allowed, accepted, listed };
        let (after, lines) = pin(&looked);
        let told: Vec<(&str, Change)> = lines.iter().map(|l| (l.tool.as_str(), l.change)).collect();
        assert_eq!(
            told,
            [
                ("down.known", Change::Kept),
                ("down.unknown", Change::Refused),
                ("k8s.delete", Change::Refused),
                ("k8s.missing", Change::Refused),
                ("k8s.new", Change::Added),
                ("k8s.other", Change::Changed),
                ("k8s.same", Change::Unchanged),
                ("k8s.twice", Change::Refused),
                ("k8s.writes", Change::Refused),
                ("k8s.gone", Change::Removed),
            ]
        );
        assert_eq!(after.names().collect::<Vec<_>>(), ["down.known", "k8s.new", "k8s.other", "k8s.same"]);
        assert_eq!(after.check(&id("k8s", "other"), definition("other", "new words").said()), Ok(()));
        looked.accepted.insert(id("k8s", "writes"));
        assert!(pin(&looked).0.holds(&id("k8s", "writes")), "a card takes it");
    }
}
