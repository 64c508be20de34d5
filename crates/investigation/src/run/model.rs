//! One turn: ask the model, store what it answers; where it does not answer, ask the card's next one, go on later, or
//! go on without.

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel_core::budget::Amount;
use sentinel_core::digest::sha256;
use sentinel_core::incident::ChildName;
use sentinel_core::redact::Redactor;
use sentinel_core::without_secrets::redact_text;
use serde_json::Value;

use super::bounds::Bounded;
use super::{Session, Stop};
use crate::arguments;
use crate::aside::aside;
use crate::conversation::{MOST_CALLS, Pending, Replayed, reminder};
use crate::hosted;
use crate::ports::{Approval, Item, Model, ModelError, TurnRequest, TurnResponse};
use crate::progress::Progress;
use crate::refusal::Refusal;
use crate::tools::SUBMIT_REPORT;
use crate::transcript::{Forced, Opening, TurnRecord, Without};

/// How long a run waits before it asks once more in the same slice. The model's own client has retried by then.
const PAUSE: Duration = Duration::from_secs(2);
/// The first wait of a run that was put off because the model was out; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_mins(15);
/// A run that was put off as often as this goes on without the model.
const PATIENCE: u32 = 3;

/// A turn that is to be asked for.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    pub(super) model: &'a dyn Model,
    pub(super) turn: u32,
    pub(super) forced: Option<Forced>,
    pub(super) opening: &'a Opening,
    pub(super) replayed: &'a Replayed,
}

/// Why one of the card's models gave no turn.
enum Out {
    /// Later it may.
    Passing { reason: String, retry_after: Duration },
    /// The account has nothing left.
    Quota(String),
    /// It will refuse every time.
    Refused(String),
}

impl Out {
    fn reason(&self) -> &str {
        match self {
            Self::Passing { reason, .. } | Self::Quota(reason) | Self::Refused(reason) => reason,
        }
    }
}

