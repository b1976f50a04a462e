// SPDX-License-Identifier: GPL-2.0-only
//! Numbers that differ from run to run, unless the seed of an earlier run is given.

use std::time::{Duration, SystemTime};

/// The seed of all that draws numbers, in the environment: `make test SEED=N` sets it.
pub const SEED: &str = "SRB_SEED";

/// A generator; whoever makes one prints its seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The seed in the environment, with which a run is repeated, or one of the moment.
    ///
    /// # Panics
    /// If what is in the environment is no number.
    #[must_use]
    pub fn fresh_seed() -> u64 {
        if let Some(text) = std::env::var(SEED).ok().filter(|text| !text.is_empty()) {
            return match text.parse() {
                Ok(seed) => seed,
                Err(error) => panic!("{SEED}={text}: {error}"),
            };
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Short enough to be typed again.
        (u64::from(now.subsec_nanos()) ^ now.as_secs() << 12) & 0xffff_ffff
    }

    /// Numbers of the moment; the seed that gives them again is printed.
    #[must_use]
    pub fn new(what: &str) -> Self {
        let seed = Self::fresh_seed();
        println!("{what}: seed {seed}");
        Self::from_seed(seed)
    }

    /// The same numbers for the same seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        // Odd, so never zero, whatever the seed; and near seeds are far apart.
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) << 1 | 1);
        random.next_u64();
        random
    }

    /// Marsaglia's xorshift64.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// One time in `odds`.
    pub fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    /// A time between these two, in milliseconds.
    pub fn pause(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least.saturating_add(self.below(most.saturating_sub(least).max(1))))
    }

    /// Bytes without a pattern.
    #[must_use]
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next_u64()).take(len.div_ceil(8));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        bytes.truncate(len);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_seed_others() {
        let numbers = |seed| {
            let mut random = Random::from_seed(seed);
            [random.next_u64(), random.next_u64(), random.below(1000)]
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(6), numbers(7));
        assert_ne!(numbers(0), [0; 3]);
        assert_eq!(Random::from_seed(3).bytes(13).len(), 13);
    }
}
