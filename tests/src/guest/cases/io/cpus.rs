// SPDX-License-Identifier: GPL-2.0-only
//! Processors that go and come, with requests at the agent, waiting for one, or held for want of a
//! server: none of it waits for userspace.

use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{sched_setaffinity, CpuSet};
use nix::unistd::Pid;

use super::disk::Disk;
use super::{
    expect_within, join, leave, parked, timed, verified, wait_for_log, with_failing_requests, FIO,
};
use crate::guest::kmsg::KernelLog;
use crate::guest::udev::settle;
use crate::guest::wait::wait_for;
use crate::guest::{sysfs, Case, Device, Failed, Machine, TestResult};

/// The one that goes: the first one stays on most machines.
const CPU: usize = 1;
/// How long a busy VM may be late with anything.
const LATE: u64 = 12;
const SOON: Duration = Duration::from_secs(LATE);

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        named!("cpus", they_go_and_come_under_verified_load),
        named!("cpus", one_goes_though_requests_wait_for_an_agent),
        named!("cpus", one_goes_though_requests_are_held_for_want_of_a_server),
    ];
    // Of the test's own thread, which has asked for the processor that goes.
    let case = |case: Case| with_failing_requests(case).allow_log("no longer affine to cpu");
    cases.into_iter().map(case).collect()
}

/// The processor, which is online again when this is dropped.
struct Processor;

impl Processor {
    fn switch(on: bool) -> TestResult {
        let path = format!("/sys/devices/system/cpu/cpu{CPU}/online");
        let word = if on { "1" } else { "0" };
        sysfs::write(Path::new(&path), word)
            .map_err(|errno| Failed::from(format!("{path}={word}: {errno}")))
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        if let Err(error) = Self::switch(true) {
            println!("{error:?}");
        }
    }
}

type Outcome = Result<usize, Errno>;

/// A write by a thread on the processor that is to go, hence by that one's queue.
fn write_there(device: &Device) -> JoinHandle<TestResult<Outcome>> {
    let path = device.path();
    thread::spawn(move || {
        let mut there = CpuSet::new();
        there.set(CPU)?;
        sched_setaffinity(Pid::from_raw(0), &there)?;
        Ok(Disk::open(&path).and_then(|disk| disk.write(4096, &[7; 4096])))
    })
}

fn they_go_and_come_under_verified_load() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "32M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let job = verified(&device.path(), "randrw", "4k").option("size", "32M");
    let job = job.option("io_size", "24M");
    let load = thread::spawn(move || job.run(FIO));
    let processor = Processor;
    let mut rounds = 0;
    while !load.is_finished() || rounds < 2 {
        for on in [false, true] {
            let (switched, took) = timed(|| Processor::switch(on));
            switched?;
            expect_within("switching a processor", took, 0, LATE)?;
        }
        rounds += 1;
        thread::sleep(Duration::from_millis(200));
    }
    drop(processor);
    join(load)?;
    println!("cpus: {rounds} times off and on");
    leave(device)
}

/// Takes the processor away while `writer` waits, which goes on waiting.
fn take_away_under(writer: &JoinHandle<TestResult<Outcome>>) -> TestResult<Processor> {
    let processor = Processor;
    let (switched, took) = timed(|| Processor::switch(false));
    switched?;
    expect_within("taking a processor away", took, 0, LATE)?;
    assert!(!writer.is_finished(), "the write did not wait");
    Ok(processor)
}

fn one_goes_though_requests_wait_for_an_agent() -> TestResult {
    let mut machine = Machine::builder().parameter("agent_grace", -1).start()?;
    machine.create("vol1", "16M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    machine.kill_agent()?;
    let writer = write_there(&device);
    wait_for("the write waits", SOON, || Ok((parked(&device)? > 0).then_some(())))?;
    let processor = take_away_under(&writer)?;
    // The next agent has a worker for that processor's queue all the same.
    machine.start_agent()?;
    assert_eq!(join(writer)??, 4096);
    drop(processor);
    assert_eq!(Disk::open(&device.path())?.read(4096, 4096)?, [7; 4096]);
    leave(device)
}

fn one_goes_though_requests_are_held_for_want_of_a_server() -> TestResult {
    let machine = Machine::builder().parameter("nb_req_retries", 1).parameter("policy", "queue");
    let mut machine = machine.start()?;
    machine.create("vol1", "16M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let mut log = KernelLog::from_now()?;
    machine.playground(0)?.kill()?;
    let writer = write_there(&device);
    wait_for_log(&mut log, "no server answers; requests are held", SOON)?;
    let processor = take_away_under(&writer)?;
    machine.playground(0)?.start()?;
    assert_eq!(join(writer)??, 4096);
    drop(processor);
    leave(device)
}
