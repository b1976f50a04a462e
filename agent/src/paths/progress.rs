// SPDX-License-Identifier: GPL-2.0-only
//! How far a request is, for people who wonder why it takes so long.
//!
//! Before: [`super::Client::run`] notes each try. After: any thread may look. A request
//! that succeeds at once costs three relaxed stores.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::base::errors::ErrorKind;

/// Bits of `at` that hold the place.
const PLACE_BITS: u32 = 16;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;
/// Bits of `last` that hold the status.
const STATUS_BITS: u32 = 16;

/// The tries of one request at a time; those of the next one overwrite them.
#[derive(Debug, Default)]
pub struct Progress {
    tries: AtomicU32,
    /// Version of the list of URLs, and the place in it.
    at: AtomicU64,
    /// Kind of the last failure, counted from 1, and the HTTP status; 0 before a failure.
    last: AtomicU32,
}

/// What was seen of a request; its parts may be of one moment and the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Tries so far, the one under way included; 0: the request waits for its turn.
    pub tries: u32,
    /// Version of the list of URLs that the place is of; its low 48 bits.
    pub version: u64,
    /// Of the URL that is tried, or was tried last; see [`super::Paths::url_at`].
    pub place: usize,
    /// Why the last try failed, and the status that the server gave, if any.
    pub last: Option<(ErrorKind, Option<u16>)>,
}

impl Progress {
    /// Forgets a request that has ended.
    pub fn clear(&self) {
        self.tries.store(0, Relaxed);
    }

    /// What is known now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let tries = self.tries.load(Relaxed);
        if tries == 0 {
            return Seen::default();
        }
        let (at, last) = (self.at.load(Relaxed), self.last.load(Relaxed));
        let kind = (last >> STATUS_BITS).checked_sub(1).and_then(|kind| usize::try_from(kind).ok());
        let kind = kind.and_then(|kind| ErrorKind::ALL.get(kind).copied());
        let status = u16::try_from(last & u32::from(u16::MAX)).ok().filter(|status| *status != 0);
        Seen {
            tries,
            version: at >> PLACE_BITS,
            place: usize::try_from(at & PLACE_MASK).unwrap_or(0),
            last: kind.map(|kind| (kind, status)),
        }
    }

    /// A try begins.
    pub(crate) fn trying(&self, version: u64, place: usize, tries: u32) {
        if tries == 1 {
            self.last.store(0, Relaxed);
        }
        let place = u64::try_from(place).unwrap_or(u64::MAX).min(PLACE_MASK);
        self.at.store(version << PLACE_BITS | place, Relaxed);
        self.tries.store(tries, Relaxed);
    }

    /// A try failed.
    pub(crate) fn failed(&self, kind: ErrorKind, status: Option<u16>) {
        let kind = u32::try_from(kind as usize).unwrap_or(0).saturating_add(1);
        self.last.store(kind << STATUS_BITS | u32::from(status.unwrap_or(0)), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_told_as_it_was_noted() {
        let progress = Progress::default();
        assert_eq!(progress.seen(), Seen::default());
        for (kind, tries) in ErrorKind::ALL.into_iter().zip(1..) {
            for status in [None, Some(503)] {
                progress.trying(7, 2, tries);
                progress.failed(kind, status);
                let last = Some((kind, status));
                assert_eq!(progress.seen(), Seen { tries, version: 7, place: 2, last });
            }
        }
        progress.trying(8, 0, 1);
        let next = Seen { tries: 1, version: 8, place: 0, last: None };
        assert_eq!(progress.seen(), next, "the next request begins anew");
        progress.clear();
        assert_eq!(progress.seen(), Seen::default());
    }
}
