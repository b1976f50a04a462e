// SPDX-License-Identifier: GPL-2.0-only
//! The server that the contenders on HTTP share: a playground with its data in memory, and what it
//! can give at most, measured by wrk.

use std::fs;
use std::time::Duration;

use super::jobs::{Timing, SPAN_MIB};
use crate::guest::{process, udev, Device, Machine, TestResult};

/// The volume, as a client of the server names it.
pub(super) const URL: &str = "http://127.0.0.1:8080/bench";
/// The volume.
pub(super) const VOLUME: &str = "bench";
/// Beyond what wrk is asked to run for.
const BOUND: Duration = Duration::from_secs(60);
const SCRIPT: &str = "/tmp/wrk.lua";

/// A way to ask the server: the job whose requests it imitates, and the connections.
struct Load {
    name: &'static str,
    connections: u32,
    bytes: u64,
    order: &'static str,
}

/// What corresponds to the jobs that read.
const LOADS: [Load; 3] = [
    Load { name: "randread_4k_qd1", connections: 1, bytes: 4 << 10, order: "random" },
    Load { name: "randread_4k_qd32", connections: 32, bytes: 4 << 10, order: "random" },
    Load { name: "read_1m_qd8", connections: 8, bytes: 1 << 20, order: "sequential" },
];

/// A machine with the server, and the volume attached.
pub(super) fn machine() -> TestResult<(Machine, Device)> {
    // One of the peers writes ranges that are longer than their bodies.
    let machine = Machine::builder().playground_arg("--lenient").start()?;
    machine.create(VOLUME, &format!("{SPAN_MIB}M"))?;
    let device = machine.attach(VOLUME, VOLUME)?;
    udev::settle()?;
    Ok((machine, device))
}

/// Asks the server as fast as it goes; a job's name and requests per second, for each.
pub(super) fn limits(timing: Timing) -> TestResult<Vec<(&'static str, f64)>> {
    fs::write(SCRIPT, include_str!("wrk.lua"))?;
    LOADS.iter().map(|load| Ok((load.name, load.run(timing)?))).collect()
}

impl Load {
    fn run(&self, timing: Timing) -> TestResult<f64> {
        // wrk knows no warm-up: the first run is one.
        self.wrk(1)?;
        requests_per_second(&self.wrk(timing.measured_secs)?)
    }

    fn wrk(&self, secs: u32) -> TestResult<String> {
        let blocks = SPAN_MIB * (1 << 20) / self.bytes;
        let Self { connections, bytes, order, .. } = self;
        let line = format!(
            "wrk -t1 -c{connections} -d{secs}s -s {SCRIPT} {URL} -- {bytes} {blocks} {order}"
        );
        process::sh(&line, BOUND)?.success()
    }
}

/// Reads wrk's report, which has a line about errors only if there were some.
fn requests_per_second(text: &str) -> TestResult<f64> {
    let wrong = |line: &&str| line.contains("Non-2xx") || line.contains("Socket errors");
    if let Some(line) = text.lines().find(wrong) {
        return Err(format!("wrk: {}", line.trim()).into());
    }
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    Ok(rate.ok_or("wrk printed no rate")?.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_wrk_is_read() {
        let text = "Running 2s test @ x\n  1 threads\nRequests/sec:  10412.25\nTransfer/sec: 4MB";
        assert_eq!(requests_per_second(text).unwrap().to_bits(), 10412.25_f64.to_bits());
        assert!(requests_per_second("Requests/sec: 7\n  Non-2xx or 3xx responses: 3").is_err());
        assert!(requests_per_second("nothing").is_err());
    }
}
