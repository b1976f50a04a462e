// SPDX-License-Identifier: GPL-2.0-only
//! What is counted per URL, on a cache line of its own for each worker.
//!
//! Written by the worker that made the try, read by whoever asks for the status.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Workers beyond this number share a line with another.
const SHARDS: usize = 32;

/// One worker's share.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Shard {
    requests: AtomicU64,
    errors: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    /// Smoothed, in microseconds; 0 before the first answer.
    latency_us: AtomicU64,
}

impl Shard {
    /// Counts an answer that came after `latency`.
    pub(crate) fn answered(&self, latency: Duration, bytes_read: u64, bytes_written: u64) {
        self.requests.fetch_add(1, Relaxed);
        self.bytes_read.fetch_add(bytes_read, Relaxed);
        self.bytes_written.fetch_add(bytes_written, Relaxed);
        let sample = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        // Workers that share a line may lose a sample to each other: that is fine in a mean.
        let smoothed = match self.latency_us.load(Relaxed) {
            0 => sample,
            old => old.saturating_sub(old / 8).saturating_add(sample / 8).max(1),
        };
        self.latency_us.store(smoothed, Relaxed);
    }

    /// Counts a failed try.
    pub(crate) fn failed(&self) {
        self.requests.fetch_add(1, Relaxed);
        self.errors.fetch_add(1, Relaxed);
    }
}

/// All shares of a URL.
#[derive(Debug)]
pub(crate) struct Counters {
    shards: [Shard; SHARDS],
}

/// The sum of the shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) latency: Duration,
}

impl Default for Counters {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Shard::default()) }
    }
}

impl Counters {
    /// The share of a worker.
    pub(crate) fn shard(&self, worker: usize) -> &Shard {
        let [first, ..] = &self.shards;
        self.shards.get(worker % SHARDS).unwrap_or(first)
    }

    /// The sums, and the mean of the workers' latencies, weighted by their answers.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
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
}
