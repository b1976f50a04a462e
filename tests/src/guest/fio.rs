// SPDX-License-Identifier: GPL-2.0-only
//! fio as tests and benchmarks use it: a job as options, its report as numbers.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{process, Failed, TestResult};

/// A job of fio; direct I/O on a device unless its options say otherwise.
#[derive(Debug, Clone)]
pub struct Fio {
    options: Vec<String>,
}

/// What one direction of a job did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Direction {
    /// Requests done.
    pub requests: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Requests per second.
    pub iops: f64,
    /// Median completion latency in nanoseconds.
    pub p50_ns: u64,
    /// The completion latency in nanoseconds that 99 % do not exceed.
    pub p99_ns: u64,
}

/// What a job did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Report {
    /// Its reads.
    pub read: Direction,
    /// Its writes.
    pub write: Direction,
    /// Requests that failed (with `continue_on_error` they do not end the job).
    pub errors: u64,
}

impl Fio {
    /// A job on this device or file: `rw` is fio's (`randread`, `write`, ...), `block` a size.
    #[must_use]
    pub fn new(target: &Path, rw: &str, block: &str) -> Self {
        let job = Self { options: Vec::new() };
        let job = job.option("name", "srb").option("filename", target.display());
        job.option("rw", rw).option("bs", block).option("direct", 1).option("ioengine", "io_uring")
    }

    /// A job on an NBD server, whose client fio is itself.
    #[must_use]
    pub fn over_nbd(uri: &str, rw: &str, block: &str) -> Self {
        let job = Self { options: Vec::new() };
        // An engine's own options are known after the engine is.
        let job = job.option("name", "srb").option("ioengine", "nbd").option("uri", uri);
        job.option("rw", rw).option("bs", block)
    }

    /// Sets any option of fio: `iodepth`, `size`, `runtime` (with `time_based`), `verify`...
    #[must_use]
    pub fn option(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.options.push(format!("--{name}={value}"));
        self
    }

    /// Its options, for a `fio` that something else starts.
    #[must_use]
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// Runs it, at most for `bound`.
    ///
    /// # Errors
    /// When fio fails (a verification that fails is one), does not end in time, or has no report.
    pub fn run(&self, bound: Duration) -> TestResult<Report> {
        let mut command = Command::new("fio");
        command.arg("--output-format=json").args(&self.options);
        parse(&process::run(&mut command, bound)?.success()?)
    }
}

/// Reads fio's JSON, which notes may precede.
fn parse(text: &str) -> TestResult<Report> {
    let start = text.find('{').ok_or("fio printed no report")?;
    let json: Value = serde_json::from_str(text.get(start..).unwrap_or_default())?;
    let job = json.pointer("/jobs/0").ok_or_else(|| Failed::from("a report without a job"))?;
    let errors = job.pointer("/total_err").and_then(Value::as_u64).unwrap_or(0);
    Ok(Report { read: direction(job, "read"), write: direction(job, "write"), errors })
}

fn direction(job: &Value, name: &str) -> Direction {
    let number = |key: &str| job.pointer(&format!("/{name}/{key}"));
    let whole = |key: &str| number(key).and_then(Value::as_u64).unwrap_or(0);
    Direction {
        requests: whole("total_ios"),
        bytes: whole("io_bytes"),
        iops: number("iops").and_then(Value::as_f64).unwrap_or(0.0),
        p50_ns: whole("clat_ns/percentile/50.000000"),
        p99_ns: whole("clat_ns/percentile/99.000000"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let text = r#"note: x
            {"jobs":[{"total_err":2,"read":{"total_ios":10,"io_bytes":40960,"iops":5.5,
            "clat_ns":{"percentile":{"50.000000":7,"99.000000":9}}},"write":{"total_ios":0}}]}"#;
        let report = parse(text).unwrap();
        assert_eq!(report.errors, 2);
        assert_eq!(report.read.requests, 10);
        assert_eq!((report.read.p50_ns, report.read.p99_ns), (7, 9));
        assert_eq!(report.write, Direction::default());
        assert!(parse("nothing").is_err());
    }
}
