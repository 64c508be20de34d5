//! An export of an incident's record.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_core::any_input::export(body));
