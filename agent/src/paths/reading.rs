// SPDX-License-Identifier: GPL-2.0-only
//! Where reads go among the URLs that are up: to the first of the list, unless another one answers
//! clearly faster.
//!
//! Before: [`super::Client`] knows where the order of the list would send a read. After: it sends
//! the read here or there, and [`super::counters`] keep what became of it. Each worker judges by
//! what it has seen itself, so choosing reads no memory that other threads write.

use std::cell::Cell;
use std::time::Duration;

use super::counters::ReadLatency;

/// Reads leave the preferred URL for one that takes at most half as long...
const LEAVE_AT: u64 = 2;
/// ...and saves at least this: below, it is noise.
const LEAST_GAIN_US: u64 = 500;
/// They come back when it takes more than four fifths as long: in between, they stay where they
/// are.
const STAY_WITHIN: (u64, u64) = (4, 5);
/// One read in so many may go elsewhere to see how long it takes there...
const EXPLORE_EVERY: u32 = 128;
/// ...if that is not known from the last moments...
const KNOWN_FOR_MS: u64 = 5_000;
/// ...and waits no longer than this before it goes where it would have gone as well: nobody knows
/// how the other one is.
pub(crate) const EXPLORING_PATIENCE: Duration = Duration::from_millis(50);

/// One worker's choice, for one list of URLs.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Where reads go instead of the preferred URL.
    elsewhere: Cell<Option<usize>>,
    reads: Cell<u32>,
}

/// A URL that a read may go to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) place: usize,
    /// `None` before the first read there.
    pub(crate) latency: Option<ReadLatency>,
}

impl Reading {
    /// The place for a read, and whether it goes there to explore. `candidates`: the URLs that are
    /// up, `preferred` among them.
    pub(crate) fn choose<C>(
        &self,
        preferred: usize,
        candidates: impl Fn() -> C,
        now_ms: u64,
    ) -> (usize, bool)
    where
        C: Iterator<Item = Candidate>,
    {
        let best = self.best(preferred, &candidates, now_ms);
        let reads = self.reads.get().wrapping_add(1);
        self.reads.set(reads);
        if reads % EXPLORE_EVERY != 0 {
            return (best, false);
        }
        let at_ms = |candidate: &Candidate| candidate.latency.map_or(0, |known| known.at_ms);
        let oldest = candidates().filter(|other| other.place != best).min_by_key(at_ms);
        let unknown = oldest.filter(|oldest| {
            oldest.latency.is_none_or(|known| now_ms.saturating_sub(known.at_ms) >= KNOWN_FOR_MS)
        });
        unknown.map_or((best, false), |unknown| (unknown.place, true))
    }

