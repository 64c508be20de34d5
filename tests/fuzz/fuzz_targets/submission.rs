//! What a model hands to `submit_report`.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_investigation::any_input::submission(body));
