// SPDX-License-Identifier: GPL-2.0-only
//! The one clock by which the age of requests is told.
//!
//! Started once, before the first thread; copied to every worker and to the status.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// A time in nanoseconds since some fixed moment before the agent's start; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(NonZeroU64);

/// Gives [`Moment`]s.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { zero: Instant::now() }
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Moment {
        let nanos = u64::try_from(self.uptime().as_nanos()).unwrap_or(u64::MAX);
        Moment(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Time since the start.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.zero.elapsed()
    }
}

impl Moment {
    /// Nanoseconds from `earlier` to here.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.nanos().saturating_sub(earlier.nanos())
    }

    /// As a number, for an atomic; not 0.
    pub(crate) const fn nanos(self) -> u64 {
        self.0.get()
    }

    /// From [`Self::nanos`]; `None` for 0.
    pub(crate) fn from_nanos(nanos: u64) -> Option<Self> {
        NonZeroU64::new(nanos).map(Self)
    }
}
