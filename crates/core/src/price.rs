//! What models cost, and when they are switched off, as far as it is known without asking anybody.

use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;

use crate::time::UnixMs;

/// The day on which the built-in prices and the ends of models were looked up: at <https://developers.openai.com/api/docs/pricing>,
/// <https://developers.openai.com/api/docs/deprecations> and <https://platform.claude.com/docs/en/about-claude/pricing>.
pub const LOOKED_UP: &str = "2026-11-28";

/// A token that is written to a cache costs this much more than one that is only sent, where its price is not known.
const CACHE_WRITE: f64 = 1.25;
/// What a service costs more that answers within one region.
const REGIONAL: f64 = 1.1;
const MILLION: f64 = 1_000_000.0;

/// Tokens of one model call.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tokens {
    /// Sent, cached and written ones included.
    pub input: u64,
    /// Of those, held by the model's cache.
    pub cached: u64,
    /// Of those, newly written to it.
    pub cache_write: u64,
    /// Received, reasoning included.
    pub output: u64,
}

/// What a model's tokens cost, in US dollars per million.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Price {
    /// Tokens sent.
    pub input: f64,
    /// Tokens sent that the model's cache holds.
    pub cached_input: f64,
    /// Tokens sent that are written to it.
    pub cache_write: f64,
    /// Tokens received.
    pub output: f64,
    /// What a long request changes; `None`: nothing.
    pub long: Option<LongRequest>,
}

/// A request above a length costs more: all of it, not only what is above.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LongRequest {
    /// The most tokens sent that cost the usual.
    pub above: u64,
    /// By how much tokens sent cost more, cached and written ones too.
    pub input_factor: f64,
    /// By how much tokens received do.
    pub output_factor: f64,
}

impl Price {
    /// A price without one of its own for cache writes, and without one for long requests.
    pub const fn new(input: f64, cached_input: f64, output: f64) -> Self {
        Self { input, cached_input, cache_write: input * CACHE_WRITE, output, long: None }
    }

    /// What a call costs, in US dollars. Numbers of a service that contradict each other count once.
    #[expect(clippy::cast_precision_loss, reason = "a run has far fewer than 2^52 tokens")]
    pub fn usd(&self, tokens: Tokens) -> f64 {
        let (input_factor, output_factor) = self.factors(tokens.input);
        let cached = tokens.cached.min(tokens.input);
        let written = tokens.cache_write.min(tokens.input.saturating_sub(cached));
        let fresh = tokens.input.saturating_sub(cached).saturating_sub(written);
        let input =
            fresh as f64 * self.input + cached as f64 * self.cached_input + written as f64 * self.cache_write;
        (input * input_factor + tokens.output as f64 * self.output * output_factor) / MILLION
    }

    /// The most that a call with at most so many tokens can cost, whatever of it is cached or written.
    pub fn most_usd(&self, tokens: Tokens) -> f64 {
        let dearest = self.input.max(self.cached_input).max(self.cache_write);
        let flat = Self { input: dearest, cached_input: dearest, cache_write: dearest, ..*self };
        flat.usd(tokens).max(Self { long: None, ..flat }.usd(tokens))
    }

    /// The same model at a service that answers within one region.
    #[must_use]
    pub fn regional(self) -> Self {
        Self {
            input: self.input * REGIONAL,
            cached_input: self.cached_input * REGIONAL,
            cache_write: self.cache_write * REGIONAL,
            output: self.output * REGIONAL,
            long: self.long,
        }
    }

    fn factors(&self, input: u64) -> (f64, f64) {
        match self.long {
            Some(long) if input > long.above => (long.input_factor, long.output_factor),
            _ => (1.0, 1.0),
        }
    }
}

/// OpenAI's long requests.
const OPENAI_LONG: Option<LongRequest> =
    Some(LongRequest { above: 272_000, input_factor: 2.0, output_factor: 1.5 });
/// Claude Haiku 5.5's.
const HAIKU_LONG: Option<LongRequest> =
    Some(LongRequest { above: 100_000, input_factor: 5.0, output_factor: 5.0 });

const fn openai(input: f64, cached_input: f64, output: f64) -> Price {
    Price { long: OPENAI_LONG, ..Price::new(input, cached_input, output) }
}

