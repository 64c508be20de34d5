//! Telling sinks what happened: claim, tell, record, one delivery after the other, each on its own.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::drive::{Driven, Start, drive};
use sentinel_core::incident::{Child, ChildName, DeliveryKey, Event, Gen, Head};
use sentinel_core::lifecycle::{ClaimDelivery, Delivered, DeliveryClaimed, DeliveryRecorded, Missed, Rules};
use sentinel_core::notification::{Notification, merged};
use sentinel_core::ports::{SinkError, StoreError, Telling, Told};
use sentinel_core::storm::{self, Listed};
use sentinel_core::view::{Beside, recurring_since};
use sentinel_investigation::{evidence_of, outputs};

use crate::{WorkError, Worker, metrics, stored_report};

/// The longest a destination may take: well inside the claim, so that nobody else tells it meanwhile.
const TELL_WITHIN: Duration = Duration::from_mins(1);

/// Makes the deliveries that are due. One that cannot be made is recorded, and does not hold up the others.
pub(crate) async fn tell_all(
    worker: &Worker,
    head: Head,
    due: &[DeliveryKey],
    rules: &Rules,
) -> Result<(), WorkError> {
    if due.is_empty() {
        return Ok(());
    }
    let mut children = readable(worker.ports.store.children(&head.id, head.generation).await)?;
    let report = stored_report(&children).unwrap_or_else(|error| {
        told_without("its report", &error);
        None
    });
    let mut evidence = outputs(&evidence_of(&children));
    let openings = openings(worker, &head).await;
    let mut current = head;
    for key in due {
        let (id, generation) = (current.id.clone(), current.generation);
        let claimer = (worker.ports.fresh)();
        let claim = ClaimDelivery { generation, key: key.clone(), claimer: claimer.clone() };
        let Driven { outcome, head } =
            drive(&worker.ports, &id, &claim, rules, Start::Known(Box::new(current)), None).await?;
        let Some(head) = head else { return Ok(()) };
        let DeliveryClaimed::Tell { remote } = outcome else {
            current = head;
            continue;
        };
        let listed = listed(worker, &head, key).await?;
        // What came up since they were read is told with what came.
        let spoken_of = ChildName::Snapshot(head.digest.clone());
        if !head.is_notice() && !children.iter().any(|child| child.name == spoken_of) {
            children = readable(worker.ports.store.children(&head.id, head.generation).await)?;
            evidence = outputs(&evidence_of(&children));
        }
        let mut telling = Telling {
            event: key.event,
            beside: Beside {
                outputs: Arc::clone(&evidence),
                openings: openings.clone(),
                display: Arc::clone(&worker.display),
                now: worker.ports.clock.now(),
            },
            listed,
            notification: told(&children, &head).filter(|_| !head.is_notice()),
            report: report.clone(),
            idempotency_key: idempotency_key(&head, key),
            remote,
            parent: head.latest_remote(&key.sink).map(str::to_owned),
            head: head.clone(),
        };
        let redactor = worker.redactor.for_incident(&head.id);
        telling.redact(&redactor);
        let went = tell(worker, key, &telling).await;
        metrics::told(worker, key, &went);
        let start = Start::Known(Box::new(head));
        let Driven { outcome, head } = match went {
            Ok(Told { remote, amiss }) => {
                let amiss = amiss.map(|amiss| redactor.redact(&amiss).into_owned());
                if let Some(amiss) = &amiss {
                    tracing::warn!(sink = key.sink, event = %key.event, amiss, "sink was told in another form");
                }
                let input = Delivered { generation, key: key.clone(), claimer, remote, amiss };
                drive(&worker.ports, &id, &input, rules, start, None).await?
            }
            Err(error) => {
                let (retry, remote) = (error.retry_after(), error.remote().map(str::to_owned));
                let error = redactor.redact(&error.to_string()).into_owned();
                tracing::warn!(sink = key.sink, event = %key.event, error, "sink was not told");
                let input = Missed { generation, key: key.clone(), claimer, retry, error, remote };
                drive(&worker.ports, &id, &input, rules, start, None).await?
            }
        };
        if outcome == DeliveryRecorded::NotMine {
            tracing::warn!(sink = key.sink, event = %key.event, "delivery was claimed by another");
        }
        let Some(head) = head else { return Ok(()) };
        current = head;
    }
    Ok(())
}

