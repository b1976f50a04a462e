// SPDX-License-Identifier: GPL-2.0-only
//! What happens in the VM: every contender in turn, then srb's footprint.
//!
//! A contender that cannot be made or fails is reported as missing, with the reason, and the others
//! go on.

use std::path::Path;
use std::time::Duration;

use super::contenders::{self, Target, PEERS};
use super::jobs::{self, Shape};
use super::{footprint, profile, resume, server, Figure, Record};
use crate::guest::{clean, process, Failed, TestResult};

/// Requests to `null:` between two looks at the agent's memory, in millions.
const MILLIONS: u32 = 10;
/// For asking a program for its version.
const BOUND: Duration = Duration::from_secs(20);

/// What is to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Full,
    /// srb's own requests per second in the main jobs.
    Quick,
}

impl Scope {
    fn iops(self, shape: Shape, device: &Path) -> TestResult<f64> {
        match self {
            // Large requests get faster for a second or two, until sockets have their buffers.
            _ if shape.is_large() => shape.iops(device, jobs::FULL),
            Self::Full => shape.usual_iops(device, jobs::QUICK),
            Self::Quick => shape.iops(device, jobs::QUICK),
        }
    }

    fn jobs(self) -> impl Iterator<Item = Shape> {
        jobs::ALL.into_iter().filter(move |shape| self == Self::Full || shape.is_main())
    }
}

/// The parts of a full run.
pub const PARTS: [&str; 8] =
    ["null_blk", "ublk", "nbd", "ring_null", "http", "agent_rss", "scale", "resume"];

/// Measures, or only these of [`PARTS`], and prints a record a line; returns whether nothing is
/// missing.
#[must_use]
pub fn run(scope: Scope, only: Option<Vec<String>>) -> bool {
    let mut run = Run { scope, only, missing: 0 };
    if scope == Scope::Quick {
        run.group("ring_null", Run::ring_null);
        run.group("http", Run::http);
        return run.missing == 0;
    }
    versions();
    for (name, make) in PEERS {
        run.group(name, |run| run.all(name, make()?.path()));
    }
    run.group("ring_null", Run::ring_null);
    run.group("http", Run::http);
    run.group("agent_rss", |_| {
        let (mut machine, device) = contenders::ring_null()?;
        figures(footprint::agent_rss(&mut machine, &device, MILLIONS)?);
        Ok(())
    });
    run.group("scale", |_| {
        let (mut machine, device) = server::machine()?;
        fill(&device.path())?;
        figures(footprint::connections(&mut machine, &device)?);
        drop(device);
        figures(footprint::scale(&mut machine)?);
        Ok(())
    });
    run.group("resume", |_| {
        let (mut machine, device) = server::machine()?;
        figures(resume::figures(&mut machine, &device)?);
        Ok(())
    });
    run.missing == 0
}

/// Prints where the instructions of srb go in a job, on `null:` or through the server.
///
/// # Errors
/// When srb or perf fails.
pub fn profile(shape: Shape, http: bool) -> TestResult<String> {
    let (_machine, device) = if http { server::machine()? } else { contenders::ring_null()? };
    if http {
        fill(&device.path())?;
    }
    profile::run(shape, &device.path(), jobs::FULL)
}

struct Run {
    scope: Scope,
    only: Option<Vec<String>>,
    missing: u32,
}

impl Run {
    /// Runs a part, if it is wanted; what it leaves behind is removed.
    fn group(&mut self, name: &str, part: impl FnOnce(&mut Self) -> TestResult) {
        if self.only.as_ref().is_some_and(|only| !only.iter().any(|wanted| wanted == name)) {
            return;
        }
        println!("{name} ...");
        if let Err(why) = part(self) {
            self.missing(name, &why);
        }
        let left = clean::restore();
        if !left.is_empty() {
            println!("after {name}, not restored: {left:?}");
        }
    }

    fn missing(&mut self, name: &str, why: &Failed) {
        self.missing += 1;
        let reason = why.message().unwrap_or("failed").trim().to_owned();
        emit(&Record::Missing { name: name.to_owned(), reason });
    }

    /// Every job on a device. One that fails is missing; the others are not.
    fn all(&mut self, contender: &str, device: &Path) -> TestResult {
        for shape in self.scope.jobs() {
            let name = format!("{contender}_{}_iops", shape.name);
            match self.scope.iops(shape, device) {
                Ok(iops) => emit(&Record::Figure(Figure::new(name, iops, "1/s"))),
                Err(why) => self.missing(&name, &why),
            }
        }
        Ok(())
    }

    fn ring_null(&mut self) -> TestResult {
        let (_machine, device) = contenders::ring_null()?;
        self.all("ring_null", &device.path())
    }

    /// srb on the server; and, in full, the others on the same server.
    fn http(&mut self) -> TestResult {
        let (mut machine, device) = server::machine()?;
        // The volume is full from here on: holes cost a server nothing.
        match self.scope {
            Scope::Full => figures(footprint::buffered(&machine, &device)?),
            Scope::Quick => fill(&device.path())?,
        }
        self.all("http", &device.path())?;
        device.detach().map_err(|errno| format!("detach: {errno}"))?;
        if self.scope == Scope::Quick {
            return Ok(());
        }
        machine.stop_agent()?;
        match server::limits(jobs::FULL) {
            Ok(rates) => figures(
                rates
                    .iter()
                    .map(|(job, rate)| Figure::new(format!("wrk_{job}_iops"), *rate, "1/s")),
            ),
            Err(why) => self.missing("wrk", &why),
        }
        match contenders::nbdkit_curl() {
            Ok(target) => self.all("nbdkit", Target::path(&target))?,
            Err(why) => self.missing("nbdkit", &why),
        }
        machine.start_agent()
    }
}

fn fill(device: &Path) -> TestResult {
    let count = jobs::SPAN_MIB;
    let device = device.display();
    let line = format!("dd if=/dev/zero of={device} bs=1M count={count} oflag=direct");
    process::sh(&line, Duration::from_secs(120))?.success().map(drop)
}

fn emit(record: &Record) {
    // A record is made of strings and finite numbers, which always have a JSON.
    println!("{}", serde_json::to_string(record).unwrap_or_default());
}

fn figures(figures: impl IntoIterator<Item = Figure>) {
    for figure in figures {
        emit(&Record::Figure(figure));
    }
}

/// The programs that are compared, as they name their versions.
fn versions() {
    let commands = [
        ("kernel", "uname -r"),
        ("fio", "fio --version"),
        ("rublk", "rublk --version"),
        ("nbdkit", "nbdkit --version"),
        ("nbd-client", "nbd-client -V 2>&1 | sed 's/.*from //'"),
        ("wrk", "wrk -v 2>&1 | grep -o '^wrk [^ ]*'"),
    ];
    for (name, command) in commands {
        let text = process::sh(command, BOUND).and_then(process::Output::success);
        let version = text.unwrap_or_else(|_| "unknown".to_owned());
        let version = version.lines().next().unwrap_or_default().trim().to_owned();
        emit(&Record::Version { name: name.to_owned(), version });
    }
}
