//! What cases are about.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::UnixMs;
use sentinel_testkit::builders::NOON;
use sentinel_testkit::faults::Faults;
use sentinel_testkit::loose::Liberties;

use crate::parts::Carry;
use crate::world::House;

/// What of a world differs between cases.
pub(crate) struct Setting {
    pub(crate) faults: Arc<Faults>,
    pub(crate) carry: Carry,
    /// Whether a message whose worker crashed comes back, and how much later.
    pub(crate) comes_back: Option<Duration>,
    pub(crate) house: House,
    /// The store is the real adapter over a `DynamoDB` that takes these liberties.
    pub(crate) over_dynamo: Option<Liberties>,
    pub(crate) model_out_until: UnixMs,
    pub(crate) sink_down_until: UnixMs,
    /// By how much the clock of the n-th process is ahead, in milliseconds, by what it is and its number.
    pub(crate) skew: Box<dyn Fn(&'static str, u64) -> i64 + Send>,
    /// By how much the clocks of two processes may differ.
    pub(crate) most_skew: Duration,
}

impl Setting {
    pub(crate) fn of(faults: Arc<Faults>) -> Self {
        Self {
            faults,
            carry: Box::new(|| vec![Duration::ZERO]),
            comes_back: None,
            house: House::Whole,
            over_dynamo: None,
            model_out_until: NOON,
            sink_down_until: NOON,
            skew: Box::new(|_, _| 0),
            most_skew: Duration::from_secs(10),
        }
    }
}
