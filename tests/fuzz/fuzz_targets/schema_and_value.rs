//! A schema and a value that is held against it, as a list of the two.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_investigation::any_input::schema_and_value(body));
