//! `up`'s HTTP server: the webhook through the same handler as on Lambda, and the incidents' API.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, StatusCode, header};
use sentinel_alertmanager::MAX_BODY_BYTES;
use sentinel_core::incident::IncidentId;
use sentinel_core::lifecycle::Aborted;
use sentinel_core::ports::{Ports, StoreError};
use sentinel_ingest::{Door, Ingest};
use sentinel_worker::Worker;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::events::Readers;
use crate::{api, events};

/// A body that takes longer than a millisecond, in bytes.
const LARGE_BODY: usize = 64 * 1024;

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) worker: Arc<Worker>,
    /// Who reads events.
    pub(crate) readers: Readers,
    /// Who may use `/api`; `None`: the listener is on loopback, where whoever reaches it may.
    pub(crate) api_door: Option<Door>,
}

impl Service {
    fn ports(&self) -> &Ports {
        &self.worker.ports
    }
}

/// The routes.
pub(crate) fn router(service: Service) -> Router {
    let api = Router::new()
        .route("/api/incidents", get(list))
        .route("/api/incidents/{id}", get(show))
        .route("/api/incidents/{id}/abort", post(abort))
        .route("/api/incidents/{id}/record", get(record))
        .route("/api/incidents/{id}/events", get(events::stream))
        .layer(middleware::from_fn_with_state(service.clone(), guard));
    Router::new().merge(api).fallback(webhook).with_state(service)
}

/// Everything that is not the API is the ingest handler's, the 404 included.
async fn webhook(State(service): State<Service>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some(body) = read(body).await else {
        return problem(StatusCode::BAD_REQUEST, "the body ended before it was whole");
    };
    let is_large = body.len() > LARGE_BODY;
    let handled = service.ingest.handle(http::Request::from_parts(parts, body));
    // Parsing and matching would keep others waiting; whoever sends that much waits on a thread of their own.
    let response =
        if is_large { block_in_place(|| Handle::current().block_on(handled)) } else { handled.await };
    response.map(Body::from)
}

/// Reads a body up to one byte more than is taken. The rest is read and dropped, so that the sender gets its answer
/// instead of a broken pipe. `None`: the connection broke.
async fn read(body: Body) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.ok()?;
        let room = (MAX_BODY_BYTES + 1).saturating_sub(whole.len());
        whole.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
    }
    Some(whole.freeze())
}

/// On loopback whoever reaches the API may use it, but not a web page in the operator's browser: no request with an
/// `Origin`, none for a host that merely resolves to loopback.
async fn guard(State(service): State<Service>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if let Some(door) = &service.api_door {
        let Ok(auth) = door
            .now()
            .await
            .inspect_err(|error| tracing::error!(%error, "nobody can say who may use the API"))
        else {
            return problem(StatusCode::SERVICE_UNAVAILABLE, "credentials cannot be checked now");
        };
        if auth.check(headers).is_err() {
            return problem(StatusCode::UNAUTHORIZED, "the API takes the webhook's credentials");
        }
    } else if headers.contains_key(header::ORIGIN) || !names_loopback(headers) {
        return problem(StatusCode::FORBIDDEN, "the API is for programs on this machine, not for web pages");
    }
    next.run(request).await
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|h| h.to_str().ok()) else { return false };
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[derive(Deserialize)]
struct Page {
    limit: Option<usize>,
}

/// Incidents of one answer, unless fewer are asked for.
const LISTED: usize = 1000;

async fn list(State(service): State<Service>, Query(page): Query<Page>) -> Response {
    let limit = page.limit.unwrap_or(LISTED).clamp(1, LISTED);
    match api::list(service.ports().store.as_ref(), limit).await {
        Ok(incidents) => Json(incidents).into_response(),
        Err(error) => store_problem(&error),
    }
}

async fn show(State(service): State<Service>, Path(id): Path<String>) -> Response {
    match api::detail(service.ports().store.as_ref(), &IncidentId::new(id)).await {
        Ok(Some(detail)) => Json(detail).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, "there is no such incident"),
        Err(error) => store_problem(&error),
    }
}

async fn record(State(service): State<Service>, Path(id): Path<String>) -> Response {
    match api::record(service.ports().store.as_ref(), &IncidentId::new(id)).await {
        Ok(Some(record)) => Json(record).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, "there is no such incident"),
        Err(error) => store_problem(&error),
    }
}

/// What an abort is asked with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AbortRequest {
    /// Who stops it, for the record.
    pub(crate) who: String,
}

async fn abort(
    State(service): State<Service>,
    Path(id): Path<String>,
    Json(request): Json<AbortRequest>,
) -> Response {
    match service.worker.abort(&IncidentId::new(id), request.who).await {
        Ok(Aborted::Aborted) => Json(json!({"outcome": "aborted"})).into_response(),
        Ok(Aborted::AlreadyEnded(state)) => {
            (StatusCode::CONFLICT, Json(json!({"error": format!("it had ended before: {state}")})))
                .into_response()
        }
        Ok(Aborted::Unknown) => problem(StatusCode::NOT_FOUND, "there is no such incident"),
        Err(error) => {
            tracing::error!(%error, "an abort failed");
            problem(StatusCode::SERVICE_UNAVAILABLE, "the store did not answer")
        }
    }
}

pub(crate) fn store_problem(error: &StoreError) -> Response {
    tracing::error!(%error, "the API could not read the store");
    problem(StatusCode::SERVICE_UNAVAILABLE, "the store did not answer")
}

pub(crate) fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(value: &str) -> HeaderMap {
        [(header::HOST, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn only_names_of_this_machine_reach_the_open_api() {
        for good in ["127.0.0.1:8765", "localhost:1", "[::1]:8765", "127.0.0.1"] {
            assert!(names_loopback(&host(good)), "{good}");
        }
        for bad in ["evil.example:8765", "localhost.evil.example", "10.0.0.1:1"] {
            assert!(!names_loopback(&host(bad)), "{bad}");
        }
        assert!(!names_loopback(&HeaderMap::new()));
    }
}
