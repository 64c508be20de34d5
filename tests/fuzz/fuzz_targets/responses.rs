//! An answer of the Responses API.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_model::any_input::of_responses(body));
