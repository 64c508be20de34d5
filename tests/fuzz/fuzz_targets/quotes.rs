//! Quotes that are looked up in an evidence: the first line is the evidence.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_investigation::any_input::quoted(body));
