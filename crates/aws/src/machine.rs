//! The machine's clock, its randomness and a function's environment: the only place that asks for any of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sentinel_core::UnixMs;
use sentinel_core::ports::{Clock, FreshId};

/// The machine's clock, set forward by what [`MachineClock::jump_to`] skipped.
#[derive(Debug, Default)]
pub struct MachineClock {
    skipped: AtomicI64,
}

impl MachineClock {
    /// Skips the time until `at`; does nothing where it has passed.
    pub fn jump_to(&self, at: UnixMs) {
        let ahead = at.get().saturating_sub(self.now().get());
        if ahead > 0 {
            self.skipped.fetch_add(ahead, Ordering::SeqCst);
        }
    }
}

impl Clock for MachineClock {
    fn now(&self) -> UnixMs {
        #[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
        let now = jiff::Timestamp::now().as_millisecond();
        UnixMs::new(now.saturating_add(self.skipped.load(Ordering::SeqCst)))
    }
}

/// Identifiers of 128 random bits, in hexadecimal.
pub fn fresh_ids() -> FreshId {
    Arc::new(|| {
        let mut bytes = [0u8; 16];
        // The system's generator cannot fail on the platforms that we build for; were it to, two ids that are alike
        // would be worse than a process that ends.
        if getrandom::fill(&mut bytes).is_err() {
            std::process::abort();
        }
        format!("{:032x}", u128::from_be_bytes(bytes))
    })
}

/// The environment variables that are text. For the start of a program: nothing reads one later.
pub fn environment() -> BTreeMap<String, String> {
    #[expect(clippy::disallowed_methods, reason = "the one place where a function's environment is read")]
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_moves_the_clock_forward_and_never_back() {
        let clock = MachineClock::default();
        let start = clock.now();
        clock.jump_to(start.plus(std::time::Duration::from_hours(1)));
        assert!(clock.now().since(start).as_secs() >= 3600);
        clock.jump_to(start);
        assert!(clock.now().since(start).as_secs() >= 3600);
    }

    #[test]
    fn fresh_ids_differ() {
        let fresh = fresh_ids();
        assert_ne!(fresh(), fresh());
        assert_eq!(fresh().len(), 32);
    }
}
