//! Every known shape of a webhook, and the sample events, as they come out of [`parse`].
#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail it")]

use std::fs;
use std::path::{Path, PathBuf};

use sentinel_alertmanager::parse;
use sentinel_core::UnixMs;
use sentinel_core::alert::{Alert, AlertStatus};
use sentinel_core::notification::{Message, Source};
use serde_json::json;

/// 2026-11-20T12:00:00Z.
const RECEIVED: UnixMs = UnixMs::new(1_795_176_000_000);

fn read(path: &Path) -> Message {
    parse(&fs::read(path).unwrap(), RECEIVED).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.sort();
    files
}

fn event(name: &str) -> Message {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/alertmanager").join(name))
}

#[test]
fn every_shape_comes_out_as_its_snapshot() {
    let files = files("tests/fixtures");
    assert_eq!(files.len(), 16);
    for path in files {
        let Message { envelope, alerts, refused } = read(&path);
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let read = json!({"envelope": envelope, "alerts": alerts, "refused": refused});
        insta::assert_json_snapshot!(name, read);
    }
}

#[test]
fn every_sample_event_is_read_whole() {
    let files = files("../../events/alertmanager");
    assert!(files.len() >= 7, "{files:?}");
    for path in files {
        let message = read(&path);
        assert!(message.refused.is_empty(), "{}: {:?}", path.display(), message.refused);
        assert!(!message.alerts.is_empty(), "{}", path.display());
        for alert in &message.alerts {
            assert!(alert.starts_at.is_some_and(|t| t < RECEIVED.plus(std::time::Duration::from_hours(12))));
            assert!(alert.fingerprint.as_ref().is_some_and(|f| f.len() == 16), "{}", path.display());
            for text in ["summary", "description", "runbook_url"] {
                assert!(alert.annotations.contains_key(text), "{}: {text}", path.display());
            }
            for (name, value) in &message.envelope.group_labels {
                assert_eq!(alert.labels.get(name), Some(value), "{}", path.display());
            }
        }
    }
}

#[test]
fn the_sample_resolve_is_of_the_same_episode_40_seconds_later() {
    let (firing, resolved) = (event("target-down.json"), event("target-down-resolved.json"));
    let (firing, resolved): (&Alert, &Alert) = (&firing.alerts[0], &resolved.alerts[0]);
    assert_eq!((firing.status, resolved.status), (AlertStatus::Firing, AlertStatus::Resolved));
    assert_eq!((&firing.labels, firing.starts_at), (&resolved.labels, resolved.starts_at));
    assert_eq!(firing.ends_at, None);
    assert_eq!(resolved.ends_at.unwrap().since(resolved.starts_at.unwrap()).as_secs(), 40);
}

#[test]
fn the_sender_is_told_from_the_shape() {
    assert_eq!(event("grafana-high-latency.json").envelope.source, Source::Grafana);
    assert_eq!(event("watchdog.json").envelope.source, Source::Alertmanager);
}

#[test]
fn an_alarm_is_the_same_alert_however_it_comes_and_ends() {
    let fixture = |name: &str| read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name));
    let [alarm, ok, event] =
        ["cloudwatch-alarm.json", "cloudwatch-ok.json", "eventbridge-ok.json"].map(fixture);
    for ended in [&ok, &event] {
        assert_eq!(ended.alerts[0].labels, alarm.alerts[0].labels);
        assert_eq!(ended.envelope.group_labels, alarm.envelope.group_labels);
        assert_eq!(ended.alerts[0].status, AlertStatus::Resolved);
        assert_eq!(
            ended.alerts[0].ends_at.unwrap().since(alarm.alerts[0].starts_at.unwrap()).as_secs(),
            1200
        );
    }
    assert_eq!(event.alerts[0].starts_at, alarm.alerts[0].starts_at);
    assert_eq!(alarm.envelope.source, Source::CloudWatch);
}
