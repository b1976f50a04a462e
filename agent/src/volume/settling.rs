// SPDX-License-Identifier: GPL-2.0-only
//! Ranges to which nothing may be written before a given time.
//!
//! Part of [`super::unsettled`], behind its lock. A list that is searched from end to end, so it is
//! kept short: beyond [`MOST`] ranges, neighbours become one range that covers both. That holds
//! back more than it must, for no longer than the later of the two, and loses nothing.

use std::ops::Range;

use tokio::time::Instant;

/// Ranges at most. Hundreds of writes have gone wrong within the settle time when there are so
/// many, and speed is not what is missing then.
const MOST: usize = 256;
/// Room that an empty list keeps.
const KEPT: usize = 16;

/// The list.
#[derive(Debug, Default)]
pub(super) struct Settling(Vec<Held>);

#[derive(Clone, Debug)]
struct Held {
    bytes: Range<u64>,
    until: Instant,
}

impl Settling {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Holds writes to `bytes` back until `until`.
    pub(super) fn hold(&mut self, bytes: Range<u64>, until: Instant) {
        if let Some(same) = self.0.iter_mut().find(|held| held.bytes == bytes) {
            same.until = same.until.max(until);
            return;
        }
        self.0.push(Held { bytes, until });
        if self.0.len() > MOST {
            self.coalesce();
        }
    }

    /// When the last range that shares a byte with `bytes` is free.
    pub(super) fn until(&self, bytes: &Range<u64>) -> Option<Instant> {
        self.0.iter().filter(|held| overlap(&held.bytes, bytes)).map(|held| held.until).max()
    }

    /// Forgets the ranges that are free.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|held| held.until > now);
        if self.0.is_empty() {
            self.0.shrink_to(KEPT);
        }
    }

    /// Halves the list, by joining the ranges that lie nearest to each other.
    fn coalesce(&mut self) {
        self.0.sort_unstable_by_key(|held| held.bytes.start);
        let gap = |before: &Held, held: &Held| held.bytes.start.saturating_sub(before.bytes.end);
        let neighbours = self.0.iter().zip(self.0.iter().skip(1));
        let mut gaps: Vec<u64> = neighbours.map(|(before, held)| gap(before, held)).collect();
        let middle = gaps.len() / 2;
        let near = *gaps.select_nth_unstable(middle).1;
        let mut joined: Vec<Held> = Vec::with_capacity(self.0.len());
        for held in self.0.drain(..) {
            match joined.last_mut() {
                Some(last) if gap(last, &held) <= near => {
                    last.bytes.end = last.bytes.end.max(held.bytes.end);
                    last.until = last.until.max(held.until);
                }
                _ => joined.push(held),
            }
        }
        self.0 = joined;
    }
}

/// Whether they share a byte.
pub(super) fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn neighbours_are_joined_and_what_lies_apart_stays_apart() {
        let (mut list, now) = (Settling::default(), Instant::now());
        let until = now + Duration::from_secs(1);
        let (near, far) = (0..200u64, 1000..1057u64);
        near.chain(far).for_each(|n| list.hold(n * 1000..n * 1000 + 10, until));
        assert!(list.len() <= MOST / 2 + 1, "{}", list.len());
        assert_eq!(list.until(&(500_000..900_000)), None, "nothing was written there");
        list.expire(until);
        assert_eq!((list.len(), list.0.capacity() <= KEPT), (0, true));
    }

    #[test]
    fn only_the_nearest_half_is_joined_and_only_when_there_is_no_room() {
        let (mut list, now) = (Settling::default(), Instant::now());
        let until = now + Duration::from_secs(1);
        // Each gap is one byte longer than the one before.
        let place = |n: u64| n * 10 + n * (n + 1) / 2;
        let most = MOST as u64;
        (0..most).for_each(|n| list.hold(place(n)..place(n) + 10, until));
        assert_eq!(list.len(), MOST);
        list.hold(0..10, until);
        assert_eq!(list.len(), MOST, "it was held already");
        list.hold(place(most)..place(most) + 10, until);
        assert_eq!(list.len(), MOST / 2);
        let gap = |n: u64| place(n) + 10..place(n + 1);
        assert_eq!(list.until(&gap(most / 2 - 1)), Some(until));
        assert_eq!(list.until(&gap(most / 2 + 1)), None);
    }

    proptest! {
        /// Against a list without bounds: nothing is held for a shorter time, and never for longer
        /// than the last one.
        #[test]
        fn joining_never_frees_a_byte_early(
            holds in proptest::collection::vec((0u64..100_000, 1u64..64, 0u64..3000), 1..900),
            asked in proptest::collection::vec((0u64..100_000, 1u64..512), 20),
            at in 0u64..3000,
        ) {
            let now = Instant::now();
            let time = |millis| now + Duration::from_millis(millis);
            let mut list = Settling::default();
            for (start, len, until) in &holds {
                list.hold(*start..start + len, time(*until));
                prop_assert!(list.len() <= MOST);
            }
            list.expire(time(at));
            let last = holds.iter().map(|(.., until)| time(*until)).max();
            for (start, len) in asked {
                let bytes = start..start + len;
                let overlapping =
                    holds.iter().filter(|(start, len, _)| overlap(&(*start..start + len), &bytes));
                let exact = overlapping.map(|(.., until)| time(*until)).max();
                let held = list.until(&bytes);
                prop_assert!(held >= exact.filter(|until| *until > time(at)));
                prop_assert!(held <= last);
            }
            list.expire(time(3000));
            prop_assert_eq!(list.len(), 0);
        }
    }
}
