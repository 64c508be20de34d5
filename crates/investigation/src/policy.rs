//! Decides about every call: the card's own, the model's, and those that a hosted server wants approved.
//!
//! A call passes two gates. [`Policy::check`] is about its shape: the run offers the tool, and the arguments keep its
//! schema. It depends on nothing but what the run began with, so that a resumed run numbers its evidence alike.
//! [`Policy::decide`] is about now: the card's list, and the card's rules. What it refuses is evidence of its own.

use std::collections::{BTreeMap, BTreeSet};

use sentinel_core::card::{Card, ToolId, ToolRule, ToolRuleExample};
use sentinel_core::redact::Redactor;
use serde_json::{Map, Value, json};

use crate::arguments;
use crate::fence::clip;
use crate::ports::{HostedServer, ToolDefinition, ToolSpec};
use crate::problem::{CompileProblem, Part};
use crate::refusal::{Refusal, Unfit};
use crate::rule::{Facts, Rule};
use crate::schema::Schema;
use crate::situation::Situation;
use crate::tools::{READ_EVIDENCE, SUBMIT_REPORT, admit, judge, names};

/// What a rule may speak of.
const VARIABLES: [&str; 5] = ["args", "alert", "labels", "card", "alert_verified"];
/// The most bytes of arguments that a rule is run over.
const LARGEST_ARGUMENTS: usize = 64 * 1024;

/// The card's compiled rules about arguments.
#[derive(Debug, Default)]
pub(crate) struct ToolRules {
    rules: Vec<(ToolId, String, Rule)>,
}

impl ToolRules {
    /// Compiles the rules, and holds each against its examples.
    pub(crate) fn compile(card: &Card, problems: &mut Vec<CompileProblem>) -> Self {
        let mut compiled = Self::default();
        for (index, rule) in card.policy.iter().enumerate() {
            let Some(program) = Rule::compile(&rule.allow, &VARIABLES, Part::Policy(index), problems) else {
                continue;
            };
            compiled.rules.push((rule.tool.clone(), rule.allow.clone(), program));
            compiled.examples(card, index, rule, problems);
        }
        compiled
    }

    /// All rules about the tool so far count: an example that an earlier rule refuses is not allowed either.
    fn examples(&self, card: &Card, index: usize, rule: &ToolRule, problems: &mut Vec<CompileProblem>) {
        for (n, example) in rule.allowed.iter().enumerate() {
            if let Err(reason) = self.decide(&rule.tool, &example.args, &of_example(card, example)) {
                problems.push(CompileProblem {
                    part: Part::Allowed(index, n),
                    line: None,
                    message: format!("the example has to be allowed, and is not: {reason}"),
                    help: "mend the rule or the example".to_owned(),
                });
            }
        }
        for (n, example) in rule.denied.iter().enumerate() {
            if self.decide(&rule.tool, &example.args, &of_example(card, example)).is_ok() {
                problems.push(CompileProblem {
                    part: Part::Denied(index, n),
                    line: None,
                    message: "the example has to be denied, and the rule allows it".to_owned(),
                    help: "mend the rule or the example".to_owned(),
                });
            }
        }
    }

    /// Whether every rule about the tool allows the call; a rule that errors does not.
    fn decide(
        &self,
        tool: &ToolId,
        arguments: &Map<String, Value>,
        circumstances: &Circumstances,
    ) -> Result<(), String> {
        let mut rules = self.rules.iter().filter(|(about, ..)| about == tool).peekable();
        if rules.peek().is_none() {
            return Ok(());
        }
        let args = Value::Object(arguments.clone());
        if args.to_string().len() > LARGEST_ARGUMENTS {
            return Err(format!("its arguments are larger than {} KB", LARGEST_ARGUMENTS >> 10));
        }
        let Circumstances { alert, labels, card, verified } = circumstances;
        let facts = Facts::new(VARIABLES.into_iter().zip([&args, alert, labels, card, verified]))?;
        for (_, text, rule) in rules {
            let text = clip(&text.split_whitespace().collect::<Vec<_>>().join(" "), 200);
            match rule.holds(&facts) {
                Ok(true) => {}
                Ok(false) => return Err(format!("the card's policy does not allow it: {text}")),
                Err(reason) => {
                    return Err(format!("the card's policy could not be applied: {text}: {reason}"));
                }
            }
        }
        Ok(())
    }
}

