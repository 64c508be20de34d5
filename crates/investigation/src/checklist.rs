//! The card's rules that a report is held against, in CEL.

use sentinel_core::card::{CheckRule, Otherwise};
use sentinel_core::report::{Check, Verdict};
use serde_json::Value;

use crate::problem::{CompileProblem, Part};
use crate::rule::{Facts, Rule};

/// What a rule may speak of.
const VARIABLES: [&str; 6] = ["alert", "labels", "evidence", "tools", "report", "alert_verified"];

/// Compiled rules, in the card's order.
#[derive(Debug, Default)]
pub(crate) struct Checklist {
    rules: Vec<(CheckRule, Rule)>,
}

impl Checklist {
    pub(crate) fn compile(rules: &[CheckRule], problems: &mut Vec<CompileProblem>) -> Self {
        let compiled = rules.iter().enumerate().filter_map(|(index, rule)| {
            Some((rule.clone(), Rule::compile(&rule.rule, &VARIABLES, Part::Rule(index), problems)?))
        });
        Self { rules: compiled.collect() }
    }

    /// Runs all rules over `facts`, an object of the six variables. A rule that errors has not passed.
    pub(crate) fn run(&self, facts: &Value) -> Vec<Check> {
        let facts = Facts::new(VARIABLES.map(|name| (name, facts.get(name).unwrap_or(&Value::Null))));
        self.rules
            .iter()
            .map(|(rule, program)| {
                let held = facts.as_ref().map_err(Clone::clone).and_then(|facts| program.holds(facts));
                let (passed, detail) = match held {
                    Ok(passed) => (passed, None),
                    Err(reason) => (false, Some(reason)),
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
