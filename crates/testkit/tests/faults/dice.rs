//! Chance that can be had again: `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Numbers that follow from a seed. Clones go on with the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Arc<AtomicU64>);

impl Dice {
    pub(crate) fn of(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `n` - 1.
    pub(crate) fn below(&self, n: u64) -> u64 {
        self.next() % n
    }

    /// True so many times of a thousand.
    pub(crate) fn chance(&self, of_a_thousand: u64) -> bool {
        self.below(1_000) < of_a_thousand
    }

    /// Some of them: the first one and perhaps more.
    pub(crate) fn first_of<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        &all[..=usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    pub(crate) fn one_of<T: Copy>(&self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    /// From nothing up to less than `most`.
    pub(crate) fn up_to(&self, most: Duration) -> Duration {
        Duration::from_millis(self.below(u64::try_from(most.as_millis()).unwrap().max(1)))
    }
}
