use std::fmt::Write;
use std::fs;

use proptest::prelude::*;
use sentinel_testkit::inputs::near;
use sentinel_testkit::tool_schema::{refused_by_openai, refused_somewhere};
use serde_json::{Value, json};

use super::*;

fn fit(schema: &Value) -> Value {
    parameters(schema)
}

/// The schema of a property.
fn inner(schema: &Value) -> Value {
    fit(&json!({"type": "object", "properties": {"a": schema}}))["properties"]["a"].clone()
}

fn faults(name: &str, description: &str, schema: &Value) -> Vec<String> {
    let mut faults = refused_by_openai(name, description, schema);
    faults.extend(refused_somewhere(schema));
    faults
}

#[test]
fn a_schema_that_fits_is_sent_as_it_is() {
    let schema = json!({
        "type": "object", "description": "Where to look.", "required": ["query"],
        "properties": {
            "query": {"type": "string", "description": "PromQL.", "minLength": 1},
            "limit": {"type": "integer", "minimum": 1, "maximum": 100},
            "kinds": {"type": "array", "items": {"type": "string", "enum": ["pod", "node"]}, "maxItems": 5},
            "at": {"anyOf": [{"type": "string"}, {"type": "number"}]},
        },
    });
    assert_eq!(fit(&schema), schema);
}

#[test]
fn what_is_missing_is_put_there() {
    let empty = json!({"type": "object", "properties": {}});
    for schema in [
        json!({}),
        json!(true),
        json!(null),
        json!({"type": "object"}),
        json!({"type": "object", "properties": null}),
    ] {
        assert_eq!(fit(&schema), empty, "{schema}");
    }
    assert_eq!(inner(&json!({"type": "object"})), empty);
    let any = json!({"anyOf": [
        {"type": "string"}, {"type": "number"}, {"type": "boolean"}, {"type": "object", "properties": {}},
    ]});
    assert_eq!(inner(&json!({"type": "array"})), json!({"type": "array", "items": any}));
    assert_eq!(
        inner(&json!({"items": {"type": "string"}})),
        json!({"type": "array", "items": {"type": "string"}})
    );
}

#[test]
fn alternatives_at_the_top_are_folded_and_told() {
    let schema = json!({
        "type": "object", "description": "Reads one.", "required": ["cluster"],
        "properties": {"cluster": {"type": "string"}},
        "oneOf": [
            {"title": "By name", "properties": {"by": {"const": "name"}, "name": {"type": "string"}}, "required": ["by", "name"]},
            {"title": "By id", "properties": {"by": {"const": "id"}, "id": {"type": "integer"}}, "required": ["by", "id"]},
        ],
    });
    assert_eq!(
        fit(&schema),
        json!({
            "type": "object",
            "description": "Reads one. (or By name: needs by, name; or By id: needs by, id)",
            "properties": {
                "by": {"type": "string", "enum": ["name", "id"]},
                "cluster": {"type": "string"}, "id": {"type": "integer"}, "name": {"type": "string"},
            },
            "required": ["cluster", "by"],
        })
    );
    let told = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]});
    assert_eq!(fit(&told)["description"], "or needs a; or needs b");
    let all = json!({"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"properties": {"b": {"type": "number"}}}]});
    let both = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}, "required": ["a"]});
    assert_eq!(fit(&all), both);
    let rest = fit(
        &json!({"type": "object", "properties": {}, "not": {"required": ["a"]}, "if": {"required": ["b"]}, "enum": [{}]}),
    );
    assert_eq!(rest["description"], r#"not: {"required":["a"]}; if: {"required":["b"]}"#);
}

