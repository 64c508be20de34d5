//! Items of the table, in DynamoDB's JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_aws::any_input::items(body));