impl Session<'_> {
    /// Asks, and stores the answer before anything is done about it. The inner `Err` is why the model is given up.
    pub(super) async fn ask(&mut self, asking: &Asking<'_>) -> Result<Result<(), String>, Stop> {
        let (names, mut instead) = self.candidates();
        let alone = names.len() == 1;
        let mut outs: Vec<(String, Out)> = Vec::new();
        for name in names {
            let out = match self.ask_one(asking, &name, instead.as_deref(), alone).await? {
                Ok(()) => return Ok(Ok(())),
                Err(out) => out,
            };
            // The first one's refusal is the configuration's fault, and another model would hide it.
            if let (Out::Refused(reason), true) = (&out, outs.is_empty()) {
                return Err(Stop::Fail(reason.clone()));
            }
            tracing::warn!(model = name, reason = out.reason(), "a model is out");
            instead = Some(format!("{name} was out: {}", out.reason()));
            outs.push((name, out));
        }
        let reason = match &*outs {
            [(_, only)] => only.reason().to_owned(),
            all => all.iter().map(|(n, o)| format!("{n}: {}", o.reason())).collect::<Vec<_>>().join("; "),
        };
        let waits = outs.iter().filter_map(|(_, out)| match out {
            Out::Passing { retry_after, .. } => Some(*retry_after),
            Out::Quota(_) | Out::Refused(_) => None,
        });
        let Some(retry_after) = waits.min() else { return Err(Stop::Fail(reason)) };
        let slices = self.run.head.slices;
        if slices >= PATIENCE || self.is_over() {
            return Ok(Err(format!("{reason}, also after {slices} pauses")));
        }
        let wait = FIRST_WAIT.saturating_mul(1 << slices.min(8)).min(LONGEST_WAIT);
        Err(self.put_off(wait.max(retry_after), reason))
    }

    /// The card's models, the one first that answered last, and why it was not the first of the card's: a run does not
    /// change its model at each turn, which would cost the model's cache.
    fn candidates(&self) -> (Vec<String>, Option<String>) {
        let card = self.run.playbook.card();
        let mut names = vec![card.model.clone()];
        for fallback in &card.fallback_models {
            if !names.contains(fallback) {
                names.push(fallback.clone());
            }
        }
        let last = self.stored.turns.last();
        let at = last.and_then(|turn| names.iter().position(|n| *n == turn.asked)).unwrap_or(0);
        names.rotate_left(at);
        (names, last.filter(|_| at > 0).and_then(|turn| turn.instead.clone()))
    }

    async fn ask_one(
        &mut self,
        asking: &Asking<'_>,
        name: &str,
        instead: Option<&str>,
        alone: bool,
    ) -> Result<Result<(), Out>, Stop> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (error, cut_off) = match self.once(asking, name, instead).await? {
                Ok(()) => return Ok(Ok(())),
                Err(failed) => failed,
            };
            let mut reason = error.to_string();
            redact_text(&mut reason, self.run.redactor);
            match error {
                ModelError::Refused(_) => return Ok(Err(Out::Refused(reason))),
                ModelError::OutOfQuota(_) => return Ok(Err(Out::Quota(reason))),
                ModelError::ServersOut { labels, reason: said } if self.leave_out(asking, &labels, &said) => {
                    tries -= 1;
                }
                ModelError::Unreadable(_) if tries == 1 => {}
                // A call that was cut off has cost its time already, and perhaps its money.
                ModelError::Unavailable { retry_after: None, .. } if tries == 1 && !cut_off && alone => {
                    tokio::time::sleep(PAUSE).await;
                }
                ModelError::Unreadable(_) | ModelError::ServersOut { .. } => {
                    return Ok(Err(Out::Passing { reason, retry_after: Duration::ZERO }));
                }
                ModelError::Unavailable { retry_after, .. } => {
                    let retry_after = retry_after.unwrap_or_default();
                    return Ok(Err(Out::Passing { reason, retry_after }));
                }
            }
        }
    }

    /// Goes on without hosted servers that are out: one that is down costs its tools, not the investigation. Whether
    /// there was any that was not left out already.
    fn leave_out(&mut self, asking: &Asking<'_>, labels: &[String], reason: &str) -> bool {
        let mut any = false;
        for hosted in asking.opening.hosted.iter().filter(|h| labels.contains(&h.label)) {
            let reason = self.run.redactor.redact(reason).into_owned();
            tracing::warn!(server = hosted.server, reason, "a hosted server is out");
            any |= self.without.insert(hosted.server.clone(), reason).is_none();
        }
        any
    }

    /// What the pending hosted calls are answered, and the whole request.
    pub(super) fn request(
        &self,
        asking: &Asking<'_>,
        name: &str,
        forced: Option<Forced>,
    ) -> (Vec<Approval>, TurnRequest) {
        let opening = asking.opening;
        let approvals: Vec<Approval> =
            asking.replayed.pending.iter().map(|pending| self.approval(pending, forced)).collect();
        let mut input = asking.replayed.input.clone();
        input.extend(approvals.iter().cloned().map(Item::Approval));
        input.extend(reminder(forced));
        let hosted = opening.hosted.iter().filter(|h| !self.without.contains_key(&h.server));
        let request = TurnRequest {
            model: name.to_owned(),
            instructions: opening.instructions.clone(),
            input,
            tools: opening.tools.clone(),
            hosted: hosted.cloned().collect(),
            max_hosted_calls: u32::try_from(MOST_CALLS).unwrap_or(u32::MAX),
            force: forced.is_some().then(|| SUBMIT_REPORT.to_owned()),
            cache_key: self.id.to_string(),
        };
        (approvals, request)
    }

    /// The policy's answer, unless the tool cannot be called any more.
    fn approval(&self, pending: &Pending, forced: Option<Forced>) -> Approval {
        let Pending { tool, answer } = pending;
        let objection = tool.as_ref().filter(|_| answer.approve).and_then(|tool| {
            if forced.is_some() {
                Some(Refusal::ReportDue("Not called: the report is due now."))
            } else if self.without.contains_key(&tool.server) {
                Some(Refusal::ServerOut { tool: tool.clone(), why: "its server is out".to_owned() })
            } else {
                None
            }
        });
        objection.map_or_else(|| answer.clone(), |refusal| answer.clone().denied(&refusal))
    }

    async fn once(
        &mut self,
        asking: &Asking<'_>,
        name: &str,
        instead: Option<&str>,
    ) -> Result<Result<(), (ModelError, bool)>, Stop> {
        let turn = asking.turn;
        let timeout = self.run.model_timeout.min(self.time_left());
        let Bounded { forced, approvals, request } =
            aside(|| self.bounded(asking, name)).await.map_err(Stop::NoRoom)?;
        self.reserve_investigation().await?;
        let held = self.reserve_call(&request).await?;
        let until = match self.paid(turn, timeout, timeout).await {
            Ok(until) => until,
            Err(stop) => {
                self.settle(held, Amount::NOTHING).await;
                return Err(stop);
            }
        };
        let at = self.now();
        for denied in approvals.iter().filter(|a| !a.approve) {
            tracing::info!(
                turn,
                request = denied.request_id,
                reason = denied.reason,
                "a hosted call is denied"
            );
        }
        let request_sha256 = serde_json::to_string(&request).map(|text| sha256(&text)).unwrap_or_default();
        self.tell(Progress::Asking { incident: self.id.clone(), turn, model: request.model.clone() });
        let within = until.since(at);
        let answered = tokio::time::timeout(within, asking.model.respond(&request, within)).await;
        let (mut response, mut credentials) = match answered {
            Ok(Ok(response)) => aside(|| redacted(response, self.run.redactor)).await,
            Ok(Err(error)) if !error.may_be_billed() => {
                self.settle(held, Amount::NOTHING).await;
                return Ok(Err((error, false)));
            }
            // Perhaps it is paid for: what was held stays spent.
            Ok(Err(error)) => {
                self.billed = true;
                return Ok(Err((error, false)));
            }
            Err(_) => {
                self.billed = true;
                let reason = format!("no answer within {} s", within.as_secs());
                return Ok(Err((ModelError::Unavailable { reason, retry_after: None, billed: true }, true)));
            }
        };
        let (hosted, of_requests) =
            aside(|| hosted::take_outputs(&mut response.items, self.run.redactor)).await;
        credentials.extend(of_requests);
        let without = self.without.iter();
        let record = TurnRecord {
            turn,
            at,
            request_sha256,
            ms: u64::try_from(self.now().since(at).as_millis()).unwrap_or(u64::MAX),
            forced,
            asked: request.model,
            instead: instead.map(str::to_owned),
            approvals,
            without: without
                .map(|(server, reason)| Without { server: server.clone(), reason: reason.clone() })
                .collect(),
            credentials,
            hosted,
            response,
            opening: (turn == 1).then(|| asking.opening.clone()),
        };
        self.append(ChildName::Turn(turn), "a model turn", &record).await?;
        self.settle(held, self.cost(&record.asked, &record.response.usage)).await;
        self.settle_investigation(true).await;
        self.tell(Progress::Answered {
            incident: self.id.clone(),
            turn,
            calls: record.response.calls.iter().map(|c| c.name.clone()).collect(),
            input_tokens: record.response.usage.input_tokens,
            output_tokens: record.response.usage.output_tokens,
            ms: record.ms,
        });
        self.stored.turns.push(record);
        Ok(Ok(()))
    }
}

