//! A breaker: a model that fails again and again is left alone for a while, so that no incident waits for it in vain.

use std::time::Duration;

use tokio::time::Instant;

/// Failed tries in a row after which it opens.
const TRIPS_AT: u32 = 5;
/// How long it stays open; then one try is let through, and the others wait for what becomes of it.
const OPEN_FOR: Duration = Duration::from_secs(30);

/// The state of one model at one endpoint. Kept as long as the process is warm.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    last: String,
    open_until: Option<Instant>,
}

/// Why a try is not made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Open {
    /// For how long not.
    pub(crate) left: Duration,
    /// What happened before.
    pub(crate) reason: String,
}

impl Breaker {
    /// Whether a try may be made.
    pub(crate) fn ask(&mut self, now: Instant) -> Result<(), Open> {
        let Some(until) = self.open_until else { return Ok(()) };
        let left = until.saturating_duration_since(now);
        if left.is_zero() {
            self.open_until = Some(now + OPEN_FOR);
            return Ok(());
        }
        let reason =
            format!("it is left alone after {} failures in a row, the last: {}", self.failures, self.last);
        Err(Open { left, reason })
    }

    /// Whether no try may be made just now.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.open_until.is_some_and(|until| until > now)
    }

    /// It answered, whatever the answer.
    pub(crate) fn answered(&mut self) {
        *self = Self::default();
    }

    /// It did not answer, or not as a service that is well.
    pub(crate) fn failed(&mut self, reason: String, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.last = reason;
        if self.failures >= TRIPS_AT {
            self.open_until = Some(now + OPEN_FOR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_try_through_later() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 1..TRIPS_AT {
            breaker.failed("HTTP 503".into(), now);
        }
        assert_eq!((breaker.ask(now), breaker.is_open(now)), (Ok(()), false));
        breaker.failed("HTTP 502".into(), now);
        assert_eq!((breaker.is_open(now), breaker.is_open(now + OPEN_FOR)), (true, false));
        let open = breaker.ask(now + Duration::from_secs(10)).unwrap_err();
        assert_eq!(open.left, Duration::from_secs(20));
        assert_eq!(open.reason, "it is left alone after 5 failures in a row, the last: HTTP 502");
        let later = now + OPEN_FOR;
        assert_eq!(breaker.ask(later), Ok(()));
        assert!(breaker.ask(later).is_err(), "only one is let through");
        breaker.failed("HTTP 502".into(), later);
        assert!(breaker.ask(later + Duration::from_secs(29)).is_err());
        assert_eq!(breaker.ask(later + OPEN_FOR), Ok(()));
        breaker.answered();
        assert_eq!(breaker.ask(later + OPEN_FOR), Ok(()));
        breaker.failed("HTTP 502".into(), later);
        assert_eq!(breaker.ask(later), Ok(()), "the count began anew");
    }
}
