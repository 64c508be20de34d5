//! A card's `policy`: rules about the arguments of tools, with their examples.

use std::collections::BTreeSet;

use sentinel_core::card::{ToolId, ToolRule, ToolRuleExample};

use super::cards::one_tool;
use super::{json, labels};
use crate::diagnostic::Place;
use crate::reader::{Keys, MAP, Reader, Section, shown};
use crate::settings::Server;

pub(super) const RULE: Keys = &[("tool", &[]), ("allow", &[]), ("allowed", &[]), ("denied", &[])];
pub(super) const EXAMPLE: Keys =
    &[("args", &["arguments"]), ("labels", &[]), ("annotations", &[]), ("alert-verified", &[])];

/// Where the parts of a rule stand that are compiled and checked later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyPlaces {
    /// The rule's `allow`.
    pub allow: Place,
    /// Its examples of what has to be allowed.
    pub allowed: Vec<Place>,
    /// Its examples of what has to be denied.
    pub denied: Vec<Place>,
}

pub(super) fn policy(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    servers: &[Server],
    tools: &BTreeSet<ToolId>,
) -> (Vec<ToolRule>, Vec<PolicyPlaces>) {
    const ALLOW: &str = "write a CEL expression such as args.namespace == labels.namespace";
    let (mut rules, mut places) = (vec![], vec![]);
    for field in r.items(s, "policy") {
        let rule = r.section(&field, RULE);
        let tool = one_tool(r, &rule, servers);
        if let (Some(tool), Some(f)) = (&tool, rule.get("tool"))
            && !tools.contains(tool)
        {
            let message = format!(
                "the card does not allow {}, so the rule is never asked",
                shown(&f, &tool.to_string())
            );
            r.warn(&f, message, "add it to the card's `tools`, or remove the rule");
        }
        let allow = r.required_text(&rule, "allow", ALLOW);
        let (allowed, allowed_places) = examples(r, &rule, "allowed");
        let (denied, denied_places) = examples(r, &rule, "denied");
        let Some((tool, allow)) = tool.zip(allow) else { continue };
        places.push(PolicyPlaces {
            allow: rule.get("allow").map_or_else(|| r.place(&field), |f| r.place(&f)),
            allowed: allowed_places,
            denied: denied_places,
        });
        rules.push(ToolRule { tool, allow, allowed, denied });
    }
    (rules, places)
}

fn examples(r: &mut Reader<'_>, rule: &Section<'_>, key: &str) -> (Vec<ToolRuleExample>, Vec<Place>) {
    let items = r.items(rule, key);
    items
        .iter()
        .map(|field| {
            let s = r.section(field, EXAMPLE);
            let args = match s.get("args").map(|f| (json(r, &f), f)) {
                None => serde_json::Map::new(),
                Some((serde_json::Value::Object(map), _)) => map,
                Some((_, f)) => {
                    r.wrong_type(&f, MAP);
                    serde_json::Map::new()
                }
            };
            let of_alert = s.get("labels").map(|f| labels(r, &f)).unwrap_or_default();
            let annotations = s.get("annotations").map(|f| labels(r, &f)).unwrap_or_default();
            let verified = r.optional_text(&s, "alert-verified");
            (ToolRuleExample { args, labels: of_alert, annotations, verified }, r.place(field))
        })
        .unzip()
}
