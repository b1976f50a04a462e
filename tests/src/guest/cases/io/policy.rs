// SPDX-License-Identifier: GPL-2.0-only
//! `srb_policy`: what becomes of requests while no server answers.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;

use super::disk::Disk;
use super::{
    expect_error, expect_within, join, leave, parked, set_parameter, timed, wait_for_log,
    with_failing_requests,
};
use crate::guest::kmsg::KernelLog;
use crate::guest::udev::settle;
use crate::guest::wait::wait_for;
use crate::guest::{sysfs, Case, Device, Machine, TestResult};

/// How long a busy VM may be late with anything, in seconds.
const LATE: u64 = 12;
const SOON: Duration = Duration::from_secs(LATE);

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        named!("policy", fail_is_the_default_and_fails_after_the_tries),
        named!("policy", queue_holds_requests_until_a_server_is_back),
        named!("policy", queue_with_a_time_fails_when_it_is_over),
        named!("policy", a_change_holds_for_requests_that_are_held_already),
        named!("policy", held_requests_outlive_their_agent),
        named!("policy", a_time_without_an_agent_does_not_count),
        named!("policy", what_is_no_policy_is_refused_and_the_old_one_stays),
        named!("policy", a_refusal_by_the_server_is_not_held),
    ];
    cases.into_iter().map(with_failing_requests).collect()
}

/// A machine with a device of this policy, which nobody uses.
fn with_policy(policy: &str) -> TestResult<(Machine, Device)> {
    let machine = Machine::builder().parameter("nb_req_retries", 1).parameter("policy", policy);
    let machine = machine.start()?;
    machine.create("vol1", "16M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    assert_eq!(sysfs::read(device.sysfs("srb_policy"))?.trim(), policy);
    Ok((machine, device))
}

type Outcome = Result<usize, Errno>;

fn write(device: &Device) -> Outcome {
    Disk::open(&device.path())?.write(4096, &[7; 4096])
}

/// A write in a thread of its own, when the module says that it is held.
fn held_write(device: &Device) -> TestResult<JoinHandle<TestResult<Outcome>>> {
    let mut log = KernelLog::from_now()?;
    let path = device.path();
    let disk = Disk::open(&path)?;
    let writer = thread::spawn(move || Ok(disk.write(4096, &[7; 4096])));
    wait_for_log(&mut log, "no server answers; requests are held", SOON)?;
    Ok(writer)
}

fn set(device: &Device, policy: &str) -> Result<(), Errno> {
    sysfs::write(device.sysfs("srb_policy"), policy)
}

fn fail_is_the_default_and_fails_after_the_tries() -> TestResult {
    let (mut machine, device) = with_policy("fail")?;
    machine.playground(0)?.kill()?;
    let (outcome, took) = timed(|| write(&device));
    expect_error("a write without a server", outcome, &[Errno::EIO])?;
    expect_within("the failure", took, 0, LATE)?;
    machine.playground(0)?.start()?;
    assert_eq!(write(&device), Ok(4096));
    leave(device)
}

fn queue_holds_requests_until_a_server_is_back() -> TestResult {
    let (mut machine, device) = with_policy("queue")?;
    machine.playground(0)?.kill()?;
    let writer = held_write(&device)?;
    thread::sleep(Duration::from_secs(4));
    assert!(!writer.is_finished(), "it was not held");
    let mut log = KernelLog::from_now()?;
    machine.playground(0)?.start()?;
    let (outcome, took) = timed(|| join(writer));
    assert_eq!(outcome?, Ok(4096));
    expect_within("its end", took, 0, LATE)?;
    wait_for_log(&mut log, "a server answers again", SOON)?;
    assert!(Disk::open(&device.path())?.read(4096, 4096)? == [7; 4096], "other data came back");
    leave(device)
}

fn queue_with_a_time_fails_when_it_is_over() -> TestResult {
    let (mut machine, device) = with_policy("queue=3")?;
    machine.playground(0)?.kill()?;
    let (outcome, took) = timed(|| write(&device));
    expect_error("a write without a server", outcome, &[Errno::EIO])?;
    expect_within("the failure", took, 3, 3 + LATE)?;
    machine.playground(0)?.start()?;
    assert_eq!(write(&device), Ok(4096));
    leave(device)
}

fn a_change_holds_for_requests_that_are_held_already() -> TestResult {
    let (mut machine, device) = with_policy("queue")?;
    machine.playground(0)?.kill()?;
    let writer = held_write(&device)?;
    let (outcome, took) = timed(|| {
        set(&device, "fail")?;
        join(writer)
    });
    expect_error("the write that was held", outcome?, &[Errno::EIO])?;
    expect_within("its end", took, 0, LATE)?;
    machine.playground(0)?.start()?;
    leave(device)
}

fn held_requests_outlive_their_agent() -> TestResult {
    let (mut machine, device) = with_policy("queue")?;
    machine.playground(0)?.kill()?;
    let writer = held_write(&device)?;
    machine.kill_agent()?;
    machine.start_agent()?;
    assert!(!writer.is_finished(), "it was not held");
    machine.playground(0)?.start()?;
    assert_eq!(join(writer)?, Ok(4096));
    leave(device)
}

fn a_time_without_an_agent_does_not_count() -> TestResult {
    let (mut machine, device) = with_policy("queue=10")?;
    set_parameter("agent_grace", -1)?;
    machine.playground(0)?.kill()?;
    let writer = held_write(&device)?;
    // Not while the agent tries again: what it has when it dies is new to the next one anyway.
    wait_for("the write is held", SOON, || Ok((parked(&device)? > 0).then_some(())))?;
    machine.kill_agent()?;
    thread::sleep(Duration::from_secs(12));
    assert!(!writer.is_finished(), "it did not wait for an agent");
    let mut log = KernelLog::from_now()?;
    machine.start_agent()?;
    // This one has its own ten seconds for the server.
    thread::sleep(Duration::from_secs(2));
    assert!(!writer.is_finished(), "the time before this agent counted");
    machine.playground(0)?.start()?;
    assert_eq!(join(writer)?, Ok(4096));
    wait_for_log(&mut log, "a server answers again", SOON)?;
    // It is over for this agent, too, when no server comes.
    machine.playground(0)?.kill()?;
    let (outcome, took) = timed(|| write(&device));
    expect_error("a write without a server", outcome, &[Errno::EIO])?;
    expect_within("the failure", took, 10, 10 + LATE)?;
    machine.playground(0)?.start()?;
    leave(device)
}

fn what_is_no_policy_is_refused_and_the_old_one_stays() -> TestResult {
    let (_machine, device) = with_policy("queue=30")?;
    for bad in ["\n", "hold", "queue=0", "queue=86401", "fail now"] {
        assert_eq!(set(&device, bad), Err(Errno::EINVAL), "{bad}");
    }
    assert_eq!(sysfs::read(device.sysfs("srb_policy"))?, "queue=30\n");
    set(&device, " fail\n")?;
    assert_eq!(sysfs::read(device.sysfs("srb_policy"))?, "fail\n");
    leave(device)
}

fn a_refusal_by_the_server_is_not_held() -> TestResult {
    let (mut machine, device) = with_policy("queue")?;
    std::fs::remove_file(machine.playground(0)?.data().join("vol1"))?;
    let (outcome, took) = timed(|| write(&device));
    expect_error("a write to a volume that is gone", outcome, &[Errno::EIO])?;
    expect_within("the failure", took, 0, 3)?;
    leave(device)
}
