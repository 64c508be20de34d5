//! A CEL rule and the arguments that it is run over: the first line is the rule.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_investigation::any_input::rule(body));
