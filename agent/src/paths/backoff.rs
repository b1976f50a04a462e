// SPDX-License-Identifier: GPL-2.0-only
//! How long to wait before a URL that failed is asked again: exponential, bounded, with full
//! jitter.
//!
//! Full jitter spreads clients best after an outage (M. Brooker, "Exponential Backoff And Jitter",
//! 2015).

use std::time::Duration;

use crate::base::chance;

/// Bound of the first wait.
const FIRST: Duration = Duration::from_millis(50);
/// Bound of every wait.
const LONGEST: Duration = Duration::from_secs(2);

/// A random wait after `failures` at one URL: none after none.
pub(crate) fn wait(failures: u32) -> Duration {
    chance::up_to(bound(failures))
}

fn bound(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
    FIRST.saturating_mul(factor).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_longest() {
        let bounds: Vec<u128> = (0..9).map(|n| bound(n).as_millis()).collect();
        assert_eq!(bounds, [0, 50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(bound(u32::MAX), LONGEST);
    }

    #[test]
    fn waits_spread_below_the_bound() {
        let waits: Vec<Duration> = (0..200).map(|_| wait(3)).collect();
        assert!(waits.iter().all(|wait| *wait <= bound(3)));
        assert!(waits.iter().any(|wait| *wait < bound(3) / 2));
        assert!(waits.iter().any(|wait| *wait > bound(3) / 2));
        assert_eq!(wait(0), Duration::ZERO);
    }
}
