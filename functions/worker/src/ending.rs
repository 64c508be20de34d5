//! Tells once a day which of the configured models will be switched off soon.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use sentinel_core::UnixMs;
use sentinel_core::card::ModelId;
use sentinel_core::price::{EndOfLife, end_of_life};

/// How many days before it an end is told.
const DAYS: i32 = 60;
const DAY_MS: i64 = 86_400_000;

/// The configured models whose end is known, and when it was told last.
#[derive(Clone, Debug, Default)]
pub struct EndingModels {
    models: Arc<Vec<(ModelId, &'static EndOfLife)>>,
    told: Arc<Mutex<Option<i64>>>,
}

impl EndingModels {
    /// Of these models.
    pub fn of(models: BTreeSet<ModelId>) -> Self {
        let ends = models.into_iter().filter_map(|model| {
            let end = end_of_life(&model.name)?;
            Some((model, end))
        });
        Self { models: Arc::new(ends.collect()), told: Arc::default() }
    }

    /// Tells what is due, unless it was told on the same day. What it told.
    pub fn tell(&self, now: UnixMs) -> Vec<String> {
        let today = now.get().div_euclid(DAY_MS);
        let before = self.told.lock().unwrap_or_else(PoisonError::into_inner).replace(today);
        if before == Some(today) {
            return vec![];
        }
        let due = self.models.iter().filter(|(_, end)| end.is_within(DAYS, now));
        due.map(|(model, end)| {
            tracing::warn!(
                model = %model,
                day = %end.day,
                successor = end.successor,
                "OpenAI switches this model off: name another in the configuration"
            );
            format!("{model} {}", end.day)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_once_a_day_from_sixty_days_before_it() {
        let at = |text: &str| UnixMs::parse_rfc3339(text).unwrap();
        let ending =
            EndingModels::of(["gpt-4.1-mini", "gpt-6-luna", "gpt-5.1"].into_iter().map(Into::into).collect());
        assert_eq!(ending.tell(at("2026-11-14T10:00:00Z")), Vec::<String>::new());
        assert_eq!(ending.tell(at("2026-11-15T00:00:01Z")), ["gpt-4.1-mini 2027-01-14"]);
        assert_eq!(ending.tell(at("2026-11-15T23:59:59Z")), Vec::<String>::new(), "told today");
        assert_eq!(ending.clone().tell(at("2026-11-16T00:00:00Z")), ["gpt-4.1-mini 2027-01-14"]);
        assert_eq!(ending.tell(at("2026-11-16T08:00:00Z")), Vec::<String>::new(), "a copy has told it");
        let both = ["gpt-4.1-mini 2027-01-14", "gpt-5.1 2027-04-01"];
        assert_eq!(ending.tell(at("2027-02-01T00:00:00Z")), both, "and when it is over");
    }
}
