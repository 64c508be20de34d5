//! A receiver of webhooks: it keeps what it takes, drops what it has taken before, and can be told to answer otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::server::{Log, Running, broken, header_map};

/// How a receiver answers one request.
#[derive(Clone, Debug)]
pub enum Receives {
    /// It takes it: 204.
    Takes,
    /// It takes it, and its answer is lost.
    TakesUnheard,
    /// It takes it, and never answers.
    TakesAndHangs,
    /// It does not: this status, with `Retry-After` in seconds where one is given.
    Refuses(u16, Option<u64>),
    /// It wants the request to go elsewhere.
    Redirects(String),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Posted {
    /// Headers by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as it came.
    pub raw: Vec<u8>,
    /// The body as JSON.
    pub body: Value,
}

impl Posted {
    /// `webhook-id`.
    ///
    /// # Panics
    /// It has none.
    pub fn id(&self) -> &str {
        self.headers.get("webhook-id").expect("a webhook-id")
    }
}

#[derive(Default)]
struct Shared {
    posted: Log<Posted>,
    taken: Mutex<Vec<Posted>>,
    script: Mutex<Vec<Receives>>,
    stop: CancellationToken,
}

/// The receiver. Dropping it stops it.
pub struct HookServer {
    shared: Arc<Shared>,
    running: Running,
}

impl fmt::Debug for HookServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookServer").field("address", &self.running.address).finish_non_exhaustive()
    }
}

impl HookServer {
    /// A receiver that answers as `script` says, one entry a request, and takes everything once that is over.
    pub async fn start(script: impl IntoIterator<Item = Receives>) -> Self {
        let mut script: Vec<_> = script.into_iter().collect();
        script.reverse();
        let shared = Arc::new(Shared { script: Mutex::new(script), ..Shared::default() });
        let stop = shared.stop.clone();
        let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&shared));
        Self { shared, running: Running::start(router, stop).await }
    }

    /// Where to post.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.running.address)
    }

    /// All requests, in order.
    pub fn posted(&self) -> Vec<Posted> {
        self.shared.posted.all()
    }

    /// What it has taken: each `webhook-id` once.
    pub fn taken(&self) -> Vec<Posted> {
        self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until at least `n` requests have come.
    pub async fn wait_for(&self, n: usize) {
        self.shared.posted.wait_for(n, "webhooks").await;
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, raw: Bytes) -> Response {
    let body = serde_json::from_slice(&raw).unwrap_or_default();
    let posted = Posted { headers: header_map(&headers), raw: raw.to_vec(), body };
    let next = shared.script.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or(Receives::Takes);
    if matches!(next, Receives::Takes | Receives::TakesUnheard | Receives::TakesAndHangs) {
        let mut taken = shared.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if !taken.iter().any(|before| before.id() == posted.id()) {
            taken.push(posted.clone());
        }
    }
    shared.posted.push(posted);
    match next {
        Receives::Takes => StatusCode::NO_CONTENT.into_response(),
        Receives::TakesUnheard => broken(),
        Receives::TakesAndHangs => {
            shared.stop.cancelled().await;
            broken()
        }
        Receives::Refuses(status, after) => {
            let status = StatusCode::from_u16(status).expect("a status");
            match after {
                Some(seconds) => (status, [("retry-after", seconds.to_string())]).into_response(),
                None => status.into_response(),
            }
        }
        Receives::Redirects(to) => (StatusCode::FOUND, [("location", to)]).into_response(),
    }
}
