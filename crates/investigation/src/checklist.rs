//! The card's rules that a report is held against, in CEL.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr, MapExpr, StructExpr};
use cel::objects::Key;
use cel::{Context, Program, Value as Cel};
use sentinel_core::card::{CheckRule, Otherwise};
use sentinel_core::report::{Check, Verdict};
use serde_json::Value;

use crate::fence::clip;
use crate::problem::{CompileProblem, Part};

/// What a rule may speak of.
const VARIABLES: [&str; 5] = ["alert", "labels", "evidence", "tools", "report"];

/// Compiled rules, in the card's order.
#[derive(Debug, Default)]
pub(crate) struct Checklist {
    rules: Vec<(CheckRule, Program)>,
}

impl Checklist {
    pub(crate) fn compile(rules: &[CheckRule], problems: &mut Vec<CompileProblem>) -> Self {
        let mut compiled = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let part = Part::Rule(index);
            let program = match Program::compile(&rule.rule) {
                Ok(program) => program,
                Err(e) => {
                    let first = e.errors.first();
                    problems.push(CompileProblem {
                        part,
                        line: first.and_then(|e| u32::try_from(e.pos.0).ok()).filter(|line| *line > 0),
                        message: first.map_or_else(|| e.to_string(), |e| e.msg.clone()),
                        help: format!("a rule is a CEL expression over {}", VARIABLES.join(", ")),
                    });
                    continue;
                }
            };
            let mut unknown = BTreeSet::new();
            free_variables(&program.expression().expr, &mut Vec::new(), &mut unknown);
            unknown.retain(|name| !VARIABLES.contains(name));
            for name in &unknown {
                problems.push(CompileProblem {
                    part,
                    line: None,
                    message: format!("unknown variable {name}"),
                    help: format!("a rule speaks of {}", VARIABLES.join(", ")),
                });
            }
            if unknown.is_empty() {
                compiled.push((rule.clone(), program));
            }
        }
        Self { rules: compiled }
    }

    /// Runs all rules over `facts`, an object of the five variables. A rule that errors has not passed.
    pub(crate) fn run(&self, facts: &Value) -> Vec<Check> {
        let mut context = Context::default();
        for name in VARIABLES {
            context.add_variable_from_value(name, to_cel(facts.get(name).unwrap_or(&Value::Null)));
        }
        self.rules
            .iter()
            .map(|(rule, program)| {
                let (passed, detail) = match program.execute(&context) {
                    Ok(Cel::Bool(passed)) => (passed, None),
                    Ok(_) => (false, Some("the rule gives neither true nor false".to_owned())),
                    Err(e) => (false, Some(clip(&e.to_string(), 300))),
                };
                Check { name: rule.name.clone(), passed, otherwise: rule.otherwise, detail }
            })
            .collect()
    }
}

/// What failed rules make of a verdict; escalating wins.
pub(crate) fn verdict(checks: &[Check], verdict: Verdict) -> Verdict {
    let failed = |otherwise| checks.iter().any(|c| !c.passed && c.otherwise == otherwise);
    if failed(Otherwise::Escalate) {
        Verdict::ActionRequired
    } else if failed(Otherwise::Inconclusive) {
        Verdict::Inconclusive
    } else {
        verdict
    }
}

/// Whole numbers become `int`, which is what a rule's own literals are.
fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(b) => Cel::Bool(*b),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(int), _) => Cel::Int(int),
            (None, float) => Cel::Float(float.unwrap_or(f64::INFINITY)),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(map) => {
            let map: HashMap<Key, Cel> =
                map.iter().map(|(k, v)| (Key::String(Arc::new(k.clone())), to_cel(v))).collect();
            Cel::from(map)
        }
    }
}

