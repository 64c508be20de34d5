//! How the service is: `/readyz` and `/version` for everybody, without details; details, and `/metrics`, for whoever may read.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use sentinel_core::ports::IncidentStore;
use sentinel_ingest::Refusal;
use sentinel_worker::Mind;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::access::Right;
use crate::bodies::BYTES;
use crate::server::Service;

/// How long the store may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer of the store stands: everybody may ask, and the store is not asked for each.
const STANDS: Duration = Duration::from_secs(1);

/// Whether the store answered, and when. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready(Arc<Mutex<Option<(Instant, bool)>>>);

impl Ready {
    /// Whether the store answers. Whoever asks meanwhile waits for the same answer.
    async fn now(&self, store: &dyn IncidentStore) -> bool {
        let mut last = self.0.lock().await;
        if let Some((at, answered)) = *last
            && at.elapsed() < STANDS
        {
            return answered;
        }
        let answered = matches!(timeout(PATIENCE, store.recent(1)).await, Ok(Ok(_)));
        *last = Some((Instant::now(), answered));
        answered
    }
}

/// Whether the store answers; whoever may look at incidents is told what of the service is as well.
pub(crate) async fn ready(State(service): State<Service>, headers: HeaderMap) -> Response {
    let worker = service.worker();
    let answers = service.ready.now(worker.ports.store.as_ref()).await;
    // Without a model alerts are taken and reports are made all the same: of the evidence alone.
    let model = match &worker.mind {
        Mind::Model(_) => "configured".to_owned(),
        Mind::None { reason } => format!("none: {reason}; reports hold the evidence only"),
    };
    let (code, status, store) = if answers {
        (StatusCode::OK, "ready", "answers")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready", "does not answer")
    };
    let said = match service.house().door.check(&headers, Right::Read) {
        Ok(_) => json!({"status": status, "store": store, "model": model}),
        Err(_) => json!({"status": status}),
    };
    (code, Json(said)).into_response()
}

pub(crate) async fn version() -> Response {
    Json(json!({"version": env!("CARGO_PKG_VERSION")})).into_response()
}

/// The metrics of the server, in Prometheus's text format.
pub(crate) async fn metrics(State(service): State<Service>) -> Response {
    let mut text = String::from(
        "# HELP sentinel_http_refused_total Requests and connections that were turned away.\n\
         # TYPE sentinel_http_refused_total counter\n",
    );
    let house = service.house();
    // Writing to a string does not fail.
    for why in Refusal::ALL {
        let total = house.ingest.refusals().total(why);
        let _ = writeln!(text, "sentinel_http_refused_total{{reason=\"{}\"}} {total}", why.as_str());
    }
    for (name, help, value) in [
        ("sentinel_http_connections", "Open connections.", service.crowd.count()),
        ("sentinel_http_body_bytes", "Bytes of bodies that are held just now.", service.bodies.held(BYTES)),
    ] {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
