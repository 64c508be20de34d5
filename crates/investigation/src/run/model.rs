//! One turn: ask the model, store what it answers; where it does not answer, ask the card's next one, go on later, or
//! go on without.

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel_core::budget::Amount;
use sentinel_core::card::ModelId;
use sentinel_core::digest::sha256;
use sentinel_core::incident::ChildName;
use sentinel_core::redact::Redactor;
use sentinel_core::without_secrets::redact_text;

use super::bounds::Bounded;
use super::{Session, Stop};
use crate::aside::aside;
use crate::conversation::{MOST_CALLS, Pending, REPORT_IS_DUE, Replayed, reminder};
use crate::hosted;
use crate::ports::{
    Approval, FunctionCall, Incomplete, Item, Model, ModelError, Said, TurnRequest, TurnResponse,
};
use crate::progress::Progress;
use crate::refusal::Refusal;
use crate::tools::SUBMIT_REPORT;
use crate::transcript::{Forced, Opening, TurnRecord, Without};
use crate::usage;

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

/// What became of a turn that was asked for.
pub(super) enum Asked {
    /// It was answered, and the answer is stored.
    Answered,
    /// Less of the conversation is shown: it is to be asked for again.
    Cut,
    /// No model answers, and why: the report is made of the evidence.
    GivenUp(String),
}

/// Why one of the card's models gave no turn.
enum Out {
    /// Later it may.
    Passing { reason: String, retry_after: Duration },
    /// The same request would be refused every time. Another model, or service, may take it.
    Refused(String),
    /// The conversation is too long for it, and has been made shorter.
    Cut,
}

