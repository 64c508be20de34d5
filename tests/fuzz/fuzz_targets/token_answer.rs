//! What a token endpoint answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_mcp::any_input::token(body));