/// When it was opened lately. That they cannot be read keeps nobody from being told.
async fn openings(worker: &Worker, head: &Head) -> Vec<Gen> {
    if head.is_notice() {
        return Vec::new();
    }
    let read = worker.ports.store.generations(&head.id, recurring_since(head)).await;
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "earlier generations cannot be read; sinks are told without them");
        Vec::new()
    })
}

async fn tell(worker: &Worker, key: &DeliveryKey, telling: &Telling) -> Result<Told, SinkError> {
    let Some(sink) = worker.sinks.get(&key.sink) else {
        return Err(SinkError::Refused(format!("no sink {:?} is configured", key.sink)));
    };
    match tokio::time::timeout(TELL_WITHIN, sink.tell(telling)).await {
        Ok(told) => told,
        Err(_) => Err(SinkError::Retry {
            reason: format!("no answer within {} s", TELL_WITHIN.as_secs()),
            after: None,
        }),
    }
}

/// What was damaged is not told.
fn told_without(what: &str, error: &StoreError) {
    tracing::error!(%error, "{what} cannot be read; sinks are told without it");
}

/// The same for every try of one delivery: what is told, to whom, about which notification or episode.
fn idempotency_key(head: &Head, key: &DeliveryKey) -> String {
    // An alert that fires again meanwhile, or ends again, has a telling of its own.
    let armed = head.deliveries.iter().find(|d| d.key == *key).and_then(|d| d.armed);
    let armed = armed.map_or_else(String::new, |at| at.get().to_string());
    let about = match key.event {
        // A member may go and come again: the same members, but news.
        Event::Updated => format!("{}-{armed}", head.digest),
        Event::Resolved => armed,
        // A notice that is told once more lists more: it is known by the incident that came last.
        Event::Storm => head.digest.clone(),
        Event::Started
        | Event::Findings
        | Event::Failed
        | Event::Aborted
        | Event::Suppressed
        | Event::Flapping => String::new(),
    };
    format!("{}-{}-{}-{}-{about}", head.id, head.generation, key.event, key.sink)
}

/// What a storm notice lists. Read under the claim: what is noted later sees the claim, and is told of once more.
async fn listed(worker: &Worker, head: &Head, key: &DeliveryKey) -> Result<Vec<Listed>, StoreError> {
    if key.event != Event::Storm {
        return Ok(Vec::new());
    }
    let children = worker.ports.store.children(&head.id, head.generation).await?;
    Ok(storm::listed(&children))
}

/// What a store gives; nothing where it is damaged: people hear of the rest all the same.
pub(crate) fn readable(children: Result<Vec<Child>, StoreError>) -> Result<Vec<Child>, StoreError> {
    match children {
        Err(error @ StoreError::Unreadable { .. }) => {
            told_without("what is stored of the incident", &error);
            Ok(Vec::new())
        }
        children => children,
    }
}

/// What was told of the incident's alerts: of each the latest. A notification that cannot be read is left out.
pub fn told(children: &[Child], head: &Head) -> Option<Notification> {
    let mut snapshots = Vec::new();
    for child in children {
        let ChildName::Snapshot(digest) = &child.name else { continue };
        match serde_json::from_str(&child.body) {
            Ok(notification) => snapshots.push((digest.clone(), notification)),
            Err(error) => {
                tracing::error!(%error, digest, "a notification cannot be read; the incident goes on without it");
            }
        }
    }
    merged(&snapshots, head)
}
