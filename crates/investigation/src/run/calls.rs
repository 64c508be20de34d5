//! Tool calls: asked for by lease, made concurrently, stored as they arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use sentinel_core::UnixMs;
use sentinel_core::chain::Sealed;
use sentinel_core::drive::{Driven, Start, drive_sealing};
use sentinel_core::incident::{Child, ChildName};
use sentinel_core::lifecycle::{Paid, PaidOutcome};
use sentinel_core::ports::Appended;
use serde::Serialize;

use super::{LEAST_TIME, Session, Stop};
use crate::aside::aside;
use crate::conversation::Planned;
use crate::error::InvestigateError;
use crate::evidence::{CallStatus, Ended, EvidenceRecord, Kept, MOST_ENCODED, id_of};
use crate::policy::Policy;
use crate::ports::{ToolError, ToolOutput};
use crate::progress::Progress;
use crate::refusal::{Refusal, RefusalReason, Refused};

/// The longest that the tool calls of one turn may take. Servers have shorter time-outs of their own.
const BATCH_TIMEOUT: Duration = Duration::from_mins(2);
/// A batch is begun only where a call of the usual time-out can end.
const BATCH_NEEDS: Duration = Duration::from_secs(30);

/// What is recorded where a call is not made.
type Instead = (CallStatus, Option<RefusalReason>, String);

fn refused(refusal: &Refusal) -> Instead {
    (CallStatus::Refused, Some(refusal.reason()), refusal.to_string())
}

