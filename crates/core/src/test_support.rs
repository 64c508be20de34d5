//! Builders for this crate's tests.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::UnixMs;
use crate::alert::{Alert, AlertStatus, Labels};
use crate::card::{Card, DedupeBy, Prompt, PromptSource, Resource};
use crate::notification::{Envelope, Source};

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub(crate) fn alert(name: &str, more: &[(&str, &str)]) -> Alert {
    let mut all = labels(more);
    all.insert("alertname".into(), name.into());
    Alert {
        status: AlertStatus::Firing,
        labels: all,
        annotations: Labels::new(),
        starts_at: Some(UnixMs::new(1_000)),
        ends_at: None,
        ends_at_is_receipt: false,
        generator_url: None,
        fingerprint: None,
        values: BTreeMap::new(),
        member: None,
    }
}

pub(crate) fn envelope(group: &[(&str, &str)]) -> Envelope {
    Envelope {
        source: Source::Alertmanager,
        receiver: "sentinel".into(),
        group_labels: labels(group),
        common_labels: Labels::new(),
        common_annotations: Labels::new(),
        group_key: None,
        external_url: None,
        reason: None,
        truncated_alerts: 0,
        verified_by: None,
    }
}

pub(crate) fn card(name: &str) -> Card {
    Card {
        name: name.into(),
        resource: Resource {
            name: "all".into(),
            kind: String::new(),
            matchers: vec![],
            annotations: Labels::new(),
        },
        prompt: Prompt { source: PromptSource::Inline, text: "Investigate.".into() },
        model: "m".into(),
        fallback_models: vec![],
        tools: [].into(),
        policy: vec![],
        lock: None,
        lock_undecided: false,
        not_read_only: BTreeMap::new(),
        sinks: vec!["log".into()],
        max_iterations: 6,
        timeout: Duration::from_mins(10),
        max_tokens: 1_000_000,
        max_usd: crate::budget::MicroUsd(1_000_000),
        max_tool_output_tokens: 2000,
        attempts: 3,
        dedupe_by: DedupeBy::Group,
        ignore_labels: ["replica".to_owned()].into(),
        wait: Duration::ZERO,
        dedupe_ttl: Duration::from_mins(10),
        reinvestigate_after: None,
        budget: crate::budget::Limits::default(),
        generations_per_hour: None,
        continues: false,
        evidence: vec![],
        checklist: vec![],
    }
}
