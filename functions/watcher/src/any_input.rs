//! What holds for any input from outside. The ordinary tests play it near good inputs, the fuzz targets in `tests/fuzz/` with
//! whatever they find.

use sentinel_config::WatcherKind;

use crate::wire::{alerts, started};

/// What Prometheus or Alertmanager answers is a list of alerts, where each that cannot be read is refused by its path,
/// or there is a reason.
///
/// # Panics
/// Where that does not hold.
pub fn polled(body: &[u8]) {
    for kind in [WatcherKind::Prometheus, WatcherKind::Alertmanager] {
        match alerts(kind, body) {
            Ok(polled) => {
                assert!(
                    polled
                        .refused
                        .iter()
                        .all(|refusal| !refusal.path.is_empty() && !refusal.reason.is_empty())
                );
            }
            Err(reason) => assert!(!reason.is_empty()),
        }
        let _ = started(kind, body);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sentinel_testkit::inputs::near;
    use serde_json::json;

    use super::*;

    fn answers() -> Vec<String> {
        let alert = json!({
            "labels": {"alertname": "A"}, "annotations": {}, "state": "firing",
            "activeAt": "2026-01-05T08:00:00Z", "value": "1e+00",
        });
        let theirs = json!({
            "labels": {"alertname": "A"}, "annotations": {}, "startsAt": "2026-01-05T08:00:00Z",
            "status": {"state": "active", "silencedBy": [], "inhibitedBy": []}, "fingerprint": "f",
        });
        vec![
            json!({"status": "success", "data": {"alerts": [alert]}}).to_string(),
            json!([theirs]).to_string(),
            json!({"status": "success", "data": {"startTime": "2026-01-05T08:00:00Z"}}).to_string(),
        ]
    }

    proptest! {
        #[test]
        fn any_answer_is_a_list_or_has_a_reason(body in near(answers())) {
            polled(&body);
        }
    }
}
