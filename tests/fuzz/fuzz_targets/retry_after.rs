//! What servers say about when they may be asked again.
#![no_main]

use http::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let mut parts = body.splitn(3, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [RETRY_AFTER, DATE, "retry-after-ms".parse().expect("a name")] {
        if let Some(Ok(value)) = parts.next().map(HeaderValue::from_bytes) {
            headers.insert(name, value);
        }
    }
    let _ = sentinel_http::retry_after(&headers);
});
