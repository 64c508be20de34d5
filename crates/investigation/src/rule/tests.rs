use proptest::prelude::*;
use serde_json::json;

use super::*;

const VARIABLES: [&str; 2] = ["args", "labels"];

fn compile(text: &str) -> Result<Rule, Vec<String>> {
    let mut problems = Vec::new();
    let rule = Rule::compile(text, &VARIABLES, Part::Rule(0), &mut problems);
    rule.ok_or_else(|| problems.into_iter().map(|p| p.message).collect())
}

fn holds(text: &str, args: &Value) -> Result<bool, String> {
    let facts = Facts::new([("args", args), ("labels", &json!({"namespace": "web"}))])?;
    compile(text).unwrap().holds(&facts)
}

#[test]
fn a_rule_that_gives_no_truth_value_or_errors_says_why() {
    assert_eq!(holds("args.n == labels.namespace", &json!({"n": "web"})), Ok(true));
    assert_eq!(holds("args.n", &json!({"n": 1})), Err("the rule gives neither true nor false".into()));
    assert!(holds("args.n == 1", &json!({})).unwrap_err().contains('n'));
    assert!(holds("args.n / 0 == 1", &json!({"n": 1})).is_err());
    assert!(holds("args.n + 9223372036854775807 > 0", &json!({"n": 1})).is_err());
}

#[test]
fn a_pattern_has_to_stand_in_the_rule_itself() {
    assert_eq!(holds("args.n.matches('^web-[0-9]+$')", &json!({"n": "web-1"})), Ok(true));
    for text in
        ["args.n.matches(labels.namespace)", "args.n.matches('^' + args.p)", "matches(args.n, args.p)"]
    {
        let told = compile(text).unwrap_err();
        assert!(told[0].contains("not written out"), "{text}: {told:?}");
    }
    assert!(compile("args.n.matches('(')").unwrap_err()[0].contains("cannot be used"));
    assert!(compile("args.n.matches('(a{1000}){1000}')").unwrap_err()[0].contains("cannot be used"));
}

#[test]
fn a_rule_that_would_run_for_long_over_what_it_is_given_is_not_run() {
    let list = |n: usize| json!({"l": vec!["x"; n]});
    let one = "args.l.all(x, x in ['x', 'y'])";
    assert_eq!(holds(one, &list(1000)), Ok(true));
    assert!(holds(one, &list(100_000)).unwrap_err().contains("too long"));
    let nested = "args.l.all(x, args.l.exists(y, args.l.exists(z, x == y && y == z)))";
    assert_eq!(holds(nested, &list(10)), Ok(true));
    assert!(holds(nested, &list(200)).unwrap_err().contains("too long"));
    let growing = "args.l.map(a, args.l).map(b, args.l).map(c, args.l).size() > 0";
    assert!(holds(growing, &list(500)).unwrap_err().contains("too long"));
}

#[test]
fn a_search_counts_by_the_longest_text_and_the_largest_pattern() {
    let list = |longest: usize| {
        let mut list = vec!["x".to_owned(); 400];
        list.push("x".repeat(longest));
        json!({ "l": list })
    };
    let plain = "args.l.all(x, x.matches('^x+$'))";
    assert_eq!(holds(plain, &list(1000)), Ok(true));
    assert!(holds(plain, &list(256 << 10)).unwrap_err().contains("too long"));
    let large = "args.l.all(x, x.matches('^[a-z]{1,4000}$'))";
    assert!(holds(large, &list(1000)).unwrap_err().contains("too long"));
    assert!(compile("args.l.matches('(a{1000}){1000}')").is_err());
}

#[test]
fn a_value_that_is_too_deep_is_not_looked_at() {
    let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(holds("args == args", &deep(DEEPEST_VALUE - 1)), Ok(true));
    assert!(holds("args == args", &deep(DEEPEST_VALUE)).unwrap_err().contains("levels"));
}

#[test]
fn a_rule_that_is_too_long_or_too_deep_is_refused_and_the_deepest_allowed_one_runs_on_a_small_stack() {
    let chain = |n: usize, with: &str| vec!["args.n"; n].join(with);
    let brackets = |n: usize| format!("{}args.n == 1{}", "(".repeat(n), ")".repeat(n));
    for text in [chain(1000, " + ") + " > 0", brackets(100), chain(300, " == ")] {
        assert!(compile(&text).is_err(), "{text}");
    }
    let nested =
        |n: usize| (0..n).fold("args.n == 1".to_owned(), |inner, i| format!("[1].all(v{i}, {inner})"));
    let chain_of = move |n: usize| chain(n, " + ") + " > 0";
    let run = move || {
        for make in [&brackets as &dyn Fn(usize) -> String, &nested, &chain_of] {
            // The deeper ones of macros in macros would take too long, and are not run.
            for text in (1..100).map(make).take_while(|text| compile(text).is_ok()) {
                assert_ne!(holds(&text, &json!({"n": 1})), Ok(false), "{text}");
            }
        }
        assert!(
            compile(&nested(4)).is_ok() && compile(&chain_of(20)).is_ok() && compile(&brackets(20)).is_ok()
        );
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
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

proptest! {
    #[test]
    fn no_text_and_no_value_ends_the_process(text in "[a-z0-9.()\\[\\]{}'\" &|!=<>+*/%?:,-]{0,40}", n in any::<i64>(), s in "\\PC{0,20}") {
        if let Ok(rule) = compile(&text) {
            let args = json!({"n": n, "s": s, "l": [n, s]});
            let facts = Facts::new([("args", &args), ("labels", &args)]).unwrap();
            let _ = rule.holds(&facts);
        }
    }

    #[test]
    fn operators_take_any_values(left in any::<i64>(), right in "\\PC{0,20}", op in prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "<", "in", "&&"])) {
        for rule in [format!("args.a {op} args.b == args.c"), format!("args.b {op} args.a"), format!("args.a {op} args.a")] {
            if let Ok(rule) = compile(&rule) {
                let args = json!({"a": left, "b": right, "c": [left]});
                let _ = rule.holds(&Facts::new([("args", &args)]).unwrap());
            }
        }
    }
}
