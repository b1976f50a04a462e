// SPDX-License-Identifier: GPL-2.0-only
//! Where the instructions of a job go, by function: perf's samples of a clock that counts them.

use std::path::Path;
use std::time::Duration;

use super::jobs::{Shape, Timing};
use crate::guest::{process, TestResult};

const DATA: &str = "/tmp/perf.data";
/// For reading the samples: perf looks up the symbols of every program involved.
const BOUND: Duration = Duration::from_secs(600);
/// Often enough for some thousand samples, and no multiple of a tick.
const SAMPLES_PER_SEC: u32 = 3989;

/// Runs the job under perf; the functions that take the most, with the program they run in.
///
/// # Errors
/// When perf or the job fails.
pub(super) fn run(shape: Shape, device: &Path, timing: Timing) -> TestResult<String> {
    let record = format!(
        "exec perf record -a -q -e cpu-clock -F {SAMPLES_PER_SEC} -o {DATA} -- sleep {}",
        timing.measured_secs
    );
    let recorder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(u64::from(timing.warm_up_ms)));
        process::sh(&record, BOUND)?.success()
    });
    let longer = Timing { measured_secs: timing.measured_secs + 1, ..timing };
    let iops = shape.iops(device, longer)?;
    recorder.join().map_err(|_| "the thread that records died")??;
    let report = format!(
        "perf report -i {DATA} --stdio -q --sort comm,dso,sym --percent-limit 0.4 2>/dev/null"
    );
    let functions = process::sh(&report, BOUND)?.success()?;
    let by_program = "perf report -i /tmp/perf.data --stdio -q --sort comm,dso --percent-limit 0.4";
    let programs = process::sh(&format!("{by_program} 2>/dev/null"), BOUND)?.success()?;
    Ok(format!("{} at {iops:.0}/s\n\n{programs}\n{functions}", shape.name))
}
