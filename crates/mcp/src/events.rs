//! The events of an answer that is a stream: bounded, mended, and never without an end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{BoxStream, iter, unfold};
use reqwest::Response;
use rmcp::model::{ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::SseError;
use sentinel_http::HttpError;
use sentinel_investigation::aside;
use sse_stream::{Sse, SseStream};

use crate::reading;

pub(crate) type Events = BoxStream<'static, Result<Sse, SseError>>;

/// Events of one stream that are read: progress and log messages come before an answer.
const MOST_EVENTS: usize = 1000;
/// Bytes of all of them.
const MOST_BYTES: usize = 32 << 20;
/// Bytes of one.
const MOST_OF_ONE: usize = 16 << 20;

/// Of errors that are made here, and not by the server.
pub(crate) const OWN: ErrorCode = ErrorCode(-32_099);
/// The same, where the answer broke off.
pub(crate) const BROKE: ErrorCode = ErrorCode(-32_098);

/// The events of a body. Bytes that are no UTF-8 become U+FFFD.
pub(crate) fn of(response: Response) -> Events {
    // What was read since the last event.
    let unread = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&unread);
    let body = unfold((response, Vec::new()), move |(mut response, mut rest)| {
        let counted = Arc::clone(&counted);
        async move {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return None,
                Err(e) => {
                    let broke = io::Error::other(HttpError::from(&e));
                    return Some((Err(broke), (response, rest)));
                }
            };
            let size = counted.fetch_add(chunk.len(), Ordering::Relaxed).saturating_add(chunk.len());
            let text = if size > MOST_OF_ONE + 1024 { Err(too_large()) } else { Ok(text(&mut rest, &chunk)) };
            Some((text, (response, rest)))
        }
    });
    // One line at a time: a line that the parser does not know costs it no other.
    let lines = |text: Result<Bytes, io::Error>| match text {
        Ok(text) => {
            let lines: Vec<_> =
                text.split_inclusive(|b| *b == b'\n').map(|line| Ok(text.slice_ref(line))).collect();
            iter(lines)
        }
        Err(error) => iter(vec![Err(error)]),
    };
    let known = |event: Result<Sse, SseError>| match event {
        Err(error) if !matches!(error, SseError::Body(_)) => Ok(Sse::default()),
        event => event,
    };
    let events = SseStream::from_bytes_stream(body.flat_map(lines).boxed()).map(known);
    events.inspect(move |_| unread.store(0, Ordering::Relaxed)).fuse().boxed()
}

const TOO_LARGE: &str = "its answer is larger than 16 MB";

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, TOO_LARGE)
}

/// The text of a chunk. What may be the beginning of a character stays in `rest` until its end is there.
fn text(rest: &mut Vec<u8>, chunk: &[u8]) -> Bytes {
    rest.extend_from_slice(chunk);
    let whole = match std::str::from_utf8(rest) {
        Err(e) if e.error_len().is_none() => e.valid_up_to(),
        // The end may be the beginning of a character all the same.
        Err(_) => rest.len().saturating_sub(cut_at_the_end(rest)),
        Ok(_) => rest.len(),
    };
    let tail = rest.split_off(whole);
    let text = String::from_utf8_lossy(rest).into_owned();
    *rest = tail;
    Bytes::from(text)
}

/// How many bytes at the end are the beginning of a character.
fn cut_at_the_end(bytes: &[u8]) -> usize {
    let begins = |from: usize| {
        let tail = bytes.get(bytes.len().saturating_sub(from)..).unwrap_or_default();
        matches!(std::str::from_utf8(tail), Err(e) if e.valid_up_to() == 0 && e.error_len().is_none())
    };
    (1..=3).rev().find(|from| *from <= bytes.len() && begins(*from)).unwrap_or(0)
}

struct Reading {
    events: Events,
    id: RequestId,
    /// How many, and their bytes.
    read: (usize, usize),
    /// Why the last one could not be read.
    problem: Option<String>,
    /// Whether rmcp may go on with another connection where this one breaks off.
    may_resume: bool,
    /// Whether the answer was there, or an error in its place.
    is_answered: bool,
}

