//! Which tools may be called: deny by default.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jsonschema::Validator;
use sentinel_core::card::ToolId;
use serde_json::{Map, Value, json};

use crate::fence::{clip, sha256};
use crate::ports::{ToolDefinition, ToolSpec};
use crate::report;
use crate::schema::{problems, validator};

/// Looks further into stored evidence.
pub(crate) const READ_EVIDENCE: &str = "read_evidence";
/// Ends the investigation.
pub(crate) const SUBMIT_REPORT: &str = "submit_report";
/// The longest function name that models take.
const LONGEST_NAME: usize = 64;
/// A schema larger than this crowds everything else out of a request.
const LARGEST_SCHEMA: usize = 16 * 1024;
/// All descriptions and schemas together: they are stored with the first turn, in an item of at most 400 KB.
const LARGEST_LIST: usize = 96 * 1024;
/// The longest description of a tool, in characters.
const LONGEST_DESCRIPTION: usize = 1024;
/// The longest that all servers together may take to name their tools.
pub(crate) const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// What the model calls each tool of a card. Depends on nothing but the card, so it is the same on every attempt.
pub(crate) fn names(tools: &BTreeSet<ToolId>) -> BTreeMap<String, ToolId> {
    let mut names = BTreeMap::new();
    for tool in tools {
        let plain = format!("{}__{}", tool.server, tool.tool);
        let mut name: String =
            plain.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        if name.len() > LONGEST_NAME || names.contains_key(&name) {
            name.truncate(LONGEST_NAME - 9);
            name = format!("{name}_{}", sha256(&tool.to_string()).get(..8).unwrap_or_default());
        }
        names.insert(name, tool.clone());
    }
    names
}

/// The functions of a run and what could not be among them.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Offer {
    pub(crate) specs: Vec<ToolSpec>,
    pub(crate) gaps: Vec<String>,
}

/// Makes the functions of a run from what the servers list: only what the card allows, never what calls itself
/// destructive, never what cannot be checked.
pub(crate) fn offer(
    tools: &BTreeSet<ToolId>,
    listed: &BTreeMap<String, Result<Vec<ToolDefinition>, String>>,
) -> Offer {
    let mut offer = Offer::default();
    let mut size = 0;
    for (server, answer) in listed {
        if let Err(reason) = answer {
            offer.gaps.push(format!("The tools of server {server} were not there: {}", clip(reason, 300)));
        }
    }
    for (name, tool) in names(tools) {
        let Some(Ok(definitions)) = listed.get(&tool.server) else { continue };
        match admit(&name, &tool, definitions) {
            Ok(spec) => {
                size += spec.description.len() + spec.parameters.to_string().len();
                if size > LARGEST_LIST {
                    offer.gaps.push(format!("Tool {tool} was left out: the list of tools is too long."));
                } else {
                    offer.specs.push(spec);
                }
            }
            Err(reason) => offer.gaps.push(format!("Tool {tool} was not there: {reason}.")),
        }
    }
    offer.specs.push(ToolSpec {
        name: READ_EVIDENCE.to_owned(),
        description: "Looks further into evidence that is held already: lines of it, or the places that match a \
                      regular expression. Nothing is called and no new evidence arises."
            .to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {
                "id": {"type": "string", "description": "Which evidence, e.g. E1."},
                "pattern": {"type": ["string", "null"], "description": "A regular expression, case-insensitive."},
                "lines": {"type": ["string", "null"], "description": "A range of lines, e.g. 10-40."}
            },
            "required": ["id", "pattern", "lines"],
            "additionalProperties": false
        }),
    });
    offer.specs.push(ToolSpec {
        name: SUBMIT_REPORT.to_owned(),
        description:
            "Ends the investigation with its report. Code checks that each quote stands in the evidence \
                      that it cites."
                .to_owned(),
        parameters: report::schema(),
    });
    offer
}

fn admit(name: &str, tool: &ToolId, definitions: &[ToolDefinition]) -> Result<ToolSpec, String> {
    let definition = definitions
        .iter()
        .find(|d| d.tool == tool.tool)
        .ok_or_else(|| format!("server {} does not offer it", tool.server))?;
    if definition.destructive_hint == Some(true) {
        return Err("its server calls it destructive".to_owned());
    }
    if !definition.input_schema.is_object() || definition.input_schema.to_string().len() > LARGEST_SCHEMA {
        return Err(format!("its schema is no object, or larger than {LARGEST_SCHEMA} bytes"));
    }
    validator(&definition.input_schema).map_err(|e| format!("its schema cannot be used: {e}"))?;
    Ok(ToolSpec {
        name: name.to_owned(),
        description: clip(&definition.description, LONGEST_DESCRIPTION),
        parameters: definition.input_schema.clone(),
    })
}

/// Decides about every call of a run.
#[derive(Debug)]
pub(crate) struct Policy {
    tools: BTreeMap<String, (ToolId, Validator)>,
}

impl Policy {
    /// What both the card allows now and the run's list of functions holds.
    pub(crate) fn new(allowed: &BTreeSet<ToolId>, specs: &[ToolSpec]) -> Self {
        let names = names(allowed);
        let tools = specs
            .iter()
            .filter_map(|spec| {
                let tool = names.get(&spec.name)?.clone();
                Some((spec.name.clone(), (tool, validator(&spec.parameters).ok()?)))
            })
            .collect();
        Self { tools }
    }

    /// The tools that may be called.
    pub(crate) fn allowed(&self) -> impl Iterator<Item = &ToolId> {
        self.tools.values().map(|(tool, _)| tool)
    }

