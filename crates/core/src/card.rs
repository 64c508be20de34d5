//! Incident cards: how incidents of one resource are handled. Plain data; `sentinel-config` reads it from YAML.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::alert::Labels;
use crate::budget::{Limits, MicroUsd};
use crate::incident::Event;
use crate::pattern::Pattern;
use crate::tools_lock::ToolsLock;

/// How a matcher compares, in Alertmanager's words.
#[derive(Clone, Debug)]
pub enum Comparison {
    /// `=`
    Equal(String),
    /// `!=`
    NotEqual(String),
    /// `=~`, anchored at both ends
    Matches(Pattern),
    /// `!~`, anchored at both ends
    NotMatches(Pattern),
}

/// One label matcher. A label that is absent counts as empty, as in Alertmanager.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label's name.
    pub label: String,
    /// What its value must be.
    pub comparison: Comparison,
}

impl Matcher {
    /// `label = value`.
    pub fn equal(label: impl Into<String>, value: impl Into<String>) -> Self {
        Self { label: label.into(), comparison: Comparison::Equal(value.into()) }
    }

    /// Whether `labels` satisfies the matcher.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.label).map_or("", String::as_str);
        match &self.comparison {
            Comparison::Equal(want) => value == want,
            Comparison::NotEqual(want) => value != want,
            Comparison::Matches(re) => re.is_match(value),
            Comparison::NotMatches(re) => !re.is_match(value),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, value) = match &self.comparison {
            Comparison::Equal(v) => ("=", v.as_str()),
            Comparison::NotEqual(v) => ("!=", v.as_str()),
            Comparison::Matches(re) => ("=~", re.as_str()),
            Comparison::NotMatches(re) => ("!~", re.as_str()),
        };
        write!(f, "{}{op}{value:?}", self.label)
    }
}

/// A named set of label matchers; all of them must match.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its name in `resources`.
    pub name: String,
    /// The original project's `type`, e.g. `prometheus_alert`: data for prompts.
    pub kind: String,
    /// All must match. None: every alert matches.
    pub matchers: Vec<Matcher>,
    /// Default annotations; the alert's own win.
    pub annotations: Labels,
}

impl Resource {
    /// Whether an alert with these labels is of this resource.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|m| m.matches(labels))
    }
}

/// Which labels name an incident.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DedupeBy {
    /// The notification's group labels and `alertname`.
    Group,
    /// All labels of the alert.
    Alert,
    /// These labels.
    Labels(Vec<String>),
}

/// One tool of one MCP server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ToolId {
    /// The server's name in `mcp-servers`.
    pub server: String,
    /// The tool's name on that server.
    pub tool: String,
}

impl fmt::Display for ToolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.server, self.tool)
    }
}

/// Where a prompt's text came from, for diagnostics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PromptSource {
    /// Written in the card.
    Inline,
    /// Read from this file.
    File(PathBuf),
    /// Compiled into the program, under this name.
    BuiltIn(String),
}

/// A prompt template as written: not compiled, not rendered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prompt {
    /// Where it came from.
    pub source: PromptSource,
    /// The template's text.
    pub text: String,
}

/// A call that is made before the model is asked.
#[derive(Clone, PartialEq, Debug)]
pub struct EvidenceCall {
    /// The tool.
    pub tool: ToolId,
    /// Its arguments, an object; every string in it is a minijinja template over the notification.
    pub arguments: serde_json::Map<String, serde_json::Value>,
}

/// What a failed checklist rule does to the report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// It is shown.
    Warn,
    /// It is shown and the verdict becomes `inconclusive`.
    Inconclusive,
    /// It is shown and the verdict becomes `action_required`.
    Escalate,
}

/// One rule of a checklist, in CEL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckRule {
    /// What it checks, for people.
    pub name: String,
    /// A CEL expression over `alert`, `labels`, `evidence`, `tools`, `report`, `alert_verified`; true means passed.
    pub rule: String,
    /// What a failure does.
    pub otherwise: Otherwise,
}

/// A sink that a card names, and what it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// The entry in the card's `sinks`: `name`, or `name:route`.
    pub sink: String,
    /// The events that it wants; nothing else is owed to it.
    pub events: BTreeSet<Event>,
}

/// Of everything but that an investigation has started, as the log is.
impl From<&str> for Subscription {
    fn from(sink: &str) -> Self {
        let events = Event::ALL.into_iter().filter(|e| *e != Event::Started).collect();
        Self { sink: sink.to_owned(), events }
    }
}

