// SPDX-License-Identifier: GPL-2.0-only
//! What is counted of each device's requests.
//!
//! The hop before are the data workers, each of which counts into [`Counters`] of its own; the hop
//! after is the status socket, which adds them up when somebody asks.
//!
//! # Invariants
//! Each [`Counters`] has one writer, the worker that serves the queue. That is why counting is a
//! load and a store, not an atomic addition, and no cache line is written by two threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use srb_proto::descriptor::DataOp;

use super::tags::Tags;
use crate::base::clock::Moment;
use srb_status::Latency;

/// Buckets for each doubling of a latency: a quantile is off by at most an eighth.
const STEPS: usize = 4;
/// Doublings of a microsecond that have buckets; the last one takes all that is longer (134 s).
const DOUBLINGS: usize = 26;
const BUCKETS: usize = DOUBLINGS * STEPS;

fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

/// Requests of one op on one queue.
#[derive(Debug)]
struct OpCounters {
    completed: AtomicU64,
    failed: AtomicU64,
    held: AtomicU64,
    bytes: AtomicU64,
    nanos: AtomicU64,
    longest_nanos: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl OpCounters {
    const fn new() -> Self {
        Self {
            completed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            held: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            longest_nanos: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

/// Counters of one queue of a device, written by the worker that serves it.
#[derive(Debug)]
pub struct Counters {
    reads: OpCounters,
    writes: OpCounters,
    /// The requests in flight.
    pub tags: Tags,
}

impl Counters {
    /// For a queue with `depth` tags.
    #[must_use]
    pub fn new(depth: usize) -> Self {
        Self { reads: OpCounters::new(), writes: OpCounters::new(), tags: Tags::new(depth) }
    }

    fn of(&self, op: DataOp) -> &OpCounters {
        match op {
            DataOp::Read => &self.reads,
            DataOp::Write => &self.writes,
        }
    }

    /// Counts requests that took `nanos` each and moved `bytes` in all.
    pub fn completed(&self, op: DataOp, requests: u64, bytes: u64, nanos: u64) {
        let counters = self.of(op);
        add(&counters.completed, requests);
        add(&counters.bytes, bytes);
        add(&counters.nanos, nanos.wrapping_mul(requests));
        if counters.longest_nanos.load(Relaxed) < nanos {
            counters.longest_nanos.store(nanos, Relaxed);
        }
        if let Some(bucket) = counters.buckets.get(bucket_of(nanos / 1000)) {
            add(bucket, requests);
        }
    }

    /// Counts a request that was failed.
    pub fn failed(&self, op: DataOp) {
        add(&self.of(op).failed, 1);
    }

    /// Counts a request that went back to the module to be held.
    pub fn held(&self, op: DataOp) {
        add(&self.of(op).held, 1);
    }
}

/// Bucket 4 and up: four for each doubling, named by the two bits below the highest one.
fn bucket_of(micros: u64) -> usize {
    let Some(doubling) = micros.checked_ilog2().and_then(|log| log.checked_sub(2)) else {
        return usize::try_from(micros).unwrap_or(0);
    };
    // The highest three bits: 4 to 7.
    let step = usize::try_from(micros >> doubling).unwrap_or(0);
    (doubling as usize).saturating_mul(STEPS).saturating_add(step).min(BUCKETS - 1)
}

/// The first microsecond that is too long for the bucket.
const fn end_of_bucket(bucket: usize) -> u64 {
    let (doubling, past) = (bucket / STEPS, (bucket % STEPS).saturating_add(1));
    match doubling.checked_sub(1) {
        None => past as u64,
        Some(doubling) => (STEPS.saturating_add(past) as u64) << doubling,
    }
}

/// Counters of one op, added up over a device's queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpTotals {
    /// Requests completed well.
    pub completed: u64,
    /// Requests failed.
    pub failed: u64,
    /// Times that a request went back to the module to be held.
    pub held: u64,
    /// Bytes moved by the former.
    pub bytes: u64,
    nanos: u64,
    longest_nanos: u64,
    buckets: [u64; BUCKETS],
}

impl Default for OpTotals {
    fn default() -> Self {
        let (completed, failed, held, bytes, nanos, longest_nanos) = (0, 0, 0, 0, 0, 0);
        Self { completed, failed, held, bytes, nanos, longest_nanos, buckets: [0; BUCKETS] }
    }
}

impl OpTotals {
    fn add(&mut self, counters: &OpCounters) {
        self.completed = self.completed.wrapping_add(counters.completed.load(Relaxed));
        self.failed = self.failed.wrapping_add(counters.failed.load(Relaxed));
        self.held = self.held.wrapping_add(counters.held.load(Relaxed));
        self.bytes = self.bytes.wrapping_add(counters.bytes.load(Relaxed));
        self.nanos = self.nanos.wrapping_add(counters.nanos.load(Relaxed));
        self.longest_nanos = self.longest_nanos.max(counters.longest_nanos.load(Relaxed));
        for (total, bucket) in self.buckets.iter_mut().zip(&counters.buckets) {
            *total = total.wrapping_add(bucket.load(Relaxed));
        }
    }

    /// A time in microseconds that the fraction `thousandths` of the requests did not exceed.
    fn quantile(&self, thousandths: u64) -> u64 {
        let rank = self.count().saturating_mul(thousandths).div_ceil(1000);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen = count.saturating_add(seen);
            if seen >= rank && rank > 0 {
                return end_of_bucket(bucket).min(self.longest_nanos.div_ceil(1000));
            }
        }
        0
    }

    /// Upper bounds, one for each doubling but the last, and how many requests took less than that.
    pub fn below(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let mut below = 0u64;
        let ends = self.buckets.iter().enumerate().filter_map(move |(bucket, count)| {
            below = below.wrapping_add(*count);
            (bucket % STEPS == STEPS - 1).then_some((bucket, below))
        });
        ends.filter(|(bucket, _)| *bucket < BUCKETS - 1)
            .map(|(bucket, below)| (Duration::from_micros(end_of_bucket(bucket)), below))
    }

    /// How many requests there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |all, count| all.wrapping_add(*count))
    }

    /// How long they took together.
    #[must_use]
    pub const fn whole(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// In the words of the status.
    #[must_use]
    pub fn latency(&self) -> Latency {
        Latency {
            mean_us: self.nanos.checked_div(self.completed).unwrap_or(0) / 1000,
            p50_us: self.quantile(500),
            p99_us: self.quantile(990),
            max_us: self.longest_nanos / 1000,
        }
    }
}

/// Counters of a device, added up over its queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Of its reads.
    pub reads: OpTotals,
    /// Of its writes.
    pub writes: OpTotals,
    /// Requests fetched and not completed.
    pub in_flight: u64,
    /// Nanoseconds since the oldest of them was fetched.
    pub oldest_nanos: Option<u64>,
}

impl Totals {
    /// Adds up `queues` as of `now`.
    pub fn of<'a>(
        queues: impl IntoIterator<Item = &'a CachePadded<Counters>>,
        now: Moment,
    ) -> Self {
        let mut totals = Self::default();
        for counters in queues {
            totals.reads.add(&counters.reads);
            totals.writes.add(&counters.writes);
            for age in counters.tags.moments().map(|since| now.since(since)) {
                totals.in_flight = totals.in_flight.wrapping_add(1);
                totals.oldest_nanos = totals.oldest_nanos.max(Some(age));
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::transfer::Transfer;
    use proptest::prelude::*;
    use srb_proto::descriptor::{Generation, Tag};

    proptest! {
        #[test]
        fn a_latency_lies_in_its_bucket(micros in 0..end_of_bucket(BUCKETS - 1)) {
            let bucket = bucket_of(micros);
            prop_assert!(micros < end_of_bucket(bucket));
            prop_assert!(bucket == 0 || micros >= end_of_bucket(bucket - 1));
        }
    }

    #[test]
    fn the_last_bucket_has_no_end() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(end_of_bucket(BUCKETS - 1), 1 << (DOUBLINGS + 1));
    }

    #[test]
    fn queues_add_up() {
        let new = || CachePadded::new(Counters::new(4));
        let (a, b) = (new(), new());
        a.completed(DataOp::Read, 98, 98 * 512, 10_000);
        b.completed(DataOp::Read, 2, 1024, 5_000_000);
        b.failed(DataOp::Write);
        a.held(DataOp::Write);
        let moment = |nanos| Moment::from_nanos(nanos).expect("not zero");
        let (tag, generation) = (Tag(3), Generation(1));
        let op = DataOp::Read;
        let request = Transfer { tag, generation, op, repeated: false, offset: 0, len: 512 };
        b.tags.begin(&request, moment(1_000));
        let totals = Totals::of([&a, &b], moment(5_000));
        assert_eq!((totals.reads.completed, totals.reads.bytes), (100, 98 * 512 + 1024));
        assert_eq!((totals.writes.failed, totals.reads.failed), (1, 0));
        assert_eq!((totals.writes.held, totals.reads.held), (1, 0));
        assert_eq!((totals.in_flight, totals.oldest_nanos), (1, Some(4_000)));
        let latency = totals.reads.latency();
        assert_eq!((latency.max_us, latency.p99_us), (5_000, 5_000));
        assert!((10..=12).contains(&latency.p50_us), "{latency:?}");
        assert_eq!(b.tags.end(tag), Some(moment(1_000)));
        assert_eq!(Totals::of([&b], moment(5_000)).oldest_nanos, None);
        assert_eq!(OpTotals::default().latency(), Latency::default());
    }
}
