//! Counters of spending in memory, with the conditions of the real ones.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sentinel_core::UnixMs;
use sentinel_core::budget::{Amount, Entered, Entry, MicroUsd, Reservation, Scope, Spent};

/// What is spent and reserved, by scope and day.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<(Scope, UnixMs), Day>>);

#[derive(Debug, Default)]
struct Day {
    hours: BTreeMap<i64, Amount>,
    open: BTreeMap<String, Reservation>,
}

impl Day {
    fn spent(&self, hour: i64) -> Spent {
        Spent { hour: self.hours.get(&hour).copied().unwrap_or_default(), day: sum(self.hours.values()) }
    }
}

fn sum<'a>(amounts: impl IntoIterator<Item = &'a Amount>) -> Amount {
    amounts.into_iter().fold(Amount::NOTHING, |sum, amount| Amount {
        investigations: sum.investigations.saturating_add(amount.investigations),
        usd: MicroUsd(sum.usd.0.saturating_add(amount.usd.0)),
    })
}

impl Counters {
    /// As [`sentinel_core::ports::IncidentStore::budget`] does.
    pub fn enter(&self, entry: &Entry) -> Entered {
        let (Entry::Reserve { reservation, .. } | Entry::Settle { reservation, .. }) = entry;
        let mut days = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let day = days.entry((reservation.scope.clone(), reservation.day())).or_default();
        let hour = reservation.hour();
        match entry {
            Entry::Reserve { .. } if day.open.contains_key(&reservation.id) => Entered::Already,
            Entry::Reserve { limits, .. } => {
                if let Some(limit) = limits.refuse(reservation, &day.spent(hour)) {
                    return Entered::UsedUp(limit);
                }
                let counted = day.hours.entry(hour).or_default();
                counted.investigations += reservation.amount.investigations;
                counted.usd.0 += reservation.amount.usd.0;
                day.open.insert(reservation.id.clone(), reservation.clone());
                Entered::Done
            }
            Entry::Settle { actual, .. } => {
                if let Some(held) = day.open.remove(&reservation.id) {
                    let counted = day.hours.entry(held.hour()).or_default();
                    counted.investigations =
                        counted.investigations + actual.investigations - held.amount.investigations;
                    counted.usd.0 = counted.usd.0 + actual.usd.0 - held.amount.usd.0;
                }
                Entered::Done
            }
        }
    }

    /// What is spent and reserved in the windows of `at`.
    pub fn spent(&self, scope: &Scope, at: UnixMs) -> Spent {
        let of = Reservation { scope: scope.clone(), at, id: String::new(), amount: Amount::NOTHING };
        let days = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        days.get(&(scope.clone(), of.day())).map_or_else(Spent::default, |day| day.spent(of.hour()))
    }

    /// What was spent and reserved on all days.
    pub fn total(&self, scope: &Scope) -> Amount {
        let days = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sum(days.iter().filter(|((of, _), _)| of == scope).flat_map(|(_, day)| day.hours.values()))
    }

    /// How much is reserved and not settled, over all scopes.
    pub fn open(&self) -> usize {
        let days = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        days.values().map(|day| day.open.len()).sum()
    }
}