/// The variables of an expression that no macro of it binds: in `evidence.exists(e, e.ok)`, `evidence`.
fn free_variables<'e>(expr: &'e Expr, bound: &mut Vec<&'e str>, free: &mut BTreeSet<&'e str>) {
    match expr {
        Expr::Unspecified | Expr::Literal(_) => {}
        Expr::Ident(name) => {
            if !name.starts_with('@') && !bound.contains(&name.as_str()) {
                free.insert(name);
            }
        }
        Expr::Call(call) => {
            call.target.iter().for_each(|target| free_variables(&target.expr, bound, free));
            call.args.iter().for_each(|arg| free_variables(&arg.expr, bound, free));
        }
        Expr::Select(select) => free_variables(&select.operand.expr, bound, free),
        Expr::List(list) => list.elements.iter().for_each(|e| free_variables(&e.expr, bound, free)),
        Expr::Map(MapExpr { entries }) | Expr::Struct(StructExpr { entries, .. }) => {
            for entry in entries {
                match &entry.expr {
                    EntryExpr::StructField(field) => free_variables(&field.value.expr, bound, free),
                    EntryExpr::MapEntry(entry) => {
                        free_variables(&entry.key.expr, bound, free);
                        free_variables(&entry.value.expr, bound, free);
                    }
                }
            }
        }
        Expr::Comprehension(c) => {
            free_variables(&c.iter_range.expr, bound, free);
            free_variables(&c.accu_init.expr, bound, free);
            let outside = bound.len();
            bound.extend([c.iter_var.as_str(), c.accu_var.as_str()]);
            bound.extend(c.iter_var2.as_deref());
            for inner in [&c.loop_cond, &c.loop_step, &c.result] {
                free_variables(&inner.expr, bound, free);
            }
            bound.truncate(outside);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(rule: &str) -> Check {
        let rule = CheckRule { name: "r".into(), rule: rule.into(), otherwise: Otherwise::Inconclusive };
        let mut problems = Vec::new();
        let list = Checklist::compile(&[rule], &mut problems);
        assert_eq!(problems, []);
        let facts = json!({
            "alert": {"status": "firing", "labels": {"namespace": "web"}},
            "labels": {"namespace": "web"},
            "evidence": [{"id": "E1", "tool": "k8s.events_list", "ok": true, "arguments": {"n": 5}, "text": "OOMKilled"}],
            "tools": ["k8s.events_list"],
            "report": {"verdict": "no_action", "hypotheses": [{"confidence": 0.9}], "usage": {"turns": 3}},
        });
        list.run(&facts).remove(0)
    }

    #[test]
    fn rules_speak_of_alert_labels_evidence_tools_and_report() {
        for rule in [
            r#"evidence.exists(e, e.tool == "k8s.events_list" && e.ok)"#,
            r#"labels.namespace == "web" && alert.labels.namespace == labels.namespace"#,
            r#""k8s.events_list" in tools"#,
            r#"report.verdict != "action_required" || report.hypotheses.all(h, h.confidence > 0.5)"#,
            "report.usage.turns >= 1 && evidence.size() > 0 && evidence[0].arguments.n == 5",
            r#"evidence.exists(e, e.text.contains("OOM"))"#,
        ] {
            let check = check(rule);
            assert!(check.passed, "{rule}: {check:?}");
        }
    }

    #[test]
    fn a_rule_that_errors_has_not_passed_and_says_why() {
        let passed_as_number = check("report.usage.turns");
        let check = check(r#"labels.team == "x""#);
        assert!(!check.passed);
        assert!(check.detail.as_deref().unwrap().contains("team"), "{check:?}");
        assert_eq!(passed_as_number.detail.as_deref(), Some("the rule gives neither true nor false"));
    }

    #[test]
    fn failed_rules_change_the_verdict_and_escalating_wins() {
        let failed = |otherwise| Check { name: "r".into(), passed: false, otherwise, detail: None };
        assert_eq!(verdict(&[failed(Otherwise::Warn)], Verdict::NoAction), Verdict::NoAction);
        assert_eq!(verdict(&[failed(Otherwise::Inconclusive)], Verdict::NoAction), Verdict::Inconclusive);
        let both = [failed(Otherwise::Escalate), failed(Otherwise::Inconclusive)];
        assert_eq!(verdict(&both, Verdict::NoAction), Verdict::ActionRequired);
    }

    #[test]
    fn a_macro_binds_its_variable_only_inside_itself() {
        let free = |text: &str| {
            let program = Program::compile(text).unwrap();
            let mut free = BTreeSet::new();
            free_variables(&program.expression().expr, &mut Vec::new(), &mut free);
            free.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(free("evidence.exists(e, e.ok && e.tool == labels.t)"), ["evidence", "labels"]);
        assert_eq!(free("evidence.exists(e, e.ok) && e.ok"), ["e", "evidence"]);
        assert_eq!(free("tools.map(t, {t: [u]}).size() > 0"), ["tools", "u"]);
    }

    #[test]
    fn broken_rules_and_unknown_names_are_told_when_the_card_is_compiled() {
        let rule = |text: &str| CheckRule { name: "r".into(), rule: text.into(), otherwise: Otherwise::Warn };
        let mut problems = Vec::new();
        Checklist::compile(
            &[rule("true"), rule("evidence.exists(e,"), rule("evidnce.size() > 0")],
            &mut problems,
        );
        let parts: Vec<Part> = problems.iter().map(|p| p.part).collect();
        assert_eq!(parts, [Part::Rule(1), Part::Rule(2)]);
        assert_eq!(problems[1].message, "unknown variable evidnce");
    }
}
