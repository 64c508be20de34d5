//! Spending limits: how much may be spent an hour and a day, by one card and by all of them, and how it is reserved.
//!
//! Before a call that costs money its upper estimate is reserved in every scope that has limits, in one conditional
//! write each; afterwards it is settled to what the call really cost. A crash in between leaves the reservation spent
//! until its windows end: too much is counted for a while, never too little. Windows are hours and days of UTC.

use std::fmt;
use std::time::Duration;

use crate::UnixMs;
use crate::ports::{IncidentStore, StoreError};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Money in millionths of a US dollar: whole numbers, so that nothing is lost by adding. A price in US dollars per
/// million tokens is a price in these per token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct MicroUsd(pub u64);

impl MicroUsd {
    /// US dollars, rounded up; what is no amount is none.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float saturates when it is cast, and no amount is negative"
    )]
    pub fn from_usd(usd: f64) -> Self {
        Self((usd * 1_000_000.0).ceil().max(0.0) as u64)
    }

    /// As US dollars.
    #[expect(clippy::cast_precision_loss, reason = "for people, and for metrics")]
    pub fn as_usd(self) -> f64 {
        self.0 as f64 / 1_000_000.0
    }
}

/// `$0.05`: at least cents, and no more digits than it has.
impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, mut rest) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let mut digits = 6;
        while digits > 2 && rest.is_multiple_of(10) {
            rest /= 10;
            digits -= 1;
        }
        write!(f, "${dollars}.{rest:0digits$}")
    }
}

/// How much may be spent in one scope. What is absent is not limited.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Limits {
    /// Investigations that use a model, an hour.
    pub per_hour: Option<u32>,
    /// The same, a day.
    pub per_day: Option<u32>,
    /// Money, an hour.
    pub usd_per_hour: Option<MicroUsd>,
    /// Money, a day.
    pub usd_per_day: Option<MicroUsd>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The limits that `amount` counts against: what it has none of, it does not ask for.
    pub fn on(&self, amount: Amount) -> impl Iterator<Item = (Window, Limit)> {
        let counted = (amount.investigations > 0)
            .then_some([(Window::Hour, self.per_hour), (Window::Day, self.per_day)])
            .into_iter()
            .flatten()
            .filter_map(|(window, limit)| Some((window, Limit::Investigations(limit?))));
        let paid = (amount.usd > MicroUsd(0))
            .then_some([(Window::Hour, self.usd_per_hour), (Window::Day, self.usd_per_day)])
            .into_iter()
            .flatten()
            .filter_map(|(window, limit)| Some((window, Limit::Usd(limit?))));
        counted.chain(paid)
    }

    /// The first limit that leaves no room for a reservation beside what is spent.
    pub fn refuse(&self, reservation: &Reservation, spent: &Spent) -> Option<UsedUp> {
        self.on(reservation.amount)
            .find(|(window, limit)| {
                limit
                    .most_before(reservation.amount)
                    .is_none_or(|most| limit.counted(spent.of(*window)) > most)
            })
            .map(|(window, limit)| UsedUp { scope: reservation.scope.clone(), window, limit })
    }
}

/// `30 investigations and $5.00 an hour, $20.00 a day`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: Option<u32>, usd: Option<MicroUsd>, window: &str| {
            let count = count.map(|n| Limit::Investigations(n).to_string());
            let all: Vec<String> = count.into_iter().chain(usd.map(|usd| usd.to_string())).collect();
            (!all.is_empty()).then(|| format!("{} {window}", all.join(" and ")))
        };
        let hour = of(self.per_hour, self.usd_per_hour, "an hour");
        let day = of(self.per_day, self.usd_per_day, "a day");
        match hour.into_iter().chain(day).collect::<Vec<_>>().join(", ").as_str() {
            "" => f.write_str("not limited"),
            limits => f.write_str(limits),
        }
    }
}

/// What is reserved, or was spent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Amount {
    /// Investigations.
    pub investigations: u32,
    /// Money.
    pub usd: MicroUsd,
}

impl Amount {
    /// One investigation; what its calls cost is reserved call by call.
    pub const INVESTIGATION: Self = Self { investigations: 1, usd: MicroUsd(0) };
    /// Nothing: what is settled to it is given back.
    pub const NOTHING: Self = Self { investigations: 0, usd: MicroUsd(0) };

    /// Money alone.
    pub const fn of(usd: MicroUsd) -> Self {
        Self { investigations: 0, usd }
    }
}

/// Over which time is counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Window {
    /// An hour of UTC.
    Hour,
    /// A day of UTC.
    Day,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hour",
            Self::Day => "day",
        })
    }
}

/// One limit of one window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// So many investigations.
    Investigations(u32),
    /// So much money.
    Usd(MicroUsd),
}

