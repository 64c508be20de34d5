//! `up`'s routes: the webhook through the same handler as on Lambda, the incidents' API, and what says how the service is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use sentinel_alertmanager::MAX_BODY_BYTES;
use sentinel_core::chain::write_export;
use sentinel_core::incident::IncidentId;
use sentinel_core::lifecycle::{Aborted, Deletion};
use sentinel_core::ports::StoreError;
use sentinel_ingest::{Admission, Admitted, Refusal};
use sentinel_local::LocalQueue;
use sentinel_telemetry::Counts;
use sentinel_worker::{Health, Worker};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::access::{Caller, Right};
use crate::bodies::{Bodies, Unread, Whole, discard};
use crate::connections::{Crowd, Place, Standing};
use crate::events::Readers;
use crate::health::{self, Ready};
use crate::house::{Current, House};
use crate::listing::{self, Listed, Wanted};
use crate::{api, deletion, events, metrics};

/// A body that takes longer than a millisecond, in bytes.
const LARGE_BODY: usize = 64 * 1024;
/// The longest body of a request to the API.
const MOST_OF_A_REQUEST: usize = 16 << 10;
/// The longest that a caller may be named, in characters.
const MOST_OF_A_NAME: usize = 200;
/// Seconds after which whoever found everything full may come again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) current: Current,
    /// Who reads events.
    pub(crate) readers: Readers,
    pub(crate) bodies: Bodies,
    pub(crate) crowd: Crowd,
    pub(crate) ready: Ready,
    /// How the last calls went.
    pub(crate) health: Health,
    /// What was measured since the start.
    pub(crate) counts: Counts,
    pub(crate) queue: LocalQueue,
}

impl Service {
    /// What the configuration makes of it just now.
    pub(crate) fn house(&self) -> Arc<House> {
        self.current.house()
    }

    /// Who investigates by it.
    pub(crate) fn worker(&self) -> Arc<Worker> {
        Arc::clone(&self.house().worker)
    }

    fn refused(&self, why: Refusal) {
        let house = self.house();
        house.ingest.refusals().count(why, house.worker.ports.clock.now());
    }

    /// A refusal, counted.
    fn turned_away(&self, status: StatusCode, message: &str) -> Response {
        if let Some(why) = Refusal::of(status) {
            self.refused(why);
        }
        problem(status, message)
    }

    /// The answer to somebody whose body was not read.
    fn unread(&self, why: Unread) -> Response {
        let (status, message) = why.said();
        match why {
            Unread::Broken => problem(status, message),
            Unread::TimedOut => self.turned_away(status, message),
            Unread::Full => self.full(message),
        }
    }

    pub(crate) fn full(&self, message: &str) -> Response {
        self.refused(Refusal::Full);
        let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, message);
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        response
    }
}

/// The routes.
pub(crate) fn router(service: Service) -> Router {
    let guarded = |right| middleware::from_fn_with_state((service.clone(), right), guard);
    let read = Router::new()
        .route("/api/incidents", get(list))
        .route("/api/incidents/{id}", get(show))
        .route("/api/incidents/{id}/record", get(record))
        .route("/api/incidents/{id}/audit", get(audit))
        .route("/api/incidents/{id}/events", get(events::stream))
        .route("/metrics", get(metrics::metrics))
        .layer(guarded(Right::Read));
    let operate = Router::new()
        .route("/api/incidents/{id}/abort", post(abort))
        .route("/api/incidents/{id}/delete", post(delete))
        .layer(guarded(Right::Operate));
    Router::new()
        .merge(read)
        .merge(operate)
        .route("/readyz", get(health::ready))
        .route("/version", get(health::version))
        .layer(middleware::from_fn_with_state(service.clone(), missed))
        .fallback(webhook)
        .layer(middleware::from_fn_with_state(service.clone(), named))
        .with_state(service)
}

/// Counts what is answered with 404 or 405 here; the ingest handler counts its own.
async fn missed(State(service): State<Service>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    if let Some(why) = Refusal::of(response.status()).filter(|why| why.is_of_a_path()) {
        let house = service.house();
        house.ingest.refusals().count_with(why, Some(&path), house.worker.ports.clock.now());
    }
    response
}

