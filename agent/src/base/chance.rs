// SPDX-License-Identifier: GPL-2.0-only
//! Chance: pauses that are not the same for everybody.
//!
//! In unit tests it may come from a seed, so that they run the same way each time.

use std::time::Duration;

/// A random time; in a simulation, from its seed.
pub(crate) fn up_to(bound: Duration) -> Duration {
    #[cfg(test)]
    if let Some(time) = seeded::up_to(bound) {
        return time;
    }
    rand::random_range(Duration::ZERO..=bound)
}

/// Chance of one thread, from a seed.
#[cfg(test)]
pub(crate) mod seeded {
    use std::cell::RefCell;
    use std::time::Duration;

    use rand::rngs::StdRng;
    use rand::Rng;

    thread_local!(static CHANCE: RefCell<Option<StdRng>> = const { RefCell::new(None) });

    /// Makes the pauses on this thread depend on `chance` alone.
    pub(crate) fn seed(chance: StdRng) {
        CHANCE.set(Some(chance));
    }

    pub(super) fn up_to(bound: Duration) -> Option<Duration> {
        CHANCE.with_borrow_mut(|chance| Some(chance.as_mut()?.random_range(Duration::ZERO..=bound)))
    }
}
