//! Bodies of requests: each read within its time, all together within their bytes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::request::Parts;
use http::{StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::connections::Crowd;

/// Bytes of all bodies at once: those that are being read, and those that are worked on.
pub(crate) const BYTES: usize = 32 << 20;
/// The longest that a body may take, …
const WHOLE: Duration = Duration::from_mins(1);
/// … and that it may bring nothing.
const IDLE: Duration = Duration::from_secs(10);
/// How long a body may wait for bytes of others to be let go.
const FULL: Duration = Duration::from_secs(2);
/// How long a refused sender may go on sending, so that it reads its answer instead of a broken pipe.
const DISCARD: Duration = Duration::from_secs(2);

/// Why a body is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unread {
    /// The connection broke.
    Broken,
    /// It took too long.
    TimedOut,
    /// Bodies of others hold all bytes.
    Full,
}

impl Unread {
    /// What the sender is told.
    pub(crate) const fn said(self) -> (StatusCode, &'static str) {
        match self {
            Self::Broken => (StatusCode::BAD_REQUEST, "the body ended before it was whole"),
            Self::TimedOut => (StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
            Self::Full => {
                (StatusCode::SERVICE_UNAVAILABLE, "too much is being read at once; send the same again")
            }
        }
    }
}

/// A body. Its bytes count until it is dropped.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    _held: Option<OwnedSemaphorePermit>,
}

/// What all bodies share. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    free: Arc<Semaphore>,
    crowd: Crowd,
}

impl Bodies {
    pub(crate) fn new(bytes: usize, crowd: Crowd) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes)), crowd }
    }

    /// Bytes that are held just now, of `all`.
    pub(crate) fn held(&self, all: usize) -> usize {
        all.saturating_sub(self.free.available_permits())
    }

    /// Reads a body up to `most` bytes. The rest is read and dropped, so that the sender gets its answer instead of a
    /// broken pipe.
    pub(crate) async fn read(&self, body: Body, most: usize) -> Result<Whole, Unread> {
        let (mut whole, mut held) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
        let mut chunks = body.into_data_stream();
        let end = Instant::now() + WHOLE;
        loop {
            let idle = Instant::now() + IDLE;
            let Ok(next) = timeout_at(end.min(idle), chunks.next()).await else {
                return Err(Unread::TimedOut);
            };
            let Some(chunk) = next else { break };
            let chunk = chunk.map_err(|_| Unread::Broken)?;
            let room = most.saturating_sub(whole.len());
            let taken = chunk.get(..room.min(chunk.len())).unwrap_or_default();
            if !taken.is_empty() {
                let more = self.take(taken.len()).await?;
                match &mut held {
                    Some(held) => held.merge(more),
                    None => held = Some(more),
                }
                whole.extend_from_slice(taken);
            }
        }
        Ok(Whole { bytes: whole.freeze(), _held: held })
    }

    async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Unread> {
        let bytes = u32::try_from(bytes).map_err(|_| Unread::Full)?;
        if let Ok(taken) = Arc::clone(&self.free).try_acquire_many_owned(bytes) {
            return Ok(taken);
        }
        self.crowd.make_room_for_bytes();
        match timeout(FULL, Arc::clone(&self.free).acquire_many_owned(bytes)).await {
            Ok(Ok(taken)) => Ok(taken),
            _ => Err(Unread::Full),
        }
    }
}

/// Reads and drops what a refused sender still sends, for a moment; not of one that waits for leave to send it.
pub(crate) async fn discard(head: &Parts, body: Body) {
    if head.headers.contains_key(header::EXPECT) {
        return;
    }
    let mut chunks = body.into_data_stream();
    let _ = timeout(DISCARD, async { while let Some(Ok(_)) = chunks.next().await {} }).await;
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn slow() -> Body {
        let begun = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"begun"))]);
        Body::from_stream(begun.chain(stream::pending()))
    }

    fn drip() -> Body {
        Body::from_stream(stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b".")), ()))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_or_drips_is_given_up() {
        let bodies = Bodies::new(1_000, Crowd::new(16));
        let start = Instant::now();
        assert_eq!(bodies.read(slow(), 100).await.unwrap_err(), Unread::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 10);
        assert_eq!(bodies.read(drip(), 100).await.unwrap_err(), Unread::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 70);
        discard(&http::Request::new(()).into_parts().0, drip()).await;
        assert_eq!(start.elapsed().as_secs(), 72);
        assert_eq!(bodies.held(1_000), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_bytes_are_held_than_may_be_and_they_are_free_again_afterwards() {
        let bodies = Bodies::new(10, Crowd::new(16));
        let first = bodies.read(Body::from("sevenby"), 100).await.unwrap();
        assert_eq!(bodies.held(10), 7);
        assert_eq!(bodies.read(Body::from("four"), 100).await.unwrap_err(), Unread::Full);
        drop(first);
        let whole = bodies.read(Body::from("longer than is taken"), 8).await.unwrap();
        assert_eq!(&whole.bytes[..], b"longer t");
    }
}