/// What rules know besides the arguments.
#[derive(Debug)]
struct Circumstances {
    alert: Value,
    labels: Value,
    card: Value,
    verified: Value,
}

impl Circumstances {
    fn of(situation: &Situation, card: &Card) -> Self {
        Self {
            alert: situation.alert_json(),
            labels: json!(situation.labels()),
            card: of_card(card),
            verified: json!(situation.verified),
        }
    }
}

fn of_card(card: &Card) -> Value {
    json!({"name": card.name, "resource": card.resource.name})
}

fn of_example(card: &Card, example: &ToolRuleExample) -> Circumstances {
    let ToolRuleExample { labels, annotations, verified, .. } = example;
    Circumstances {
        verified: json!(verified.as_deref().unwrap_or("none")),
        alert: json!({"status": "firing", "labels": labels, "annotations": annotations}),
        labels: json!(labels),
        card: of_card(card),
    }
}

/// A tool that the run offers.
#[derive(Debug)]
struct Offered {
    tool: ToolId,
    spec: ToolSpec,
    schema: Schema,
}

/// Decides about every call of a run.
#[derive(Debug)]
pub(crate) struct Policy<'a> {
    card: &'a Card,
    rules: &'a ToolRules,
    circumstances: Circumstances,
    offered: BTreeMap<String, Offered>,
    /// The tools that the model's service may call, each time with this policy's leave.
    hosted: BTreeSet<ToolId>,
}

impl<'a> Policy<'a> {
    /// The policy of a card, for a run that offers those of `specs` that are tools of `allowed`.
    pub(crate) fn new(
        card: &'a Card,
        rules: &'a ToolRules,
        situation: &Situation,
        allowed: &BTreeSet<ToolId>,
        specs: &[ToolSpec],
    ) -> Self {
        let names = names(allowed);
        let offered = specs.iter().filter_map(|spec| {
            let tool = names.get(&spec.name)?.clone();
            let schema = Schema::new(&spec.parameters).ok()?;
            Some((spec.name.clone(), Offered { tool, spec: spec.clone(), schema }))
        });
        Self {
            card,
            rules,
            circumstances: Circumstances::of(situation, card),
            offered: offered.collect(),
            hosted: BTreeSet::new(),
        }
    }

    /// The same, with the tools of servers that the model's service calls.
    pub(crate) fn with_hosted(self, servers: &[HostedServer]) -> Self {
        let tools = |of: &HostedServer| {
            let id = |tool: &String| ToolId { server: of.server.clone(), tool: tool.clone() };
            of.tools.iter().map(id).collect::<Vec<_>>()
        };
        Self { hosted: servers.iter().flat_map(tools).collect(), ..self }
    }

    /// The tools that the model's service may call.
    pub(crate) fn hosted(&self) -> impl Iterator<Item = &ToolId> {
        self.hosted.iter()
    }

    /// The tools that the run offers as functions: those that Sentinel calls itself.
    pub(crate) fn offered(&self) -> impl Iterator<Item = &ToolId> {
        self.offered.values().map(|offered| &offered.tool)
    }

    /// Whether the model's call is one that the run offers; if not, what to tell the model.
    pub(crate) fn check(&self, name: &str, arguments: &str) -> Result<(ToolId, Map<String, Value>), Refusal> {
        let Some(offered) = self.offered.get(name) else {
            let known = self.offered.keys().map(String::as_str).chain([READ_EVIDENCE, SUBMIT_REPORT]);
            let known = known.map(str::to_owned).collect();
            return Err(Refusal::NotOffered { name: clip(name, 80), known });
        };
        let arguments = shaped(name, &offered.schema, arguments)?;
        Ok((offered.tool.clone(), arguments))
    }

