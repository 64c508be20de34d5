//! A resource's matcher of labels, and a value: `pattern\nvalue`.
#![no_main]

use sentinel_core::pattern::Pattern;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let text = String::from_utf8_lossy(body);
    let (pattern, value) = text.split_once('\n').unwrap_or((&*text, ""));
    match Pattern::new(pattern) {
        Ok(pattern) => drop(pattern.is_match(value)),
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
});
