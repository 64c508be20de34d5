//! The key `redact`: what is taken, and what stops the start.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use sentinel_config::load;
use support::{env, problems, source, warnings};

#[test]
fn a_pattern_of_the_configuration_is_taken_out_under_its_name() {
    let loaded = load(&source("redact: [{name: badge, pattern: 'badge ([0-9]{6})'}]"), &env).unwrap();
    assert_eq!(loaded.settings.redactor().redact("badge 123456 is lost"), "badge [redacted: badge] is lost");
}

#[test]
fn a_pattern_that_is_none_or_finds_everything_stops_the_start_with_its_place() {
    for (entry, key, message) in [
        ("{name: x, pattern: '.*'}", "pattern", "nearly everything"),
        ("{name: x, pattern: '[a-z]*'}", "pattern", "nearly everything"),
        ("{name: x, pattern: '(['}", "pattern", "not a regular expression"),
        ("{name: x, pattern: '\\w{9999}'}", "pattern", "too large"),
        ("{name: 'My Badge', pattern: 'badge'}", "name", "small letters"),
        ("{pattern: 'badge'}", "name", "is missing"),
    ] {
        let problems = problems(&format!("redact: [{entry}]")).to_string();
        assert!(problems.contains(&format!("redact[0].{key}")), "{entry}: {problems}");
        assert!(problems.contains(message) && problems.contains("config.yaml:1"), "{entry}: {problems}");
    }
}

#[test]
fn two_patterns_of_one_name_stop_the_start() {
    let two = "redact: [{name: x, pattern: 'badge 1'}, {name: x, pattern: 'badge 2'}]";
    assert!(problems(two).to_string().contains("a second pattern is named"));
}

#[test]
fn a_secret_that_is_a_word_for_none_is_told_and_not_taken_out() {
    let text = "openai: {api-key: ollama}";
    let told = warnings(text);
    assert!(told.contains("openai.api-key") && told.contains("not taken out"), "{told}");
    let redactor = load(&source(text), &env).unwrap().settings.redactor();
    assert_eq!(redactor.redact("pod ollama-0 of ollama"), "pod ollama-0 of ollama");
}