/// List prices by model: of OpenAI, and of Anthropic with a cache of five minutes.
const BUILT_IN: &[(&str, Price)] = &[
    ("gpt-6-luna", openai(0.10, 0.01, 0.50)),
    ("gpt-6.1-terra", openai(1.0, 0.05, 5.0)),
    ("gpt-6-sol", openai(2.0, 0.20, 10.0)),
    ("gpt-5.6-luna", openai(0.20, 0.02, 1.20)),
    ("gpt-5.6-terra", openai(2.0, 0.20, 12.0)),
    ("gpt-4.1-mini", Price::new(0.40, 0.10, 1.60)),
    ("claude-fable-5-1", Price::new(10.0, 0.25, 50.0)),
    ("claude-fable-5", Price::new(10.0, 1.0, 50.0)),
    ("claude-opus-5-5", Price::new(4.0, 0.20, 20.0)),
    ("claude-opus-5", Price::new(5.0, 0.50, 25.0)),
    ("claude-opus-4-8", Price::new(5.0, 0.50, 25.0)),
    ("claude-opus-4-7", Price::new(5.0, 0.50, 25.0)),
    ("claude-opus-4-6", Price::new(5.0, 0.50, 25.0)),
    ("claude-opus-4-5", Price::new(5.0, 0.50, 25.0)),
    ("claude-sonnet-5-5", Price::new(2.0, 0.10, 10.0)),
    ("claude-sonnet-5", Price::new(2.0, 0.20, 10.0)),
    ("claude-sonnet-4-6", Price::new(3.0, 0.30, 15.0)),
    ("claude-sonnet-4-5", Price::new(3.0, 0.30, 15.0)),
    ("claude-haiku-5-5", Price { long: HAIKU_LONG, ..Price::new(0.10, 0.01, 0.50) }),
    ("claude-haiku-4-5", Price::new(1.0, 0.10, 5.0)),
];

/// The list price of a model, also under the names that Amazon Bedrock gives it; `None`: it is not known.
pub fn built_in(model: &str) -> Option<Price> {
    let vendor = |name: &str| model.find(name).and_then(|at| model.get(at + name.len()..));
    let name = vendor("openai.").or_else(|| vendor("anthropic.")).unwrap_or(model);
    let name = name.split_once("-v1").map_or(name, |(name, _)| name);
    let name = family(name);
    BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, price)| *price)
}

/// When a model is switched off at OpenAI, and what may follow it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndOfLife {
    /// The day; its first moment in UTC counts.
    pub day: Date,
    /// A model that costs about as much, or less.
    pub successor: &'static str,
}

impl EndOfLife {
    /// Whether less than `days` are left, or none.
    pub fn is_within(&self, days: i32, now: UnixMs) -> bool {
        let today = Timestamp::from_millisecond(now.get()).unwrap_or(Timestamp::MAX);
        let today = today.to_zoned(TimeZone::UTC).date();
        self.day.duration_since(today).as_hours() <= i64::from(days) * 24
    }
}

const fn end(day: Date, successor: &'static str) -> EndOfLife {
    EndOfLife { day, successor }
}

/// The models whose end is announced.
const ENDS: &[(&str, EndOfLife)] = &[
    ("gpt-5", end(date(2026, 12, 11), "gpt-6.1-terra")),
    ("gpt-5-mini", end(date(2026, 12, 11), "gpt-6-luna")),
    ("gpt-5-nano", end(date(2026, 12, 11), "gpt-6-luna")),
    ("o3", end(date(2026, 12, 11), "gpt-6-sol")),
    ("gpt-4o", end(date(2027, 1, 14), "gpt-6.1-terra")),
    ("gpt-4o-mini", end(date(2027, 1, 14), "gpt-6-luna")),
    ("gpt-4.1", end(date(2027, 1, 14), "gpt-6.1-terra")),
    ("gpt-4.1-mini", end(date(2027, 1, 14), "gpt-6-luna")),
    ("gpt-5.1", end(date(2027, 4, 1), "gpt-6.1-terra")),
];

/// When a model of OpenAI is switched off; a snapshot with a date is one of its family.
pub fn end_of_life(model: &str) -> Option<&'static EndOfLife> {
    let name = family(model);
    ENDS.iter().find(|(known, _)| *known == name).map(|(_, end)| end)
}

