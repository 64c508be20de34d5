//! An event of API Gateway.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_ingest::any_input::event(body));
