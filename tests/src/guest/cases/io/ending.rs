// SPDX-License-Identifier: GPL-2.0-only
//! Attach, detach and rmmod end, whoever does not answer.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::signal::Signal;
use nix::sys::utsname::uname;

use super::disk::Disk;
use super::proxy::Proxy;
use super::{expect_within, in_flight, leave, timed, wait_for_log, with_failing_requests};
use crate::guest::kmsg::KernelLog;
use crate::guest::udev::{self, settle};
use crate::guest::wait::{wait_for, wait_until};
use crate::guest::{clean, load_module, sysfs, Case, Device, Machine, Playground, TestResult};

/// The longest that a detach may take, in seconds.
const BOUND: u64 = 15;
const SOON: Duration = Duration::from_secs(20);
/// The port of the machine's only playground.
const PORT: u16 = 8080;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        named!("ending", attach_and_detach_end_though_the_server_hangs),
        named!("ending", rmmod_ends_though_the_server_hangs),
        named!("ending", detach_ends_without_an_agent),
        named!("ending", detach_ends_without_a_server),
        named!("ending", detach_ends_with_an_agent_that_does_nothing),
        named!("ending", the_module_unloads_with_idle_devices_and_no_agent),
    ];
    let many = named!("ending", a_thousand_scans_that_hang_do_not_keep_a_stuck_agent_connected);
    let cases = cases.into_iter().chain([many.bound(Duration::from_secs(900))]);
    cases.map(with_failing_requests).collect()
}

/// A machine with one attached device that nobody uses.
fn idle() -> TestResult<(Machine, Device)> {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "16M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    Ok((machine, device))
}

/// A machine whose server answers everything but requests for data, and a device that is scanned
/// for partitions there.
fn scanning() -> TestResult<(Machine, Proxy, Device)> {
    // On a busy machine it may have the device open before the scan begins, and be somebody for
    // whom detach is refused.
    let _udev = udev::Held::new()?;
    let machine = Machine::builder().without_urls().start()?;
    let proxy = Proxy::start(PORT)?;
    sysfs::command("add_urls", proxy.url())?;
    machine.create("vol1", "16M")?;
    proxy.hold_data(true);
    let (device, took) = timed(|| machine.attach("vol1", "disk1"));
    let device = device?;
    expect_within("attach", took, 0, 10)?;
    wait_for("the scan waits", SOON, || Ok((in_flight(&device)? > 0).then_some(())))?;
    Ok((machine, proxy, device))
}

/// Detaches at once, as a user in trouble would.
fn detach_in_time(device: Device) -> TestResult {
    let name = device.name().to_owned();
    let (outcome, took) = timed(|| device.detach());
    outcome.map_err(|errno| format!("detach {name}: {errno} after {took:?}"))?;
    println!("detached after {took:.1?}");
    expect_within("detach", took, 0, BOUND)?;
    assert!(sysfs::devices().is_empty());
    Ok(())
}

fn attach_and_detach_end_though_the_server_hangs() -> TestResult {
    let (machine, proxy, device) = scanning()?;
    detach_in_time(device)?;
    proxy.hold_data(false);
    let device = machine.attach("vol1", "disk1")?;
    assert_eq!(Disk::open(&device.path())?.read(0, 4096)?.len(), 4096);
    leave(device)
}

fn rmmod_ends_though_the_server_hangs() -> TestResult {
    let (mut machine, proxy, device) = scanning()?;
    // It holds the module, as any agent does.
    machine.kill_agent()?;
    let (outcome, took) = timed(clean::unload);
    println!("rmmod after {took:.1?}, done: {}", outcome.is_ok());
    expect_within("rmmod", took, 0, BOUND)?;
    if outcome.is_err() {
        // The scan has the disk open, and so holds the module too, until the device goes.
        detach_in_time(device)?;
        clean::unload()?;
    }
    drop((machine, proxy));
    Ok(())
}

fn detach_ends_without_an_agent() -> TestResult {
    let (mut machine, device) = idle()?;
    machine.kill_agent()?;
    detach_in_time(device)
}

fn detach_ends_without_a_server() -> TestResult {
    let (mut machine, device) = idle()?;
    machine.playground(0)?.kill()?;
    detach_in_time(device)
}

