//! One turn: ask the model, store what it answers; where it does not answer, go on later or without it.

use std::time::Duration;

use sentinel_core::incident::ChildName;
use sentinel_core::redact::Redactor;
use serde_json::Value;

use super::{Session, Stop};
use crate::conversation::reminder;
use crate::ports::{Item, Model, ModelError, TurnRequest, TurnResponse};
use crate::progress::Progress;
use crate::tools::SUBMIT_REPORT;
use crate::transcript::{Forced, Opening, TurnRecord};

/// How long a run waits before it asks once more in the same slice. The model's own client has retried by then.
const PAUSE: Duration = Duration::from_secs(2);
/// The first wait of a run that was put off because the model was out; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_mins(15);
/// A run that was put off as often as this goes on without the model.
const PATIENCE: u32 = 3;

impl Session<'_> {
    /// Asks, and stores the answer before anything is done about it. The inner `Err` is why the model is given up.
    pub(super) async fn ask(
        &mut self,
        model: &dyn Model,
        turn: u32,
        forced: Option<Forced>,
        mut input: Vec<Item>,
        opening: &Opening,
    ) -> Result<Result<(), String>, Stop> {
        input.extend(reminder(forced));
        let request = TurnRequest {
            model: self.run.playbook.card().model.clone(),
            instructions: opening.instructions.clone(),
            input,
            tools: opening.tools.clone(),
            force: forced.is_some().then(|| SUBMIT_REPORT.to_owned()),
            cache_key: self.id.to_string(),
        };
        let mut tries = 0;
        let (reason, retry_after) = loop {
            tries += 1;
            let (error, cut_off) = match self.once(model, turn, forced, &request, opening).await? {
                Ok(()) => return Ok(Ok(())),
                Err(failed) => failed,
            };
            match error {
                ModelError::Refused(_) => return Err(Stop::Fail(error.to_string())),
                ModelError::Unreadable(_) if tries == 1 => {}
                // A call that was cut off has cost its time already, and perhaps its money.
                ModelError::Unavailable { retry_after: None, .. } if tries == 1 && !cut_off => {
                    tokio::time::sleep(PAUSE).await;
                }
                ModelError::Unreadable(_) => break (error.to_string(), None),
                ModelError::Unavailable { retry_after, .. } => break (error.to_string(), retry_after),
            }
        };
        let slices = self.run.head.slices;
        if slices >= PATIENCE || self.is_over() {
            return Ok(Err(format!("{reason}, also after {slices} pauses")));
        }
        let wait = FIRST_WAIT.saturating_mul(1 << slices.min(8)).min(LONGEST_WAIT);
        Err(self.put_off(wait.max(retry_after.unwrap_or_default()), reason))
    }

    async fn once(
        &mut self,
        model: &dyn Model,
        turn: u32,
        forced: Option<Forced>,
        request: &TurnRequest,
        opening: &Opening,
    ) -> Result<Result<(), (ModelError, bool)>, Stop> {
        let timeout = self.run.model_timeout.min(self.time_left());
        let until = self.paid(turn, timeout, timeout).await?;
        let at = self.now();
        self.tell(Progress::Asking { incident: self.id.clone(), turn, model: request.model.clone() });
        let within = until.since(at);
        let response = match tokio::time::timeout(within, model.respond(request, within)).await {
            Ok(Ok(response)) => redacted(response, self.run.redactor),
            Ok(Err(error)) => return Ok(Err((error, false))),
            Err(_) => {
                let reason = format!("no answer within {} s", within.as_secs());
                return Ok(Err((ModelError::Unavailable { reason, retry_after: None }, true)));
            }
        };
        let ms = u64::try_from(self.now().since(at).as_millis()).unwrap_or(u64::MAX);
        let opening = (turn == 1).then(|| opening.clone());
        let record = TurnRecord { turn, at, ms, forced, response, opening };
        self.append(ChildName::Turn(turn), "a model turn", &record).await?;
        self.tell(Progress::Answered {
            incident: self.id.clone(),
            turn,
            calls: record.response.calls.iter().map(|c| c.name.clone()).collect(),
            input_tokens: record.response.usage.input_tokens,
            output_tokens: record.response.usage.output_tokens,
            ms,
        });
        self.stored.turns.push(record);
        Ok(Ok(()))
    }
}

/// What the model wrote itself, without secrets: its texts and the arguments of its calls. It is shown none, but it
/// may make one up or put one together. Everything else of its items, encrypted reasoning above all, goes back as it
/// came.
fn redacted(mut response: TurnResponse, redactor: &Redactor) -> TurnResponse {
    for item in &mut response.items {
        let kind = item.get("type").and_then(Value::as_str).map(str::to_owned);
        let written = match kind.as_deref() {
            Some("function_call") => item.get_mut("arguments"),
            Some("message") => item.get_mut("content"),
            _ => None,
        };
        if let Some(written) = written {
            redactor.redact_json(written);
        }
    }
    for call in &mut response.calls {
        call.arguments = redactor.redact(&call.arguments).into_owned();
    }
    response.text = redactor.redact(&response.text).into_owned();
    response
}