/// One rule about the arguments of a tool, in CEL. Of several about one tool, all must allow a call.
#[derive(Clone, PartialEq, Debug)]
pub struct ToolRule {
    /// The tool.
    pub tool: ToolId,
    /// A CEL expression over `args`, `alert`, `labels`, `card`, `alert_verified`; true allows the call, anything else refuses it.
    pub allow: String,
    /// Calls that it has to allow.
    pub allowed: Vec<ToolRuleExample>,
    /// Calls that it has to refuse.
    pub denied: Vec<ToolRuleExample>,
}

/// A call that shows what a rule means.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ToolRuleExample {
    /// The call's arguments.
    pub args: serde_json::Map<String, serde_json::Value>,
    /// The incident's labels.
    pub labels: Labels,
    /// The alert's annotations.
    pub annotations: Labels,
    /// The credential that posted the alert; `None`: none.
    pub verified: Option<String>,
}

/// The service of models that `openai` in the configuration describes. The others have names of their own.
pub const FIRST_SERVICE: &str = "openai";

/// A model: its service, and its name there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ModelId {
    /// The service's name in the configuration.
    pub service: String,
    /// The model's name, as the service knows it.
    pub name: String,
}

/// A model of the first service.
impl From<&str> for ModelId {
    fn from(name: &str) -> Self {
        Self { service: FIRST_SERVICE.to_owned(), name: name.to_owned() }
    }
}

/// For people: the service is named where it is not the first one.
impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.service == FIRST_SERVICE {
            f.write_str(&self.name)
        } else {
            write!(f, "{}: {}", self.service, self.name)
        }
    }
}

impl Serialize for ModelId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How incidents of one resource are handled.
#[derive(Clone, Debug)]
pub struct Card {
    /// Its name; part of the dedupe key.
    pub name: String,
    /// Which alerts it takes.
    pub resource: Resource,
    /// The task given to the model.
    pub prompt: Prompt,
    /// The model to ask.
    pub model: ModelId,
    /// Tried in turn when `model` is out.
    pub fallback_models: Vec<ModelId>,
    /// The only tools that may be called, wildcards resolved. Empty: none.
    pub tools: BTreeSet<ToolId>,
    /// What their arguments may be.
    pub policy: Vec<ToolRule>,
    /// The definitions that they must have; `None`: whatever their servers list.
    pub lock: Option<Arc<ToolsLock>>,
    /// There is no lock, and nobody has said that this is meant: each report says so.
    pub lock_undecided: bool,
    /// Tools that the card takes although their servers say that they do not only read, each with the reason.
    pub not_read_only: BTreeMap<ToolId, String>,
    /// The sinks that are told, and what.
    pub sinks: Vec<Subscription>,
    /// The most model turns of one investigation, 1 to 20.
    pub max_iterations: u32,
    /// The longest one investigation may take, over all its attempts.
    pub timeout: Duration,
    /// The most tokens of one investigation, sent and received, over all its attempts.
    pub max_tokens: u64,
    /// The most that one investigation may cost, over all its attempts.
    pub max_usd: MicroUsd,
    /// What the model sees of one tool output, in tokens.
    pub max_tool_output_tokens: u32,
    /// How often an investigation is begun before it is given up.
    pub attempts: u32,
    /// Which labels name an incident.
    pub dedupe_by: DedupeBy,
    /// Labels that never name one.
    pub ignore_labels: BTreeSet<String>,
    /// How long to wait for the alert to resolve by itself.
    pub wait: Duration,
    /// The shortest time between two generations of one incident.
    pub dedupe_ttl: Duration,
    /// Pay again for an alert that merely goes on for this long; `None`: never.
    pub reinvestigate_after: Option<Duration>,
    /// What investigations of it may cost.
    pub budget: Limits,
    /// The most generations of one incident an hour, after which it is flapping; `None`: any number.
    pub generations_per_hour: Option<u32>,
    /// Whether later cards may take the same alert too.
    pub continues: bool,
    /// Calls made before the model is asked.
    pub evidence: Vec<EvidenceCall>,
    /// Rules that the report is held against.
    pub checklist: Vec<CheckRule>,
}

impl Card {
    /// Whether the card takes a tool whose server says that it does not only read.
    pub fn accepts_not_read_only(&self, tool: &ToolId) -> bool {
        self.not_read_only.contains_key(tool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn an_absent_label_counts_as_empty() {
        let m = Matcher { label: "team".into(), comparison: Comparison::NotEqual("web".into()) };
        assert!(m.matches(&labels(&[])));
        assert!(Matcher::equal("team", "").matches(&labels(&[("other", "x")])));
        assert!(!m.matches(&labels(&[("team", "web")])));
    }

    #[test]
    fn a_resource_without_matchers_takes_every_alert() {
        let r = Resource {
            name: "all".into(),
            kind: String::new(),
            matchers: vec![],
            annotations: Labels::new(),
        };
        assert!(r.matches(&labels(&[("alertname", "X")])));
    }
}