/// Whatever is asked is asked by a name of this server, and not by a web page.
async fn named(State(service): State<Service>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if let Some(why) = service.house().names.refuse(&parts) {
        discard(&parts, body).await;
        return service.turned_away(StatusCode::FORBIDDEN, why);
    }
    next.run(Request::from_parts(parts, body)).await
}

/// Whoever uses the API shows a token for it, where tokens are asked for.
async fn guard(
    State((service, right)): State<(Service, Right)>,
    mut request: Request,
    next: Next,
) -> Response {
    match service.house().door.check(request.headers(), right) {
        Ok(caller) => {
            let standing = request.extensions().get::<Arc<Place>>().map(Place::busy);
            request.extensions_mut().insert(caller);
            next.run(request).await.map(|body| Body::new(Held { body, _standing: standing }))
        }
        Err(denied) => {
            let (parts, body) = request.into_parts();
            discard(&parts, body).await;
            let mut response = service.turned_away(denied.status(), denied.message());
            if denied.status() == StatusCode::UNAUTHORIZED {
                let scheme = HeaderValue::from_static(r#"Bearer realm="sentinel""#);
                response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
            }
            response
        }
    }
}

/// An answer whose connection is not closed for another before it is whole.
struct Held {
    body: Body,
    _standing: Option<Standing>,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Everything that is no other route's is the ingest handler's, the 404 included.
async fn webhook(State(service): State<Service>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // One configuration for the whole of a request.
    let house = service.house();
    let admitted = match house.ingest.admit(&parts).await {
        Admission::Webhook(admitted) => admitted,
        Admission::Answered(response) => {
            discard(&parts, body).await;
            return response.map(Body::from);
        }
    };
    let place = parts.extensions.get::<Arc<Place>>();
    // Whoever showed credentials is not closed for another; a stranger may be, as long as it is not known what it sends.
    let standing = place.map(match admitted {
        Admitted::Known { .. } => Place::busy,
        Admitted::Anonymous(_) | Admitted::Unsigned(_) => Place::reading,
    });
    let whole = match service.bodies.read(body, MAX_BODY_BYTES + 1).await {
        Ok(whole) => whole,
        Err(why) => return service.unread(why),
    };
    drop(standing);
    let _standing = place.map(Place::busy);
    let is_large = whole.bytes.len() > LARGE_BODY;
    let handled = house.ingest.take(admitted, &parts.headers, &whole.bytes);
    // Parsing and matching would keep others waiting; whoever sends that much waits on a thread of their own.
    let response =
        if is_large { block_in_place(|| Handle::current().block_on(handled)) } else { handled.await };
    response.map(Body::from)
}

/// Names the cursor with which a list goes on; not there: it does not.
pub(crate) const CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");
/// Incidents of one answer, unless fewer are asked for.
const LISTED: usize = 1000;

async fn list(State(service): State<Service>, Query(asked): Query<Vec<(String, String)>>) -> Response {
    let (wanted, page) = match Wanted::of_query(&asked) {
        Ok(read) => read,
        Err(why) => return service.turned_away(StatusCode::BAD_REQUEST, &why),
    };
    let limit = page.limit.unwrap_or(LISTED).clamp(1, LISTED);
    let Worker { ports, redactor, .. } = &*service.worker();
    match listing::list(ports.store.as_ref(), redactor, &wanted, page.cursor.as_ref(), limit).await {
        Ok(Listed { incidents, next }) => {
            let mut response = Json(incidents).into_response();
            let next = next.and_then(|next| HeaderValue::from_str(&next.to_string()).ok());
            if let Some(next) = next {
                response.headers_mut().insert(CURSOR, next);
            }
            response
        }
        Err(error) => store_problem(&error),
    }
}

async fn show(State(service): State<Service>, Path(id): Path<String>) -> Response {
    let Worker { ports, redactor, display, .. } = &*service.worker();
    let now = ports.clock.now();
    match api::detail(ports.store.as_ref(), redactor, display, now, &IncidentId::new(id)).await {
        Ok(Some(detail)) => Json(detail).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, "there is no such incident"),
        Err(error) => store_problem(&error),
    }
}

async fn record(State(service): State<Service>, Path(id): Path<String>) -> Response {
    let Worker { ports, redactor, .. } = &*service.worker();
    match api::record(ports.store.as_ref(), redactor, &IncidentId::new(id)).await {
        Ok(Some(record)) => Json(record).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, "there is no such incident"),
        Err(error) => store_problem(&error),
    }
}

