use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jsonschema::{Keyword, ValidationError};
use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

/// `levels` definitions, each of which names the next one twice.
fn doubled(levels: usize, step: impl Fn(&Value) -> Value) -> Value {
    let mut all = Map::new();
    for level in 0..levels {
        all.insert(format!("d{level}"), step(&json!({"$ref": format!("#/$defs/d{}", level + 1)})));
    }
    all.insert(format!("d{levels}"), json!({"type": "string"}));
    json!({"type": "object", "$defs": all, "$ref": "#/$defs/d0"})
}

/// `{"x": {"x": …}}`, so many levels deep.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!({"x": inner}))
}

fn of_properties(next: &Value) -> Value {
    let branch = json!({"properties": {"x": next}, "required": ["x"]});
    json!({"anyOf": [branch, branch]})
}

#[test]
fn a_schema_that_doubles_on_each_level_is_counted_in_few_steps_and_not_run() {
    let schema = Schema::new(&doubled(40, of_properties)).unwrap();
    let few = schema.steps(&nested(3)).unwrap();
    let more = schema.steps(&nested(6)).unwrap();
    assert!(more > few * 7, "it doubles: {few}, {more}");
    assert_eq!(schema.steps(&nested(40)), None);
    let problems = schema.problems(&nested(40), "the content");
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]
            .starts_with("the content: to hold it against the schema would take more than 500000 steps")
    );
}

#[test]
fn what_could_take_for_ever_over_any_value_is_no_schema() {
    let chain = |n: usize| doubled(n, |next| json!({"allOf": [next]}));
    let circle = json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"});
    let patterns: Map<String, Value> =
        (0..40).map(|n| (format!("(\\p{{L}}{{{n},99}})"), json!(true))).collect();
    let long = json!({"enum": (0..20_000).collect::<Vec<_>>()});
    for (schema, why) in [
        (doubled(40, |next| json!({"anyOf": [next, next]})), "too many schemas for one value"),
        (doubled(40, |next| json!({"allOf": [next, next]})), "too many schemas for one value"),
        (doubled(40, |next| json!({"oneOf": [next, next]})), "too many schemas for one value"),
        (
            doubled(40, |next| json!({"if": next, "then": next, "else": next})),
            "too many schemas for one value",
        ),
        (
            doubled(40, |next| json!({"dependentSchemas": {"a": next, "b": next}})),
            "too many schemas for one value",
        ),
        (
            doubled(9, |next| json!({"allOf": [next, next], "unevaluatedProperties": false})),
            "too many schemas for one value",
        ),
        (chain(300), "more than 256 deep"),
        (circle, "go in a circle"),
        (json!({"$ref": "#"}), "go in a circle"),
        (json!({"$ref": "#/nowhere"}), "leads to nothing in it"),
        (json!({"$ref": "https://elsewhere.example/s"}), "leads to nothing in it"),
        (json!({"$dynamicRef": "#a"}), "it uses $dynamicRef"),
        (json!({"properties": {"a": {"$id": "https://elsewhere.example/"}}}), "an $id of its own"),
        (json!({"pattern": "(a{1000}){1000}"}), "its patterns are too large"),
        (json!({"patternProperties": patterns}), "its patterns are too large"),
        (json!({"pattern": "(?=a)b"}), "cannot be used"),
        (json!({"pattern": "(a)\\1"}), "cannot be used"),
        (long, "larger than 65536 bytes"),
    ] {
        let refused = Schema::new(&schema).map(drop).unwrap_err();
        assert!(refused.contains(why), "{refused}: {why}");
    }
}