fn detach_ends_with_an_agent_that_does_nothing() -> TestResult {
    let (mut machine, device) = idle()?;
    machine.agent()?.stop()?;
    detach_in_time(device)?;
    machine.agent()?.signal(Signal::SIGCONT)?;
    // The agent that was late does no harm to what comes after.
    let device = machine.attach("vol1", "disk1")?;
    assert_eq!(Disk::open(&device.path())?.read(0, 4096)?.len(), 4096);
    leave(device)
}

/// Requests that are under way at the agent, of all devices.
fn all_in_flight() -> TestResult<usize> {
    let under_way = |name: &String| -> TestResult<bool> {
        let stat = sysfs::read(Path::new("/sys/block").join(name).join("stat"))?;
        Ok(stat.split_whitespace().nth(8).is_some_and(|count| count != "0"))
    };
    let each = sysfs::devices().iter().map(under_way).collect::<TestResult<Vec<_>>>()?;
    Ok(each.into_iter().filter(|is| *is).count())
}

fn a_thousand_scans_that_hang_do_not_keep_a_stuck_agent_connected() -> TestResult {
    const SCANS: usize = 1100;
    let udev = udev::Held::new()?;
    // A connection for each of them, and the processes that have them take after this one.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most.min(16384), most)?;
    let machine = Machine::builder().parameter("req_timeout", 3600).parameter("agent_grace", -1);
    let machine = machine.playground_arg("--faults");
    let mut machine = machine.playground_arg("seed=1 read:100%:delay=3600000").start()?;
    let data = machine.playground(0)?.data().to_owned();
    let (attached, took) = timed(|| {
        (0..SCANS).try_for_each(|number| -> TestResult {
            File::create(data.join(format!("vol{number}")))?.set_len(1 << 20)?;
            sysfs::command("attach", format!("vol{number} disk{number}"))
                .map_err(|errno| format!("attach {number}: {errno}").into())
        })
    });
    attached?;
    println!("{SCANS} devices attached after {took:.1?}");
    let all = Duration::from_secs(60);
    // So many works of a queue the kernel does at a time (`WQ_DFL_ACTIVE` of 6.12 and of 7.3).
    let is_six = uname()?.release().as_encoded_bytes().starts_with(b"6.");
    let at_a_time = if is_six { 256 } else { 1024 };
    wait_for("scans wait", all, || Ok((all_in_flight()? >= at_a_time).then_some(())))?;
    machine.agent()?.stop()?;
    let mut log = KernelLog::from_now()?;
    let (outcome, took) = timed(|| sysfs::command("detach", "disk0 force"));
    outcome?;
    expect_within("the detach", took, 0, BOUND)?;
    wait_for_log(&mut log, "it was cut off", SOON)?;
    machine.playground(0)?.kill()?;
    let mut calm = Playground::new(PORT, &data, &[]);
    calm.start()?;
    machine.kill_agent()?;
    machine.start_agent()?;
    wait_for("the scans end", all, || Ok((all_in_flight()? == 0).then_some(())))?;
    let (detached, took) = timed(|| {
        (1..SCANS).try_for_each(|number| -> TestResult {
            sysfs::command("detach", format!("disk{number}"))
                .map_err(|errno| format!("detach {number}: {errno}").into())
        })
    });
    println!("detached after {took:.1?}");
    drop(udev);
    // It has thousands of events to see to, and its workers wait for the kernel in each of them.
    udev::settle_within(all)?;
    detached
}

fn the_module_unloads_with_idle_devices_and_no_agent() -> TestResult {
    let (mut machine, device) = idle()?;
    machine.create("vol2", "16M")?;
    let second = machine.attach("vol2", "disk2")?;
    settle()?;
    machine.kill_agent()?;
    clean::unload()?;
    assert!(!device.path().exists() && !second.path().exists());
    drop((device, second));
    load_module(&[])?;
    machine.start_agent()?;
    sysfs::command("add_urls", machine.playground(0)?.url())?;
    let device = machine.attach("vol1", "disk1")?;
    let disk = Disk::open(&device.path())?;
    assert_eq!(disk.write(0, &[3; 4096]), Ok(4096));
    assert!(disk.read(0, 4096)? == [3; 4096], "other data came back");
    drop(disk);
    leave(device)?;
    wait_until("nothing is left", SOON, || sysfs::devices().is_empty())?;
    assert_eq!(sysfs::command("detach", "disk1"), Err(Errno::ENOENT));
    Ok(())
}