async fn audit(State(service): State<Service>, Path(id): Path<String>) -> Response {
    match crate::audit::whole_record(service.worker().ports.store.as_ref(), &IncidentId::new(id)).await {
        Ok(Some(record)) => match write_export(&record) {
            Ok(text) => ([(header::CONTENT_TYPE, "application/jsonl")], text).into_response(),
            Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the record cannot be written as JSON"),
        },
        Ok(None) => problem(StatusCode::NOT_FOUND, "there is no such incident"),
        Err(error) => store_problem(&error),
    }
}

/// What an abort or a deletion is asked with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ByWhom {
    /// Who it is that stops or deletes it, for the record.
    pub(crate) who: String,
}

impl ByWhom {
    /// Reads it; else what is wrong.
    fn read(whole: &Whole) -> Result<Self, (StatusCode, String)> {
        if whole.bytes.len() > MOST_OF_A_REQUEST {
            let message = format!("a request to the API has {MOST_OF_A_REQUEST} bytes at most");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        let request: Self = serde_json::from_slice(&whole.bytes)
            .map_err(|error| (StatusCode::BAD_REQUEST, format!("the body is no {{\"who\": …}}: {error}")))?;
        if request.who.chars().count() > MOST_OF_A_NAME {
            let message = format!("`who` has {MOST_OF_A_NAME} characters at most");
            return Err((StatusCode::BAD_REQUEST, message));
        }
        Ok(request)
    }
}

/// Who asks, or why nobody can be told apart: the body names somebody, and whose token it is has been checked.
async fn asked_by(service: &Service, body: Body, token: Option<String>) -> Result<String, Response> {
    let whole = match service.bodies.read(body, MOST_OF_A_REQUEST + 1).await {
        Ok(whole) => whole,
        Err(why) => return Err(service.unread(why)),
    };
    let ByWhom { who } =
        ByWhom::read(&whole).map_err(|(status, message)| service.turned_away(status, &message))?;
    Ok(token.map_or(who.clone(), |token| format!("{token} ({who})")))
}

async fn delete(
    State(service): State<Service>,
    Path(id): Path<String>,
    Extension(Caller(token)): Extension<Caller>,
    body: Body,
) -> Result<Response, Response> {
    let who = asked_by(&service, body, token).await?;
    let (id, worker) = (IncidentId::new(id), service.worker());
    let who = worker.redactor.for_incident(&id).redact(&who).into_owned();
    Ok(match sentinel_core::delete::delete(&worker.ports, &id, who).await {
        Ok(outcome) => match deletion::why_not(outcome) {
            None => Json(json!({"outcome": "deleted"})).into_response(),
            Some(_) if outcome == Deletion::Unknown => {
                problem(StatusCode::NOT_FOUND, "there is no such incident")
            }
            Some(why) => problem(StatusCode::CONFLICT, &why),
        },
        Err(error) => {
            tracing::error!(%error, "a deletion failed");
            problem(StatusCode::SERVICE_UNAVAILABLE, "the store did not answer")
        }
    })
}

async fn abort(
    State(service): State<Service>,
    Path(id): Path<String>,
    Extension(Caller(token)): Extension<Caller>,
    body: Body,
) -> Result<Response, Response> {
    let who = asked_by(&service, body, token).await?;
    Ok(match service.worker().abort(&IncidentId::new(id), who).await {
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
    })
}

pub(crate) fn store_problem(error: &StoreError) -> Response {
    tracing::error!(%error, "the API could not read the store");
    problem(StatusCode::SERVICE_UNAVAILABLE, "the store did not answer")
}

pub(crate) fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}
