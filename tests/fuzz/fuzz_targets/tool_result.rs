//! The result of a tool.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_mcp::any_input::result(body));
