//! What is said about incidents in JSON: by `up`'s API, by `incidents --json` and by `replay --json`.

use std::sync::Arc;

use sentinel_core::UnixMs;
use sentinel_core::alert::Labels;
use sentinel_core::incident::{ChildName, Delivery, DeliveryState, Event, Gen, Head, IncidentId, State};
use sentinel_core::notification::Notification;
use sentinel_core::ports::{IncidentStore, StoreError};
use sentinel_core::redact::Redactor;
use sentinel_core::report::{Report, Verdict};
use sentinel_core::view::{Beside, Display, Stored, View, recurring_since};
use sentinel_investigation::{EvidenceRecord, TurnRecord, evidence_of, outputs, turns_of};
use sentinel_worker::{stored_report, told};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One line of a listing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The dedupe key.
    pub id: IncidentId,
    /// The incident card.
    pub card: String,
    /// Where it stands.
    pub state: State,
    /// The current generation: its opening time in milliseconds.
    #[serde(rename = "gen")]
    pub generation: Gen,
    /// The labels of the key.
    pub labels: Labels,
    /// When the generation was opened, RFC 3339.
    pub opened_at: String,
    /// The report's verdict, once there is one.
    pub verdict: Option<Verdict>,
    /// When the alerts resolved, RFC 3339, where they did, and none fires again.
    #[serde(default)]
    pub resolved_at: Option<String>,
}

impl Summary {
    /// The line of a head.
    pub fn of(head: &Head) -> Self {
        Self {
            id: head.id.clone(),
            card: head.card.clone(),
            state: head.state,
            generation: head.generation,
            labels: head.labels.clone(),
            opened_at: UnixMs::new(head.generation.0).to_string(),
            verdict: head.verdict,
            resolved_at: head.resolved().map(|at| at.to_string()),
        }
    }
}

/// One incident, whole.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Detail {
    /// The dedupe key.
    pub id: IncidentId,
    /// The incident card.
    pub card: String,
    /// Where it stands.
    pub state: State,
    /// The current generation: its opening time in milliseconds.
    #[serde(rename = "gen")]
    pub generation: Gen,
    /// The labels of the key.
    pub labels: Labels,
    /// When the generation was opened, RFC 3339.
    pub opened_at: String,
    /// When the alerts resolved, RFC 3339, where they did, and none fires again.
    pub resolved_at: Option<String>,
    /// What fires and is not what was investigated, where that is so.
    #[serde(default)]
    pub again: Option<Again>,
    /// The report's verdict, once there is one.
    pub verdict: Option<Verdict>,
    /// Why it failed, was aborted or was put off.
    pub reason: Option<String>,
    /// The checked report, once there is one.
    pub report: Option<Report>,
    /// The tool outputs, oldest first.
    pub evidence: Vec<Evidence>,
    /// How often the investigation was begun.
    pub attempts: u32,
    /// What was told to whom.
    pub deliveries: Vec<Told>,
    /// The incident as people see it.
    pub view: View,
    /// Who deleted all the rest, and when, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Deleted>,
}

/// A deletion.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Deleted {
    /// Who, as they said.
    pub who: String,
    /// When, RFC 3339.
    pub at: String,
}

/// What fires, and is not what was investigated.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Again {
    /// Since when, RFC 3339.
    pub since: String,
    /// It is not investigated again before, RFC 3339.
    pub not_before: String,
}

/// One tool output.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// `E1`, `E2`, …
    pub id: String,
    /// `server.tool`.
    pub tool: String,
    /// What it was called with.
    pub arguments: Map<String, Value>,
    /// Whether the call worked.
    pub ok: bool,
    /// The output's size.
    pub bytes: u64,
    /// When the call left, RFC 3339.
    #[serde(default)]
    pub at: String,
    /// How long the call took.
    pub ms: u64,
    /// The output as it is kept.
    pub text: String,
}

impl From<EvidenceRecord> for Evidence {
    fn from(e: EvidenceRecord) -> Self {
        Self {
            id: e.id,
            tool: e.tool,
            arguments: e.arguments,
            ok: e.ok,
            bytes: e.bytes,
            at: e.at.to_string(),
            ms: e.ms,
            text: e.text,
        }
    }
}

