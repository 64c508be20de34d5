//! What Prometheus or Alertmanager answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| sentinel_watcher::any_input::polled(body));
