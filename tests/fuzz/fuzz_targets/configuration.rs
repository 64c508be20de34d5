//! A configuration with its prompts, rules and evidence calls: it loads and compiles, or each problem has a place.
#![no_main]

use std::path::PathBuf;

use sentinel_config::{Problems, Source, load};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let source = Source { name: PathBuf::from("config.yaml"), text: text.to_owned(), base_dir: None };
    let checked = load(&source, &|name| (name.len() % 2 == 0).then(|| "${A}: [".to_owned()))
        .and_then(|loaded| sentinel_worker::compile(&loaded));
    if let Err(Problems { diagnostics }) = checked {
        assert!(diagnostics.iter().all(|d| d.line > 0 && !d.message.is_empty()));
    }
});
