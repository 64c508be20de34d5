//! A whole webhook through the lifecycle: match cards, fold alerts by dedupe key, drive one input a key.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;

use crate::alert::Alert;
use crate::card::Card;
use crate::drive::{DriveError, Driven, Start, drive};
use crate::incident::{IncidentId, MemberId};
use crate::key::{dedupe_key, member_id};
use crate::lifecycle::{Arrival, Member, Received, Rules, Taken};
use crate::notification::{Envelope, Message, Notification, Refusal};
use crate::ports::Ports;
use crate::redact::Redactor;
use crate::without_secrets::redacted_labels;

/// Keys of one webhook that are driven at once.
const CONCURRENCY: usize = 32;

/// What became of the alerts of a webhook. The counts are alerts and sum to the payload's.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Receipt {
    /// Their incident was opened.
    pub accepted: u64,
    /// Nothing new; late and repeated resolves too.
    pub duplicates: u64,
    /// Recorded on an incident that was already there.
    pub joined: u64,
    /// Their end was recorded.
    pub resolved: u64,
    /// They resolved before anything was spent.
    pub suppressed: u64,
    /// No card takes them.
    pub unmatched: u64,
    /// They could not be read.
    pub refused: u64,
    /// The incidents, in the order of their ids.
    pub incidents: Vec<Receiving>,
    /// Where the refused ones are, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
    /// The places in the message of the alerts that no card takes: for the log.
    #[serde(skip)]
    pub unmatched_at: Vec<usize>,
}

impl Receipt {
    /// Counts one alert.
    pub fn count(&mut self, taken: Taken) {
        *match taken {
            Taken::Accepted => &mut self.accepted,
            Taken::Joined => &mut self.joined,
            Taken::Suppressed => &mut self.suppressed,
            Taken::Resolved => &mut self.resolved,
            Taken::Duplicate => &mut self.duplicates,
        } += 1;
    }
}

/// What became of one incident.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Receiving {
    /// The dedupe key.
    pub id: IncidentId,
    /// The card.
    pub card: String,
    /// What came of the notification.
    pub outcome: Taken,
}

/// Alerts of one message that share a dedupe key.
#[derive(Clone, Debug)]
pub struct Folded {
    /// The lifecycle's input.
    pub arrival: Arrival,
    /// What a snapshot of it keeps.
    pub notification: Notification,
    rules: Rules,
    /// Places in the message of all alerts that were folded, doubles included, and which member each is.
    places: Vec<(usize, MemberId)>,
}

impl Folded {
    /// Without secrets, as it is kept and told. Who it is has been decided on what was sent, and stays.
    fn redacted(mut self, redactor: &Redactor) -> Self {
        let redactor = redactor.for_incident(&self.arrival.id);
        self.arrival.labels = redacted_labels(&self.arrival.labels, &redactor);
        self.notification.redact(&redactor);
        self
    }
}