impl Session<'_> {
    /// Asks, and stores the answer before anything is done about it. Whatever one model says, the next of the card's is
    /// asked; where none answers, what was found is not lost.
    pub(super) async fn ask(&mut self, asking: &Asking<'_>) -> Result<Asked, Stop> {
        let (models, mut instead) = self.candidates();
        let alone = models.len() == 1;
        let mut outs: Vec<(ModelId, String)> = Vec::new();
        let mut wait: Option<Duration> = None;
        for model in models {
            let reason = match self.ask_one(asking, &model, instead.as_deref(), alone).await? {
                Ok(()) => return Ok(Asked::Answered),
                Err(Out::Cut) => return Ok(Asked::Cut),
                Err(Out::Refused(reason)) => {
                    self.tell(Progress::ModelRefused {
                        incident: self.id.clone(),
                        turn: asking.turn,
                        model: model.to_string(),
                        reason: reason.clone(),
                    });
                    reason
                }
                Err(Out::Passing { reason, retry_after }) => {
                    wait = Some(wait.map_or(retry_after, |shortest| shortest.min(retry_after)));
                    reason
                }
            };
            tracing::warn!(%model, reason, "a model is out");
            instead = Some(format!("{model} was out: {reason}"));
            outs.push((model, reason));
        }
        let reason = match &*outs {
            [(_, only)] => only.clone(),
            all => all.iter().map(|(model, why)| format!("{model}: {why}")).collect::<Vec<_>>().join("; "),
        };
        let Some(retry_after) = wait else { return Ok(Asked::GivenUp(reason)) };
        let slices = self.run.head.slices;
        if slices >= PATIENCE || self.is_over() {
            return Ok(Asked::GivenUp(format!("{reason}, also after {slices} pauses")));
        }
        let wait = FIRST_WAIT.saturating_mul(1 << slices.min(8)).min(LONGEST_WAIT);
        Err(self.put_off(wait.max(retry_after), reason))
    }

    /// The card's models, the one first that answered last, and why it was not the first of the card's: a run does not
    /// change its model at each turn, which would cost the model's cache.
    fn candidates(&self) -> (Vec<ModelId>, Option<String>) {
        let card = self.run.playbook.card();
        let mut models = vec![card.model.clone()];
        for fallback in &card.fallback_models {
            if !models.contains(fallback) {
                models.push(fallback.clone());
            }
        }
        let last = self.stored.turns.last();
        let at = last.and_then(|turn| models.iter().position(|model| *model == turn.asked())).unwrap_or(0);
        models.rotate_left(at);
        (models, last.filter(|_| at > 0).and_then(|turn| turn.instead.clone()))
    }

    async fn ask_one(
        &mut self,
        asking: &Asking<'_>,
        name: &ModelId,
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
                ModelError::TooLong { fits, .. } => {
                    let cut = self.cut_to(asking, fits);
                    return Ok(Err(if cut { Out::Cut } else { Out::Refused(reason) }));
                }
                ModelError::ServersOut { labels, reason: said } if self.leave_out(asking, &labels, &said) => {
                    tries -= 1;
                }
                ModelError::Unreadable(_) if tries == 1 => {}
                // A call that was cut off has cost its time already, and perhaps its money.
                ModelError::Unavailable { retry_after: None, .. } if tries == 1 && !cut_off && alone => {
                    tokio::time::sleep(PAUSE).await;
                }
                // Each unreadable answer is paid for.
                ModelError::Refused(_) | ModelError::Unreadable(_) => return Ok(Err(Out::Refused(reason))),
                ModelError::ServersOut { .. } => {
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

    /// Shows less of the conversation, the oldest outputs first, until it is as short as the model's service says that it
    /// has to be, or half as long. Whether anything could be cut: that is tried once for each turn.
    fn cut_to(&mut self, asking: &Asking<'_>, fits: Option<u32>) -> bool {
        if self.cut_at == Some(asking.turn) {
            return false;
        }
        self.cut_at = Some(asking.turn);
        let tokens = self.run.playbook.card().max_tool_output_tokens;
        let whole = serde_json::to_string(&asking.replayed.input).map_or(0, |json| json.len());
        // A little less than would fit: bytes are no tokens.
        let fits = usize::try_from(fits.unwrap_or(55)).unwrap_or(100).min(95).saturating_sub(5);
        let mut left_out = whole.saturating_sub(whole / 100 * fits);
        let before = self.cut;
        for (number, output) in self.stored.outputs.range(before.saturating_add(1)..) {
            if left_out == 0 {
                break;
            }
            self.cut = *number;
            left_out = left_out.saturating_sub(output.for_model(tokens).len());
        }
        if self.cut > before {
            tracing::warn!(
                turn = asking.turn,
                upto = self.cut,
                "the context is too long, outputs are shown as their ids"
            );
        }
        self.cut > before
    }

    /// What the pending hosted calls are answered, and the whole request.
    pub(super) fn request(
        &self,
        asking: &Asking<'_>,
        model: &ModelId,
        forced: Option<Forced>,
    ) -> (Vec<Approval>, TurnRequest) {
        let opening = asking.opening;
        let approvals: Vec<Approval> =
            asking.replayed.pending.iter().map(|pending| self.approval(pending, forced)).collect();
        let mut input = asking.replayed.input.clone();
        input.extend(approvals.iter().cloned().map(Item::Approval));
        input.extend(reminder(forced));
        let hosts = |server: &str| asking.model.hosts(model, server).is_some();
        let hosted =
            opening.hosted.iter().filter(|h| !self.without.contains_key(&h.server) && hosts(&h.server));
        let alone = forced == Some(Forced::Again);
        let tools = opening.tools.iter().filter(|tool| !alone || tool.name == SUBMIT_REPORT);
        let request = TurnRequest {
            model: model.clone(),
            instructions: opening.instructions.clone(),
            input,
            tools: tools.cloned().collect(),
            hosted: hosted.filter(|_| !alone).cloned().collect(),
            max_hosted_calls: u32::try_from(MOST_CALLS).unwrap_or(u32::MAX),
            force: forced.is_some().then(|| SUBMIT_REPORT.to_owned()),
            max_output_tokens: self.room(),
            cache_key: self.id.to_string(),
        };
        (approvals, request)
    }

    /// The most tokens of the next answer: twice as many after one that was cut off.
    fn room(&self) -> u32 {
        let last = self.stored.turns.last().and_then(|turn| turn.response.incomplete.as_ref());
        let times = if last == Some(&Incomplete::NoRoom) { 2 } else { 1 };
        self.run.max_output_tokens.saturating_mul(times)
    }

    /// The policy's answer, unless the tool cannot be called any more.
    fn approval(&self, pending: &Pending, forced: Option<Forced>) -> Approval {
        let Pending { tool, answer } = pending;
        let objection = tool.as_ref().filter(|_| answer.approve).and_then(|tool| {
            if forced.is_some() {
                Some(Refusal::ReportDue(REPORT_IS_DUE))
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
        name: &ModelId,
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
        self.tell(Progress::Asking { incident: self.id.clone(), turn, model: request.model.to_string() });
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
        let told = response.usage.input_tokens > 0 || asking.model.is_recorded();
        if !told {
            response.usage = usage::estimated(&request, &response);
        }
        let (hosted, of_requests) =
            aside(|| hosted::take_outputs(&mut response.outputs, self.run.redactor)).await;
        credentials.extend(of_requests);
        let without = self.without.iter();
        let record = TurnRecord {
            turn,
            at,
            request_sha256,
            ms: u64::try_from(self.now().since(at).as_millis()).unwrap_or(u64::MAX),
            forced,
            asked: request.model.name,
            service: request.model.service,
            cut: self.cut,
            estimated: !told,
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
        self.settle(held, self.cost(&record.asked(), &record.response.usage)).await;
        self.settle_investigation(true).await;
        self.tell(Progress::Answered {
            incident: self.id.clone(),
            turn,
            calls: record.response.calls().map(|c| c.name.clone()).collect(),
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
    let redact = |text: &mut String| *text = redactor.redact(text).into_owned();
    for output in &mut response.outputs {
        match &mut output.said {
            Said::Text { text } | Said::Refusal { text } | Said::Reasoning { text } => redact(text),
            Said::Call(FunctionCall { call_id, arguments, .. }) => {
                if let Some(kind) = hosted::take_credential(arguments, redactor) {
                    credentials.insert(call_id.clone(), kind);
                }
            }
            Said::Other => output.raw.values_mut().for_each(|value| redactor.redact_json(value)),
            Said::HostedCall(_) | Said::HostedList(_) | Said::HostedRequest(_) => {}
        }
    }
    response.left_out.iter_mut().for_each(|left_out| redact(&mut left_out.reason));
    (response, credentials)
}
