//! No text that somebody wrote makes the start panic: a configuration with its templates, rules and evidence calls, and
//! a `tools.lock`.

use std::path::PathBuf;

use proptest::prelude::*;
use sentinel_config::{Loaded, Problems, Source, load};
use sentinel_core::tools_lock::{Said, ToolsLock};
use sentinel_testkit::builders::tool_id;
use sentinel_testkit::inputs::near;
use serde_json::{Map, json};

fn compiled(text: String) -> Result<Loaded, Problems> {
    let source = Source { name: PathBuf::from("config.yaml"), text, base_dir: None };
    let loaded = load(&source, &|name| (name.len() % 2 == 0).then(|| "${A}: [".to_owned()))?;
    sentinel_worker::compile(&loaded)?;
    Ok(loaded)
}

const CONFIGURATION: &str = r#"
openai: {model: gpt-6.1-terra, api-key: "${KEYS}"}
defaults: {max-tokens: 50000, max-usd: 0.5}
resources: [{name: r, filters: {alertname: "=~Kube(Pod|Job).*", namespace: "!~kube-.*"}}]
mcp-servers: [{name: k8s, server-url: "https://k8s.example/mcp", default-allowed-tools: [pods_get]}]
incident-cards:
  - name: c
    resource: r
    prompt: "Why is {{ labels.pod | default('?') }} {% if alerts %}not{% endif %} ready? ${resource_name}"
    tools: [k8s]
    wait: 60s
    evidence: [{tool: k8s.pods_get, arguments: {name: "{{ labels.pod }}", n: [1, true, null]}}]
    policy:
      - {tool: k8s.pods_get, allow: "args.name == labels.pod", allowed: [{args: {name: a}, labels: {pod: a}}]}
    checklist: [{name: seen, rule: 'evidence.exists(e, e.tool == "k8s.pods_get" && e.ok)', otherwise: warn}]
"#;

#[test]
fn the_seed_is_a_good_configuration() {
    assert_eq!(compiled(CONFIGURATION.to_owned()).unwrap().settings.cards.len(), 1);
}

proptest! {
    #[test]
    fn any_configuration_compiles_or_its_problems_have_places(text in near(vec![CONFIGURATION.to_owned()])) {
        if let Err(Problems { diagnostics }) = compiled(String::from_utf8_lossy(&text).into_owned()) {
            prop_assert!(diagnostics.iter().all(|d| d.line > 0 && !d.message.is_empty()));
        }
    }

    #[test]
    fn any_lock_comes_back_the_same_or_is_refused(text in {
        let mut lock = ToolsLock::default();
        let (schema, more) = (json!({"type": "object"}), Map::from_iter([("title".to_owned(), json!("A pod"))]));
        let said = Said { description: "Gets a pod.", input_schema: &schema, more: &more };
        lock.pin(&tool_id("k8s.pods_get"), said);
        near(vec![lock.to_text()])
    }) {
        match ToolsLock::parse(&String::from_utf8_lossy(&text)) {
            Ok(lock) => prop_assert_eq!(ToolsLock::parse(&lock.to_text()), Ok(lock)),
            Err(refused) => prop_assert!(!refused.to_string().is_empty()),
        }
    }
}
