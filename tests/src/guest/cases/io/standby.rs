// SPDX-License-Identifier: GPL-2.0-only
//! `srb-agent --standby`: an agent that has all that it needs takes the place of one that is gone.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::leaks::field;
use super::{join, leave, set_parameter, verified, FIO};
use crate::guest::pauses::Pauses;
use crate::guest::process::Daemon;
use crate::guest::udev::settle;
use crate::guest::wait::{patiently, wait_for};
use crate::guest::{process, sysfs, Case, Machine, TestResult};

const SOON: Duration = Duration::from_secs(20);
/// How often an agent is killed in one test.
const ROUNDS: usize = 5;
/// The longest pause here, where a CPU is emulated and shared.
const PAUSE: Duration = Duration::from_secs(3);
/// In the sets of rights that /proc shows.
const CAP_SYS_ADMIN: u64 = 1 << 21;

pub(super) fn cases() -> Vec<Case> {
    vec![
        named!("standby", an_agent_that_dies_is_replaced_at_once),
        named!("standby", an_agent_that_hangs_is_replaced_when_it_is_cut_off),
        named!("standby", of_several_one_serves_and_the_others_wait_on),
        named!("standby", taking_over_goes_before_standing_by_and_ends_it),
        named!("standby", it_says_what_it_does_and_has_no_right_that_it_does_not_need),
        named!("standby", what_changes_while_it_waits_is_in_force_when_it_serves),
    ]
}

fn an_agent_that_dies_is_replaced_at_once() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "64M")?;
    machine.create("vol2", "1M")?;
    let (written, read) = (machine.attach("vol1", "disk1")?, machine.attach("vol2", "disk2")?);
    settle()?;
    let job = verified(&written.path(), "randwrite", "4k").option("bssplit", "4k/60:64k/40");
    let job = job.option("size", "64M").option("io_size", "24M").option("iodepth", 8);
    let writer = thread::spawn(move || job.run(FIO));
    let (pauses, mut longest) = (Pauses::of(&read.path())?, Vec::new());
    for _ in 0..ROUNDS {
        let standby = machine.start_standby()?;
        longest.push(pauses.caused_by(|| machine.kill_agent_for(standby))?);
        assert_eq!(sysfs::standbys()?, 0);
    }
    pauses.finish()?;
    assert_eq!(join(writer)?.errors, 0);
    println!("the longest reads while an agent was killed: {longest:.1?}");
    assert!(longest.iter().all(|pause| *pause < patiently(PAUSE)), "{longest:?}");
    leave(written)?;
    leave(read)
}

fn an_agent_that_hangs_is_replaced_when_it_is_cut_off() -> TestResult {
    let mut machine = Machine::builder().start()?;
    for name in ["req_timeout", "server_conn_timeout"] {
        set_parameter(name, 1)?;
    }
    set_parameter("nb_req_retries", 0)?;
    machine.create("vol1", "1M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let _standby = machine.start_standby()?;
    machine.agent()?.stop()?;
    // The deadline is that of a request: 34 seconds at the least.
    let read = "dd if=/dev/disk1 of=/dev/null bs=4k count=1 iflag=direct status=none";
    process::sh(read, Duration::from_secs(100))?.success()?;
    assert_eq!(sysfs::standbys()?, 0);
    leave(device)
}

fn of_several_one_serves_and_the_others_wait_on() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "1M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(machine.start_standby()?);
    }
    assert!(machine.sh("srbctl status")?.contains("\nstandby  3 agents take its place"));
    let pauses = Pauses::of(&device.path())?;
    machine.take_agent()?.kill()?;
    for left in (0..3).rev() {
        wait_for("one of them serves", SOON, || Ok((sysfs::standbys()? == left).then_some(())))?;
        pauses.caused_by(|| Ok(()))?;
        let serving = serving(&machine)?;
        let place = waiting.iter().position(|agent| agent.pid() == serving).ok_or("another one")?;
        for agent in &mut waiting {
            assert_eq!(agent.ended()?, None);
        }
        let agent = waiting.swap_remove(place);
        if left == 0 {
            pauses.finish()?;
            leave(device)?;
            return agent.terminate();
        }
        // As the user of a unit would end it, and by a crash.
        if left == 1 {
            agent.terminate()?
        } else {
            agent.kill()?
        }
    }
    Ok(())
}

