// SPDX-License-Identifier: GPL-2.0-only
//! How long a worker with nothing to do looks for submissions before it goes to sleep.
//!
//! Before: [`super::worker`] has nothing under way. After: ENTER looks for so long, and gives the
//! processor to whoever else wants it. To fall asleep and be woken takes two processors some ten
//! thousand instructions, more than the rest of a small request that is answered at once; a user
//! who waits for each request before the next one pays them every time. So after a short pause the
//! next one is expected to be short, too, as a hypervisor does with a guest that has halted. After
//! many requests at once a look that finds nothing is little for each of them. Otherwise nobody
//! looks, and an idle device costs nothing.

use std::mem;

use crate::base::clock::Moment;

/// Requests between two pauses after which a look may be in vain: 3 µs for each, of 50, less than
/// to be woken costs.
const MANY: u32 = 16;

/// The pauses of one worker.
#[derive(Debug)]
pub(crate) struct Polling {
    most_usecs: u32,
    /// Whether the last pause was short.
    pays: bool,
    /// Requests since the last pause.
    served: u32,
    idle_since: Option<Moment>,
}

impl Polling {
    /// Looks for `most_usecs` at most; 0: never.
    pub(crate) const fn new(most_usecs: u32) -> Self {
        Self { most_usecs, pays: false, served: 0, idle_since: None }
    }

    /// There is nothing to do. For how many microseconds to look: only once in a pause.
    pub(crate) fn rest(&mut self, now: Moment) -> u32 {
        if self.idle_since.is_some() || self.most_usecs == 0 {
            return 0;
        }
        self.idle_since = Some(now);
        if mem::take(&mut self.served) >= MANY || self.pays {
            self.most_usecs
        } else {
            0
        }
    }

    /// So many submissions were taken.
    pub(crate) fn served(&mut self, requests: u32) {
        self.served = self.served.saturating_add(requests);
    }

    /// There are submissions.
    pub(crate) fn resume(&mut self, now: Moment) {
        if let Some(since) = self.idle_since.take() {
            self.pays = now.since(since) <= u64::from(self.most_usecs).saturating_mul(1000);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(usecs: u64) -> Moment {
        Moment::from_nanos(usecs * 1000).expect("not zero")
    }

    /// A pause from `since` to `until`: for how long it is looked.
    fn pause(polling: &mut Polling, since: u64, until: u64) -> u32 {
        let usecs = polling.rest(at(since));
        assert_eq!(polling.rest(at(since + 1)), 0, "once");
        polling.resume(at(until));
        usecs
    }

    #[test]
    fn a_short_pause_is_expected_after_a_short_one() {
        let mut polling = Polling::new(50);
        assert_eq!(pause(&mut polling, 100, 150), 0);
        assert_eq!(pause(&mut polling, 200, 220), 50);
        assert_eq!(pause(&mut polling, 300, 351), 50);
        assert_eq!(pause(&mut polling, 400, 10_000_000), 0);
        assert_eq!(pause(&mut polling, 10_000_100, 10_000_101), 0);
        assert_eq!(pause(&mut polling, 10_000_200, 10_000_201), 50);
    }

    #[test]
    fn submissions_without_a_pause_say_nothing() {
        let mut polling = Polling::new(50);
        pause(&mut polling, 100, 110);
        polling.resume(at(5000));
        assert_eq!(pause(&mut polling, 6000, 6001), 50);
    }

    #[test]
    fn many_requests_are_worth_a_look() {
        let mut polling = Polling::new(50);
        for (requests, expected) in [(15, 0), (16, 50), (15, 0), (1, 0)] {
            polling.served(1);
            polling.served(requests - 1);
            assert_eq!(pause(&mut polling, 100, 1000), expected, "{requests}");
        }
    }

    #[test]
    fn never_is_never() {
        let mut polling = Polling::new(0);
        for round in 1..5 {
            polling.served(1000);
            assert_eq!(pause(&mut polling, round, round), 0);
        }
    }
}
