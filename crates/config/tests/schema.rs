//! The schema for editors, against configurations that load and some that do not.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;

use jsonschema::Validator;
use sentinel_config::json_schema;
use serde_json::Value;

fn schema() -> Validator {
    jsonschema::draft202012::new(&json_schema().unwrap()).unwrap()
}

fn problems(schema: &Validator, text: &str) -> Vec<String> {
    let config: Value = serde_saphyr::from_str(text).unwrap();
    schema.iter_errors(&config).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

#[test]
fn every_configuration_that_loads_keeps_the_schema() {
    let schema = schema();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in [
        "tests/fixtures/aliases.yaml",
        "tests/fixtures/ceph.yaml",
        "tests/fixtures/kubernetes.yaml",
        "tests/fixtures/spec-002.yaml",
        "../../infra/config.example.yaml",
        "../../infra/aws.yaml",
        "../../infra/sentinel.yaml",
    ] {
        let text = std::fs::read_to_string(here.join(name)).unwrap();
        assert_eq!(problems(&schema, &text), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn an_editor_marks_unknown_keys_wrong_types_and_what_is_missing() {
    let schema = schema();
    for text in [
        "incident-cads: []",
        "incident-cards: [{name: c, resource: r}]",
        "incident-cards: [{name: c, resource: r, prompt: p, wait: soon}]",
        "sinks: [{name: s, type: logger, channell: c}]",
        "mcp-servers: [{name: a b, server-url: 'https://h.example'}]",
        "dispatcher: {worker-concurrency: many}",
        "sentinel: {openai: {prices: {m: {input: 1}}}}",
    ] {
        assert_ne!(problems(&schema, text), Vec::<String>::new(), "{text}");
    }
    let names =
        "incident_cards: [{name: c, resource: r, prompt_template: p, wait: '${WAIT}', max_iterations: '3'}]";
    assert_eq!(problems(&schema, names), Vec::<String>::new());
}
