//! What an investigation took, summed from what is stored.

use sentinel_core::price::Price;
use sentinel_core::report::Usage;

use crate::evidence::{CHARS_PER_TOKEN, EvidenceRecord};
use crate::ports::{Item, TurnRequest, TurnResponse, TurnUsage};
use crate::transcript::TurnRecord;

/// Sums up. `price` is what a turn's model costs; one without a price makes the cost of the whole unknown. `ms` is
/// the wall time over all attempts.
pub(crate) fn sum<'e>(
    turns: &[TurnRecord],
    outputs: impl IntoIterator<Item = &'e EvidenceRecord>,
    price: impl Fn(&TurnRecord) -> Option<Price>,
    ms: u64,
) -> Usage {
    let mut usage = Usage { ms, usd: Some(0.0), ..Usage::default() };
    for turn in turns {
        let tokens = &turn.response.usage;
        usage.turns = usage.turns.saturating_add(1);
        usage.input_tokens = usage.input_tokens.saturating_add(tokens.input_tokens);
        usage.cached_tokens = usage.cached_tokens.saturating_add(tokens.cached_tokens);
        usage.cache_write_tokens = usage.cache_write_tokens.saturating_add(tokens.cache_write_tokens);
        usage.output_tokens = usage.output_tokens.saturating_add(tokens.output_tokens);
        usage.usd = usage.usd.zip(price(turn)).map(|(sum, price)| sum + price.usd(tokens.counted()));
    }
    for output in outputs {
        usage.tool_calls = usage.tool_calls.saturating_add(u32::from(output.status.left()));
    }
    usage
}

/// What a turn took, about, where its service does not say.
pub(crate) fn estimated(request: &TurnRequest, response: &TurnResponse) -> TurnUsage {
    let answer = serde_json::to_string(&response.outputs).map_or(0, |outputs| outputs.chars().count());
    let output_tokens = u64::try_from(answer.div_ceil(CHARS_PER_TOKEN)).unwrap_or(u64::MAX);
    TurnUsage { input_tokens: estimated_tokens(request), output_tokens, ..TurnUsage::default() }
}

/// What a token of prose is taken for, in characters.
const CHARS_PER_TOKEN_OF_PROSE: usize = 4;

/// About how many tokens a request has: the instructions as prose, all else as data. A model counts otherwise; this only
/// has to tell a small one from a large one.
pub fn estimated_tokens(request: &TurnRequest) -> u64 {
    let items = request.input.iter().map(|item| match item {
        Item::User { text } => text.chars().count(),
        Item::Response { outputs, .. } => {
            serde_json::to_string(outputs).map_or(0, |outputs| outputs.chars().count())
        }
        Item::CallOutput { output, .. } => output.chars().count(),
        Item::Approval(approval) => approval.reason.as_ref().map_or(0, |reason| reason.chars().count()),
    });
    let tools = request.tools.iter().map(|tool| {
        tool.name.len() + tool.description.chars().count() + tool.parameters.to_string().chars().count()
    });
    let prose = request.instructions.chars().count().div_ceil(CHARS_PER_TOKEN_OF_PROSE);
    let data = (items.sum::<usize>() + tools.sum::<usize>()).div_ceil(CHARS_PER_TOKEN);
    u64::try_from(prose + data).unwrap_or(u64::MAX)
}
