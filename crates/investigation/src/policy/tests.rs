use sentinel_core::alert::Labels;
use sentinel_testkit::builders::{alert, card, notification, tool_id};

use super::*;
use crate::playbook::tests::head;
use crate::tools::offer;

const SAME_NAMESPACE: &str = "args.namespace == labels.namespace";

fn rule(tool: &str, allow: &str) -> ToolRule {
    ToolRule { tool: tool_id(tool), allow: allow.into(), allowed: vec![], denied: vec![] }
}

/// A card that allows `s.a` and `s.b` under these rules.
fn ruled(rules: &[ToolRule]) -> Card {
    let mut card = card("c").tool("s.a").tool("s.b").build();
    card.policy = rules.to_vec();
    card
}

fn definition(tool: &str) -> ToolDefinition {
    ToolDefinition {
        tool: tool.into(),
        description: "does".into(),
        input_schema: json!({
            "type": "object", "properties": {"n": {"type": "integer"}, "namespace": {"type": "string"}}
        }),
        read_only_hint: Some(true),
        destructive_hint: None,
        more: Map::new(),
        unusable: None,
    }
}

fn compiled(card: &Card) -> ToolRules {
    let mut problems = Vec::new();
    let rules = ToolRules::compile(card, &mut problems);
    assert_eq!(problems, []);
    rules
}

/// An alert in a namespace.
fn in_namespace(namespace: &str) -> Situation {
    let alert = alert("PodDown").label("namespace", namespace).annotation("summary", "down");
    Situation::of(&[("d".to_owned(), notification("c", [alert]))], &head("d")).unwrap()
}