/// Folds a message's alerts by dedupe key, as they were sent. The second value holds the places of the alerts that no card takes.
///
/// The first card whose resource matches takes an alert; a card that says `continue` lets later ones have it too.
pub fn fold(cards: &[Card], envelope: &Envelope, alerts: &[Alert]) -> (Vec<Folded>, Vec<usize>) {
    let mut folds: BTreeMap<IncidentId, (&Card, Folded, Vec<Member>)> = BTreeMap::new();
    let mut unmatched = Vec::new();
    for (place, alert) in alerts.iter().enumerate() {
        let mut taken = false;
        for card in cards.iter().filter(|c| c.resource.matches(&alert.labels)) {
            taken = true;
            let (id, labels) = dedupe_key(card, envelope, alert);
            let member = Member {
                id: member_id(card, &alert.labels),
                firing: alert.is_firing(),
                starts_at: alert.starts_at,
                ends_at: alert.ends_at,
            };
            match folds.entry(id) {
                Entry::Occupied(mut entry) => {
                    let (_, fold, members) = entry.get_mut();
                    fold.places.push((place, member.id));
                    fold.notification.alerts.push(alert.clone());
                    members.push(member);
                }
                Entry::Vacant(entry) => {
                    let arrival = Arrival {
                        id: entry.key().clone(),
                        card: card.name.clone(),
                        labels: labels.clone(),
                        members: Vec::new(),
                        truncated: envelope.truncated_alerts > 0,
                    };
                    let notification = Notification {
                        card: card.name.clone(),
                        key_labels: labels,
                        envelope: envelope.clone(),
                        alerts: vec![alert.clone()],
                    };
                    let fold = Folded {
                        arrival,
                        notification,
                        rules: Rules::of(card),
                        places: vec![(place, member.id)],
                    };
                    entry.insert((card, fold, vec![member]));
                }
            }
            if !card.continues {
                break;
            }
        }
        if !taken {
            unmatched.push(place);
        }
    }
    let folded = folds
        .into_values()
        .map(|(card, mut fold, members)| {
            fold.arrival.members = crate::lifecycle::strongest(members);
            keep_strongest(card, &mut fold);
            fold
        })
        .collect();
    (folded, unmatched)
}

/// Leaves one alert a member in the notification: the one that the arrival speaks of.
fn keep_strongest(card: &Card, fold: &mut Folded) {
    let mut wanted: BTreeMap<_, _> =
        fold.arrival.members.iter().map(|m| (m.id, (m.firing, m.starts_at, m.ends_at))).collect();
    fold.notification.alerts.retain_mut(|alert| {
        let id = member_id(card, &alert.labels);
        alert.member = Some(id);
        let here = (alert.is_firing(), alert.starts_at, alert.ends_at);
        wanted.get(&id) == Some(&here) && wanted.remove(&id).is_some()
    });
}

/// Drives every incident of a message. Cards are matched and incidents named by what was sent; what is kept and told of
/// it has passed `redactor`.
///
/// # Errors
/// The first error, once every key has been tried: the answer must not be 200, and the sender's retry is harmless.
pub async fn intake(
    ports: &Ports,
    cards: &[Card],
    redactor: &Redactor,
    message: &Message,
) -> Result<Receipt, DriveError> {
    let Message { envelope, alerts, refused } = message;
    let (folded, unmatched) = fold(cards, envelope, alerts);
    let results: Vec<Result<(Folded, Received), DriveError>> = stream::iter(folded)
        .map(|fold| async move {
            let fold = fold.redacted(redactor);
            // A firing alert is probably new: one conditional write finds out. A resolve creates nothing.
            let firing = fold.arrival.members.iter().any(|m| m.firing);
            let start = if firing { Start::Absent } else { Start::Load };
            let Driven { outcome, .. } =
                drive(ports, &fold.arrival.id, &fold.arrival, &fold.rules, start, Some(&fold.notification))
                    .await?;
            Ok((fold, outcome))
        })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    let done: Vec<(Folded, Received)> = stream::iter(results).try_collect().await?;

    let mut strongest: BTreeMap<usize, Taken> = BTreeMap::new();
    let mut receipt = Receipt {
        unmatched: unmatched.len() as u64,
        refused: refused.len() as u64,
        refusals: refused.iter().map(|refusal| refusal.redacted(redactor)).collect(),
        unmatched_at: unmatched,
        ..Receipt::default()
    };
    for (fold, received) in done {
        let members = fold.arrival.members.iter().map(|m| m.id);
        let each: BTreeMap<MemberId, Taken> = members.zip(received.each).collect();
        for (place, member) in fold.places {
            let taken = each.get(&member).copied().unwrap_or(received.taken);
            let best = strongest.entry(place).or_insert(taken);
            *best = (*best).max(taken);
        }
        let outcome = received.taken;
        receipt.incidents.push(Receiving { id: fold.arrival.id, card: fold.arrival.card, outcome });
    }
    for taken in strongest.into_values() {
        receipt.count(taken);
    }
    Ok(receipt)
}
