// SPDX-License-Identifier: GPL-2.0-only
//! The jobs that every contender gets.

use std::path::Path;
use std::time::Duration;

use crate::guest::fio::Fio;
use crate::guest::TestResult;

/// One way to use a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Its name in figures.
    pub name: &'static str,
    rw: &'static str,
    block: &'static str,
    depth: u32,
}

const fn shape(name: &'static str, rw: &'static str, block: &'static str, depth: u32) -> Shape {
    Shape { name, rw, block, depth }
}

/// All of them; each by one process with one io_uring, without the page cache.
pub const ALL: [Shape; 6] = [
    shape("randread_4k_qd1", "randread", "4k", 1),
    shape("randwrite_4k_qd1", "randwrite", "4k", 1),
    shape("randread_4k_qd32", "randread", "4k", 32),
    shape("randwrite_4k_qd32", "randwrite", "4k", 32),
    shape("read_1m_qd8", "read", "1m", 8),
    shape("write_1m_qd8", "write", "1m", 8),
];

/// How long a job is measured, in the guest's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Before anything counts, in milliseconds.
    pub warm_up_ms: u32,
    /// What counts, in seconds.
    pub measured_secs: u32,
}

/// For the figures that are recorded.
pub const FULL: Timing = Timing { warm_up_ms: 500, measured_secs: 2 };
/// For a quick look.
pub const QUICK: Timing = Timing { warm_up_ms: 300, measured_secs: 1 };

/// What of a device the jobs touch; every contender's is at least as large.
pub const SPAN_MIB: u64 = 256;
/// Slower than the slowest contender by far.
const BOUND: Duration = Duration::from_secs(120);

impl Shape {
    /// Whether its requests are the largest.
    pub(super) fn is_large(self) -> bool {
        self.block == "1m"
    }

    /// Whether a quick look has it too: one of the two at depth 1 says what a request costs alone.
    pub(super) fn is_main(self) -> bool {
        self.name != "randwrite_4k_qd1"
    }

    /// The job on this device.
    #[must_use]
    pub fn fio(&self, device: &Path, timing: Timing) -> Fio {
        self.timed(Fio::new(device, self.rw, self.block), timing)
    }

    fn timed(&self, job: Fio, timing: Timing) -> Fio {
        job.option("iodepth", self.depth)
            .option("size", format!("{SPAN_MIB}m"))
            .option("time_based", 1)
            .option("ramp_time", format!("{}ms", timing.warm_up_ms))
            .option("runtime", timing.measured_secs)
    }

    /// Runs it; the requests per second.
    ///
    /// # Errors
    /// When fio fails, or one request did.
    pub fn iops(&self, device: &Path, timing: Timing) -> TestResult<f64> {
        self.rate(&self.fio(device, timing))
    }

    /// As [`Self::iops`], the median of three runs; of nine, if they are not much the same.
    ///
    /// A peer's rate may depend on which processor the scheduler gives to whom for a run: ublk's at
    /// depth 32 is 43,000 in most, and a fifth more in some.
    ///
    /// # Errors
    /// When a run fails.
    pub fn usual_iops(&self, device: &Path, timing: Timing) -> TestResult<f64> {
        let mut rates = Vec::new();
        while rates.len() < 3 || (rates.len() < 9 && !are_same(&rates)) {
            rates.push(self.iops(device, timing)?);
        }
        Ok(median(&mut rates))
    }

    /// As [`Self::iops`], with fio itself as client of an NBD server.
    ///
    /// # Errors
    /// When fio fails, or one request did.
    pub fn iops_over_nbd(&self, uri: &str, timing: Timing) -> TestResult<f64> {
        self.rate(&self.timed(Fio::over_nbd(uri, self.rw, self.block), timing))
    }

    fn rate(&self, job: &Fio) -> TestResult<f64> {
        let report = job.run(BOUND)?;
        if report.errors > 0 {
            return Err(format!("{} requests of {} failed", report.errors, self.name).into());
        }
        let iops = report.read.iops + report.write.iops;
        if iops > 0.0 {
            Ok(iops)
        } else {
            Err(format!("{}: no request ended", self.name).into())
        }
    }
}

/// Whether rates are within a twentieth of each other.
fn are_same(rates: &[f64]) -> bool {
    let (least, most) =
        rates.iter().fold((f64::MAX, 0.0), |(least, most), rate| (rate.min(least), rate.max(most)));
    most - least <= least / 20.0
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}

/// The shape of this name.
#[must_use]
pub fn named(name: &str) -> Option<Shape> {
    ALL.into_iter().find(|shape| shape.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_the_same_within_a_twentieth() {
        assert!(are_same(&[100.0, 104.9, 101.0]));
        assert!(!are_same(&[100.0, 105.1, 101.0]));
        assert_eq!(median(&mut [5.0, 1.0, 3.0]).to_bits(), 3.0_f64.to_bits());
    }
}