    /// Whether the model's call may leave; if not, what to tell the model.
    pub(crate) fn check(&self, name: &str, arguments: &str) -> Result<(ToolId, Map<String, Value>), String> {
        let Some((tool, validator)) = self.tools.get(name) else {
            let mut known: Vec<&str> = self.tools.keys().map(String::as_str).collect();
            known.extend([READ_EVIDENCE, SUBMIT_REPORT]);
            return Err(format!(
                "Error: {:?} is not allowed here and was not called. Allowed are: {}.",
                clip(name, 80),
                known.join(", ")
            ));
        };
        // A model that has nothing to say about arguments often says nothing.
        let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
        let value: Value = serde_json::from_str(arguments)
            .map_err(|e| format!("Error: the arguments of {name} are not JSON and it was not called: {e}"))?;
        let Value::Object(map) = value else {
            return Err(format!("Error: the arguments of {name} are not an object and it was not called."));
        };
        let value = Value::Object(map);
        let problems = problems(validator, &value);
        match value {
            Value::Object(map) if problems.is_empty() => Ok((tool.clone(), map)),
            _ => Err(format!(
                "Error: the arguments of {name} break its schema and it was not called: {}",
                problems.join("; ")
            )),
        }
    }

    /// Whether one of the card's own calls may leave; if not, why.
    pub(crate) fn check_own(&self, tool: &ToolId, arguments: &Map<String, Value>) -> Result<(), String> {
        let Some((_, validator)) = self.tools.values().find(|(id, _)| id == tool) else {
            return Err(format!(
                "{tool} was not called: the card does not allow it, or its server does not offer it"
            ));
        };
        let problems = problems(validator, &Value::Object(arguments.clone()));
        if problems.is_empty() {
            Ok(())
        } else {
            Err(format!("{tool} was not called: its arguments break its schema: {}", problems.join("; ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(server: &str, tool: &str) -> ToolId {
        ToolId { server: server.into(), tool: tool.into() }
    }

    fn definition(tool: &str, schema: Value) -> ToolDefinition {
        ToolDefinition {
            tool: tool.into(),
            description: "does".into(),
            input_schema: schema,
            read_only_hint: Some(true),
            destructive_hint: None,
        }
    }

    fn listed(definitions: Vec<ToolDefinition>) -> BTreeMap<String, Result<Vec<ToolDefinition>, String>> {
        [("s".to_owned(), Ok(definitions))].into()
    }

    #[test]
    fn only_what_the_card_lists_is_offered() {
        let all = listed(vec![
            definition("a", json!({"type": "object"})),
            definition("b", json!({"type": "object"})),
        ]);
        let offer = offer(&[id("s", "a"), id("s", "gone")].into(), &all);
        let names: Vec<&str> = offer.specs.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["s__a", READ_EVIDENCE, SUBMIT_REPORT]);
        assert_eq!(offer.gaps, ["Tool s.gone was not there: server s does not offer it."]);
    }

    #[test]
    fn a_tool_that_calls_itself_destructive_is_refused_whatever_the_card_says() {
        let mut tool = definition("a", json!({"type": "object"}));
        tool.destructive_hint = Some(true);
        let offer = offer(&[id("s", "a")].into(), &listed(vec![tool]));
        assert_eq!(offer.specs.len(), 2);
        let policy = Policy::new(&[id("s", "a")].into(), &offer.specs);
        assert!(policy.check("s__a", "{}").is_err());
        assert!(policy.check_own(&id("s", "a"), &Map::new()).is_err());
    }

    #[test]
    fn a_tool_whose_schema_cannot_be_checked_is_refused() {
        for schema in [json!(true), json!({"type": 5}), json!({"$ref": "https://elsewhere.example/schema"})] {
            let offer = offer(&[id("s", "a")].into(), &listed(vec![definition("a", schema.clone())]));
            assert_eq!((offer.specs.len(), offer.gaps.len()), (2, 1), "{schema}");
        }
    }

    #[test]
    fn arguments_have_to_be_a_json_object_that_keeps_the_schema() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let allowed = [id("s", "a")].into();
        let policy = Policy::new(&allowed, &offer(&allowed, &listed(vec![definition("a", schema)])).specs);
        assert!(policy.check("s__a", r#"{"n":1}"#).is_ok());
        for (arguments, want) in [
            ("{", "not JSON"),
            ("[1]", "not an object"),
            ("", "\"n\" is a required"),
            (r#"{"n":"x"}"#, "/n: "),
        ] {
            let error = policy.check("s__a", arguments).unwrap_err();
            assert!(error.contains(want) && error.contains("not called"), "{error}");
        }
    }

    #[test]
    fn a_tool_that_the_card_no_longer_lists_is_refused_although_the_run_offered_it() {
        let before = [id("s", "a"), id("s", "b")].into();
        let all = listed(vec![
            definition("a", json!({"type": "object"})),
            definition("b", json!({"type": "object"})),
        ]);
        let policy = Policy::new(&[id("s", "a")].into(), &offer(&before, &all).specs);
        assert!(policy.check("s__b", "{}").unwrap_err().contains("Allowed are: s__a, read_evidence"));
    }

    #[test]
    fn two_tools_never_share_a_name() {
        let tools = [id("a", "b__c"), id("a__b", "c"), id("a", "b_.c"), id("a", "b._c")].into();
        assert_eq!(names(&tools).len(), 4);
    }

    proptest! {
        #[test]
        fn names_are_short_plain_and_one_for_each_tool(
            parts in prop::collection::btree_set(("[a-z._/é-]{1,50}", "[a-z._/é-]{1,50}"), 1..12)
        ) {
            let tools: BTreeSet<ToolId> = parts.iter().map(|(s, t)| id(s, t)).collect();
            let names = names(&tools);
            prop_assert_eq!(names.len(), tools.len());
            for name in names.keys() {
                prop_assert!(name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)));
            }
        }
    }
}
