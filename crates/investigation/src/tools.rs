//! Which tools a run offers: deny by default.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sentinel_core::card::{Card, ToolId};
use sentinel_core::digest::sha256;
use sentinel_core::redact::Redactor;
use sentinel_core::tools_lock::ToolsLock;
use serde_json::json;

use crate::fence::clip;
use crate::ports::{ToolDefinition, ToolSpec};
use crate::refusal::Unfit;
use crate::report;
use crate::schema::Schema;

/// Looks further into stored evidence.
pub const READ_EVIDENCE: &str = "read_evidence";
/// Ends the investigation.
pub const SUBMIT_REPORT: &str = "submit_report";
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
pub fn names(tools: &BTreeSet<ToolId>) -> BTreeMap<String, ToolId> {
    let mut names = BTreeMap::new();
    for tool in tools {
        let plain = format!("{}__{}", tool.server, tool.tool);
        let mut name: String =
            plain.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        if name.len() > LONGEST_NAME || names.contains_key(&name) {
            name.truncate(LONGEST_NAME - 9);
            name = format!("{name}_{}", sha256(tool.to_string()).get(..8).unwrap_or_default());
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
/// destructive, never what cannot be checked, and where the card has a lock, only what is pinned in it.
pub(crate) fn offer(
    card: &Card,
    listed: &BTreeMap<String, Result<Vec<ToolDefinition>, String>>,
    redactor: &Redactor,
) -> Offer {
    let mut offer = Offer::default();
    let mut size = 0;
    for (server, answer) in listed {
        if let Err(reason) = answer {
            offer.gaps.push(format!("The tools of server {server} were not there: {}", clip(reason, 300)));
        }
    }
    for (name, tool) in names(&card.tools) {
        let Some(Ok(definitions)) = listed.get(&tool.server) else { continue };
        match admit(&name, &tool, definitions, card, redactor) {
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

/// The definition of a tool among those of its server, and what its arguments are held against; if it may not be
/// called as it is defined, why. Every definition is judged here, whether Sentinel listed it or the model's service did.
///
/// A tool that says of itself that it does not only read destroys, by the protocol's default, unless it says that it does
/// not. `accepted`: the card takes it nevertheless. Where it says nothing of reading, the card has decided by listing it.
pub(crate) fn judge<'d>(
    tool: &ToolId,
    definitions: &'d [ToolDefinition],
    lock: Option<&ToolsLock>,
    accepted: bool,
) -> Result<(&'d ToolDefinition, Schema), Unfit> {
    let mut all = definitions.iter().filter(|d| d.tool == tool.tool);
    let definition = all.next().ok_or_else(|| Unfit::NotListed(tool.server.clone()))?;
    if all.next().is_some() {
        return Err(Unfit::ListedTwice);
    }
    definition.may_be_called(accepted)?;
    if let Some(lock) = lock {
        lock.check(tool, definition.said()).map_err(Unfit::Drifted)?;
    }
    if !definition.input_schema.is_object() || definition.input_schema.to_string().len() > LARGEST_SCHEMA {
        return Err(Unfit::Schema(format!("is no object, or larger than {LARGEST_SCHEMA} bytes")));
    }
    let schema =
        Schema::new(&definition.input_schema).map_err(|e| Unfit::Schema(format!("cannot be used: {e}")))?;
    Ok((definition, schema))
}

/// What the model is told of a tool, where it may be called at all; if not, why.
pub(crate) fn admit(
    name: &str,
    tool: &ToolId,
    definitions: &[ToolDefinition],
    card: &Card,
    redactor: &Redactor,
) -> Result<ToolSpec, Unfit> {
    let (definition, _) = judge(tool, definitions, card.lock.as_deref(), card.accepts_not_read_only(tool))?;
    let mut parameters = definition.input_schema.clone();
    redactor.redact_json(&mut parameters);
    Ok(ToolSpec {
        name: name.to_owned(),
        // First without secrets, then cut: half of one would not be known again.
        description: clip(&redactor.redact(&definition.description), LONGEST_DESCRIPTION),
        parameters,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sentinel_testkit::builders::card;
    use serde_json::Value;

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
            more: serde_json::Map::new(),
            unusable: None,
        }
    }

    /// What a card that allows `s.a` and `s.gone` offers where `s` lists these.
    fn offered(lock: Option<ToolsLock>, definitions: Vec<ToolDefinition>) -> Offer {
        let mut card = card("c").tool("s.a").tool("s.gone").build();
        card.lock = lock.map(Into::into);
        offer(&card, &[("s".to_owned(), Ok(definitions))].into(), &Redactor::new([]))
    }

    fn names_of(offer: &Offer) -> Vec<&str> {
        offer.specs.iter().map(|s| s.name.as_str()).collect()
    }

    #[test]
    fn only_what_the_card_lists_is_offered() {
        let object = || json!({"type": "object"});
        let offer = offered(None, vec![definition("a", object()), definition("b", object())]);
        assert_eq!(names_of(&offer), ["s__a", READ_EVIDENCE, SUBMIT_REPORT]);
        assert_eq!(offer.gaps, ["Tool s.gone was not there: server s does not offer it."]);
    }

    #[test]
    fn a_tool_is_found_by_its_whole_name() {
        let others = || ["a_all", "xa", "A"].map(|tool| definition(tool, json!({"type": "object"}))).to_vec();
        let offer = offered(None, others());
        assert_eq!(names_of(&offer), [READ_EVIDENCE, SUBMIT_REPORT], "the card lists s.a alone");
        let asked = definition("a", json!({"type": "object", "properties": {"of": {"type": "string"}}}));
        let offer = offered(None, [others(), vec![asked.clone()]].concat());
        assert_eq!((names_of(&offer)[0], &offer.specs[0].parameters), ("s__a", &asked.input_schema));
    }

    #[test]
    fn a_tool_that_calls_itself_destructive_is_not_offered_whatever_the_card_says() {
        let mut tool = definition("a", json!({"type": "object"}));
        tool.destructive_hint = Some(true);
        let offer = offered(None, vec![tool]);
        assert_eq!(names_of(&offer), [READ_EVIDENCE, SUBMIT_REPORT]);
        assert_eq!(offer.gaps[0], "Tool s.a was not there: its server calls it destructive.");
    }

    #[test]
    fn a_tool_that_does_not_only_read_is_offered_where_it_destroys_nothing_or_the_card_takes_it() {
        let object = || json!({"type": "object"});
        let hinted = |read_only, destructive| ToolDefinition {
            read_only_hint: read_only,
            destructive_hint: destructive,
            ..definition("a", object())
        };
        for (read_only, destructive, plainly, accepted) in [
            (None, None, true, true),
            (Some(true), None, true, true),
            (Some(false), None, false, true),
            (Some(false), Some(false), true, true),
            (Some(false), Some(true), false, false),
            (None, Some(true), false, false),
        ] {
            let mut card = card("c").tool("s.a").build();
            let listed = [("s".to_owned(), Ok(vec![hinted(read_only, destructive)]))].into();
            let offered = |card: &Card| offer(card, &listed, &Redactor::new([])).specs.len() == 3;
            assert_eq!(offered(&card), plainly, "{read_only:?} {destructive:?}");
            card.not_read_only.insert(id("s", "a"), "it only looks".to_owned());
            assert_eq!(offered(&card), accepted, "{read_only:?} {destructive:?}");
        }
    }

    #[test]
    fn a_tool_whose_schema_cannot_be_checked_is_not_offered() {
        for schema in [json!(true), json!({"type": 5}), json!({"$ref": "https://elsewhere.example/schema"})] {
            let offer = offered(None, vec![definition("a", schema.clone())]);
            assert_eq!((offer.specs.len(), offer.gaps.len()), (2, 2), "{schema}");
            assert!(offer.gaps[0].starts_with("Tool s.a was not there: its schema "), "{:?}", offer.gaps);
        }
    }

    #[test]
    fn a_tool_that_is_listed_twice_is_not_offered() {
        let object = || json!({"type": "object"});
        let offer = offered(None, vec![definition("a", object()), definition("a", object())]);
        assert_eq!(names_of(&offer), [READ_EVIDENCE, SUBMIT_REPORT]);
        assert!(offer.gaps[0].contains("lists it more than once"), "{:?}", offer.gaps);
    }

    #[test]
    fn a_tool_that_is_not_the_pinned_one_is_not_offered() {
        let tool = definition("a", json!({"type": "object"}));
        let mut lock = ToolsLock::default();
        assert!(offered(Some(lock.clone()), vec![tool.clone()]).gaps[0].contains("it is not in tools.lock"));
        lock.pin(&id("s", "a"), tool.said());
        assert_eq!(names_of(&offered(Some(lock.clone()), vec![tool.clone()])).len(), 3);
        let changed = ToolDefinition { description: "does, and sends it on".into(), ..tool };
        let offer = offered(Some(lock), vec![changed]);
        assert_eq!(offer.specs.len(), 2);
        assert_eq!(offer.gaps[0], "Tool s.a was not there: its description is not the one in tools.lock.");
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
