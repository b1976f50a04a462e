// SPDX-License-Identifier: GPL-2.0-only
//! Detaching by force: whoever has the device open, and whatever does not answer.

use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::disk::Disk;
use super::{expect_error, expect_within, in_flight, join, leave, timed, with_failing_requests};
use crate::guest::udev::settle;
use crate::guest::wait::wait_for;
use crate::guest::{clean, sysfs, Case, Device, Machine, TestResult};

/// The longest that a forced detach may take, in seconds.
const BOUND: u64 = 10;
const SOON: Duration = Duration::from_secs(20);
/// What a file system says whose device is taken away.
const SHUT_DOWN: [&str; 6] = [
    "EXT4-fs",
    "JBD2",
    "Aborting journal",
    "Buffer I/O error",
    "lost sync page write",
    "lost async page write",
];

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        named!("force", who_has_it_open_gets_errors_and_the_device_is_gone),
        named!("force", a_mounted_file_system_is_shut_down_and_can_be_unmounted),
        named!("force", it_ends_with_a_server_that_hangs),
        named!("force", it_ends_with_an_agent_that_does_nothing_and_the_module_unloads),
        named!("force", it_interrupts_another_command),
        named!("force", other_words_are_refused),
    ];
    cases
        .into_iter()
        .map(|case| SHUT_DOWN.iter().fold(with_failing_requests(case), |c, line| c.allow_log(line)))
        .collect()
}

fn idle() -> TestResult<(Machine, Device)> {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "32M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    Ok((machine, device))
}

/// Detaches by force, in time.
fn force(device: Device) -> TestResult {
    let (outcome, took) = timed(|| device.detach_by_force());
    outcome?;
    println!("detached by force after {took:.1?}");
    expect_within("the detach", took, 0, BOUND)?;
    assert!(sysfs::devices().is_empty());
    Ok(())
}

fn who_has_it_open_gets_errors_and_the_device_is_gone() -> TestResult {
    let (machine, device) = idle()?;
    let disk = Disk::open(&device.path())?;
    assert_eq!(disk.write(0, &[7; 4096]), Ok(4096));
    assert_eq!(sysfs::command("detach", "disk1"), Err(Errno::EBUSY));
    let path = device.path();
    force(device)?;
    let gone = [Errno::EIO, Errno::ENODEV, Errno::ENXIO, Errno::ENOSPC];
    expect_error("a read of what is gone", disk.read(0, 4096).and_then(whole), &gone)?;
    expect_error("a write", disk.write(0, &[8; 4096]), &gone)?;
    assert!(!path.exists());
    // Another device may have the name while the old one is still open.
    let device = machine.attach("vol1", "disk1")?;
    assert!(Disk::open(&device.path())?.read(0, 4096)? == [7; 4096], "other data came back");
    drop(disk);
    leave(device)
}

/// A read beyond the end, which a dead disk has at 0, is short.
fn whole(data: Vec<u8>) -> Result<(), Errno> {
    (!data.is_empty()).then_some(()).ok_or(Errno::ENXIO)
}

fn a_mounted_file_system_is_shut_down_and_can_be_unmounted() -> TestResult {
    let (machine, device) = idle()?;
    machine.sh(&format!("mkfs.ext4 -q {}", device.path().display()))?;
    let mount = device.mount()?;
    std::fs::write(mount.path().join("file"), [7; 100_000])?;
    force(device)?;
    assert!(std::fs::write(mount.path().join("other"), [7; 10]).is_err());
    mount.unmount()?;
    let device = machine.attach("vol1", "disk1")?;
    machine.sh(&format!("e2fsck -fy {} || [ $? = 1 ]", device.path().display()))?;
    leave(device)
}

fn it_ends_with_a_server_that_hangs() -> TestResult {
    let (mut machine, device) = idle()?;
    machine.playground(0)?.daemon()?.stop()?;
    let disk = Disk::open(&device.path())?;
    let reader = thread::spawn(move || Ok(disk.read(0, 4096)));
    wait_for("the read is under way", SOON, || Ok((in_flight(&device)? > 0).then_some(())))?;
    force(device)?;
    expect_error("the read", join(reader)?, &[Errno::EIO])?;
    machine.playground(0)?.daemon()?.signal(Signal::SIGCONT)?;
    let device = machine.attach("vol1", "disk1")?;
    assert_eq!(Disk::open(&device.path())?.read(0, 4096)?.len(), 4096);
    leave(device)
}

fn it_ends_with_an_agent_that_does_nothing_and_the_module_unloads() -> TestResult {
    let (mut machine, first) = idle()?;
    machine.create("vol2", "32M")?;
    let second = machine.attach("vol2", "disk2")?;
    settle()?;
    machine.agent()?.stop()?;
    let disk = Disk::open(&first.path())?;
    let reader = thread::spawn(move || Ok(disk.read(0, 4096)));
    wait_for("the read is under way", SOON, || Ok((in_flight(&first)? > 0).then_some(())))?;
    let (outcome, took) = timed(|| -> TestResult {
        first.detach_by_force()?;
        second.detach_by_force()?;
        machine.kill_agent()?;
        expect_error("the read", join(reader)?, &[Errno::EIO])?;
        clean::unload()
    });
    outcome?;
    println!("all gone after {took:.1?}");
    expect_within("all of it", took, 0, BOUND)
}

fn it_interrupts_another_command() -> TestResult {
    let (mut machine, device) = idle()?;
    machine.playground(0)?.daemon()?.stop()?;
    // It may be refused itself for as long as one of those below takes.
    let extending = thread::spawn(|| loop {
        match sysfs::command("extend", "vol1 64M") {
            Err(Errno::EBUSY) => {}
            outcome => return Ok(outcome),
        }
    });
    // A size that the device has is refused at once, unless something else is under way.
    wait_for("the extend is under way", SOON, || {
        Ok((sysfs::command("extend", "vol1 32M") == Err(Errno::EBUSY)).then_some(()))
    })?;
    force(device)?;
    assert_eq!(join(extending)?, Err(Errno::EINTR));
    machine.playground(0)?.daemon()?.signal(Signal::SIGCONT)
}

fn other_words_are_refused() -> TestResult {
    let (_machine, device) = idle()?;
    for bad in ["disk1 forced", "disk1 force now", "force", "force disk1"] {
        let outcome = sysfs::command("detach", bad);
        expect_error(bad, outcome, &[Errno::EINVAL, Errno::ENOENT])?;
    }
    leave(device)
}
