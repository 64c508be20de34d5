//! A template and the labels that it is rendered over: the first line is the template.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_investigation::any_input::template(body));