/// What the model wrote itself, without secrets, and the calls whose arguments hold a credential, by their ids. The model
/// is shown none, but it may make one up or put one together. Its texts are redacted like any other; the arguments of
/// its calls stay as it wrote them, unless they hold a credential beyond doubt: then the call is refused, and what is
/// stored and sent back of it are its parsed arguments without it. Everything else of its items, encrypted reasoning
/// above all, goes back as it came.
fn redacted(mut response: TurnResponse, redactor: &Redactor) -> (TurnResponse, BTreeMap<String, String>) {
    let mut credentials = BTreeMap::new();
    for item in &mut response.items {
        let kind = item.get("type").and_then(Value::as_str).map(str::to_owned);
        match kind.as_deref() {
            Some("function_call") => drop(hosted::take_credential(item, redactor)),
            Some("message") => redact_texts(item, redactor),
            // A message of Chat Completions, which has a role and no type.
            None => {
                redact_texts(item, redactor);
                let calls = item.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten();
                for call in calls {
                    drop(call.get_mut("function").and_then(|f| hosted::take_credential(f, redactor)));
                }
            }
            Some(_) => {}
        }
    }
    for call in &mut response.calls {
        if let Some(kind) = arguments::credential(&call.arguments, redactor) {
            call.arguments = arguments::without_credentials(&call.arguments, redactor);
            credentials.insert(call.call_id.clone(), kind);
        }
    }
    response.text = redactor.redact(&response.text).into_owned();
    (response, credentials)
}

/// The texts of a message: its content, whole or in parts, and its refusal.
fn redact_texts(message: &mut Value, redactor: &Redactor) {
    for key in ["content", "refusal"] {
        match message.get_mut(key) {
            Some(Value::Array(parts)) => {
                let texts = parts.iter_mut().filter_map(Value::as_object_mut).flat_map(|part| {
                    part.iter_mut()
                        .filter(|(key, _)| matches!(key.as_str(), "text" | "refusal"))
                        .map(|(_, v)| v)
                });
                texts.for_each(|text| redactor.redact_json(text));
            }
            Some(text) => redactor.redact_json(text),
            None => {}
        }
    }
}
