// SPDX-License-Identifier: GPL-2.0-only
//! Where the instructions of a job go, by function: perf's samples of a clock that counts them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::jobs::{Shape, Timing};
use crate::guest::{process, TestResult};

const DATA: &str = "/tmp/perf.data";
/// For the job: a request that hangs is no reason to wait for its deadline.
const JOB_BOUND: Duration = Duration::from_secs(60);
/// For reading the samples: perf looks up the symbols of every program involved.
const BOUND: Duration = Duration::from_secs(600);
/// Often enough for some thousand samples, and no multiple of a tick.
const SAMPLES_PER_SEC: u32 = 3989;
/// Where a processor is that has nothing to do. Its clock goes on while the other one works.
const IDLE: &str = "pv_native_safe_halt";
/// What is not shown, in percent.
const LEAST: f64 = 0.4;

/// Runs the job under perf, which starts it when it is ready itself; programs, then functions, by
/// their share of all instructions.
///
/// # Errors
/// When perf or the job fails.
pub(super) fn run(shape: Shape, device: &Path, timing: Timing) -> TestResult<String> {
    let mut perf = Command::new("perf");
    perf.args(["record", "-a", "-q", "-N", "-B", "-e", "cpu-clock", "-o", DATA]);
    perf.args(["-F", &SAMPLES_PER_SEC.to_string(), "--", "fio"]);
    process::run(perf.args(shape.fio(device, timing).options()), JOB_BOUND)?.success()?;
    let mut perf = Command::new("perf");
    perf.args(["report", "-i", DATA, "--stdio", "-q", "-t", "|", "--sort", "comm,dso,sym"]);
    let samples = parse(&process::run(&mut perf, BOUND)?.success()?);
    let programs = shares(&samples, |s| format!("{:<16} {}", s.program, s.file));
    let functions =
        shares(&samples, |s| format!("{:<16} {:<20} {}", s.program, s.file, s.function));
    Ok(format!("{}\n\n{programs}\n{functions}", shape.name))
}

/// A function of a program or library, as one process ran it.
#[derive(Debug, PartialEq)]
struct Sample {
    percent: f64,
    program: String,
    file: String,
    function: String,
}

/// Reads perf's lines, `PERCENT%|PROGRAM|FILE|FUNCTION`; idleness is left out.
fn parse(text: &str) -> Vec<Sample> {
    let sample = |line: &str| {
        let mut fields = line.splitn(4, '|').map(|field| field.trim().to_owned());
        let percent = fields.next()?.strip_suffix('%')?.trim().parse().ok()?;
        let (program, file, function) = (fields.next()?, fields.next()?, fields.next()?);
        (!function.contains(IDLE)).then_some(Sample { percent, program, file, function })
    };
    text.lines().filter_map(sample).collect()
}

/// Shares of all samples by what `key` makes of each, the largest first.
fn shares(samples: &[Sample], key: impl Fn(&Sample) -> String) -> String {
    let all: f64 = samples.iter().map(|sample| sample.percent).sum();
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for sample in samples {
        *sums.entry(key(sample)).or_default() += sample.percent / all * 100.0;
    }
    let mut sums: Vec<_> = sums.into_iter().filter(|(_, share)| *share >= LEAST).collect();
    sums.sort_by(|a, b| b.1.total_cmp(&a.1));
    sums.iter().fold(String::new(), |text, (name, share)| format!("{text}{share:>6.2} % {name}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_is_not_idle() {
        let text = " 60.00%|swapper|[kernel]|[k] pv_native_safe_halt\n\
                     30.00%|fio    |[kernel]|[k] copy\n\
                      6.00%|fio    |fio     |[.] get_io_u\n\
                      4.00%|fio    |fio     |[.] a|b\n\n";
        let samples = parse(text);
        assert_eq!(samples.len(), 3);
        let programs = shares(&samples, |s| format!("{} {}", s.program, s.file));
        assert_eq!(programs, " 75.00 % fio [kernel]\n 25.00 % fio fio\n");
        assert!(shares(&samples, |s| s.function.clone()).ends_with(" 10.00 % [.] a|b\n"));
    }
}
