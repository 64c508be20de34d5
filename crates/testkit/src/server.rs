//! What both fake servers share: a socket on the loopback, a graceful stop, a log of what arrived, broken answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running server. Dropping it stops it: hanging answers are cut off, nothing new is taken.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Running {
    /// Serves `router` on a free port of the loopback. A handler that hangs has to watch `stop`.
    pub(crate) async fn start(router: Router, stop: CancellationToken) -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), router, stop).await
    }

    /// The same at an address that was its own before.
    pub(crate) async fn at(address: SocketAddr, router: Router, stop: CancellationToken) -> Self {
        let listener = TcpListener::bind(address).await.expect("a socket on the loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stopped)
                .await
                .expect("axum::serve never ends in an error");
        });
        Self { address, stop, task: Some(task) }
    }

    /// Stops it, and waits until nobody listens any more.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let ended = tokio::time::timeout(crate::PATIENCE, task).await;
            assert!(ended.is_ok(), "the server has open requests that do not end");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What arrived, in order, and somebody waiting for it.
#[derive(Debug)]
pub(crate) struct Log<T> {
    entries: Mutex<Vec<T>>,
    length: watch::Sender<usize>,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self { entries: Mutex::default(), length: watch::Sender::new(0) }
    }
}

impl<T: Clone> Log<T> {
    /// Appends an entry and gives its place, from 0.
    pub(crate) fn push(&self, entry: T) -> usize {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
        self.length.send_replace(entries.len());
        entries.len() - 1
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until at least `n` entries are there.
    pub(crate) async fn wait_for(&self, n: usize, what: &str) {
        let mut length = self.length.subscribe();
        let arrived = tokio::time::timeout(crate::PATIENCE, length.wait_for(|len| *len >= n)).await;
        assert!(arrived.is_ok(), "waited for {n} {what}, {} came", self.all().len());
    }
}

/// Headers as a map: lower-case names, values that are no text shown lossily, repeated ones joined by `, `.
pub(crate) fn header_map(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut map: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        map.entry(name.as_str().to_owned())
            .and_modify(|v| *v = format!("{v}, {value}"))
            .or_insert_with(|| value.into_owned());
    }
    map
}

/// An answer with a body that is taken as it is.
pub(crate) fn raw(status: StatusCode, content_type: &str, body: impl Into<Body>) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(body.into())
        .expect("a status and one header make an answer")
}

/// An answer whose connection breaks before it is whole; the client may or may not see its status.
pub(crate) fn broken() -> Response {
    let body =
        futures::stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("closed by the script")) });
    raw(StatusCode::OK, "application/json", Body::from_stream(body))
}
