//! `GET /api/incidents/{id}/events`: one incident's steps as server-sent events, those that are stored first, then each
//! as it happens, until the incident has ended.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use http::StatusCode;
use sentinel_core::incident::IncidentId;
use sentinel_investigation::{Progress, told_before};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::server::{Service, problem, store_problem};

/// Readers at once; each holds a connection.
pub(crate) const READERS: usize = 64;
/// A line goes out at least as often, so that a connection that has died is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What the readers of a service share.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    pub(crate) places: Arc<Semaphore>,
    pub(crate) stop: CancellationToken,
}

impl Readers {
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { places: Arc::new(Semaphore::new(READERS)), stop }
    }
}

pub(crate) async fn stream(State(service): State<Service>, Path(id): Path<String>) -> Response {
    let worker = service.worker();
    let Some(events) = &worker.events else {
        return problem(StatusCode::NOT_FOUND, "this service tells no events");
    };
    let Ok(place) = Arc::clone(&service.readers.places).try_acquire_owned() else {
        return service.full("too many are reading events already");
    };
    // Before the store is read, so that no step falls in between.
    let live = events.subscribe();
    let id = IncidentId::new(id);
    let store = &worker.ports.store;
    let head = match store.load(&id).await {
        Ok(Some(head)) => head,
        Ok(None) => return problem(StatusCode::NOT_FOUND, "there is no such incident"),
        Err(error) => return store_problem(&error),
    };
    let children = match store.children(&id, head.generation).await {
        Ok(children) => children,
        Err(error) => return store_problem(&error),
    };
    let redactor = worker.redactor.for_incident(&id);
    let mut before = told_before(&head, &children);
    for step in &mut before {
        step.redact(&redactor);
    }
    let reader = Reader {
        id,
        waiting: before.iter().cloned().collect(),
        before,
        live,
        over: false,
        stop: service.readers.stop.clone(),
        _place: place,
    };
    Sse::new(reader.stream()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// Somebody who reads the steps of one incident.
struct Reader {
    id: IncidentId,
    /// What is stored: told first, and not again when it comes by live.
    before: Vec<Progress>,
    waiting: VecDeque<Progress>,
    live: broadcast::Receiver<Progress>,
    over: bool,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut reader| async move {
            let event = reader.next().await?;
            Some((Ok(event), reader))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        if self.over {
            return None;
        }
        let step = match self.waiting.pop_front() {
            Some(step) => step,
            None => match self.next_live().await? {
                Ok(step) => step,
                Err(missed) => {
                    self.over = true;
                    return Some(dropped(missed));
                }
            },
        };
        self.over = matches!(step, Progress::Ended { .. });
        let data = serde_json::to_string(&step).unwrap_or_default();
        Some(Event::default().event(step.name()).data(data))
    }

    /// The next step of this incident that is not told yet. `Err`: how many steps this reader was too slow for.
    async fn next_live(&mut self) -> Option<Result<Progress, u64>> {
        loop {
            match self.stop.run_until_cancelled(self.live.recv()).await? {
                Ok(step) if *step.incident() == self.id => {
                    if !self.before.iter().any(|told| told.is_same_as(&step)) {
                        return Some(Ok(step));
                    }
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => return Some(Err(missed)),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// The last word to a reader that did not keep up: it may connect again, and is told what is stored.
fn dropped(missed: u64) -> Event {
    let why = "you read more slowly than there is to tell: connect again, what is stored is told first";
    Event::default().event("dropped").data(json!({"missed": missed, "why": why}).to_string())
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn step(incident: &str, turn: u32) -> Progress {
        Progress::Asking { incident: IncidentId::new(incident), turn, model: "m".to_owned() }
    }

    fn reader(live: broadcast::Receiver<Progress>, before: Vec<Progress>) -> Reader {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Reader {
            id: IncidentId::new("a"),
            waiting: before.iter().cloned().collect(),
            before,
            live,
            over: false,
            stop: CancellationToken::new(),
            _place: place,
        }
    }

    async fn all(reader: Reader) -> Vec<String> {
        reader.stream().map(|event| format!("{:?}", event.unwrap())).collect().await
    }

    #[tokio::test]
    async fn a_reader_is_told_what_is_stored_then_its_own_incident_until_that_ends() {
        let events = sentinel_investigation::events();
        let answered = |turn| Progress::Answered {
            incident: IncidentId::new("a"),
            turn,
            calls: vec![],
            input_tokens: 1,
            output_tokens: 1,
            ms: 1,
        };
        let reader = reader(events.subscribe(), vec![answered(1)]);
        let ended = Progress::Ended {
            incident: IncidentId::new("a"),
            state: sentinel_core::incident::State::Done,
            reason: None,
        };
        for step in [answered(1), step("b", 7), answered(2), ended, step("a", 9)] {
            events.send(step).unwrap();
        }
        let told = all(reader).await;
        assert_eq!(told.len(), 3, "{told:?}");
        for (told, part) in told.iter().zip([r#"turn\":1"#, r#"turn\":2"#, "ended"]) {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_is_dropped_with_a_notice_and_holds_nobody_up() {
        let events = sentinel_investigation::events();
        let reader = reader(events.subscribe(), vec![]);
        for turn in 0..5000 {
            events.send(step("a", turn)).unwrap();
        }
        let told = all(reader).await;
        assert!(
            matches!(told.as_slice(), [one] if one.contains("dropped") && one.contains("missed")),
            "{told:?}"
        );
    }

    #[tokio::test]
    async fn a_service_that_stops_ends_its_readers() {
        let events = sentinel_investigation::events();
        let reader = reader(events.subscribe(), vec![]);
        reader.stop.cancel();
        assert_eq!(all(reader).await, Vec::<String>::new());
    }
}