#[test]
fn keywords_that_a_service_refuses_are_said_in_words() {
    for (schema, fitted) in [
        (json!({"type": ["string", "null"], "default": null}), json!({"type": "string"})),
        (
            json!({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 5, "title": "A"}),
            json!({"type": "integer", "description": "default: 5"}),
        ),
        (json!({"type": ["string", "integer"]}), json!({"anyOf": [{"type": "string"}, {"type": "integer"}]})),
        (
            json!({"type": "string", "nullable": true, "description": "Who."}),
            json!({"type": "string", "description": "Who."}),
        ),
        (json!({"const": "x"}), json!({"type": "string", "enum": ["x"]})),
        (
            json!({"oneOf": [{"const": "a", "title": "first"}, {"const": "b"}]}),
            json!({"type": "string", "enum": ["a", "b"], "description": "a: first"}),
        ),
        (json!({"enum": [1, 2]}), json!({"type": "number", "description": "one of: [1,2]"})),
        (json!({"type": "string", "enum": ["a", null, "a"]}), json!({"type": "string", "enum": ["a"]})),
        (
            json!({"type": "string", "enum": ["", "a"]}),
            json!({"type": "string", "description": r#"one of: ["","a"]"#}),
        ),
        (json!({"type": "integer", "exclusiveMinimum": 0}), json!({"type": "integer", "minimum": 1})),
        (
            json!({"type": "integer", "minimum": 0, "exclusiveMinimum": true}),
            json!({"type": "integer", "minimum": 1}),
        ),
        (
            json!({"type": "number", "exclusiveMaximum": 1.5}),
            json!({"type": "number", "description": "less than: 1.5"}),
        ),
        (
            json!({"type": "string", "pattern": "^(?!x)", "format": "uri"}),
            json!({"type": "string", "description": "format: uri; pattern: ^(?!x)"}),
        ),
        (
            json!({"type": "integer", "description": "How many.", "default": "ten", "examples": [1]}),
            json!({"type": "integer", "description": "How many. (default: ten; examples: [1])"}),
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}, "x-order": 3}),
            json!({"type": "object", "properties": {}, "description": r#"additionalProperties: {"type":"string"}"#}),
        ),
        (
            json!({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
            json!({"type": "string", "description": r#"or: {"format":"ipv4"}; or: {"format":"ipv6"}"#}),
        ),
        (
            json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}], "description": "One or more."}),
            json!({"anyOf": [{"type": "string", "description": "One or more."}, {"type": "array", "items": {"type": "string"}}]}),
        ),
        (
            json!({"type": "array", "items": [{"type": "string"}, {"type": "number"}], "minItems": 2}),
            json!({
                "type": "array", "minItems": 2, "description": r#"items: [{"type":"string"},{"type":"number"}]"#,
                "items": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}, {"type": "object", "properties": {}}]},
            }),
        ),
    ] {
        assert_eq!(inner(&schema), fitted, "{schema}");
    }
    let needed = fit(
        &json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a", "b"]}),
    );
    assert_eq!(
        needed,
        json!({"type": "object", "properties": {"a": {"type": "string", "description": "or null"}}, "required": ["a"]})
    );
    let named = fit(
        &json!({"type": "object", "properties": {"$filter": {"type": "string"}, "no": false}, "required": ["$filter"]}),
    );
    assert_eq!(
        named,
        json!({"type": "object", "properties": {}, "description": r#"also needs $filter: {"type":"string"}; no is not taken"#})
    );
}

#[test]
fn references_are_written_out_where_that_ends() {
    let schema = json!({
        "type": "object",
        "properties": {"range": {"$ref": "#/$defs/range", "description": "When."}, "tree": {"$ref": "#/$defs/tree"}, "far": {"$ref": "https://example.com/x"}},
        "$defs": {
            "range": {"type": "object", "description": "A range.", "properties": {"from": {"$ref": "#/$defs/time"}}, "required": ["from"]},
            "time": {"type": "string", "format": "date-time"},
            "tree": {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}},
        },
    });
    let fitted = fit(&schema);
    assert_eq!(
        fitted["properties"]["range"],
        json!({
            "type": "object", "description": "When.\nA range.", "required": ["from"],
            "properties": {"from": {"type": "string", "description": "format: date-time"}},
        })
    );
    assert_eq!(
        fitted["properties"]["tree"],
        json!({"type": "object", "properties": {"children": {
            "type": "array", "items": {"type": "object", "properties": {}, "description": "like #/$defs/tree"},
        }}})
    );
    assert_eq!(fitted["properties"]["far"]["anyOf"][0]["description"], "like https://example.com/x");
    assert_eq!(faults("f", "", &fitted), Vec::<String>::new());
}

#[test]
fn a_small_schema_that_unfolds_without_end_is_cut() {
    let mut defs = Map::new();
    for n in 0..60 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        defs.insert(
            format!("d{n}"),
            json!({"type": "object", "properties": {"a": next, "b": next}, "anyOf": [next, next]}),
        );
    }
    let schema = json!({"type": "object", "properties": {"d": {"$ref": "#/$defs/d0"}}, "$defs": defs});
    let fitted = fit(&schema);
    assert!(fitted.to_string().len() < 1_000_000, "{}", fitted.to_string().len());
    assert_eq!(faults("f", "", &fitted), Vec::<String>::new());
    let mut deep = json!({"type": "string"});
    for _ in 0..100 {
        deep = json!({"anyOf": [{"type": "array", "items": deep}, {"type": "null"}, {"type": "string"}]});
    }
    let fitted = fit(&json!({"type": "object", "properties": {"deep": deep}}));
    assert_eq!(faults("f", "", &fitted), Vec::<String>::new());
    let many: Vec<String> = (0..2000).map(|n| format!("v{n}")).collect();
    let cut = inner(&json!({"type": "string", "enum": many}));
    assert!(
        cut.get("enum").is_none()
            && cut["description"].as_str().unwrap().starts_with("one of: [\"v0\",\"v1\"")
    );
}

