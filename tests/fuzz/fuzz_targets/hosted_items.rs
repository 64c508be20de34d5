//! What a response says of hosted servers.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_investigation::any_input::hosted_items(body));
