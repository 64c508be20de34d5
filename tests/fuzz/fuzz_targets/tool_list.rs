//! A server's list of tools.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_mcp::any_input::tools(body));