/// A model's name without the date of a snapshot: `-2024-08-06` or `-20240806`.
pub fn family(name: &str) -> &str {
    let is_date = |form: &str, date: &str| {
        form.len() == date.len()
            && form
                .bytes()
                .zip(date.bytes())
                .all(|(f, d)| if f == b'0' { d.is_ascii_digit() } else { f == d })
    };
    let cut = ["-0000-00-00", "-00000000"].into_iter().find_map(|form| {
        let (family, date) = name.split_at_checked(name.len().checked_sub(form.len())?)?;
        is_date(form, date).then_some(family)
    });
    cut.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn cache_writes_cost_a_quarter_more_where_no_price_of_theirs_is_known() {
        let price = Price::new(0.10, 0.01, 0.50);
        let turn = Tokens { input: 9_000, cached: 0, cache_write: 9_000, output: 1_000 };
        assert!(close(price.usd(turn), 0.001_125 + 0.000_5));
        let told = Price { cache_write: 0.2, ..price };
        assert!(close(told.usd(turn), 0.001_8 + 0.000_5));
    }

    #[test]
    fn a_long_request_costs_more_as_a_whole() {
        let terra = built_in("gpt-6.1-terra").unwrap();
        let turn = |input| Tokens { input, cached: 100_000, cache_write: 50_000, output: 10_000 };
        assert!(close(terra.usd(turn(272_000)), 0.122 + 0.005 + 0.062_5 + 0.05));
        assert!(close(terra.usd(turn(272_001)), 2.0 * (0.122_001 + 0.005 + 0.062_5) + 1.5 * 0.05));
    }

    #[test]
    fn what_is_reserved_is_never_less_than_what_a_call_costs() {
        for (name, price) in BUILT_IN {
            for price in [*price, price.regional()] {
                for input in [0, 1_000, 100_001, 272_000, 272_001, 1_000_000] {
                    for (cached, cache_write) in
                        [(0, 0), (input, 0), (0, input), (input / 2, input / 2), (input, input)]
                    {
                        let most =
                            price.most_usd(Tokens { input, cached: 0, cache_write: 0, output: 16_000 });
                        let less = Tokens { input, cached, cache_write, output: 15_000 };
                        assert!(most >= price.usd(less), "{name} {less:?}");
                        let shorter = Tokens { input: input / 2, cached: cached / 2, ..less };
                        assert!(most >= price.usd(shorter), "{name} {shorter:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn wrong_numbers_of_a_service_count_once() {
        let price = Price::new(1.0, 1.0, 1.0);
        let usd = price.usd(Tokens { input: 10, cached: 100, cache_write: 100, output: 0 });
        assert!(close(usd, 10.0 / MILLION), "{usd}");
        assert!(
            price
                .usd(Tokens { input: u64::MAX, cached: u64::MAX, cache_write: 1, output: u64::MAX })
                .is_finite()
        );
    }

    #[test]
    fn the_built_in_prices_are_those_that_were_looked_up() {
        let of = |name: &str| built_in(name).map(|p| (p.input, p.cached_input, p.cache_write, p.output));
        for (name, price) in [
            ("gpt-6-luna", (0.10, 0.01, 0.125, 0.50)),
            ("gpt-6.1-terra", (1.0, 0.05, 1.25, 5.0)),
            ("gpt-6-sol", (2.0, 0.20, 2.50, 10.0)),
            ("gpt-5.6-luna", (0.20, 0.02, 0.25, 1.20)),
            ("gpt-5.6-terra", (2.0, 0.20, 2.50, 12.0)),
            ("claude-opus-5-5", (4.0, 0.20, 5.0, 20.0)),
            ("claude-haiku-5-5", (0.10, 0.01, 0.125, 0.50)),
        ] {
            assert_eq!(of(name), Some(price), "{name}");
        }
        let haiku = built_in("claude-haiku-5-5").unwrap();
        let long = Tokens { input: 200_000, cached: 0, cache_write: 0, output: 1_000 };
        assert!(close(haiku.usd(long), 0.10 + 0.002_5));
    }

    #[test]
    fn snapshots_and_the_names_of_bedrock_have_the_prices_of_their_model() {
        for name in [
            "claude-haiku-4-5-20251001",
            "anthropic.claude-haiku-4-5-20251001-v1:0",
            "us.anthropic.claude-haiku-4-5",
            "global.anthropic.claude-haiku-4-5-20251001-v1:0",
        ] {
            assert_eq!(built_in(name), built_in("claude-haiku-4-5"), "{name}");
        }
        assert_eq!(built_in("global.openai.gpt-6-luna"), built_in("gpt-6-luna"));
        for name in ["gpt-6", "gpt-6-luna-pro", "llama3.3", "", "openai.", "é-2024-08-06"] {
            assert_eq!(built_in(name), None, "{name}");
        }
    }

    #[test]
    fn a_snapshot_ends_with_its_family_and_its_neighbours_do_not() {
        let day = |name| end_of_life(name).map(|end| end.day.to_string());
        for (name, when) in [
            ("gpt-4o", "2027-01-14"),
            ("gpt-4o-2024-08-06", "2027-01-14"),
            ("gpt-4.1-mini-2025-04-14", "2027-01-14"),
            ("gpt-5-nano", "2026-12-11"),
            ("o3-2025-04-16", "2026-12-11"),
            ("gpt-5.1", "2027-04-01"),
        ] {
            assert_eq!(day(name).as_deref(), Some(when), "{name}");
        }
        for name in ["gpt-6-luna", "gpt-5.2", "gpt-5-codex", "o3-mini", "gpt-4.1-nano", "gpt-4o-20"] {
            assert_eq!(day(name), None, "{name}");
        }
    }

    #[test]
    fn an_end_is_told_from_sixty_days_before_it_and_its_successor_has_a_price_and_no_end() {
        for (name, end) in ENDS {
            assert!(built_in(end.successor).is_some() && end_of_life(end.successor).is_none(), "{name}");
        }
        let end = end_of_life("gpt-4.1").unwrap();
        let at = |text: &str| UnixMs::parse_rfc3339(text).unwrap();
        assert!(!end.is_within(60, at("2026-11-14T23:59:59Z")));
        assert!(end.is_within(60, at("2026-11-15T00:00:00Z")));
        assert!(end.is_within(60, at("2029-01-01T00:00:00Z")), "and afterwards");
        assert_eq!(end.day.to_string(), "2027-01-14");
    }
}
