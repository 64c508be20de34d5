//! An answer of Chat Completions.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_model::any_input::of_chat(body));
