//! What is stored of a run, read back.

use std::collections::BTreeMap;

use sentinel_core::UnixMs;
use sentinel_core::card::{FIRST_SERVICE, ModelId};
use sentinel_core::incident::{Child, ChildName};
use sentinel_core::notification::Notification;
use sentinel_core::report::Report;
use serde::{Deserialize, Serialize};

use crate::evidence::EvidenceRecord;
use crate::hosted::HostedOutput;
use crate::ports::{Approval, HostedServer, ToolSpec, TurnResponse};
use crate::template::Unshown;

/// Why a turn had to be `submit_report`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forced {
    /// The card allows no further turn.
    LastTurn,
    /// The report before it did not pass its checks.
    Repair,
    /// The card's time-out leaves no time for another.
    TimeNearlyOver,
    /// The card's `max-tokens` leave no room for another.
    TokensNearlyUsedUp,
    /// The card's `max-usd` leaves no room for another.
    MoneyNearlyUsedUp,
    /// The model asked for the same call again and again.
    Looping,
    /// The turn before it had to be the report and was not, or was cut off: nothing else is offered, and there is more
    /// room.
    Again,
}

/// What a run began with. Stored with its first turn, so that every request of the run begins with the same bytes
/// although alerts join and servers change their minds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Opening {
    /// The system prompt.
    pub instructions: String,
    /// The card's prompt, rendered.
    pub task: String,
    /// The alerts as the model was shown them, JSON.
    pub alert: String,
    /// The tools behind the functions, as (server, tool): what the card allowed then. Numbers depend on it; whether
    /// a call may leave now is the card's business.
    pub allowed: Vec<(String, String)>,
    /// The functions.
    pub tools: Vec<ToolSpec>,
    /// The servers that the model's service calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosted: Vec<HostedServer>,
    /// What was missing from the start.
    pub gaps: Vec<String>,
    /// What the card's prompt asked for and did not get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unshown: Vec<Unshown>,
    /// How many calls the card made: they are `E1` to this.
    pub evidence_calls: u32,
}

/// A hosted server that was out, and that a turn did without.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Without {
    /// How cards name it.
    pub server: String,
    /// What the model's service said.
    pub reason: String,
}

/// One model response: the body of a `TURN` child, as JSON.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TurnRecord {
    /// From 1.
    pub turn: u32,
    /// When the model was asked.
    pub at: UnixMs,
    /// How long it took to answer.
    pub ms: u64,
    /// Why it could do nothing but report, where that was so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<Forced>,
    /// The model that was asked. Empty in records that do not say: the card's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub asked: String,
    /// The service of that model, where it is not the first of the configuration's.
    #[serde(default = "first_service", skip_serializing_if = "is_first_service")]
    pub service: String,
    /// Why the model before it in the card's list was not the one, where that was so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// What the hosted calls of the turn before, which asked to be made, were answered in this turn's request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// The hosted servers that were out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Without>,
    /// The evidence up to this number was shown as its ids: the whole did not fit into the model's context.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut: u32,
    /// The service did not say what the turn took, or nothing that can be: the usage is an estimate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// SHA-256 of what the model was asked, as canonical JSON, in hexadecimal digits. Empty in records that do not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_sha256: String,
    /// The answer, but for the outputs of its hosted calls.
    pub response: TurnResponse,
    /// The calls and hosted requests whose arguments hold a credential, by their ids, with its kind. They are refused, and
    /// stand in the answer without it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<String, String>,
    /// Those outputs, by the calls' ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosted: BTreeMap<String, HostedOutput>,
    /// What the run began with; only the first turn has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<Opening>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn first_service() -> String {
    FIRST_SERVICE.to_owned()
}

fn is_first_service(service: &str) -> bool {
    service == FIRST_SERVICE
}

impl TurnRecord {
    /// The model that was asked.
    pub fn asked(&self) -> ModelId {
        ModelId { service: self.service.clone(), name: self.asked.clone() }
    }
}

/// Everything that is stored of one generation.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Stored {
    /// By digest.
    pub(crate) snapshots: Vec<(String, Notification)>,
    /// From turn 1, without a gap.
    pub(crate) turns: Vec<TurnRecord>,
    /// By number.
    pub(crate) outputs: BTreeMap<u32, EvidenceRecord>,
    pub(crate) report: Option<Report>,
    /// What is stored and cannot be read by this version, with the reason.
    pub(crate) unreadable: Vec<String>,
    /// Notifications that cannot be read. The run goes on without them, as long as there are others.
    pub(crate) unreadable_snapshots: Vec<String>,
}

impl Stored {
    /// Reads children back.
    pub(crate) fn read(children: &[Child]) -> Self {
        let mut stored = Self::default();
        let mut turns = BTreeMap::new();
        for child in children {
            let read = match &child.name {
                ChildName::Snapshot(digest) => {
                    parse(child).map(|n| stored.snapshots.push((digest.clone(), n)))
                }
                ChildName::Turn(n) => parse(child).map(|t: TurnRecord| drop(turns.insert(*n, t))),
                ChildName::Output(n) => parse(child).map(|e| drop(stored.outputs.insert(*n, e))),
                ChildName::Report => parse(child).map(|r| stored.report = Some(r)),
                // The record's chain: `sentinel_core::chain` reads it.
                ChildName::Entries(_) | ChildName::IntakeEntries(_) | ChildName::List(_) => Ok(()),
            };
            match read {
                Ok(()) => {}
                // Another snapshot may do, and without any the run waits.
                Err(e) if matches!(child.name, ChildName::Snapshot(_)) => {
                    tracing::warn!(child = ?child.name, error = %e, "a snapshot cannot be read");
                    stored.unreadable_snapshots.push(format!("{:?}: {e}", child.name));
                }
                Err(e) => stored.unreadable.push(format!("{:?}: {e}", child.name)),
            }
        }
        stored.turns = (1..).map_while(|n: u32| turns.remove(&n)).collect();
        stored
    }

    /// What the run began with, where a turn of it is stored.
    pub(crate) fn opening(&self) -> Option<&Opening> {
        self.turns.first().and_then(|t| t.opening.as_ref())
    }

    /// When the first stored thing of the run was begun.
    pub(crate) fn began(&self) -> Option<UnixMs> {
        self.turns.iter().map(|t| t.at).chain(self.outputs.values().map(|o| o.at)).min()
    }
}

fn parse<T: serde::de::DeserializeOwned>(child: &Child) -> serde_json::Result<T> {
    serde_json::from_str(&child.body)
}

/// The evidence among children, `E1` first. What cannot be read is left out.
pub fn evidence_of(children: &[Child]) -> Vec<EvidenceRecord> {
    Stored::read(children).outputs.into_values().collect()
}

/// The model turns among children, the first one first. What cannot be read is left out.
pub fn turns_of(children: &[Child]) -> Vec<TurnRecord> {
    Stored::read(children).turns
}