impl Session<'_> {
    /// Asks for a call, and gives the instant at which it has to be cut off. `needs` is the time without which it is
    /// not worth beginning; a slice that has done nothing yet begins nevertheless, or it would never get anywhere.
    pub(super) async fn paid(
        &mut self,
        turn: u32,
        timeout: Duration,
        needs: Duration,
    ) -> Result<UnixMs, Stop> {
        let left = self.run.deadline.since(self.now());
        if left < LEAST_TIME || (left < needs && self.worked) {
            return Err(self.put_off(Duration::ZERO, "the deadline of the invocation is near".to_owned()));
        }
        let input = Paid { fence: self.run.fence, turn, timeout: timeout.min(left) };
        let start = Start::Known(Box::new(self.run.head.clone()));
        let sealed = self.take_unsealed();
        let (ports, rules) = (self.run.ports, self.run.rules);
        let mut driven = drive_sealing(ports, &self.id, &input, rules, start, &sealed).await?;
        if driven.head.as_ref().is_some_and(|head| head.version == self.run.head.version) {
            // The lease was long enough and nothing was written: so nobody was asked whether it is still ours.
            driven = drive_sealing(ports, &self.id, &input, rules, Start::Load, &sealed).await?;
        }
        let Driven { outcome, head } = driven;
        match (outcome, head) {
            (PaidOutcome::Granted { until }, Some(head)) => {
                if head.version == self.run.head.version {
                    self.add_unsealed(sealed);
                }
                self.run.head = head;
                self.worked = true;
                Ok(until.min(self.run.deadline))
            }
            (PaidOutcome::Granted { .. }, None) | (PaidOutcome::NotMine, _) => Err(Stop::LeaseLost),
        }
    }

    /// Makes calls at the same time. One with a refusal never leaves; the refusal is stored in its place. One that the
    /// model's service made already is stored as it is. `offered`: the tools of the others are looked at once more.
    pub(super) async fn call(
        &mut self,
        batch: Vec<(Planned, Option<Refusal>)>,
        offered: Option<&Policy<'_>>,
    ) -> Result<(), Stop> {
        let Some((first, _)) = batch.first() else { return Ok(()) };
        let until = if batch.iter().any(|(planned, refusal)| refusal.is_none() && planned.given.is_none()) {
            self.paid(first.turn, BATCH_TIMEOUT, BATCH_NEEDS).await?
        } else {
            self.now()
        };
        let session = &*self;
        let batch = match offered {
            Some(policy) => session.look_again(batch, policy, until).await?,
            None => batch.into_iter().map(|(p, refusal)| (p, refusal.as_ref().map(refused))).collect(),
        };
        let calls = batch.iter().map(|(planned, instead)| session.one(planned, instead.as_ref(), until));
        // All of them end before the first failure counts: what was paid for is stored.
        let ended = join_all(calls).await;
        for record in ended {
            let (number, record) = record?;
            self.stored.outputs.insert(number, record);
        }
        Ok(())
    }

    /// Looks whether the tools of a batch are still what the run offered. The lists are mostly known; a server that
    /// does not give its list is not called.
    async fn look_again(
        &self,
        batch: Vec<(Planned, Option<Refusal>)>,
        policy: &Policy<'_>,
        until: UnixMs,
    ) -> Result<Vec<(Planned, Option<Instead>)>, Stop> {
        let leaving = batch.iter().filter(|(_, refusal)| refusal.is_none());
        let servers: BTreeSet<&str> = leaving.map(|(planned, _)| planned.tool.server.as_str()).collect();
        let asked = servers
            .into_iter()
            .map(|server| async move { Ok((server.to_owned(), self.list_one(server, until).await?)) });
        let listed: BTreeMap<String, _> = join_all(asked).await.into_iter().collect::<Result<_, Stop>>()?;
        let now = |planned: &Planned| match listed.get(&planned.tool.server) {
            Some(Err(reason)) => Some((CallStatus::NoAnswer, None, reason.clone())),
            Some(Ok(definitions)) => {
                policy.unchanged(&planned.tool, definitions, self.run.redactor).err().as_ref().map(refused)
            }
            None => {
                let why = "its server was not asked".to_owned();
                Some(refused(&Refusal::ServerOut { tool: planned.tool.clone(), why }))
            }
        };
        let instead = |(planned, refusal): (Planned, Option<Refusal>)| {
            let instead = refusal.as_ref().map(refused).or_else(|| now(&planned));
            (planned, instead)
        };
        Ok(aside(|| batch.into_iter().map(instead).collect()).await)
    }

    async fn one(
        &self,
        planned: &Planned,
        instead: Option<&Instead>,
        until: UnixMs,
    ) -> Result<(u32, EvidenceRecord), Stop> {
        let at = self.now();
        let tool = planned.tool.to_string();
        let id = id_of(planned.number);
        let keep = |text: &str| Kept::of(text, self.run.redactor, MOST_ENCODED);
        let mut remarks = Vec::new();
        let (status, refusal, kept) = match (&planned.given, instead) {
            (Some(given), _) => (given.status, None, given.kept.clone()),
            (None, Some((status, refusal, reason))) => (*status, *refusal, keep(reason)),
            (None, None) => {
                let (status, output) = self.leave(planned, until.since(at)).await?;
                remarks = output.remarks;
                (status, None, aside(|| keep(&output.text)).await)
            }
        };
        let ms = u64::try_from(self.now().since(at).as_millis()).unwrap_or(u64::MAX);
        let record = EvidenceRecord::new(
            Ended {
                number: planned.number,
                tool: tool.clone(),
                arguments: &planned.arguments,
                status,
                refusal,
                turn: planned.turn,
                own: planned.own.clone(),
                at,
                ms,
                kept,
                remarks,
            },
            self.run.redactor,
        );
        self.append(ChildName::Output(planned.number), "a tool output", &record).await?;
        if let Some(reason) = refusal {
            self.tell_refused(&Refused { turn: planned.turn, tool: tool.clone(), reason });
        }
        let (incident, ok, bytes) = (self.id.clone(), record.ok, record.bytes);
        self.tell(if planned.turn == 0 {
            Progress::Evidence { incident, id, tool, ok, bytes, ms }
        } else {
            Progress::Called { incident, id, tool, ok, bytes, ms }
        });
        Ok((planned.number, record))
    }

    /// Makes a call that may be made. Where it gives nothing, the output says why.
    async fn leave(&self, planned: &Planned, within: Duration) -> Result<(CallStatus, ToolOutput), Stop> {
        let none = |text| (CallStatus::NoAnswer, ToolOutput { text, is_error: false, remarks: Vec::new() });
        let tool = &planned.tool;
        self.tell(Progress::Calling {
            incident: self.id.clone(),
            id: id_of(planned.number),
            tool: tool.to_string(),
        });
        let call = self.run.tools.call(tool, &planned.arguments, within);
        match tokio::time::timeout(within, call).await {
            Ok(Ok(output)) if output.is_error => Ok((CallStatus::ToolError, output)),
            Ok(Ok(output)) => Ok((CallStatus::Answered, output)),
            Ok(Err(ToolError::RespondToModel(reason))) => Ok(none(reason)),
            Ok(Err(ToolError::Fatal(reason))) => Err(Stop::Fail(format!("{tool}: {reason}"))),
            Err(_) => Ok(none(format!("{tool} did not answer within {} s", within.as_secs()))),
        }
    }

    /// Stores a part of the run. Another one under its name was stored by somebody else who holds, or held, the
    /// incident: that one stands.
    pub(super) async fn append(
        &self,
        name: ChildName,
        what: &'static str,
        value: &impl Serialize,
    ) -> Result<(), Stop> {
        let body =
            serde_json::to_string(value).map_err(|source| InvestigateError::Encode { what, source })?;
        let child = Child { generation: self.run.fence.generation, name, body };
        match self.run.ports.store.append(&self.id, &child).await? {
            Appended::Written => {
                self.add_unsealed([Sealed::of(&child)]);
                Ok(())
            }
            Appended::Other => Err(Stop::LeaseLost),
        }
    }
}
