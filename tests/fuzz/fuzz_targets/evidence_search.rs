//! A pattern and the text that it is searched in: the first line is the pattern.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_investigation::any_input::search(body));