impl Limit {
    /// The most that may be counted already where `amount` is to be added; `None`: it is more than the whole limit.
    /// (A store's condition has no arithmetic: it compares what is counted with this.)
    pub fn most_before(self, amount: Amount) -> Option<u64> {
        match self {
            Self::Investigations(most) => u64::from(most).checked_sub(amount.investigations.into()),
            Self::Usd(most) => most.0.checked_sub(amount.usd.0),
        }
    }

    /// What of an amount this limit counts.
    pub fn counted(self, amount: Amount) -> u64 {
        match self {
            Self::Investigations(_) => amount.investigations.into(),
            Self::Usd(_) => amount.usd.0,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Investigations(1) => f.write_str("1 investigation"),
            Self::Investigations(most) => write!(f, "{most} investigations"),
            Self::Usd(most) => most.fmt(f),
        }
    }
}

/// Whose spending is counted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// Everybody's.
    Overall,
    /// One incident card's, by its name.
    Card(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overall => f.write_str("overall"),
            Self::Card(card) => write!(f, "of card {card}"),
        }
    }
}

/// What is spent or reserved in the two windows of an instant.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Spent {
    /// In its hour.
    pub hour: Amount,
    /// In its day.
    pub day: Amount,
}

impl Spent {
    /// In one of the windows.
    pub const fn of(&self, window: Window) -> Amount {
        match window {
            Window::Hour => self.hour,
            Window::Day => self.day,
        }
    }
}

/// A limit that leaves no room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsedUp {
    /// Whose.
    pub scope: Scope,
    /// Over which time.
    pub window: Window,
    /// The limit.
    pub limit: Limit,
}

/// For reports: `the budget overall is used up (30 investigations an hour)`.
impl fmt::Display for UsedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let article = if self.window == Window::Hour { "an" } else { "a" };
        write!(f, "the budget {} is used up ({} {article} {})", self.scope, self.limit, self.window)
    }
}

/// An amount that is held in one scope until it is settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// Whose spending it is.
    pub scope: Scope,
    /// When it was made: its windows are those of this instant, also when it is settled later.
    pub at: UnixMs,
    /// Names it within its day: making it twice is making it once, and so is settling it.
    pub id: String,
    /// How much.
    pub amount: Amount,
}

impl Reservation {
    /// The beginning of its day.
    pub const fn day(&self) -> UnixMs {
        UnixMs::new(self.at.get().div_euclid(DAY_MS) * DAY_MS)
    }

    /// Which hour of its day, from 0.
    pub const fn hour(&self) -> i64 {
        self.at.get().rem_euclid(DAY_MS) / HOUR_MS
    }
}

/// The beginning of the hour of an instant.
pub const fn hour_of(at: UnixMs) -> UnixMs {
    UnixMs::new(at.get().div_euclid(HOUR_MS) * HOUR_MS)
}

/// What is written into the counters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Adds the amount to both windows, where every limit has room for it. One that is already there stays as it is.
    Reserve {
        /// The reservation.
        reservation: Reservation,
        /// The limits of its scope.
        limits: Limits,
    },
    /// Puts what was really spent in the place of what was reserved. One that is not there (any more) changes nothing.
    Settle {
        /// The reservation, as it was made.
        reservation: Reservation,
        /// What it came to.
        actual: Amount,
    },
}

/// How [`IncidentStore::budget`] ended.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entered {
    /// It is counted, or settled (also when it had been settled before).
    Done,
    /// It was reserved already, by an earlier try of the same entry or by an earlier attempt: nothing changed.
    Already,
    /// Nothing is reserved: this limit has no room.
    UsedUp(UsedUp),
}

/// What is held for one purpose, in every scope that has limits.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Held(Vec<Reservation>);

/// How [`reserve`] ended.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reserved {
    /// It may be spent; to be settled.
    Held(Held),
    /// It may not, and nothing is held.
    UsedUp(UsedUp),
}

/// Reserves `amount` in each scope, in their order. One without limits counts nothing.
///
/// What this call reserved before one scope refused or failed is given back where the store still takes it, and stays
/// spent until its windows end where it does not. What was there already stays: an earlier attempt may have paid on it.
///
/// # Errors
/// The store. Then nothing may be spent.
pub async fn reserve(
    store: &dyn IncidentStore,
    scopes: &[(Scope, Limits)],
    at: UnixMs,
    id: &str,
    amount: Amount,
) -> Result<Reserved, StoreError> {
    let (mut held, mut anew) = (Held::default(), Held::default());
    for (scope, limits) in scopes {
        if limits.on(amount).next().is_none() {
            continue;
        }
        let reservation = Reservation { scope: scope.clone(), at, id: id.to_owned(), amount };
        let entry = Entry::Reserve { reservation: reservation.clone(), limits: *limits };
        match store.budget(&entry).await {
            Ok(Entered::Done) => {
                anew.0.push(reservation.clone());
                held.0.push(reservation);
            }
            Ok(Entered::Already) => held.0.push(reservation),
            Ok(Entered::UsedUp(limit)) => {
                settle(store, anew, Amount::NOTHING).await?;
                return Ok(Reserved::UsedUp(limit));
            }
            Err(error) => {
                // The error is what counts; this only spares a reservation that nobody will use.
                let _ = settle(store, anew, Amount::NOTHING).await;
                return Err(error);
            }
        }
    }
    Ok(Reserved::Held(held))
}

