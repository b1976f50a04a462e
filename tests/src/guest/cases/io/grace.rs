// SPDX-License-Identifier: GPL-2.0-only
//! `agent_grace`: how long requests wait for an agent, and that they work again with the next one.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;

use super::disk::Disk;
use super::{
    expect_error, expect_within, join, leave, parked, set_parameter, timed, with_failing_requests,
};
use crate::guest::udev::settle;
use crate::guest::wait::wait_for;
use crate::guest::{Case, Device, Machine, TestResult};

/// How long a busy VM may be late with anything.
const LATE: u64 = 12;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        named!("grace", zero_fails_requests_at_once),
        named!("grace", requests_fail_when_it_is_over_and_work_with_the_next_agent),
        named!("grace", a_shorter_one_holds_for_requests_that_wait_already),
        named!("grace", minus_one_waits_until_an_agent_comes),
    ];
    cases.into_iter().map(with_failing_requests).collect()
}

/// A machine whose agent has just been killed, with a device that nobody uses.
fn orphaned(grace: i64) -> TestResult<(Machine, Device)> {
    let mut machine = Machine::builder().parameter("agent_grace", grace).start()?;
    machine.create("vol1", "16M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    machine.kill_agent()?;
    Ok((machine, device))
}

type Outcome = Result<Vec<u8>, Errno>;

fn read(device: &Device) -> Outcome {
    Disk::open(&device.path())?.read(0, 4096)
}

/// A read in a thread of its own, when it has arrived at the device.
fn waiting_read(device: &Device) -> TestResult<JoinHandle<TestResult<Outcome>>> {
    let path = device.path();
    let reader = thread::spawn(move || Ok(Disk::open(&path).and_then(|disk| disk.read(0, 4096))));
    let bound = Duration::from_secs(LATE);
    wait_for("the read waits", bound, || Ok((parked(device)? > 0).then_some(())))?;
    Ok(reader)
}

fn works_again(mut machine: Machine, device: Device) -> TestResult {
    machine.start_agent()?;
    assert_eq!(read(&device)?.len(), 4096);
    leave(device)
}

fn zero_fails_requests_at_once() -> TestResult {
    let (machine, device) = orphaned(0)?;
    let (outcome, took) = timed(|| read(&device));
    expect_error("a read without an agent", outcome, &[Errno::EIO])?;
    expect_within("the failure", took, 0, 2)?;
    works_again(machine, device)
}

fn requests_fail_when_it_is_over_and_work_with_the_next_agent() -> TestResult {
    let (machine, device) = orphaned(3)?;
    let (outcome, took) = timed(|| read(&device));
    expect_error("a read without an agent", outcome, &[Errno::EIO])?;
    // Some of the time may have passed before the read.
    expect_within("the failure", took, 1, 3 + LATE)?;
    let (outcome, took) = timed(|| read(&device));
    expect_error("the next read", outcome, &[Errno::EIO])?;
    expect_within("the next failure", took, 0, 2)?;
    works_again(machine, device)
}

fn a_shorter_one_holds_for_requests_that_wait_already() -> TestResult {
    let (machine, device) = orphaned(-1)?;
    let reader = waiting_read(&device)?;
    let (ended, took) = timed(|| {
        set_parameter("agent_grace", 1)?;
        join(reader)
    });
    expect_error("the read that waited", ended?, &[Errno::EIO])?;
    expect_within("its end", took, 0, 1 + LATE)?;
    works_again(machine, device)
}

fn minus_one_waits_until_an_agent_comes() -> TestResult {
    let (mut machine, device) = orphaned(-1)?;
    let reader = waiting_read(&device)?;
    thread::sleep(Duration::from_secs(5));
    assert!(!reader.is_finished(), "it did not wait");
    machine.start_agent()?;
    assert_eq!(join(reader)??.len(), 4096);
    leave(device)
}
