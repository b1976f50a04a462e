// SPDX-License-Identifier: GPL-2.0-only
//! Whatever a program does to `/dev/srb-control`, it costs that program its session, never the
//! machine.
//!
//! The program is a process of its own ([`program`]), so that it can be killed by what it does.
//! While it plays the agent, somebody reads from a device: those reads may fail or wait, and no
//! more.

pub(in crate::guest::cases) mod control;
pub mod program;
pub(in crate::guest::cases) mod rings;
pub(in crate::guest::cases) mod storm;
mod wakeups;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use srb_proto::status::Errno as StatusErrno;

use super::disk::Disk;
use super::{drop_caches, join, leave, verified, with_failing_requests, Random, FIO};
use crate::guest::udev::settle;
use crate::guest::{process, sysfs, Case, Device, Machine, TestResult};

/// How long one scenario may take.
const SCENARIO: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        named!("hostile", calls_that_make_no_sense_are_refused),
        named!("hostile", corrupt_rings_cost_their_session_and_nothing_else),
        named!("hostile", no_number_that_an_agent_answers_reaches_a_caller_unless_it_is_a_status),
        named!("hostile", a_wake_up_without_work_ends_a_sleep),
        named!("hostile", a_look_for_work_takes_as_long_as_it_was_told),
        named!("hostile", noise_on_all_that_is_shared_costs_sessions_and_nothing_else),
    ];
    cases.into_iter().map(with_failing_requests).collect()
}

/// Runs the program with this scenario.
fn run(scenario: &str, seed: u64) -> TestResult {
    let mut command = Command::new("/proc/self/exe");
    command.args([program::WORD, scenario, &seed.to_string()]);
    process::run(&mut command, SCENARIO)?.success().map(drop)
}

/// A device with known data whose agent has gone.
fn orphan() -> TestResult<(Machine, Device)> {
    let mut machine = Machine::builder().parameter("agent_grace", -1).start()?;
    machine.create("vol1", "4M")?;
    let device = machine.attach("vol1", "disk1")?;
    written(&device).option("do_verify", 0).run(FIO)?;
    settle()?;
    machine.kill_agent()?;
    Ok((machine, device))
}

fn written(device: &Device) -> crate::guest::fio::Fio {
    verified(&device.path(), "write", "64k").option("size", "4M")
}

/// Reads from the device without end; how many reads failed is the result.
struct Victim {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<TestResult<u32>>,
}

impl Victim {
    fn start(device: &Device) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, path) = (Arc::clone(&stop), device.path());
        let thread = thread::spawn(move || {
            let (disk, mut failures) = (Disk::open(&path)?, 0);
            // ORDERING: a flag that guards nothing.
            while !told.load(Ordering::Relaxed) {
                failures += u32::from(disk.read(0, 65536).is_err());
            }
            Ok(failures)
        });
        Self { stop, thread }
    }

    fn finish(self) -> TestResult<u32> {
        // ORDERING: as above.
        self.stop.store(true, Ordering::Relaxed);
        join(self.thread)
    }
}

/// With a real agent again everything is as it was.
fn expect_unharmed(mut machine: Machine, device: Device, victim: Option<Victim>) -> TestResult {
    machine.start_agent()?;
    if let Some(victim) = victim {
        println!("{} reads failed meanwhile", victim.finish()?);
    }
    drop_caches(&machine)?;
    assert_eq!(written(&device).option("verify_only", 1).run(FIO)?.errors, 0);
    assert_eq!(written(&device).run(FIO)?.errors, 0);
    leave(device)
}

fn calls_that_make_no_sense_are_refused() -> TestResult {
    let (machine, device) = orphan()?;
    let outcome = run("calls", 0).and_then(|()| run("mappings", 0));
    expect_unharmed(machine, device, None).and(outcome)
}

fn corrupt_rings_cost_their_session_and_nothing_else() -> TestResult {
    let (machine, device) = orphan()?;
    let victim = Victim::start(&device);
    let outcome = rings::SCENARIOS.iter().try_for_each(|scenario| run(scenario, 0));
    expect_unharmed(machine, device, Some(victim)).and(outcome)
}

/// Every number from 0 to -4095, and a few beyond, as an answer to a read and to a command.
fn no_number_that_an_agent_answers_reaches_a_caller_unless_it_is_a_status() -> TestResult {
    let (machine, device) = orphan()?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let commands = thread::spawn(move || -> TestResult<BTreeSet<i32>> {
        let mut seen = BTreeSet::new();
        // ORDERING: a flag that guards nothing.
        while !told.load(Ordering::Relaxed) {
            match sysfs::command("destroy", "nosuch") {
                // Between two agents.
                Ok(()) | Err(Errno::ENOTCONN) => {}
                Err(errno) => drop(seen.insert(errno as i32)),
            }
        }
        Ok(seen)
    });
    let path = device.path();
    let told = Arc::clone(&stop);
    let reads = thread::spawn(move || -> TestResult<BTreeSet<i32>> {
        let (disk, mut seen) = (Disk::open(&path)?, BTreeSet::new());
        // ORDERING: as above.
        while !told.load(Ordering::Relaxed) {
            if let Err(errno) = disk.read(0, 4096) {
                seen.insert(errno as i32);
            }
        }
        Ok(seen)
    });
    let outcome = run("statuses", 0);
    stop.store(true, Ordering::Relaxed);
    let counted = sysfs::read("/sys/class/srb/bad_answers");
    expect_unharmed(machine, device, None)?;
    outcome?;
    let (commands, reads) = (join(commands)?, join(reads)?);
    let listed: BTreeSet<_> = StatusErrno::ALL.iter().map(|errno| errno.number()).collect();
    assert_eq!(commands, listed, "what callers of write(2) saw");
    let expected =
        BTreeSet::from([Errno::EIO, Errno::ENOSPC, Errno::ETIMEDOUT].map(|it| it as i32));
    assert_eq!(reads, expected, "what readers saw");
    // Each number on both channels.
    let bad = 2 * (rings::STATUSES.count() - 1 - listed.len());
    assert!(counted.is_ok_and(|count| count.trim().parse::<usize>().is_ok_and(|it| it >= bad)));
    Ok(())
}

fn a_wake_up_without_work_ends_a_sleep() -> TestResult {
    in_place_of_an_agent("wakeups")
}

fn a_look_for_work_takes_as_long_as_it_was_told() -> TestResult {
    in_place_of_an_agent("looks")
}

fn in_place_of_an_agent(scenario: &str) -> TestResult {
    let machine = Machine::builder().without_agent().start()?;
    let outcome = run(scenario, 0);
    drop(machine);
    outcome
}

fn noise_on_all_that_is_shared_costs_sessions_and_nothing_else() -> TestResult {
    let (machine, device) = orphan()?;
    let victim = Victim::start(&device);
    let mut random = Random::new("noise");
    let outcome = (0..8).try_for_each(|_| run("noise", random.next_u64()));
    expect_unharmed(machine, device, Some(victim)).and(outcome)
}
