//! Bodies as messages of Amazon SNS.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_ingest::any_input::topic_message(body));