/// Settles what was held to what was really spent.
///
/// # Errors
/// The store: what was not settled stays spent as it was reserved. Settling again is harmless.
pub async fn settle(store: &dyn IncidentStore, held: Held, actual: Amount) -> Result<(), StoreError> {
    let mut first = Ok(());
    for reservation in held.0 {
        // Each scope is settled on its own: one that fails keeps no other from it.
        let settled = store.budget(&Entry::Settle { reservation, actual }).await.map(|_| ());
        first = first.and(settled);
    }
    first
}

/// How long the counters of a day are kept after it: long enough for whoever settles late.
pub const KEPT_AFTER: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reservation(amount: Amount) -> Reservation {
        Reservation { scope: Scope::Overall, at: UnixMs::new(0), id: "r".into(), amount }
    }

    fn spent(investigations: u32, usd: u64) -> Spent {
        let amount = Amount { investigations, usd: MicroUsd(usd) };
        Spent { hour: amount, day: amount }
    }

    #[test]
    fn the_last_of_a_limit_is_granted_and_the_next_refused() {
        let limits = Limits { per_hour: Some(3), ..Limits::default() };
        let one = reservation(Amount::INVESTIGATION);
        assert_eq!(limits.refuse(&one, &spent(2, 0)), None);
        let refused = limits.refuse(&one, &spent(3, 0)).unwrap();
        assert_eq!(refused.to_string(), "the budget overall is used up (3 investigations an hour)");
    }

    #[test]
    fn what_is_more_than_the_whole_limit_is_refused_at_once() {
        let limits = Limits { usd_per_day: Some(MicroUsd(50_000)), ..Limits::default() };
        let dear =
            Reservation { scope: Scope::Card("pods".into()), ..reservation(Amount::of(MicroUsd(50_001))) };
        let refused = limits.refuse(&dear, &Spent::default()).unwrap();
        assert_eq!(refused.to_string(), "the budget of card pods is used up ($0.05 a day)");
    }

    #[test]
    fn money_that_is_used_up_does_not_keep_from_counting_an_investigation_and_the_other_way_round() {
        let limits = Limits { per_day: Some(1), usd_per_day: Some(MicroUsd(1)), ..Limits::default() };
        assert_eq!(limits.refuse(&reservation(Amount::INVESTIGATION), &spent(0, 9)), None);
        assert_eq!(limits.refuse(&reservation(Amount::of(MicroUsd(1))), &spent(9, 0)), None);
    }

    #[test]
    fn windows_are_hours_and_days_of_utc() {
        let at = UnixMs::parse_rfc3339("2026-11-25T23:59:59.999Z").unwrap();
        let r = Reservation { at, ..reservation(Amount::INVESTIGATION) };
        assert_eq!((r.day().to_string().as_str(), r.hour()), ("2026-11-25T00:00:00Z", 23));
        let next = Reservation { at: at.plus(Duration::from_millis(1)), ..r };
        assert_eq!((next.day().to_string().as_str(), next.hour()), ("2026-11-26T00:00:00Z", 0));
        assert_eq!(hour_of(at).to_string(), "2026-11-25T23:00:00Z");
    }

    #[test]
    fn money_is_rounded_up_and_read_as_dollars() {
        for (usd, micro, shown) in [
            (0.0, 0, "$0.00"),
            (0.000_000_1, 1, "$0.000001"),
            (5.0, 5_000_000, "$5.00"),
            (0.0125, 12_500, "$0.0125"),
        ] {
            let money = MicroUsd::from_usd(usd);
            assert_eq!((money.0, money.to_string().as_str()), (micro, shown));
        }
        assert_eq!(MicroUsd::from_usd(f64::NAN), MicroUsd(0));
        assert_eq!(MicroUsd::from_usd(-1.0), MicroUsd(0));
    }

    proptest! {
        #[test]
        fn what_is_granted_never_exceeds_a_limit(
            cap in 0..20_u32,
            usd_cap in 0..100_u64,
            asks in prop::collection::vec((0..2_u32, 0..40_u64), 0..60),
        ) {
            let usd = Some(MicroUsd(usd_cap));
            let limits = Limits { per_hour: Some(cap), per_day: None, usd_per_hour: None, usd_per_day: usd };
            let mut counted = Amount::default();
            for (investigations, usd) in asks {
                let ask = reservation(Amount { investigations, usd: MicroUsd(usd) });
                if limits.refuse(&ask, &Spent { hour: counted, day: counted }).is_none() {
                    counted.investigations += investigations;
                    counted.usd.0 += usd;
                }
            }
            prop_assert!(counted.investigations <= cap && counted.usd.0 <= usd_cap);
        }
    }
}
