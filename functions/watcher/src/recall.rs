//! What a watcher told before it was started: the store holds it.

use std::collections::BTreeMap;

use sentinel_core::alert::{Alert, Labels};
use sentinel_core::card::Card;
use sentinel_core::incident::{ChildName, Head};
use sentinel_core::key::member_id;
use sentinel_core::notification::{Notification, Source};
use sentinel_core::ports::{IncidentStore, StoreError};

/// The most incidents that are looked through, the newest first.
const MOST: usize = 1000;

/// The alerts that the watcher `name` told and that still fire, as far as the store knows.
pub(crate) async fn told(
    store: &dyn IncidentStore,
    cards: &[Card],
    name: &str,
) -> Result<BTreeMap<Labels, Alert>, StoreError> {
    let mut told: BTreeMap<Labels, Alert> = BTreeMap::new();
    for head in store.recent(MOST).await? {
        let Some(card) = cards.iter().find(|card| card.name == head.card) else { continue };
        if head.firing.is_empty() {
            continue;
        }
        for alert in of_incident(store, card, &head, name).await? {
            if told.get(&alert.labels).is_none_or(|known| known.starts_at < alert.starts_at) {
                told.insert(alert.labels.clone(), alert);
            }
        }
    }
    Ok(told)
}

/// What this watcher told of one incident and that is still firing there.
async fn of_incident(
    store: &dyn IncidentStore,
    card: &Card,
    head: &Head,
    name: &str,
) -> Result<Vec<Alert>, StoreError> {
    let children = store.received(&head.id, head.generation).await?;
    let snapshots = children.iter().filter(|child| matches!(child.name, ChildName::Snapshot(_)));
    let read = snapshots.filter_map(|child| match serde_json::from_str::<Notification>(&child.body) {
        Ok(notification) => Some(notification),
        Err(error) => {
            tracing::error!(incident = %head.id, %error, "a snapshot cannot be read; its alerts are not looked after");
            None
        }
    });
    let own = read.filter(|n| n.envelope.source == Source::Watcher && n.envelope.receiver == name);
    // Where there are many, who of them is over is not known. To be told so again changes nothing.
    let fires = |alert: &Alert| {
        alert.is_firing() && (head.firing.is_many() || head.firing.contains(member_id(card, alert)))
    };
    Ok(own.flat_map(|notification| notification.alerts).filter(fires).collect())
}