#[test]
fn what_a_value_takes_is_bounded_whatever_it_is() {
    let texts = |n: usize| (0..n).map(|i| format!("{i}{}", "a".repeat(50))).collect::<Vec<_>>();
    let names = |n: usize| texts(n).into_iter().map(|name| (name, json!(1))).collect::<Map<_, _>>();
    let deep = (0..100).fold(json!([]), |inner, _| json!([inner]));
    for (name, schema, value) in [
        ("a pattern", json!({"items": {"pattern": "^(a|b)*c{1,900}$"}}), json!(texts(20_000))),
        ("one long text", json!({"pattern": "(a|aa|aaa){1,500}$"}), json!("a".repeat(1 << 20))),
        (
            "many patterns of names",
            json!({"patternProperties": {"a{1,90}$": true, "b{1,900}$": true}}),
            json!(names(2000)),
        ),
        ("names", json!({"propertyNames": {"pattern": "^(a|b)*c{1,900}$"}}), json!(names(2000))),
        ("unique items", json!({"uniqueItems": true}), json!(texts(40_000))),
        (
            "unique items on each level",
            json!({"uniqueItems": true, "items": {"$ref": "#"}}),
            json!([deep.clone(), texts(20_000)]),
        ),
        (
            "a long enumeration",
            json!({"items": {"enum": (0..8000).collect::<Vec<_>>()}}),
            json!(vec![-1; 1000]),
        ),
        ("all pairs", json!({"allOf": vec![json!({"contains": {"const": 7}}); 900]}), json!(vec![1; 1000])),
        (
            "unevaluated properties",
            json!({"anyOf": vec![json!({"required": ["a"]}); 99], "unevaluatedProperties": true}),
            json!(names(3000)),
        ),
        ("its own depth", json!({"properties": {"x": {"allOf": [{"allOf": [{"$ref": "#"}]}]}}}), nested(100)),
    ] {
        let schema = Schema::new(&schema).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(schema.steps(&value), None, "{name}");
        assert_eq!(schema.problems(&value, "the value").len(), 1, "{name}");
    }
}

