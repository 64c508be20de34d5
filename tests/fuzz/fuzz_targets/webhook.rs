//! No body makes the parser panic, and what it refuses it refuses with a path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sentinel_alertmanager::{EnvelopeError, parse};
use sentinel_core::UnixMs;

fuzz_target!(|body: &[u8]| {
    let refused = match parse(body, UnixMs::new(1_795_176_000_000)) {
        Ok(message) => message.refused,
        Err(EnvelopeError::NoneReadable { refused }) => refused,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(refused.iter().all(|refusal| !refusal.path.is_empty() && !refusal.reason.is_empty()));
});
