// SPDX-License-Identifier: GPL-2.0-only
//! `srb-agent --takeover`: another agent takes the place of one that works, or does not.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::disk::Disk;
use super::{join, leave, timed, verified, with_failing_requests, FIO};
use crate::guest::udev::settle;
use crate::guest::wait::{patiently, wait_for};
use crate::guest::{process, Case, Machine, TestResult};

/// How often an agent is replaced in one test.
const ROUNDS: usize = 5;
const SOON: Duration = Duration::from_secs(20);
/// The longest pause that a hand-over may cost here, where a CPU is emulated.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) fn cases() -> Vec<Case> {
    vec![
        named!("takeover", verified_writes_go_on_while_agents_are_replaced),
        named!("takeover", an_agent_that_does_nothing_is_replaced),
        named!("takeover", without_another_agent_it_is_a_start),
        with_failing_requests(named!("takeover", a_command_under_way_is_done_by_the_next_agent)),
    ]
}

/// Reads one block again and again; its result is the longest that one took.
fn longest_read(path: PathBuf, stop: &Arc<AtomicBool>) -> JoinHandle<TestResult<Duration>> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let disk = Disk::open(&path)?;
        let mut longest = Duration::ZERO;
        // ORDERING: a flag that guards nothing.
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            assert_eq!(disk.read(0, 4096)?.len(), 4096);
            longest = longest.max(began.elapsed());
        }
        Ok(longest)
    })
}

fn verified_writes_go_on_while_agents_are_replaced() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "64M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let stop = Arc::new(AtomicBool::new(false));
    let reader = longest_read(device.path(), &stop);
    let job = verified(&device.path(), "randwrite", "4k").option("bssplit", "4k/60:64k/40");
    let job = job.option("size", "64M").option("io_size", "24M").option("iodepth", 8);
    let writer = thread::spawn(move || job.run(FIO));
    for _ in 0..ROUNDS {
        let mut old = machine.take_over()?;
        let status = wait_for("the old agent ends", SOON, || old.ended())?;
        assert!(status.success(), "{status}\n{}", old.log());
        assert!(old.log().contains("another agent takes over"), "{}", old.log());
    }
    assert_eq!(join(writer)?.errors, 0);
    // ORDERING: as above.
    stop.store(true, Ordering::Relaxed);
    let longest = join(reader)?;
    println!("{ROUNDS} hand-overs, the longest read took {longest:.1?}");
    assert!(longest < patiently(PAUSE), "a read took {longest:?}");
    leave(device)
}

fn an_agent_that_does_nothing_is_replaced() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "16M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    machine.agent()?.stop()?;
    let (old, took) = timed(|| machine.take_over());
    let mut old = old?;
    println!("replaced after {took:.1?}");
    assert_eq!(Disk::open(&device.path())?.read(0, 4096)?.len(), 4096);
    old.signal(Signal::SIGCONT)?;
    wait_for("the old agent ends", SOON, || old.ended())?;
    assert_eq!(Disk::open(&device.path())?.read(0, 4096)?.len(), 4096);
    leave(device)
}

fn without_another_agent_it_is_a_start() -> TestResult {
    let machine = Machine::builder().without_agent().agent_arg("--takeover");
    let mut machine = machine.start()?;
    machine.start_agent()?;
    machine.create("vol1", "16M")
}

fn a_command_under_way_is_done_by_the_next_agent() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.playground(0)?.daemon()?.stop()?;
    let creating = thread::spawn(|| process::sh("srbctl volume create vol1 16M", FIO));
    wait_for("the agent asks the server", SOON, || {
        let connected = process::sh("ss -Htn state established '( dport = :8080 )'", SOON)?;
        Ok((!connected.stdout.trim().is_empty()).then_some(()))
    })?;
    let mut old = machine.take_over()?;
    wait_for("the old agent ends", SOON, || old.ended())?;
    assert!(UnixStream::connect("/run/srb/agent.sock").is_ok());
    machine.playground(0)?.daemon()?.signal(Signal::SIGCONT)?;
    creating.join().map_err(|_| "a thread panicked")??.success()?;
    leave(machine.attach("vol1", "disk1")?)
}
