//! How the service is: `/readyz` and `/version` for everybody, without details; details for whoever may read.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use sentinel_config::{Caller, ModelService, Server};
use sentinel_core::ports::IncidentStore;
use sentinel_worker::{Last, Mind, Of};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::access::Right;
use crate::house::House;
use crate::server::Service;

/// How long the store may take to say that it is there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer of the store stands: everybody may ask, and the store is not asked for each.
const STANDS: Duration = Duration::from_secs(1);

/// Whether the store answered, and when. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready(Arc<Mutex<Option<(Instant, bool)>>>);

impl Ready {
    /// Whether the store answers. Whoever asks meanwhile waits for the same answer.
    pub(crate) async fn now(&self, store: &dyn IncidentStore) -> bool {
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
    let house = service.house();
    let answers = service.ready.now(house.worker.ports.store.as_ref()).await;
    let (code, status, store) = if answers {
        (StatusCode::OK, "ready", "answers")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready", "does not answer")
    };
    let said = match house.door.check(&headers, Right::Read) {
        Ok(_) => details(&service, &house, status, store),
        Err(_) => json!({"status": status}),
    };
    (code, Json(said)).into_response()
}

/// What is told of whatever the service calls: as configured, and how the last call went. Nobody is called for it.
fn details(service: &Service, house: &House, status: &str, store: &str) -> Value {
    // Without a model alerts are taken and reports are made all the same: of the evidence alone.
    let model = match &house.worker.mind {
        Mind::Model(_) => "configured".to_owned(),
        Mind::None { reason } => format!("none: {reason}; reports hold the evidence only"),
    };
    let now = house.worker.ports.clock.now();
    let last = |of: Of| match service.health.last(&of) {
        None => json!({"last": "never asked"}),
        Some(Last { at, error }) => {
            // Secrets that were learned since are kept back, too.
            let error = error.map(|error| house.worker.redactor.redact(&error).into_owned());
            json!({"last": error.as_deref().unwrap_or("ok"), "age_seconds": now.since(at).as_secs()})
        }
    };
    let models = house.settings.models.services().filter(|service| service.can_be_asked());
    let models = models.map(|ModelService { name, .. }| (name.clone(), last(Of::Model(name.clone()))));
    let servers = house.settings.servers.iter().map(|Server { name, reach, .. }| {
        let mut last = last(Of::Server(name.clone()));
        if let (Caller::ModelService(_), Some(said)) = (reach.caller, last.as_object_mut()) {
            said.insert("called_by".to_owned(), json!("the model's service"));
        }
        (name.clone(), last)
    });
    let sinks = house.worker.sinks.keys().map(|name| (name.clone(), last(Of::Sink(name.clone()))));
    json!({
        "status": status,
        "store": store,
        "model": model,
        "models": models.collect::<Map<_, _>>(),
        "servers": servers.collect::<Map<_, _>>(),
        "sinks": sinks.collect::<Map<_, _>>(),
        "warnings": house.warnings.all(),
    })
}

pub(crate) async fn version() -> Response {
    Json(json!({"version": env!("CARGO_PKG_VERSION")})).into_response()
}
