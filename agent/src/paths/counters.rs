// SPDX-License-Identifier: GPL-2.0-only
//! What is counted per URL, on a cache line of its own for each worker.
//!
//! Written by the worker that made the try, read by whoever asks for the status.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::CachePadded;

/// Workers beyond this number share a line with another.
const SHARDS: usize = 32;

/// A worker's mean of what the reads of a time long ago took is worth nothing.
const READS_ARE_STALE_AFTER_MS: u64 = 60_000;

/// One worker's share.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    requests: AtomicU64,
    errors: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    /// Smoothed, in microseconds; 0 before the first answer.
    latency_us: AtomicU64,
    /// The same of reads, up to the head of the answer.
    read_latency_us: AtomicU64,
    /// When that was heard last.
    read_at_ms: AtomicU64,
}

/// What a worker knows of the reads at a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadLatency {
    /// Until the head of the answer came, smoothed: the same for short reads and long ones.
    pub(crate) us: u64,
    /// On the repository's clock.
    pub(crate) at_ms: u64,
}

impl ReadLatency {
    pub(crate) const fn is_stale(self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.at_ms) >= READS_ARE_STALE_AFTER_MS
    }
}

impl Shard {
    /// Counts an answer that came after `latency`.
    pub(crate) fn answered(&self, latency: Duration, bytes_read: u64, bytes_written: u64) {
        self.requests.fetch_add(1, Relaxed);
        self.bytes_read.fetch_add(bytes_read, Relaxed);
        self.bytes_written.fetch_add(bytes_written, Relaxed);
        // Workers that share a line may lose a sample to each other: that is fine in a mean.
        let smoothed = smoothed(self.latency_us.load(Relaxed), latency);
        self.latency_us.store(smoothed, Relaxed);
    }

    /// Counts a read whose answer began after `latency`.
    pub(crate) fn read_began(&self, latency: Duration, now_ms: u64) {
        let old = self.read_latency().filter(|old| !old.is_stale(now_ms));
        let smoothed = smoothed(old.map_or(0, |old| old.us), latency);
        self.read_latency_us.store(smoothed, Relaxed);
        self.read_at_ms.store(now_ms, Relaxed);
    }

    /// What is known of reads; `None` before the first.
    pub(crate) fn read_latency(&self) -> Option<ReadLatency> {
        let us = self.read_latency_us.load(Relaxed);
        (us != 0).then(|| ReadLatency { us, at_ms: self.read_at_ms.load(Relaxed) })
    }

    /// Counts a failed try.
    pub(crate) fn failed(&self) {
        self.requests.fetch_add(1, Relaxed);
        self.errors.fetch_add(1, Relaxed);
    }
}

/// An eighth of what is new; 0 is no mean yet.
fn smoothed(old: u64, sample: Duration) -> u64 {
    let sample = u64::try_from(sample.as_micros()).unwrap_or(u64::MAX).max(1);
    match old {
        0 => sample,
        old => old.saturating_sub(old / 8).saturating_add(sample / 8).max(1),
    }
}

/// All shares of a URL, and what is rare enough to be shared.
#[derive(Debug)]
pub(crate) struct Counters {
    shards: [CachePadded<Shard>; SHARDS],
    /// Probes while it was down, and those that found it so.
    pub(crate) probes: AtomicU64,
    pub(crate) failed_probes: AtomicU64,
    /// Reads sent here because another URL was slow, and those answered before that one.
    pub(crate) hedged: AtomicU64,
    pub(crate) hedge_wins: AtomicU64,
    /// Connections that were opened.
    pub(crate) connections: AtomicU64,
}

