//! The connections of `up`: HTTP/1.1, a bounded number, each with time-outs.
//!
//! Where every place is taken, the connection that has waited longest makes room for the new one: one that sends nothing,
//! or its head or its body slowly. One whose request is being answered, or whose head showed credentials, is never closed
//! for another. So however many connections somebody leaves unfinished, a webhook finds a place.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sentinel_core::ports::Clock;
use sentinel_ingest::{Refusal, Refusals};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// The longest that the head of a request may take, and that a connection may wait for its next request.
const HEAD: Duration = Duration::from_secs(15);
/// The longest that a reader may take nothing of its answer.
const WRITE: Duration = Duration::from_secs(30);
/// The most bytes that are read ahead of a connection: the limit of a head, too.
const BUFFER: usize = 32 * 1024;
/// The most headers of a request.
const HEADERS: usize = 100;
/// How long what is being answered may go on after the end was asked for, and nothing else is waited for.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
/// How long to wait for a free place after a connection could not be taken: the same would fail at once.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// The most connections where nobody says: half of what the process may open, so that the store, servers and sinks have
/// the other half.
pub(crate) fn usual_limit() -> usize {
    let open = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(open / 2).unwrap_or(usize::MAX).clamp(16, 1024)
}

/// Why a connection may be closed for another, and since when; places are numbered, so the lowest has waited longest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// No request yet, part of a head, or nothing after the last answer.
    Waiting(u64),
    /// Part of a body of somebody who showed no credentials.
    Reading(u64),
    /// Its request is answered, or was let in.
    Busy,
}

#[derive(Debug)]
struct Slot {
    state: State,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Slots {
    next: u64,
    by_number: BTreeMap<u64, Slot>,
}

impl Slots {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn set(&mut self, number: u64, state: impl FnOnce(u64) -> State) {
        let since = self.number();
        if let Some(slot) = self.by_number.get_mut(&number) {
            slot.state = state(since);
        }
    }

    /// Closes the one that was in such a state longest.
    fn close_oldest(&mut self, since: impl Fn(State) -> Option<u64>) -> bool {
        let open = self.by_number.values().filter(|slot| !slot.closed.is_cancelled());
        let oldest = open.filter_map(|slot| Some((since(slot.state)?, slot))).min_by_key(|(since, _)| *since);
        let Some((_, slot)) = oldest else { return false };
        slot.closed.cancel();
        true
    }
}

/// All connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    limit: usize,
    slots: Arc<Mutex<Slots>>,
    freed: Arc<Notify>,
}

impl Crowd {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, slots: Arc::default(), freed: Arc::default() }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.slots().by_number.len()
    }

    fn enter(&self) -> Option<Place> {
        let mut slots = self.slots();
        if slots.by_number.len() >= self.limit {
            return None;
        }
        let (number, closed) = (slots.number(), CancellationToken::new());
        slots.by_number.insert(number, Slot { state: State::Waiting(number), closed: closed.clone() });
        Some(Place { crowd: self.clone(), number, closed })
    }

    /// Closes the connection that has waited longest. `false`: every one is busy.
    fn make_room(&self) -> bool {
        self.slots().close_oldest(|state| match state {
            State::Waiting(since) | State::Reading(since) => Some(since),
            State::Busy => None,
        })
    }

    /// Closes the connection of which a stranger's body is being read longest, and lets its bytes go.
    pub(crate) fn make_room_for_bytes(&self) -> bool {
        self.slots().close_oldest(|state| match state {
            State::Reading(since) => Some(since),
            State::Waiting(_) | State::Busy => None,
        })
    }

    /// A place for a new connection, as soon as there is one.
    async fn place(&self, refused: impl Fn()) -> Place {
        loop {
            // Before it is looked, so that a place that becomes free meanwhile is not missed.
            let freed = self.freed.notified();
            if let Some(place) = self.enter() {
                return place;
            }
            if self.make_room() {
                refused();
            }
            freed.await;
        }
    }
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Crowd,
    number: u64,
    closed: CancellationToken,
}

impl Place {
    /// A stranger's body is being read: until the guard is dropped the connection may be closed for it.
    pub(crate) fn reading(self: &Arc<Self>) -> Standing {
        self.crowd.slots().set(self.number, State::Reading);
        Standing(Arc::clone(self))
    }

    /// Its request is let in: until the guard is dropped the connection is not closed for another.
    pub(crate) fn busy(self: &Arc<Self>) -> Standing {
        self.crowd.slots().set(self.number, |_| State::Busy);
        Standing(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.slots().by_number.remove(&self.number);
        self.crowd.freed.notify_one();
    }
}

/// What a connection does just now; it waits again when this is dropped.
#[derive(Debug)]
pub(crate) struct Standing(Arc<Place>);

impl Drop for Standing {
    fn drop(&mut self) {
        self.0.crowd.slots().set(self.0.number, State::Waiting);
    }
}

/// What the connections share.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) router: Router,
    pub(crate) crowd: Crowd,
    pub(crate) refusals: Refusals,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stop: CancellationToken,
}

impl Connections {
    fn refused(&self, why: Refusal) {
        self.refusals.count(why, self.clock.now());
    }

