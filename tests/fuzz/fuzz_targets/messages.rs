//! An answer of the Messages API.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_model::any_input::of_messages(body));
