//! What is told: an incident, its alerts, its report.

use std::sync::Arc;

use sentinel_core::incident::{Event, Gen, Head, IncidentId, Members, State};
use sentinel_core::ports::Telling;
use sentinel_core::report::{Citation, NextStep, Report, ReportSource, Statement, Usage, Verdict};
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_testkit::builders::{NOON, alert, notification};

pub(crate) fn http() -> Arc<HttpClient> {
    Arc::new(HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"])))
}

pub(crate) fn head(state: State) -> Head {
    let labels = [("alertname", "PodDown"), ("namespace", "web")];
    Head {
        schema: Head::SCHEMA,
        id: IncidentId::new("0f3a"),
        card: "pods".into(),
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        version: 3,
        writer: "w".into(),
        state,
        generation: Gen(NOON.get()),
        epoch: 1,
        owner: None,
        lease_until: None,
        attempts: 1,
        slices: 0,
        turn: 2,
        not_before: NOON,
        sent_at: None,
        sends: 0,
        reopen_after: NOON,
        began: Some(NOON),
        seen: Some(NOON),
        resolved_at: None,
        digest: "d".into(),
        known: Members::default(),
        firing: Members::default(),
        truncated: false,
        deliveries: vec![],
        verdict: None,
        reason: None,
        openings: None,
        ttl: None,
    }
}

fn citation(quote: &str, found: bool) -> Citation {
    Citation { id: "E1".into(), quote: quote.into(), found: Some(found) }
}

pub(crate) fn report() -> Report {
    let statement = |text: &str, confidence, evidence: Vec<Citation>| Statement {
        statement: text.into(),
        confidence,
        supported: Some(evidence.iter().all(|c| c.found == Some(true))),
        evidence,
    };
    Report {
        verdict: Verdict::ActionRequired,
        title: "api cannot pull its image".into(),
        summary: "The tag does not exist.".into(),
        hypotheses: vec![
            statement("The tag v9 is missing", Some(0.8), vec![citation("manifest unknown", true)]),
            statement("The registry is down", Some(0.4), vec![citation("connection refused", false)]),
        ],
        ruled_out: vec![statement("The node is full", None, vec![citation("DiskPressure False", true)])],
        gaps: vec!["the registry's own log".into()],
        next_steps: vec![NextStep { action: "push v9".into(), why: "it is missing".into() }],
        checklist: vec![],
        notes: vec![],
        source: ReportSource::Model,
        model: Some("m".into()),
        usage: Usage { turns: 3, tool_calls: 7, usd: Some(0.0125), ..Usage::default() },
        truncated_alerts: 0,
    }
}

pub(crate) fn telling(event: Event, state: State) -> Telling {
    let report = (state == State::Done).then(report);
    Telling {
        event,
        head: head(state),
        notification: Some(notification("pods", [alert("PodDown").label("namespace", "web")])),
        report,
        listed: vec![],
        idempotency_key: format!("0f3a-1-{event}-hook-"),
        remote: None,
        parent: None,
    }
}