/// The events that answer a request. One that is no message is passed over, as is one that cannot be read; where no
/// answer comes, an error that says why is one.
pub(crate) fn that_answer(events: Events, id: RequestId) -> Events {
    let reading = Reading { events, id, read: (0, 0), problem: None, may_resume: false, is_answered: false };
    unfold(reading, |mut reading| async move {
        let event = reading.next().await?;
        Some((event, reading))
    })
    // rmcp reads on after the end.
    .fuse()
    .boxed()
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Sse, SseError>> {
        let event = match self.events.next().await {
            _ if self.is_answered => return None,
            Some(Ok(event)) => event,
            Some(Err(SseError::Body(error))) if error.to_string().contains(TOO_LARGE) => {
                return Some(Ok(self.instead(OWN, TOO_LARGE)));
            }
            Some(Err(error)) if self.may_resume => return Some(Err(error)),
            None if self.may_resume && self.problem.is_none() => return None,
            Some(Err(_)) | None => {
                let (code, problem) = match self.problem.take() {
                    Some(problem) => (OWN, problem),
                    None => (BROKE, "its answer broke off before it was whole".to_owned()),
                };
                return Some(Ok(self.instead(code, &problem)));
            }
        };
        self.may_resume |= event.id.is_some();
        let size = event.data.as_ref().map_or(0, String::len);
        self.read = (self.read.0.saturating_add(1), self.read.1.saturating_add(size));
        if self.read.0 > MOST_EVENTS || self.read.1 > MOST_BYTES {
            let beyond = "its answer is a stream of more than 1,000 events, or of more than 32 MB";
            return Some(Ok(self.instead(OWN, beyond)));
        }
        let Sse { event: name, data, id, retry } = event;
        let passed = Sse { event: None, data: None, id, retry };
        let is_message = matches!(name.as_deref(), None | Some("" | "message"));
        let Some(data) = data.filter(|data| is_message && !data.trim().is_empty()) else {
            return Some(Ok(passed));
        };
        let read = aside(|| {
            let read = reading::message(data.as_bytes(), Some(&self.id));
            read.map(|read| {
                read.map(|read| (is_answer(&read.message), serde_json::to_string(&read.message).ok()))
            })
        });
        match read.await {
            Ok(Some((is_answer, data))) => {
                self.is_answered |= is_answer;
                Some(Ok(Sse { event: Some("message".to_owned()), data, ..passed }))
            }
            Ok(None) => Some(Ok(passed)),
            Err(problem) => {
                self.problem = Some(problem);
                Some(Ok(passed))
            }
        }
    }

    /// An error in the place of the answer.
    fn instead(&mut self, code: ErrorCode, reason: &str) -> Sse {
        self.is_answered = true;
        let error = ErrorData::new(code, reason.to_owned(), None);
        let message = ServerJsonRpcMessage::error(error, Some(self.id.clone()));
        let data = serde_json::to_string(&message).ok();
        Sse { event: Some("message".to_owned()), data, id: None, retry: None }
    }
}

/// The answer at the end of such events as one message; without one, the events.
pub(crate) async fn as_one(mut events: Events) -> Result<ServerJsonRpcMessage, Events> {
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        let data = event.as_ref().ok().and_then(|event| event.data.as_deref());
        let message = match data {
            Some(data) => aside(|| serde_json::from_str(data).ok().filter(is_answer)).await,
            None => None,
        };
        match message {
            Some(answer) => return Ok(answer),
            None => all.push(event),
        }
    }
    Err(iter(all).boxed())
}

/// The events of a stream that answers no request of its own: what cannot be read of them is passed over.
pub(crate) fn of_nobody(events: Events) -> Events {
    let mended = |event: Result<Sse, SseError>| {
        let Ok(Sse { event: name, data, id, retry }) = event else { return event };
        let is_message = matches!(name.as_deref(), None | Some("" | "message"));
        let read =
            data.filter(|_| is_message).and_then(|data| reading::message(data.as_bytes(), None).ok()?);
        let data = read.and_then(|read| serde_json::to_string(&read.message).ok());
        Ok(Sse { event: None, data, id, retry })
    };
    events.map(mended).boxed()
}

fn is_answer(message: &ServerJsonRpcMessage) -> bool {
    matches!(message, ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_))
}

/// Events from a text, for tests and fuzzing.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn of_text(text: Vec<u8>) -> Events {
    let body = iter([Ok::<_, std::convert::Infallible>(Bytes::from(text))]);
    SseStream::from_bytes_stream(body).fuse().boxed()
}
