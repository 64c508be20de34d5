//! Telling sinks what happened: claim, tell, record, one delivery after the other, each on its own.

use std::time::Duration;

use sentinel_core::drive::{Driven, Start, drive};
use sentinel_core::incident::{Child, ChildName, DeliveryKey, Event, Head};
use sentinel_core::lifecycle::{ClaimDelivery, Delivered, DeliveryClaimed, DeliveryRecorded, Missed, Rules};
use sentinel_core::notification::Notification;
use sentinel_core::ports::{SinkError, StoreError, Telling};
use sentinel_core::storm::{self, Listed};

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
    let children = match worker.ports.store.children(&head.id, head.generation).await {
        Err(error @ StoreError::Unreadable { .. }) => {
            told_without("what is stored of the incident", &error);
            Vec::new()
        }
        children => children?,
    };
    let report = stored_report(&children).unwrap_or_else(|error| {
        told_without("its report", &error);
        None
    });
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
        let mut telling = Telling {
            event: key.event,
            listed,
            notification: latest_notification(&children, &head).filter(|_| !head.is_notice()),
            report: report.clone(),
            idempotency_key: idempotency_key(&head, key),
            remote,
            parent: head.latest_remote(&key.sink).map(str::to_owned),
            head: head.clone(),
        };
        let redactor = worker.redactor.for_incident(&head.id);
        telling.redact(&redactor);
        let told = tell(worker, key, &telling).await;
        metrics::told(worker, key, &told);
        let start = Start::Known(Box::new(head));
        let Driven { outcome, head } = match told {
            Ok(remote) => {
                let input = Delivered { generation, key: key.clone(), claimer, remote };
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

async fn tell(worker: &Worker, key: &DeliveryKey, telling: &Telling) -> Result<Option<String>, SinkError> {
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

/// What was damaged is not told; people hear of the rest all the same.
fn told_without(what: &str, error: &StoreError) {
    tracing::error!(%error, "{what} cannot be read; sinks are told without it");
}

/// The same for every try of one delivery: what is told, to whom, about which notification or episode.
fn idempotency_key(head: &Head, key: &DeliveryKey) -> String {
    // As of the arming: an alert that fires again meanwhile has a telling of its own.
    let armed = head.deliveries.iter().find(|d| d.key == *key).and_then(|d| d.for_seen);
    let seen = armed.map_or_else(String::new, |seen| seen.get().to_string());
    let about = match key.event {
        // A member may go and come again: the same members, but news.
        Event::Updated => format!("{}-{seen}", head.digest),
        Event::Resolved => seen,
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

/// The notification that the head speaks of, else the last one stored.
fn latest_notification(children: &[Child], head: &Head) -> Option<Notification> {
    let snapshots = || children.iter().filter(|c| matches!(c.name, ChildName::Snapshot(_)));
    let wanted = ChildName::Snapshot(head.digest.clone());
    let child = snapshots().find(|c| c.name == wanted).or_else(|| snapshots().next_back())?;
    serde_json::from_str(&child.body)
        .inspect_err(
            |error| tracing::error!(%error, "the notification cannot be read; sinks are told without it"),
        )
        .ok()
}