/// The process that has the session, as it says itself.
fn serving(machine: &Machine) -> TestResult<Pid> {
    wait_for("the status of the agent", SOON, || {
        let status: serde_json::Value = serde_json::from_str(&machine.sh("srbctl status --json")?)?;
        let pid = status.pointer("/agent/pid").and_then(serde_json::Value::as_i64);
        Ok(pid.and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw))
    })
}

fn taking_over_goes_before_standing_by_and_ends_it() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "1M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let mut standby = machine.start_standby()?;
    let pauses = Pauses::of(&device.path())?;
    let mut old = machine.take_over()?;
    let status = wait_for("the old agent ends", SOON, || old.ended())?;
    assert!(status.success(), "{status}\n{}", old.log());
    assert_eq!(serving(&machine)?, machine.agent()?.pid());
    // It may be of the old version, and its supervisor starts it anew.
    let status = wait_for("who stood by ends", SOON, || standby.ended())?;
    assert!(status.success(), "{status}\n{}", standby.log());
    assert!(standby.log().contains("has taken over"), "{}", standby.log());
    pauses.caused_by(|| Ok(()))?;
    pauses.finish()?;
    // One that is started now is for the new agent, and waits.
    let mut standby = machine.start_standby()?;
    thread::sleep(Duration::from_secs(3));
    assert_eq!(standby.ended()?, None, "{}", standby.log());
    standby.terminate()?;
    assert_eq!(sysfs::standbys()?, 0);
    leave(device)
}

fn status_of(agent: &Daemon) -> String {
    format!("/proc/{}/status", agent.pid())
}

fn rights(agent: &Daemon) -> TestResult<u64> {
    let text = fs::read_to_string(status_of(agent))?;
    let rights = text.lines().find_map(|line| line.strip_prefix("CapEff:")).ok_or("no rights")?;
    Ok(u64::from_str_radix(rights.trim(), 16)?)
}

fn it_says_what_it_does_and_has_no_right_that_it_does_not_need() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let path = "/run/supervisor";
    let _ = fs::remove_file(path);
    let supervisor = UnixDatagram::bind(path)?;
    supervisor.set_read_timeout(Some(patiently(SOON)))?;
    let told = || -> TestResult<String> {
        let mut buffer = [0; 4096];
        let len = supervisor.recv(&mut buffer)?;
        // A line for each thing that is told.
        Ok(String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()).trim_end().to_owned())
    };
    let standby = machine.start_standby_with(|command| {
        command.env("NOTIFY_SOCKET", path);
    })?;
    assert_eq!(told()?, "READY=1\nSTATUS=standing by");
    assert_eq!(rights(&standby)? & CAP_SYS_ADMIN, 0);
    let (locked, resident) =
        (field(&status_of(&standby), "VmLck")?, field(&status_of(&standby), "VmRSS")?);
    println!("{locked} KiB are locked, {resident} KiB resident");
    assert!(locked >= resident, "{locked} KiB of {resident} are locked");
    assert!(resident < 32 << 10, "{resident} KiB");
    machine.kill_agent_for(standby)?;
    let said = told()?;
    assert!(said.starts_with("READY=1\nSTATUS=session "), "{said}");
    machine.create("vol1", "1M")?;
    machine.agent()?.signal(Signal::SIGTERM)?;
    assert_eq!(told()?, "STOPPING=1");
    let mut agent = machine.take_agent()?;
    assert!(wait_for("it ends", SOON, || agent.ended())?.success(), "{}", agent.log());
    Ok(())
}

fn what_changes_while_it_waits_is_in_force_when_it_serves() -> TestResult {
    let mut machine = Machine::builder().without_urls().start()?;
    let standby = machine.start_standby()?;
    // A name, which it looks up while it waits.
    sysfs::command("add_urls", "http://localhost:8080")?;
    machine.create("vol1", "1M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    machine.sh("printf data | dd of=/dev/disk1 conv=fsync status=none")?;
    thread::sleep(Duration::from_secs(3));
    // What names are resolved by is not to be had any more: its device may wait for this agent.
    let hosts = fs::read("/etc/hosts")?;
    machine.sh("cp /etc/hosts /run/hosts; : > /run/nobody; mount --bind /run/nobody /etc/hosts")?;
    let outcome = (|| {
        machine.kill_agent_for(standby)?;
        machine.sh("sysctl -q vm.drop_caches=3")?;
        machine.sh("dd if=/dev/disk1 bs=4 count=1 iflag=fullblock status=none")
    })();
    machine.sh("umount /etc/hosts")?;
    assert_eq!(fs::read("/etc/hosts")?, hosts);
    assert_eq!(outcome?, "data");
    leave(device)
}