    /// Whether a tool of a hosted server may be used as its server shows it; gives what arguments are held against.
    pub(crate) fn judge(&self, tool: &ToolId, shown: &[ToolDefinition]) -> Result<Schema, Unfit> {
        judge(tool, shown, self.card.lock.as_deref(), self.card.accepts_not_read_only(tool))
            .map(|(_, schema)| schema)
    }

    /// Whether a hosted call is one that the run offers; if not, what to tell the model. `judged` is what became of the
    /// tool's definition; `None`: its server never showed one.
    pub(crate) fn check_hosted(
        &self,
        tool: &ToolId,
        judged: Option<&Result<Schema, Unfit>>,
        arguments: &str,
    ) -> Result<Map<String, Value>, Refusal> {
        let name = tool.to_string();
        if !self.hosted.contains(tool) {
            let known = self.hosted.iter().map(ToString::to_string).collect();
            return Err(Refusal::NotOffered { name: clip(&name, 80), known });
        }
        match judged {
            Some(Ok(schema)) => shaped(&name, schema, arguments),
            Some(Err(unfit)) => Err(Refusal::UnfitHosted { tool: tool.clone(), unfit: unfit.clone() }),
            None => Err(Refusal::NeverListed(tool.clone())),
        }
    }

    /// Whether a call whose shape is right may leave now; if not, why, for the model and the record.
    pub(crate) fn decide(&self, tool: &ToolId, arguments: &Map<String, Value>) -> Result<(), Refusal> {
        self.decide_in(tool, arguments, &self.circumstances)
    }

    fn decide_in(
        &self,
        tool: &ToolId,
        arguments: &Map<String, Value>,
        circumstances: &Circumstances,
    ) -> Result<(), Refusal> {
        if !self.card.tools.contains(tool) {
            return Err(Refusal::NotOnCard(tool.clone()));
        }
        self.rules
            .decide(tool, arguments, circumstances)
            .map_err(|why| Refusal::Policy { tool: tool.clone(), why })
    }

    /// Both gates for one of the card's own calls, which is made of these alerts.
    pub(crate) fn check_own(
        &self,
        tool: &ToolId,
        arguments: &Map<String, Value>,
        of: &Situation,
    ) -> Result<(), Refusal> {
        let Some(offered) = self.offered.values().find(|offered| offered.tool == *tool) else {
            return Err(Refusal::NotThere(tool.clone()));
        };
        let problems = offered.schema.problems(&Value::Object(arguments.clone()), "the arguments");
        if !problems.is_empty() {
            return Err(Refusal::OwnBreaksSchema { tool: tool.clone(), problems });
        }
        self.decide_in(tool, arguments, &Circumstances::of(of, self.card))
    }

    /// Whether a tool is still what the run offered, now that its server lists these definitions; if not, why.
    pub(crate) fn unchanged(
        &self,
        tool: &ToolId,
        definitions: &[ToolDefinition],
        redactor: &Redactor,
    ) -> Result<(), Refusal> {
        let Some(offered) = self.offered.values().find(|offered| offered.tool == *tool) else {
            return Err(Refusal::NotThere(tool.clone()));
        };
        let unfit = |unfit| Refusal::Unfit { tool: tool.clone(), unfit };
        let now = admit(&offered.spec.name, tool, definitions, self.card, redactor).map_err(unfit)?;
        if now == offered.spec { Ok(()) } else { Err(unfit(Unfit::ChangedSince)) }
    }
}

/// The arguments of a call, where they are an object that keeps the tool's schema; if not, what to tell the model.
pub(crate) fn shaped(name: &str, schema: &Schema, written: &str) -> Result<Map<String, Value>, Refusal> {
    let value = Value::Object(arguments::object(name, written)?);
    let problems = schema.problems(&value, "the arguments");
    match value {
        Value::Object(map) if problems.is_empty() => Ok(map),
        _ => Err(Refusal::BreaksSchema { name: name.to_owned(), problems }),
    }
}

#[cfg(test)]
mod tests;