#[test]
fn a_long_description_goes_on_in_the_schema() {
    let spec = |description: String| ToolSpec {
        name: "f".into(),
        description,
        parameters: json!({"type": "object", "description": "Own.", "properties": {}}),
    };
    let short = spec("x".repeat(1024));
    assert_eq!(tool(&short), short);
    let long = spec(format!("{}\n{}", "x".repeat(1000), "y".repeat(1000)));
    let ToolSpec { description, parameters, .. } = tool(&long);
    assert_eq!(description, "x".repeat(1000));
    assert_eq!(parameters["description"], format!("{}\nOwn.", "y".repeat(1000)));
    assert!(faults("f", &description, &parameters).is_empty());
}

#[test]
fn a_tool_is_made_to_fit_once_and_again_where_its_server_wrote_it_otherwise() {
    let tools = Tools::default();
    let spec = |name: &str, property: &str| ToolSpec {
        name: name.into(),
        description: "One pod.".into(),
        parameters: json!({"type": "object", "properties": {property: {"const": "a"}}}),
    };
    let first = tools.fitted(&spec("pod", "name"));
    assert_eq!(*first, tool(&spec("pod", "name")));
    assert!(Arc::ptr_eq(&first, &tools.fitted(&spec("pod", "name"))));
    let otherwise = tools.fitted(&spec("pod", "namespace"));
    assert!(otherwise.parameters["properties"].get("namespace").is_some());
    // Whoever lists ever new tools is not remembered without end.
    for n in 0..=MOST_REMEMBERED {
        tools.fitted(&spec(&format!("pod-{n}"), "name"));
    }
    assert!(tools.0.lock().unwrap().len() <= MOST_REMEMBERED);
    assert!(!Arc::ptr_eq(&first, &tools.fitted(&spec("pod", "name"))));
}

/// The tools of one server, as `tests/tool-lists` has them.
struct List {
    server: String,
    version: String,
    tools: Vec<ToolSpec>,
}

fn lists() -> Vec<List> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/tool-lists");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "json"));
    paths.sort();
    let list = |path: &std::path::PathBuf| {
        let list: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
        let spec = |tool: &Value| ToolSpec {
            name: format!("s__{}", text(tool, "name")),
            description: text(tool, "description"),
            parameters: tool["inputSchema"].clone(),
        };
        let tools = list["tools"].as_array().unwrap().iter().map(spec).collect();
        List { server: text(&list, "server"), version: text(&list, "version"), tools }
    };
    paths.iter().map(list).collect()
}

#[test]
fn the_tools_of_real_servers_are_all_offered_to_a_strict_service() {
    let mut table = format!(
        "{:<48} {:>10} {:>6} {:>7} {:>9} {:>7} {:>8}\n",
        "server", "version", "tools", "OpenAI", "elsewhere", "changed", "left out"
    );
    let mut all = [0; 5];
    for List { server, version, tools } in lists() {
        let mut counts = [tools.len(), 0, 0, 0, 0];
        for spec in &tools {
            let ToolSpec { description, parameters, .. } = tool(spec);
            counts[1] +=
                usize::from(!refused_by_openai(&spec.name, &spec.description, &spec.parameters).is_empty());
            counts[2] += usize::from(!refused_somewhere(&spec.parameters).is_empty());
            counts[3] += usize::from(description != spec.description || parameters != spec.parameters);
            let faults = faults(&spec.name, &description, &parameters);
            counts[4] += usize::from(!faults.is_empty());
            assert_eq!(fit(&parameters), parameters, "{} {}", server, spec.name);
        }
        let [tools, openai, elsewhere, changed, left_out] = counts;
        writeln!(
            table,
            "{server:<48} {version:>10} {tools:>6} {openai:>7} {elsewhere:>9} {changed:>7} {left_out:>8}"
        )
        .unwrap();
        all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
    }
    let [tools, openai, elsewhere, changed, left_out] = all;
    writeln!(
        table,
        "{:<48} {:>10} {tools:>6} {openai:>7} {elsewhere:>9} {changed:>7} {left_out:>8}",
        "all", ""
    )
    .unwrap();
    println!("{table}");
    insta::assert_snapshot!(table);
    assert_eq!(left_out, 0);
}