#[test]
fn ten_times_the_value_takes_about_ten_times_the_steps() {
    let schema = json!({
        "$defs": {"node": {
            "type": "object",
            "properties": {"name": {"type": "string", "pattern": "^[a-z0-9-]{1,63}$"}, "parts": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["name"], "additionalProperties": false,
        }},
        "type": "array", "items": {"$ref": "#/$defs/node"}, "uniqueItems": true,
    });
    let schema = Schema::new(&schema).unwrap();
    let value = |n: usize| {
        json!(
            (0..n)
                .map(|i| json!({"name": format!("pod-{i:04}"), "parts": [{"name": "a"}]}))
                .collect::<Vec<_>>()
        )
    };
    let (one, ten) = (schema.steps(&value(30)).unwrap(), schema.steps(&value(300)).unwrap());
    assert!((one * 9..one * 11).contains(&ten), "{one} {ten}");
    assert!(schema.problems(&value(300), "the value").is_empty());
}

#[test]
fn what_servers_really_send_stays_within_the_bound() {
    let pods = json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "required": ["items"],
        "properties": {"items": {"type": "array", "items": {
            "type": "object", "additionalProperties": true,
            "properties": {"name": {"type": "string"}, "phase": {"enum": ["Running", "Pending"]}, "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "restarts": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        }}},
    });
    let pod = json!({"name": "web-7d4b9c", "phase": "Running", "labels": {"app": "web", "tier": "front"}, "restarts": null});
    let schema = Schema::new(&pods).unwrap();
    let value = json!({"items": vec![pod; 5000]});
    assert!(schema.steps(&value).unwrap() < MOST_STEPS / 2);
    assert!(schema.problems(&value, "the content").is_empty());
    let anchored = json!({"$defs": {"A<b>": {"$anchor": "a", "type": "integer"}}, "properties": {"x": {"$ref": "#/$defs/A%3Cb%3E"}, "y": {"$ref": "#a"}}});
    let schema = Schema::new(&anchored).unwrap();
    assert_eq!(schema.problems(&json!({"x": "1", "y": 2}), "it"), [r#"/x: "1" is not of type "integer""#]);
}

#[test]
fn the_deepest_that_is_allowed_fits_on_the_stack_of_a_worker() {
    let deep =
        (0..80).fold(json!({"type": "null"}), |inner, _| json!({"not": {"not": inner}, "allOf": [true]}));
    let refs = doubled(250, |next| json!({"allOf": [next]}));
    let recursive = json!({"properties": {"x": {"$ref": "#"}}, "allOf": [true]});
    let all =
        [(deep, json!(1)), (refs, json!("a")), (recursive.clone(), nested(120)), (recursive, nested(126))];
    let stack = std::thread::Builder::new().stack_size(2 << 20);
    let checked = stack.spawn(move || {
        for (schema, value) in all {
            if let Ok(schema) = Schema::new(&schema) {
                drop(schema.problems(&value, "it"));
            }
        }
    });
    checked.unwrap().join().unwrap();
}

#[test]
fn a_problem_is_told_in_a_few_words_however_long_the_value_is() {
    let schema = Schema::new(&json!({"items": {"type": "integer"}})).unwrap();
    let problems = schema.problems(&json!(vec!["é".repeat(100_000); 9]), "it");
    assert_eq!(problems.len(), 5);
    assert!(problems.iter().all(|problem| problem.chars().count() < 260), "{problems:?}");
}

/// Counts how often it is looked at.
struct Seen(Arc<AtomicU64>);

impl<'i> Keyword<'i> for Seen {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        self.is_valid(value);
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// Schemas that look in all of their parts, and count.
fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec![
        json!({}),
        json!({"type": "integer"}),
        json!({"required": ["a"]}),
        json!({"$ref": "#/$defs/d"}),
    ]);
    let whole = leaf.prop_recursive(4, 24, 3, |inner| {
        let two = prop::collection::vec(inner.clone(), 1..3);
        let word = prop::sample::select(vec!["allOf", "anyOf", "oneOf"]);
        let part = prop::sample::select(vec![
            "items",
            "not",
            "additionalProperties",
            "contains",
            "propertyNames",
            "unevaluatedProperties",
        ]);
        prop_oneof![
            (word, two).prop_map(|(word, two)| json!({word: two})),
            (part, inner.clone()).prop_map(|(part, inner)| json!({part: inner})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"properties": {"a": a, "b": b}})),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| json!({"if": a, "then": b, "else": c})),
        ]
    });
    (whole.clone(), whole).prop_map(|(mut whole, deep)| {
        // What the definition refers to is the whole, within a part.
        whole["$defs"] = json!({"d": {"properties": {"a": deep}}});
        count_in(&mut whole);
        whole
    })
}

fn count_in(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(count_in),
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match (key.as_str(), value) {
                    ("properties" | "$defs", Value::Object(inner)) => inner.values_mut().for_each(count_in),
                    ("required" | "type", _) => {}
                    (_, value) => count_in(value),
                }
            }
            map.insert("x-seen".to_owned(), json!(true));
        }
        _ => {}
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec![json!(1), json!("a"), json!(null)]);
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| json!(items)),
            prop::collection::btree_map("[ab]", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn the_validator_never_looks_more_often_than_was_counted(schema in schemas(), value in values()) {
        let Ok(counted) = Plan::of(&schema) else { return Ok(()) };
        let Some(Steps { steps, height }) = counted.steps(&value) else { return Ok(()) };
        let seen = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&seen);
        let validator = jsonschema::options()
            .with_keyword("x-seen", move |_, _, _| Ok(Box::new(Seen(Arc::clone(&counter)))))
            .build(&schema)
            .unwrap();
        let _ = validator.is_valid(&value);
        let plain = seen.swap(0, Ordering::Relaxed);
        prop_assert!(plain <= steps, "{plain} {steps}");
        let _ = validator.iter_errors(&value).count();
        let told = seen.load(Ordering::Relaxed);
        prop_assert!(told <= steps * u64::from(height), "{told} {steps} {height}");
    }
}
