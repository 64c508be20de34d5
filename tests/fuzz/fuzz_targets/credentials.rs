//! What a request shows of credentials: lines of headers, an empty line, the body.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_ingest::any_input::credentials(body));