/// Asks the policy of a card about an alert in the namespace `web`.
fn with<T>(card: &Card, ask: impl FnOnce(&Policy<'_>) -> T) -> T {
    let situation = in_namespace("web");
    let listed = [("s".to_owned(), Ok(vec![definition("a"), definition("b")]))].into();
    let offer = offer(card, &listed, &Redactor::new([]));
    let rules = compiled(card);
    ask(&Policy::new(card, &rules, &situation, &[tool_id("s.a"), tool_id("s.b")].into(), &offer.specs))
}

fn decide(rules: &[ToolRule], arguments: Value) -> Result<(), Refusal> {
    let Value::Object(arguments) = arguments else { panic!("{arguments}") };
    with(&ruled(rules), |policy| policy.decide(&tool_id("s.a"), &arguments))
}

#[test]
fn arguments_have_to_be_a_json_object_that_keeps_the_schema() {
    with(&ruled(&[]), |policy| {
        assert!(policy.check("s__a", r#"{"n":1}"#).is_ok());
        assert!(policy.check("s__a", "").is_ok());
        for (arguments, want) in [("{", "not JSON"), ("[1]", "not an object"), (r#"{"n":"x"}"#, "/n: ")] {
            let error = policy.check("s__a", arguments).unwrap_err().to_string();
            assert!(error.contains(want) && error.contains("not called"), "{error}");
        }
        assert!(
            policy
                .check("s__c", "{}")
                .unwrap_err()
                .to_string()
                .contains("Allowed are: s__a, s__b, read_evidence")
        );
        assert!(policy.check_own(&tool_id("s.c"), &Map::new(), &in_namespace("web")).is_err());
    });
}

#[test]
fn a_tool_that_the_card_no_longer_lists_is_refused_although_the_run_offered_it() {
    let mut card = ruled(&[]);
    let told = with(&card, |policy| policy.decide(&tool_id("s.b"), &Map::new()));
    assert_eq!(told, Ok(()));
    card.tools.remove(&tool_id("s.b"));
    let told = with(&card, |policy| policy.decide(&tool_id("s.b"), &Map::new()));
    assert_eq!(told.unwrap_err().to_string(), "s.b was not called: the card does not allow it");
}

#[test]
fn a_rule_decides_by_arguments_alert_labels_and_card() {
    for (allow, args, allowed) in [
        (SAME_NAMESPACE, json!({"namespace": "web"}), true),
        (SAME_NAMESPACE, json!({"namespace": "kube-system"}), false),
        ("alert.annotations.summary == 'down' && alert.status == 'firing'", json!({}), true),
        ("card.name == 'c' && card.resource == 'c'", json!({}), true),
        ("!has(args.n) || args.n <= 100", json!({"n": 101}), false),
        ("!has(args.n) || args.n <= 100", json!({}), true),
    ] {
        assert_eq!(decide(&[rule("s.a", allow)], args.clone()).is_ok(), allowed, "{allow} {args}");
    }
    assert_eq!(
        decide(&[rule("s.a", SAME_NAMESPACE)], json!({"namespace": "x"})).unwrap_err().to_string(),
        "s.a was not called: the card's policy does not allow it: args.namespace == labels.namespace"
    );
}

#[test]
fn the_strictest_rule_wins_and_rules_about_other_tools_say_nothing() {
    let rules = [rule("s.a", "true"), rule("s.b", "false"), rule("s.a", SAME_NAMESPACE)];
    assert_eq!(decide(&rules, json!({"namespace": "web"})), Ok(()));
    assert!(decide(&rules, json!({"namespace": "x"})).is_err());
}

#[test]
fn a_rule_that_errors_refuses_and_says_so() {
    for allow in [SAME_NAMESPACE, "args.n", "labels.team == 'x'"] {
        let told = decide(&[rule("s.a", allow)], json!({})).unwrap_err().to_string();
        assert!(told.starts_with("s.a was not called: the card's policy could not be applied: "), "{told}");
    }
}

#[test]
fn hostile_arguments_are_refused_without_running_a_rule_over_them() {
    let rules = [rule("s.a", "args.l.all(x, args.l.all(y, x == y))")];
    for (args, want) in [
        (json!({"l": vec!["x"; 5000]}), "too long"),
        (json!({"l": ["x".repeat(LARGEST_ARGUMENTS)]}), "larger than 64 KB"),
        (json!({"l": (0..100).fold(json!(1), |inner, _| json!([inner]))}), "levels"),
    ] {
        let told = decide(&rules, args).unwrap_err().to_string();
        assert!(told.contains(want), "{told}");
    }
}

#[test]
fn the_cards_own_calls_keep_its_rules_too() {
    let card = ruled(&[rule("s.a", SAME_NAMESPACE)]);
    let own = |namespace: &str, of: &str| {
        let Value::Object(arguments) = json!({"namespace": namespace}) else { panic!() };
        with(&card, |policy| policy.check_own(&tool_id("s.a"), &arguments, &in_namespace(of)))
    };
    // A call that is made of some of the alerts is judged by those.
    assert_eq!((own("web", "web"), own("db", "db")), (Ok(()), Ok(())));
    assert!(own("kube-system", "web").unwrap_err().to_string().contains("policy does not allow it"));
}

#[test]
fn a_tool_that_changed_between_list_and_call_is_refused() {
    with(&ruled(&[]), |policy| {
        let unchanged = |all: &[ToolDefinition]| policy.unchanged(&tool_id("s.a"), all, &Redactor::new([]));
        let tool = definition("a");
        assert_eq!(unchanged(std::slice::from_ref(&tool)), Ok(()));
        let other = ToolDefinition { description: "deletes".into(), ..tool.clone() };
        assert!(unchanged(&[other]).unwrap_err().to_string().contains("changed what it is after"));
        let other = ToolDefinition { input_schema: json!({"type": "object"}), ..tool.clone() };
        assert!(unchanged(&[other]).unwrap_err().to_string().contains("changed what it is after"));
        let destructive = ToolDefinition { destructive_hint: Some(true), ..tool };
        assert!(unchanged(&[destructive]).unwrap_err().to_string().contains("calls it destructive"));
        assert!(unchanged(&[]).unwrap_err().to_string().contains("does not offer it"));
    });
}

#[test]
fn each_example_that_a_rule_breaks_is_a_problem_at_its_place() {
    let example = |namespace: &str| ToolRuleExample {
        args: [("namespace".to_owned(), json!(namespace))].into_iter().collect(),
        labels: Labels::from([("namespace".to_owned(), "web".to_owned())]),
        ..ToolRuleExample::default()
    };
    let mut good = rule("s.a", SAME_NAMESPACE);
    good.allowed = vec![example("web")];
    good.denied = vec![example("kube-system"), ToolRuleExample::default()];
    let mut bad = good.clone();
    bad.allowed.push(example("default"));
    bad.denied.push(example("web"));
    let mut problems = Vec::new();
    ToolRules::compile(&ruled(&[good, bad, rule("s.a", "args.x ==")]), &mut problems);
    let parts: Vec<Part> = problems.iter().map(|p| p.part).collect();
    assert_eq!(parts, [Part::Allowed(1, 1), Part::Denied(1, 2), Part::Policy(2)]);
    assert!(problems[0].message.contains("has to be allowed, and is not"), "{problems:?}");
    assert!(problems[1].message.contains("has to be denied, and the rule allows it"), "{problems:?}");
}
