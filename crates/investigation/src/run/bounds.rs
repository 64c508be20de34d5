//! What a card allows one investigation: tokens and money, over all its attempts. A turn is held against it before it is
//! paid for, and so is the report that has to follow. Where there is room for one turn only, that is the report.

use std::fmt;

use sentinel_core::budget::MicroUsd;
use sentinel_core::card::ModelId;
use serde::Serialize;

use super::Session;
use super::model::Asking;
use crate::fence::shorten;
use crate::ports::{Approval, Item, TurnRequest, TurnUsage};
use crate::transcript::Forced;

/// Tokens that a service wraps around a request.
const WRAPPING: u64 = 1_000;
/// An output that is no longer than this, in bytes, is not shown shorter: its fence has to stay.
const SHORTEST: usize = 400;

/// A turn as it is asked for.
pub(super) struct Bounded {
    pub(super) forced: Option<Forced>,
    pub(super) approvals: Vec<Approval>,
    pub(super) request: TurnRequest,
}

/// A bound that leaves no room.
#[derive(Debug)]
pub(super) enum Short {
    Tokens { most: u64, used: u64, needed: u64 },
    Usd { most: MicroUsd, used: MicroUsd, needed: MicroUsd },
}

impl Short {
    fn forced(&self) -> Forced {
        match self {
            Self::Tokens { .. } => Forced::TokensNearlyUsedUp,
            Self::Usd { .. } => Forced::MoneyNearlyUsedUp,
        }
    }
}

/// For reports.
impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens { most, used, needed } => write!(
                f,
                "the card's `max-tokens` ({most}) leave no room for another turn: {used} are used, and it may take \
                 {needed}"
            ),
            Self::Usd { most, used, needed } => write!(
                f,
                "the card's `max-usd` ({most}) leaves no room for another turn: {used} is spent, and it may cost \
                 {needed}"
            ),
        }
    }
}

impl Session<'_> {
    /// The turn, if need be as the last one, which has to report. `Err`: there is no room even for that.
    pub(super) fn bounded(&self, asking: &Asking<'_>, name: &ModelId) -> Result<Bounded, Short> {
        let mut forced = asking.forced;
        let (mut approvals, mut request) = self.request(asking, name, forced);
        let turn = self.most(&request);
        let is_short = if forced.is_none() {
            let short = self.short(name, &[turn, self.report_after(&turn)]);
            forced = short.as_ref().map(Short::forced);
            if forced.is_some() {
                (approvals, request) = self.request(asking, name, forced);
            }
            short.is_some() && self.short(name, &[self.most(&request)]).is_some()
        } else {
            self.short(name, &[turn]).is_some()
        };
        if is_short {
            // What the calls before it gave is stored whole; it is only shown shorter.
            while let Some(short) = self.short(name, &[self.most(&request)]) {
                if !show_less(&mut request) {
                    return Err(short);
                }
            }
        }
        Ok(Bounded { forced, approvals, request })
    }

    /// The most tokens that a turn can take. No tokenizer makes more tokens than there are bytes; what the turn before
    /// was sent, and answered, its service has counted. Only what a hosted server answers inside a call is in no
    /// request.
    pub(super) fn most(&self, request: &TurnRequest) -> TurnUsage {
        let output_tokens = u64::from(request.max_output_tokens);
        let before = self.stored.turns.last().map(|turn| (turn, &turn.response));
        let counted = before.filter(|(turn, response)| {
            turn.asked() == request.model && turn.cut == self.cut && response.usage.input_tokens > 0
        });
        let input = counted.and_then(|(_, response)| {
            let at = request.input.iter().rposition(|item| matches!(item, Item::Response { .. }))?;
            let added = request.input.get(at..)?;
            // Of a hosted call its service counts what it pleases.
            let is_hosted = response.hosted_calls().next().is_some();
            let answered = added.first().filter(|_| is_hosted).map_or(response.usage.output_tokens, bytes);
            let followed: u64 = added.iter().skip(1).map(bytes).sum();
            Some(response.usage.input_tokens.saturating_add(answered).saturating_add(followed))
        });
        let input = input.unwrap_or_else(|| bytes(request));
        TurnUsage {
            input_tokens: input.saturating_add(WRAPPING),
            cached_tokens: 0,
            cache_write_tokens: 0,
            output_tokens,
        }
    }

    /// What a turn can cost at most; `None`: its model has no price.
    pub(super) fn most_usd(&self, model: &ModelId, turn: &TurnUsage) -> Option<MicroUsd> {
        Some(MicroUsd::from_usd(self.price(model)?.most_usd(turn.counted())))
    }

    /// The report that follows a turn, with one more output to look at. Where there are more, they are shown shorter.
    fn report_after(&self, turn: &TurnUsage) -> TurnUsage {
        let output = u64::from(self.run.playbook.card().max_tool_output_tokens);
        let input_tokens = turn.input_tokens.saturating_add(turn.output_tokens).saturating_add(output);
        TurnUsage { input_tokens, ..*turn }
    }

    /// The first bound that leaves no room for these turns beside those that are stored.
    fn short(&self, model: &ModelId, turns: &[TurnUsage]) -> Option<Short> {
        let card = self.run.playbook.card();
        let tokens = |usage: &TurnUsage| usage.input_tokens.saturating_add(usage.output_tokens);
        let stored = self.stored.turns.iter();
        let used = stored.clone().fold(0_u64, |sum, turn| sum.saturating_add(tokens(&turn.response.usage)));
        let needed = turns.iter().fold(0_u64, |sum, turn| sum.saturating_add(tokens(turn)));
        if used.saturating_add(needed) > card.max_tokens {
            return Some(Short::Tokens { most: card.max_tokens, used, needed });
        }
        let paid =
            stored.filter_map(|turn| Some(self.price(&turn.asked())?.usd(turn.response.usage.counted())));
        let used = MicroUsd::from_usd(paid.sum());
        let needed = turns.iter().filter_map(|turn| self.most_usd(model, turn));
        let needed = MicroUsd(needed.fold(0, |sum, usd| sum.saturating_add(usd.0)));
        (used.0.saturating_add(needed.0) > card.max_usd.0).then_some(Short::Usd {
            most: card.max_usd,
            used,
            needed,
        })
    }
}

fn bytes(of: &impl Serialize) -> u64 {
    serde_json::to_vec(of).map_or(u64::MAX, |json| json.len() as u64)
}

/// Shows less of what the last turn's calls gave. Whether there was anything left to cut.
fn show_less(request: &mut TurnRequest) -> bool {
    let outputs = request.input.iter_mut().rev().take_while(|item| !matches!(item, Item::Response { .. }));
    let mut any = false;
    for item in outputs {
        let Item::CallOutput { output, .. } = item else { continue };
        if output.len() > SHORTEST {
            *output = shorten(output, output.len() / 2);
            any = true;
        }
    }
    any
}
