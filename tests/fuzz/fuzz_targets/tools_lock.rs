//! A `tools.lock`: one that is read comes back the same.
#![no_main]

use sentinel_core::tools_lock::ToolsLock;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let Ok(text) = std::str::from_utf8(body) else { return };
    match ToolsLock::parse(text) {
        Ok(lock) => assert_eq!(ToolsLock::parse(&lock.to_text()), Ok(lock)),
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
});
