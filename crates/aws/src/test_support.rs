//! Builders for this crate's tests.

use sentinel_core::UnixMs;
use sentinel_core::alert::Labels;
use sentinel_core::incident::{
    Delivery, DeliveryKey, DeliveryState, Event, Gen, Head, IncidentId, MemberId, Members, State,
};
use sentinel_core::report::Verdict;

/// A head as most are: a new incident of one alert.
pub(crate) fn usual_head() -> Head {
    let now = UnixMs::new(1_800_000_000_000);
    let labels = [
        ("alertname", "KubePodNotReady"),
        ("cluster", "prod-eu-west-1"),
        ("namespace", "payments"),
        ("pod", "checkout-6f7d9c5b4-x2x8p"),
    ];
    Head {
        labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        version: 1,
        state: State::Pending,
        epoch: 0,
        owner: None,
        lease_until: None,
        attempts: 0,
        slices: 0,
        turn: 0,
        sent_at: None,
        sends: 0,
        resolved_at: None,
        again: None,
        known: [MemberId(u64::MAX)].into_iter().collect(),
        firing: [MemberId(u64::MAX)].into_iter().collect(),
        truncated: false,
        deliveries: Vec::new(),
        verdict: None,
        reason: None,
        openings: None,
        ttl: None,
        deleted: None,
        chain: Vec::new(),
        signed: None,
        began: Some(now),
        ..largest_head()
    }
}

/// A head that holds as much as the rules ever put into one.
pub(crate) fn largest_head() -> Head {
    let now = UnixMs::new(1_800_000_000_000);
    let members = |step: u64| -> Members { (0..64).map(|n| MemberId(u64::MAX - n * step)).collect() };
    let delivery = |event, sink: usize| Delivery {
        key: DeliveryKey { event, sink: format!("destination-{sink}") },
        state: DeliveryState::Claimed,
        at: now,
        tries: 8,
        claimer: Some("c".repeat(36)),
        remote: Some("C0123456789/1800000000.000000".into()),
        rearmed: true,
        armed: (event == Event::Resolved).then_some(now),
        error: None,
    };
    let events =
        [Event::Findings, Event::Failed, Event::Aborted, Event::Suppressed, Event::Updated, Event::Resolved];
    Head {
        schema: Head::SCHEMA,
        id: IncidentId::new("ab".repeat(32)),
        card: "kubernetes-pods".into(),
        labels: (0..16).map(|n| (format!("label-{n:02}"), "v".repeat(56))).collect::<Labels>(),
        version: 1_000,
        writer: "w".repeat(36),
        state: State::Aborted,
        generation: Gen(now.get()),
        epoch: 1_000,
        owner: Some("o".repeat(36)),
        lease_until: Some(now),
        attempts: 5,
        slices: 20,
        turn: 20,
        not_before: now,
        sent_at: Some(now),
        sends: 100,
        reopen_after: now,
        began: Some(now),
        seen: Some(now),
        resolved_at: Some(now),
        again: Some(sentinel_core::incident::Again { since: now, not_before: now }),
        digest: "d".repeat(32),
        known: members(1),
        firing: members(3),
        truncated: true,
        deliveries: events
            .into_iter()
            .flat_map(|event| (0..4).map(move |sink| delivery(event, sink)))
            .collect(),
        verdict: Some(Verdict::ActionRequired),
        reason: Some("r".repeat(200)),
        openings: None,
        ttl: Some(now),
        deleted: None,
        chain: Vec::new(),
        signed: None,
    }
}
