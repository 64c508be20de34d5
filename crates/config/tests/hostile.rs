//! No text makes the loader panic, hang or eat the memory.

use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;
use sentinel_config::{Source, load};

fn errors(text: String) -> Option<String> {
    let source = Source { name: PathBuf::from("c.yaml"), text, base_dir: None };
    load(&source, &|name| (name.len() % 2 == 0).then(|| "${A}: [".to_owned())).err().map(|p| p.to_string())
}

/// Pieces that mean something to the loader, so that the search gets past the parser.
fn piece() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "sentinel",
        "ingest",
        "bearer",
        "basic",
        "openai",
        "model-services",
        "models",
        "auth",
        "long",
        "prices",
        "timeout",
        "defaults",
        "retry_policy",
        "resources",
        "filters",
        "name",
        "incident-cards",
        "tools",
        "evidence",
        "arguments",
        "checklist",
        "policy",
        "mcp-servers",
        "server-url",
        "headers",
        "require-approval",
        "sinks",
        "watchers",
        "network",
        "k8s.*",
        "=~(",
        "!~a",
        "${A}",
        "${secret:x}",
        "${",
        "$${",
        "https://[::1",
        "1e999",
        "-1",
        "NaN",
        "0x1F",
        "true",
        "~",
        "never",
        "99999999w",
        "\"",
        "'",
        "&a",
        "*a",
        "<<",
        "!!str",
        "|",
        ">-",
        "---",
        "...",
        "%YAML 1.2",
        "\u{feff}",
        "\t",
        "é",
    ]);
    let joint =
        prop::sample::select(vec![": ", ":\n  ", "\n", "\n- ", ", ", "{", "}", "[", "]", " ", "\n    "]);
    (word, joint).prop_map(|(w, j)| format!("{w}{j}"))
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}|(?s).{0,200}") {
        errors(text);
    }

    #[test]
    fn text_made_of_keys_and_brackets_never_panics(pieces in prop::collection::vec(piece(), 0..60)) {
        errors(pieces.concat());
    }
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let list = vec![format!("*a{}", i - 1); 10].join(", ");
        writeln!(text, "a{i}: &a{i} [{list}]").unwrap();
    }
    let told = errors(text).unwrap();
    assert!(told.contains("the file is too large, its aliases expanded"), "{told}");
}

#[test]
fn deep_nesting_is_refused_however_it_is_written() {
    let mut chain = String::from("a0: &a0 [x]\n");
    for i in 1..2_000 {
        writeln!(chain, "a{i}: &a{i} [*a{}]", i - 1).unwrap();
    }
    let mut block = String::new();
    for i in 0..5_000 {
        writeln!(block, "{}a:", " ".repeat(i)).unwrap();
    }
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), block, chain] {
        assert!(errors(text).is_some());
    }
}