/// Adds one to a counter.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// The sum of the shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) latency: Duration,
    pub(crate) read_latency: Duration,
    pub(crate) probes: u64,
    pub(crate) failed_probes: u64,
    pub(crate) hedged: u64,
    pub(crate) hedge_wins: u64,
    pub(crate) connections: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| CachePadded::default()),
            probes: AtomicU64::new(0),
            failed_probes: AtomicU64::new(0),
            hedged: AtomicU64::new(0),
            hedge_wins: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// The share of a worker.
    pub(crate) fn shard(&self, worker: usize) -> &Shard {
        let [first, ..] = &self.shards;
        self.shards.get(worker % SHARDS).unwrap_or(first)
    }

    /// The sums, the mean of the workers' latencies, weighted by their answers, and the plain mean
    /// of those of their reads.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals {
            read_latency: self.read_latency(),
            probes: self.probes.load(Relaxed),
            failed_probes: self.failed_probes.load(Relaxed),
            hedged: self.hedged.load(Relaxed),
            hedge_wins: self.hedge_wins.load(Relaxed),
            connections: self.connections.load(Relaxed),
            ..Totals::default()
        };
        let (mut weighted, mut answers) = (0u128, 0u128);
        for shard in &self.shards {
            let requests = shard.requests.load(Relaxed);
            let errors = shard.errors.load(Relaxed);
            let answered = u128::from(requests.saturating_sub(errors));
            let latency_us = u128::from(shard.latency_us.load(Relaxed));
            weighted = weighted.saturating_add(answered.saturating_mul(latency_us));
            answers = answers.saturating_add(answered);
            totals.requests = totals.requests.saturating_add(requests);
            totals.errors = totals.errors.saturating_add(errors);
            let (read, written) =
                (shard.bytes_read.load(Relaxed), shard.bytes_written.load(Relaxed));
            totals.bytes_read = totals.bytes_read.saturating_add(read);
            totals.bytes_written = totals.bytes_written.saturating_add(written);
        }
        let mean = weighted.checked_div(answers).unwrap_or(0);
        totals.latency = Duration::from_micros(u64::try_from(mean).unwrap_or(u64::MAX));
        totals
    }

    fn read_latency(&self) -> Duration {
        let known = || self.shards.iter().filter_map(|shard| shard.read_latency());
        let sum = known().fold(0u64, |sum, known| sum.saturating_add(known.us));
        let mean = sum.checked_div(known().count() as u64);
        Duration::from_micros(mean.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let counters = Counters::default();
        counters.shard(0).answered(Duration::from_micros(100), 4096, 0);
        counters.shard(1).answered(Duration::from_micros(300), 0, 512);
        counters.shard(1 + SHARDS).failed();
        let expected = Totals {
            requests: 3,
            errors: 1,
            bytes_read: 4096,
            bytes_written: 512,
            latency: Duration::from_micros(200),
            ..Totals::default()
        };
        assert_eq!(counters.totals(), expected);
        assert_eq!(Counters::default().totals(), Totals::default());
    }

    #[test]
    fn latency_follows_slowly() {
        let shard = Shard::default();
        shard.answered(Duration::from_micros(800), 0, 0);
        shard.answered(Duration::from_micros(1600), 0, 0);
        assert_eq!(shard.latency_us.load(Relaxed), 900);
    }

    #[test]
    fn what_was_heard_of_reads_ages() {
        let counters = Counters::default();
        let shard = counters.shard(0);
        assert_eq!(shard.read_latency(), None);
        shard.read_began(Duration::from_micros(800), 5);
        shard.read_began(Duration::from_micros(1600), 10);
        let known = ReadLatency { us: 900, at_ms: 10 };
        assert_eq!(shard.read_latency(), Some(known));
        assert!(!known.is_stale(60_009) && known.is_stale(60_010));
        shard.read_began(Duration::from_micros(100), 60_010);
        assert_eq!(shard.read_latency(), Some(ReadLatency { us: 100, at_ms: 60_010 }));
        counters.shard(1).read_began(Duration::from_micros(300), 0);
        assert_eq!(counters.totals().read_latency, Duration::from_micros(200));
    }
}
