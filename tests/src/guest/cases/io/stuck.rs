// SPDX-License-Identifier: GPL-2.0-only
//! Agents and servers that live but do nothing: each has its time, and is then done without.

use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use srb_proto::layout::DATA;

use super::disk::Disk;
use super::leaks::field;
use super::{
    expect_error, expect_same, expect_within, in_flight, join, leave, timed, verified,
    wait_for_log, with_failing_requests, FIO,
};
use crate::guest::fio::Fio;
use crate::guest::kmsg::KernelLog;
use crate::guest::process::Daemon;
use crate::guest::udev::settle;
use crate::guest::wait::{wait_for, wait_until};
use crate::guest::{Case, Device, Machine, MachineBuilder, TestResult};

const SOON: Duration = Duration::from_secs(20);
/// Seconds that an agent has for a request with these times: one for the connection, five for the
/// answer, two between, and 30 for being busy.
const DEADLINE: u64 = 38;

pub(super) fn cases() -> Vec<Case> {
    vec![
        named!("stuck", an_agent_that_does_nothing_is_cut_off_and_replaced)
            .bound(Duration::from_secs(180)),
        named!("stuck", an_agent_that_does_nothing_keeps_no_memory_from_the_next_one)
            .bound(Duration::from_secs(240)),
        with_failing_requests(named!(
            "stuck",
            a_server_that_hangs_fails_requests_in_time_and_serves_again
        )),
    ]
}

/// Short times for requests.
fn impatient(answer_secs: u32, retries: u32) -> MachineBuilder {
    let machine = Machine::builder().parameter("req_timeout", answer_secs);
    machine.parameter("server_conn_timeout", 1).parameter("nb_req_retries", retries)
}

/// An agent besides the machine's, with a socket of its own.
fn agent_aside() -> TestResult<Daemon> {
    let socket = "/run/srb-aside.sock";
    let mut command = Command::new("srb-agent");
    let daemon = Daemon::start("srb-agent-aside", command.args(["--socket", socket]))?;
    wait_until("the agent is ready", SOON, || UnixStream::connect(socket).is_ok())?;
    Ok(daemon)
}

/// Writes to the whole device, direct and verified, in a thread of its own.
fn writer(device: &Device) -> thread::JoinHandle<TestResult<crate::guest::fio::Report>> {
    let job = verified(&device.path(), "write", "64k").option("iodepth", 8);
    let job = job.option("size", "32M");
    thread::spawn(move || job.run(FIO))
}

fn an_agent_that_does_nothing_is_cut_off_and_replaced() -> TestResult {
    let mut log = KernelLog::from_now()?;
    let mut machine = impatient(5, 0).without_agent().start()?;
    let file = machine.playground(0)?.data().join("vol1");
    let mut stopped = agent_aside()?;
    machine.create("vol1", "32M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let writing = writer(&device);
    wait_for("requests are under way", SOON, || Ok((in_flight(&device)? > 0).then_some(())))?;
    stopped.stop()?;
    let bound = Duration::from_secs(DEADLINE) + SOON;
    let (found, took) =
        timed(|| wait_for_log(&mut log, "is cut off from the devices", bound).map(drop));
    wait_for("a new agent is accepted", SOON, || Ok(machine.start_agent().ok()))?;
    assert_eq!(join(writing)?.errors, 0);
    stopped.signal(Signal::SIGCONT)?;
    wait_for("the old agent ends", SOON, || stopped.ended())?;
    // It has done no harm to what the new one wrote and serves.
    settle()?;
    expect_same(&machine, &device, &file)?;
    assert_eq!(join(writer(&device))?.errors, 0);
    leave(device)?;
    found?;
    // The requests in flight began a moment before the agent was stopped.
    expect_within("cutting it off", took, DEADLINE - 5, DEADLINE + 15)
}

/// Windows that memory may be had for at a time: each is a MiB, and they have an eighth of it.
fn windows() -> TestResult<u64> {
    Ok(u64::try_from(field("/proc/meminfo", "MemTotal")?)? / 1024 / 8)
}

/// Requests that the devices have in flight, once there are no more to come.
fn settled_in_flight(devices: &[Device], least: u64) -> TestResult<u64> {
    let (mut last, mut since) = (0, Instant::now());
    wait_for("windows are used up", SOON * 2, || {
        let counts = devices.iter().map(in_flight);
        let now = counts.sum::<TestResult<u64>>()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        Ok((now >= least && since.elapsed() > Duration::from_secs(2)).then_some(now))
    })
}

fn an_agent_that_does_nothing_keeps_no_memory_from_the_next_one() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let windows = windows()?;
    // One for the end, and so many that each with the tags of one queue they can take them all.
    let devices = (0..2 + windows.div_ceil(u64::from(DATA.depth))).map(|number| {
        machine.create(&format!("vol{number}"), "256M")?;
        machine.attach(&format!("vol{number}"), &format!("disk{number}"))
    });
    let mut devices = devices.collect::<TestResult<Vec<_>>>()?;
    settle()?;
    let idle = devices.pop().ok_or("a device")?;
    machine.agent()?.stop()?;
    let reading = devices.iter().map(|device| {
        let job = Fio::new(&device.path(), "read", "1M").option("iodepth", DATA.depth);
        let job = job.option("number_ios", DATA.depth);
        thread::spawn(move || job.run(FIO))
    });
    let reading: Vec<_> = reading.collect();
    let used = settled_in_flight(&devices, windows * 9 / 10)?;
    println!("{used} MiB of windows in use, of {windows}");
    let (old, took) = timed(|| machine.take_over());
    println!("replaced after {took:.1?}");
    let mut old = old?;
    // Whether the old one still lives does not matter: nobody has let go of its mappings.
    let (read, took) = timed(|| Disk::open(&idle.path())?.read(0, 1 << 20));
    assert_eq!(read?.len(), 1 << 20);
    expect_within("a read by the next agent", took, 0, 5)?;
    for job in reading {
        assert_eq!(join(job)?.errors, 0);
    }
    assert!(old.ended()?.is_none(), "the old agent has ended, which proves nothing");
    old.signal(Signal::SIGCONT)?;
    wait_for("the old agent ends", SOON, || old.ended())?;
    devices.push(idle);
    devices.into_iter().try_for_each(leave)
}

fn a_server_that_hangs_fails_requests_in_time_and_serves_again() -> TestResult {
    let mut machine = impatient(1, 1).start()?;
    machine.create("vol1", "16M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let disk = Disk::open(&device.path())?;
    machine.playground(0)?.daemon()?.stop()?;
    for round in 0..2 {
        let (outcome, took) = timed(|| match round {
            0 => disk.read(0, 4096).map(|data| data.len()),
            _ => disk.write(0, &[7; 4096]),
        });
        expect_error("I/O at a hung server", outcome, &[Errno::EIO, Errno::ETIMEDOUT])?;
        // Two tries of a second, and the pause between them.
        expect_within("the failure", took, 1, 15)?;
    }
    machine.playground(0)?.daemon()?.signal(Signal::SIGCONT)?;
    // Elsewhere: a write that was given up may still land where it was sent.
    let place = 1 << 20;
    wait_until("the device works again", SOON, || disk.write(place, &[9; 4096]) == Ok(4096))?;
    assert!(disk.read(place, 4096)? == [9; 4096], "other data came back");
    drop(disk);
    leave(device)
}
