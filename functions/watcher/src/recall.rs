//! What a watcher told before it was started: the store holds it.

use std::collections::{BTreeMap, BTreeSet};

use sentinel_core::UnixMs;
use sentinel_core::alert::{Alert, Labels};
use sentinel_core::card::Card;
use sentinel_core::drive::{DriveError, Start, drive};
use sentinel_core::incident::{ChildName, Head, IncidentId, MemberId};
use sentinel_core::key::member_id;
use sentinel_core::lifecycle::{Arrival, Member, Rules, Taken};
use sentinel_core::notification::{Notification, Source};
use sentinel_core::ports::{IncidentStore, Ports, StoreError};

use crate::resolved;

/// The most incidents that are looked through, the newest first.
const MOST: usize = 1000;

/// What an earlier process told and what still fires, as far as the store knows.
#[derive(Default)]
pub(crate) struct Recalled {
    /// By its labels.
    pub(crate) told: BTreeMap<Labels, Alert>,
    /// What a secret was taken out of before it was stored: no longer known by its labels.
    pub(crate) altered: Vec<Altered>,
}

/// An alert whose labels are not stored as they were sent. Who it is was decided before, and is.
pub(crate) struct Altered {
    incident: IncidentId,
    member: MemberId,
    card: Card,
    alert: Alert,
    /// What the snapshot says beside it.
    notification: Notification,
}

impl Altered {
    /// Whether it is one of these, of which the labels are as the server sends them.
    pub(crate) fn is_among(&self, known: &BTreeSet<Labels>) -> bool {
        known.iter().any(|labels| member_id(&self.card, labels) == self.member)
    }

    /// Records its end, noticed now.
    pub(crate) async fn end(&self, ports: &Ports, now: UnixMs) -> Result<Taken, DriveError> {
        let alert = resolved(&self.alert, now);
        let arrival = Arrival {
            id: self.incident.clone(),
            card: self.card.name.clone(),
            labels: self.notification.key_labels.clone(),
            members: vec![Member {
                id: self.member,
                firing: false,
                starts_at: alert.starts_at,
                ends_at: alert.ends_at,
            }],
            truncated: false,
        };
        let told = Notification { alerts: vec![alert], ..self.notification.clone() };
        let rules = Rules::of(&self.card);
        Ok(drive(ports, &self.incident, &arrival, &rules, Start::Load, Some(&told)).await?.outcome.taken)
    }
}

/// What the watcher `name` told and what still fires.
pub(crate) async fn told(
    store: &dyn IncidentStore,
    cards: &[Card],
    name: &str,
) -> Result<Recalled, StoreError> {
    let mut recalled = Recalled::default();
    let mut altered: BTreeMap<(IncidentId, MemberId), Altered> = BTreeMap::new();
    for head in store.recent(MOST).await? {
        let Some(card) = cards.iter().find(|card| card.name == head.card) else { continue };
        if head.firing.is_empty() {
            continue;
        }
        for (alert, notification) in of_incident(store, card, &head, name).await? {
            let decided = alert.member.filter(|member| *member != member_id(card, &alert.labels));
            let Some(member) = decided else {
                let told = &mut recalled.told;
                if told.get(&alert.labels).is_none_or(|known| known.starts_at < alert.starts_at) {
                    told.insert(alert.labels.clone(), alert);
                }
                continue;
            };
            let (incident, card) = (head.id.clone(), card.clone());
            altered
                .insert((head.id.clone(), member), Altered { incident, member, card, alert, notification });
        }
    }
    recalled.altered = altered.into_values().collect();
    Ok(recalled)
}

/// What this watcher told of one incident and that is still firing there, each with what was told beside it.
async fn of_incident(
    store: &dyn IncidentStore,
    card: &Card,
    head: &Head,
    name: &str,
) -> Result<Vec<(Alert, Notification)>, StoreError> {
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
        let member = alert.member.unwrap_or_else(|| member_id(card, &alert.labels));
        alert.is_firing() && (head.firing.is_many() || head.firing.contains(member))
    };
    let each = |mut notification: Notification| {
        let alerts = std::mem::take(&mut notification.alerts);
        alerts.into_iter().filter(fires).map(move |alert| (alert, notification.clone()))
    };
    Ok(own.flat_map(each).collect())
}
