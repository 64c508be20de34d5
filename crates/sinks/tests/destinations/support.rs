//! What is told: an incident, its alerts, its report.

use std::sync::Arc;

use sentinel_core::incident::{Event, Head, State};
use sentinel_core::ports::Telling;
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_testkit::builders::{self, alert, beside, notification, report};

pub(crate) fn http() -> Arc<HttpClient> {
    Arc::new(HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"])))
}

pub(crate) fn head(state: State) -> Head {
    Head { state, ..builders::head("0f3a") }
}

pub(crate) fn telling(event: Event, state: State) -> Telling {
    let report = (state == State::Done).then(report);
    Telling {
        event,
        head: head(state),
        notification: Some(notification("pods", [alert("PodDown").label("namespace", "web")])),
        report,
        beside: beside(),
        listed: vec![],
        idempotency_key: format!("0f3a-1-{event}-hook-"),
        remote: None,
        parent: None,
    }
}