    /// Takes connections until it is told to stop, then lets the answers end that are under way.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let tasks = TaskTracker::new();
        while let Some(accepted) = self.stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    let place = self.crowd.place(|| self.refused(Refusal::Crowded));
                    let Some(place) = self.stop.run_until_cancelled(place).await else { break };
                    tasks.spawn(self.clone().answer(stream, Arc::new(place)));
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::debug!(%error, "a connection was not taken");
                    self.refused(Refusal::NotAccepted);
                    let freed = self.crowd.freed.notified();
                    self.crowd.make_room();
                    let _ = tokio::time::timeout(AFTER_ERROR, freed).await;
                }
            }
        }
        drop(listener);
        tasks.close();
        // What is left then is cut off with the runtime.
        let _ = tokio::time::timeout(LAST_ANSWERS, tasks.wait()).await;
    }

    /// Answers the requests of one connection.
    async fn answer(self, stream: TcpStream, place: Arc<Place>) {
        // A small answer must not wait for another one to go with.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE));
        let closed = place.closed.clone();
        let (router, asked) = (self.router.clone(), Arc::new(AtomicBool::new(false)));
        let has_asked = Arc::clone(&asked);
        let service = service_fn(move |request: Request<Incoming>| {
            has_asked.store(true, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Arc::clone(&place));
            let router = router.clone();
            async move { router.oneshot(request).await.map_err(|never: Infallible| never) }
        });
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_headers(HEADERS)
                .max_buf_size(BUFFER)
                // Whoever has sent a request may say that nothing follows, and still read the answer.
                .half_close(true)
                .serve_connection(TokioIo::new(Box::pin(stream)), service)
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = closed.cancelled() => return,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // One that asked before, and asks nothing more, has done nothing wrong.
            let late = error.is_timeout() && !asked.load(Ordering::Relaxed);
            if late || untaken(&error) {
                self.refused(Refusal::TimedOut);
            }
            tracing::debug!(%error, "a connection broke");
        }
    }
}

/// Whether the reader took nothing for too long.
fn untaken(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Errors of `accept` that say something of the connection, and nothing of this process (accept(2)).
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::stream;
    use sentinel_testkit::clock::ManualClock;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn closed(places: &[Arc<Place>]) -> Vec<bool> {
        places.iter().map(|place| place.closed.is_cancelled()).collect()
    }

    fn enter(crowd: &Crowd) -> Arc<Place> {
        Arc::new(crowd.enter().unwrap())
    }

    #[test]
    fn who_has_waited_longest_makes_room_and_who_is_answered_never_does() {
        let crowd = Crowd::new(3);
        let places = [enter(&crowd), enter(&crowd), enter(&crowd)];
        assert!(crowd.enter().is_none());
        let _first_is_answered = places[0].busy();
        // The second asked, and waits again: the third has waited longer.
        drop(places[1].busy());
        assert!(crowd.make_room());
        assert_eq!(closed(&places), [false, false, true]);
        assert!(crowd.make_room());
        assert_eq!(closed(&places), [false, true, true]);
        assert!(!crowd.make_room());
    }

    #[test]
    fn bytes_are_taken_from_the_body_that_is_read_longest_and_from_nothing_else() {
        let crowd = Crowd::new(4);
        let places = [enter(&crowd), enter(&crowd), enter(&crowd), enter(&crowd)];
        let _known = places[0].busy();
        let _reads_since_later = (places[3].reading(), places[2].reading());
        assert!(crowd.make_room_for_bytes());
        assert_eq!(closed(&places), [false, false, false, true]);
        assert!(crowd.make_room_for_bytes());
        assert_eq!(closed(&places), [false, false, true, true]);
        assert!(!crowd.make_room_for_bytes());
    }

    #[tokio::test]
    async fn a_new_connection_gets_the_place_of_the_one_that_was_closed_for_it() {
        let crowd = Crowd::new(1);
        let first = crowd.enter().unwrap();
        let (second, ()) = tokio::join!(crowd.place(|| {}), async {
            first.closed.cancelled().await;
            drop(first);
        });
        assert_eq!(crowd.count(), 1);
        drop(second);
        assert_eq!(crowd.count(), 0);
    }

    /// Serves this to a client that has sent `begun` and reads nothing, until its connection is given up; gives how long
    /// that took.
    async fn given_up(router: Router, begun: &[u8]) -> Duration {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Before anybody serves, so that nothing is waited for while the clock jumps.
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(begun).await.unwrap();
        let connections = Connections {
            router,
            crowd: Crowd::new(16),
            refusals: Refusals::default(),
            clock: Arc::new(ManualClock::default()),
            stop: CancellationToken::new(),
        };
        let serving = tokio::spawn(connections.clone().serve(listener));
        let start = tokio::time::Instant::now();
        while connections.refusals.total(Refusal::TimedOut) == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let took = start.elapsed();
        connections.stop.cancel();
        serving.await.unwrap();
        assert_eq!(connections.crowd.count(), 0);
        took
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_never_whole_is_given_up() {
        let took = given_up(Router::new(), b"GET / HTTP/1.1\r\nhost: localhost\r\nx").await;
        assert!((15..=16).contains(&took.as_secs()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_given_up() {
        let endless = || async {
            Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[b'x'; 16_000]))))
        };
        let router = Router::new().fallback(endless);
        let took = given_up(router, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert!((30..=32).contains(&took.as_secs()), "{took:?}");
    }

    #[test]
    fn an_error_of_one_connection_is_none_of_the_process() {
        assert!(is_of_the_connection(&io::ErrorKind::ConnectionAborted.into()));
        assert!(!is_of_the_connection(&io::Error::from_raw_os_error(24)));
    }
}
