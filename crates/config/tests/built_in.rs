//! The configuration that is compiled in.

use sentinel_config::{built_in, load};
use sentinel_core::card::PromptSource;

#[test]
fn the_built_in_configuration_loads_without_a_warning_and_may_start() {
    let loaded = load(&built_in(), &|_| None).unwrap();
    assert_eq!(loaded.warnings, []);
    loaded.settings.refuse_unbuilt_protection().unwrap();
    assert!(loaded.settings.openai.api_key.is_none());
    assert_eq!(loaded.places.len(), loaded.settings.cards.len());
}

#[test]
fn its_cards_have_prompts_tools_evidence_and_a_checklist() {
    let settings = load(&built_in(), &|_| None).unwrap().settings;
    let names: Vec<&str> = settings.cards.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        ["kube-pod-not-ready", "kube-pod-crash-looping", "node-filesystem-space", "target-down", "watchdog", "any-alert"]
    );
    for card in &settings.cards {
        assert!(matches!(card.prompt.source, PromptSource::BuiltIn(_)), "{}", card.name);
        assert!(!card.tools.is_empty() && !card.evidence.is_empty() && !card.checklist.is_empty(), "{}", card.name);
    }
}