/// One delivery.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Told {
    /// What was told.
    pub event: Event,
    /// The sink.
    pub sink: String,
    /// How far it is.
    pub state: DeliveryState,
    /// How often it was tried.
    pub tries: u32,
    /// The destination's own id.
    pub remote: Option<String>,
    /// When it is tried next, RFC 3339, where it is still to be made. While one is made: when another may take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<String>,
    /// Why its last try failed, or why it was told in another form than it was meant to be. Of each sink only the latest
    /// is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Told {
    fn of(d: &Delivery) -> Self {
        Self {
            event: d.key.event,
            sink: d.key.sink.clone(),
            state: d.state,
            tries: d.tries,
            remote: d.remote.clone(),
            next_try_at: (!d.is_settled()).then(|| d.at.to_string()),
            error: d.error.clone(),
        }
    }
}

/// Everything that is stored of one investigation: enough to run it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The head.
    pub incident: Head,
    /// The notifications that it began with.
    pub notifications: Vec<Notification>,
    /// The model's turns, the first one first.
    pub turns: Vec<TurnRecord>,
    /// The tool outputs, oldest first.
    pub evidence: Vec<EvidenceRecord>,
    /// The checked report, once there is one.
    pub report: Option<Report>,
}

/// Reads what is stored of one incident, but for secrets that `redactor` knows and who stored it did not. A notification
/// that cannot be read is left out.
///
/// # Errors
/// The store does not answer, or what it holds cannot be read.
pub async fn record(
    store: &dyn IncidentStore,
    redactor: &Redactor,
    id: &IncidentId,
) -> Result<Option<Record>, StoreError> {
    let Some(mut incident) = store.load(id).await? else { return Ok(None) };
    let redactor = redactor.for_incident(id);
    incident.redact(&redactor);
    let children = store.children(id, incident.generation).await?;
    let snapshots = children.iter().filter(|child| matches!(child.name, ChildName::Snapshot(_)));
    let mut notifications: Vec<Notification> =
        snapshots.filter_map(|child| serde_json::from_str(&child.body).ok()).collect();
    for notification in &mut notifications {
        notification.redact(&redactor);
    }
    Ok(Some(Record {
        notifications,
        turns: turns_of(&children),
        evidence: evidence_of(&children),
        report: stored_report(&children)?,
        incident,
    }))
}

/// Reads one incident whole, but for secrets that `redactor` knows and who stored it did not.
///
/// # Errors
/// The store does not answer, or what it holds cannot be read.
pub async fn detail(
    store: &dyn IncidentStore,
    redactor: &Redactor,
    display: &Arc<Display>,
    now: UnixMs,
    id: &IncidentId,
) -> Result<Option<Detail>, StoreError> {
    let Some(mut head) = store.load(id).await? else { return Ok(None) };
    let redactor = redactor.for_incident(id);
    head.redact(&redactor);
    let children = store.children(id, head.generation).await?;
    let mut notification = told(&children, &head);
    if let Some(notification) = &mut notification {
        notification.redact(&redactor);
    }
    let report = stored_report(&children)?;
    let evidence = evidence_of(&children);
    let openings = store.generations(id, recurring_since(&head)).await?;
    let beside = Beside { outputs: outputs(&evidence), openings, display: Arc::clone(display), now };
    let view = View::of(Stored {
        head: &head,
        notification: notification.as_ref(),
        report: report.as_ref(),
        beside: &beside,
    });
    let Summary { id, card, state, generation, labels, opened_at, verdict, resolved_at } = Summary::of(&head);
    Ok(Some(Detail {
        id,
        card,
        state,
        generation,
        labels,
        opened_at,
        resolved_at,
        again: head.again.map(|a| Again { since: a.since.to_string(), not_before: a.not_before.to_string() }),
        verdict,
        reason: head.reason.clone(),
        report,
        evidence: evidence.into_iter().map(Evidence::from).collect(),
        attempts: head.attempts,
        deliveries: head.deliveries.iter().map(Told::of).collect(),
        deleted: head.deleted.as_ref().map(|d| Deleted { who: d.who.clone(), at: d.at.to_string() }),
        view,
    }))
}