#[test]
fn what_real_arguments_keep_they_keep_when_the_schema_fits() {
    // Values that the original takes: made from its own examples and defaults would be few, so each property's is made up.
    let mut looked_at = 0;
    for spec in lists().into_iter().flat_map(|list| list.tools) {
        let Ok(original) = sentinel_investigation::schema::Schema::new(&spec.parameters) else { continue };
        let value = made_up(&spec.parameters, &spec.parameters, 0);
        if original.problems(&value, "it").is_empty() {
            looked_at += 1;
            let fitted = sentinel_investigation::schema::Schema::new(&fit(&spec.parameters)).unwrap();
            assert_eq!(fitted.problems(&value, "it"), Vec::<String>::new(), "{} {value}", spec.name);
        }
    }
    assert!(looked_at > 300, "{looked_at}");
}

/// A value for a schema, by its types alone.
fn made_up(schema: &Value, root: &Value, depth: usize) -> Value {
    if let Some(target) = schema["$ref"].as_str().and_then(|to| root.pointer(to.strip_prefix('#')?)) {
        return made_up(target, root, depth + 1);
    }
    if let Some(first) = schema["anyOf"].get(0).or_else(|| schema["oneOf"].get(0)) {
        return made_up(first, root, depth + 1);
    }
    if let Some(value) = schema["enum"].get(0).or_else(|| schema.get("const")) {
        return value.clone();
    }
    match schema["type"].as_str().or_else(|| schema["type"][0].as_str()) {
        Some("object") | None if depth < 20 => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.map(|(name, inner)| (name.clone(), made_up(inner, root, depth + 1))).collect()
        }
        Some("array") => json!([made_up(&schema["items"], root, depth + 1)]),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some("boolean") => json!(true),
        _ => json!("text"),
    }
}

fn schemas() -> Vec<String> {
    let schemas = lists().into_iter().flat_map(|list| list.tools).map(|spec| spec.parameters.to_string());
    schemas.filter(|schema| (200..3000).contains(&schema.len())).step_by(7).collect()
}

/// Schemas of every keyword.
fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": ["integer", "null"], "exclusiveMinimum": 0})),
        Just(json!({"enum": ["a", "b", 3, null]})),
        Just(json!({"const": "a", "title": "A"})),
        Just(json!({"$ref": "#/$defs/loop"})),
        Just(json!({"$ref": "#"})),
        Just(json!({"type": "null"})),
        Just(json!({"pattern": "^(?=x)", "format": "regex", "minLength": 2})),
        Just(json!(true)),
        Just(json!(false)),
        Just(json!({})),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        let name = prop_oneof!["[a-c]", "\\PC{0,3}"];
        prop_oneof![
            proptest::collection::btree_map(name, inner.clone(), 0..4).prop_map(
                |properties| json!({"type": "object", "properties": properties, "required": ["a", "b"]})
            ),
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            inner.clone().prop_map(|more| json!({"type": "object", "additionalProperties": more})),
            (
                prop_oneof![Just("anyOf"), Just("oneOf"), Just("allOf")],
                proptest::collection::vec(inner.clone(), 0..4)
            )
                .prop_map(|(keyword, schemas)| json!({keyword: schemas, "description": "Composed."})),
            (inner.clone(), inner).prop_map(|(one, other)| json!({
                "properties": {"a": one}, "anyOf": [other, {"required": ["a"]}], "nullable": true,
            })),
        ]
    })
}

proptest! {
    #[test]
    fn any_schema_is_made_to_fit_and_then_stays(schema in any_schema()) {
        let mut schema = schema;
        if let Some(fields) = schema.as_object_mut() {
            fields.insert("$defs".to_owned(), json!({"loop": {"type": "object", "properties": {"again": {"$ref": "#/$defs/loop"}}}}));
        }
        let fitted = fit(&schema);
        prop_assert_eq!(faults("f", "", &fitted), Vec::<String>::new(), "{}", fitted);
        prop_assert_eq!(fit(&fitted), fitted);
    }

    #[test]
    fn anything_near_a_real_schema_is_made_to_fit(text in near(schemas())) {
        if let Ok(schema) = serde_json::from_slice::<Value>(&text) {
            let fitted = fit(&schema);
            prop_assert_eq!(faults("f", "", &fitted), Vec::<String>::new(), "{}", fitted);
        }
    }
}