    fn best<C>(&self, preferred: usize, candidates: &impl Fn() -> C, now_ms: u64) -> usize
    where
        C: Iterator<Item = Candidate>,
    {
        let known = |candidate: Candidate| {
            let latency = candidate.latency.filter(|latency| !latency.is_stale(now_ms))?;
            Some((latency.us, candidate.place))
        };
        let at = |place| {
            let candidate = candidates().find(|candidate| candidate.place == place);
            candidate.and_then(known).map(|(us, _)| us)
        };
        let Some(preferred_us) = at(preferred) else {
            self.elsewhere.set(None);
            return preferred;
        };
        let clearly_better = |us: u64, than: u64| {
            us.saturating_mul(LEAVE_AT) <= than && than.saturating_sub(us) >= LEAST_GAIN_US
        };
        let (stay, of) = STAY_WITHIN;
        let staying = self.elsewhere.get().filter(|place| *place != preferred).and_then(|place| {
            let us = at(place)?;
            (us.saturating_mul(of) <= preferred_us.saturating_mul(stay)).then_some((us, place))
        });
        let (now_us, now) = staying.unwrap_or((preferred_us, preferred));
        let fastest = candidates().filter_map(known).min();
        let better = fastest.filter(|(us, _)| clearly_better(*us, now_us));
        let best = better.map_or(now, |(_, place)| place);
        self.elsewhere.set((best != preferred).then_some(best));
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a worker knows of its URLs, and its clock.
    struct Worker {
        reading: Reading,
        urls: Vec<Option<Option<ReadLatency>>>,
        now_ms: u64,
    }

    impl Worker {
        /// Latencies in microseconds, just seen; `None`: the URL is down.
        fn new(urls: &[Option<u64>]) -> Self {
            let mut worker =
                Self { reading: Reading::default(), urls: Vec::new(), now_ms: 1_000_000 };
            worker.sees(urls);
            worker
        }

        fn sees(&mut self, urls: &[Option<u64>]) {
            let at_ms = self.now_ms;
            self.urls =
                urls.iter().map(|us| us.map(|us| Some(ReadLatency { us, at_ms }))).collect();
        }

        fn read(&self, preferred: usize) -> usize {
            let candidates = || {
                let up = |(place, url): (usize, &Option<Option<ReadLatency>>)| {
                    url.map(|latency| Candidate { place, latency })
                };
                self.urls.iter().enumerate().filter_map(up)
            };
            let (place, explores) = self.reading.choose(preferred, candidates, self.now_ms);
            assert!(!explores || self.reading.reads.get() % EXPLORE_EVERY == 0);
            place
        }

        /// Where the next reads go that explore nothing.
        fn place(&self) -> usize {
            self.reading.reads.set(0);
            let preferred = self.urls.iter().position(Option::is_some).expect("one is up");
            self.read(preferred)
        }
    }

    #[test]
    fn only_what_is_clearly_faster_gets_the_reads() {
        let place = |urls: &[u64]| {
            let urls: Vec<_> = urls.iter().copied().map(Some).collect();
            Worker::new(&urls).place()
        };
        assert_eq!(place(&[10_000, 6_000]), 0, "not twice as fast");
        assert_eq!(place(&[10_000, 5_000]), 1);
        assert_eq!(place(&[10_000, 5_000, 4_000]), 2);
        assert_eq!(place(&[900, 450]), 0, "too little to be gained");
        assert_eq!(place(&[900, 400]), 1);
        assert_eq!(place(&[5_000, 10_000]), 0);
    }

    #[test]
    fn reads_do_not_go_to_and_fro() {
        let mut worker = Worker::new(&[Some(10_000), Some(5_000)]);
        assert_eq!(worker.place(), 1);
        worker.sees(&[Some(10_000), Some(8_000)]);
        assert_eq!(worker.place(), 1, "still a little better");
        worker.sees(&[Some(10_000), Some(8_001)]);
        assert_eq!(worker.place(), 0);
        worker.sees(&[Some(10_000), Some(6_000)]);
        assert_eq!(worker.place(), 0, "not clearly better");
        worker.sees(&[Some(10_000), Some(5_000), Some(4_000)]);
        assert_eq!(worker.place(), 2);
        worker.sees(&[Some(10_000), Some(3_000), Some(5_000)]);
        assert_eq!(worker.place(), 2);
        worker.sees(&[Some(10_000), Some(2_000), Some(5_000)]);
        assert_eq!(worker.place(), 1);
    }

    #[test]
    fn what_is_down_or_long_ago_counts_for_nothing() {
        let mut worker = Worker::new(&[Some(10_000), Some(1_000)]);
        assert_eq!(worker.place(), 1);
        worker.sees(&[Some(10_000), None]);
        assert_eq!(worker.place(), 0);
        worker.sees(&[None, Some(90_000)]);
        assert_eq!(worker.place(), 1);
        worker.sees(&[Some(10_000), Some(1_000)]);
        worker.now_ms += 59_999;
        assert_eq!(worker.place(), 1);
        worker.now_ms += 1;
        assert_eq!(worker.place(), 0, "nobody has looked for a minute");
    }

    #[test]
    fn one_read_in_many_sees_how_the_others_are() {
        let mut worker = Worker::new(&[Some(1_000), Some(9_000), Some(9_000)]);
        worker.urls[1] = Some(None);
        let elsewhere = |worker: &Worker| {
            let places = (0..EXPLORE_EVERY).map(|_| worker.read(0));
            places.filter(|place| *place != 0).collect::<Vec<_>>()
        };
        assert_eq!(elsewhere(&worker), [1], "the one that nobody knows");
        worker.urls[1] = Some(Some(ReadLatency { us: 9_000, at_ms: worker.now_ms }));
        assert_eq!(elsewhere(&worker), [0usize; 0], "all are known");
        worker.now_ms += KNOWN_FOR_MS;
        worker.urls[1] = Some(Some(ReadLatency { us: 9_000, at_ms: worker.now_ms - 1 }));
        assert_eq!(elsewhere(&worker), [2], "the one seen longest ago");
        worker.urls[2] = None;
        assert_eq!(elsewhere(&worker), [0usize; 0], "it is down, the other one is known");
    }

    #[test]
    fn a_single_url_gets_everything() {
        let worker = Worker::new(&[Some(10_000)]);
        assert!((0..3 * EXPLORE_EVERY).all(|_| worker.read(0) == 0));
    }
}
