//! A clock that stands still until a test moves it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sentinel_core::UnixMs;
use sentinel_core::ports::Clock;

/// A [`Clock`] that only a test moves. Share it as `Arc<ManualClock>`.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: UnixMs) -> Self {
        Self(AtomicI64::new(now.get()))
    }

    /// Moves it `by` into the future, in whole milliseconds, and gives the new time.
    pub fn advance(&self, by: Duration) -> UnixMs {
        let by = i64::try_from(by.as_millis()).expect("a step that fits into the clock");
        UnixMs::new(self.0.fetch_add(by, Ordering::SeqCst) + by)
    }

    /// Sets it, backwards too: machines' clocks do that.
    pub fn set(&self, now: UnixMs) {
        self.0.store(now.get(), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    /// Stands at [`crate::builders::NOON`].
    fn default() -> Self {
        Self::at(crate::builders::NOON)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMs {
        UnixMs::new(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_only_when_told() {
        let clock = ManualClock::default();
        let before = clock.now();
        assert_eq!(clock.now(), before);
        assert_eq!(clock.advance(Duration::from_secs(2)), before.plus(Duration::from_secs(2)));
        assert_eq!(clock.now().since(before), Duration::from_secs(2));
        clock.set(before.minus(Duration::from_secs(1)));
        assert!(clock.now() < before);
    }
}
