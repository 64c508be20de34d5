//! A recorded run.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_model::any_input::recorded(body));
