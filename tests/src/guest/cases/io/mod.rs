// SPDX-License-Identifier: GPL-2.0-only
//! I/O, and what befalls it: agents that die, hang or lie, servers that hang, memory that must
//! come back.
//!
//! A file for each kind of trouble. What several need stands here: jobs that verify what they
//! wrote, direct I/O of this process ([`disk`]), and a proxy that holds requests back ([`proxy`]).

use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::guest::fio::Fio;
use crate::guest::kmsg::{KernelLog, Record};
pub(super) use crate::guest::random::Random;
use crate::guest::udev::settle;
use crate::guest::wait::{patiently, wait_for};
use crate::guest::{sysfs, Case, Device, Failed, Machine, TestResult};

/// A case of this function, named after it.
macro_rules! named {
    ($area:literal, $name:ident) => {
        $crate::guest::Case::new(concat!("io::", $area, "::", stringify!($name)), $name)
    };
}

mod cpus;
pub(super) mod disk;
mod ending;
mod force;
mod grace;
pub(super) mod hostile;
pub(super) mod leaks;
mod null;
mod policy;
pub(super) mod proxy;
mod resume;
mod sleep;
mod standby;
mod storm;
mod stuck;
mod swap;
mod takeover;
mod verify;

pub use hostile::program as hostile_program;

/// How long a job of fio may take.
pub(super) const FIO: Duration = Duration::from_secs(100);
/// What a device's failing requests make the kernel log, and a partition scan that is cut short.
pub(super) const FAILING: [&str; 8] = [
    "error, dev disk",
    "Buffer I/O error on dev disk",
    "callbacks suppressed",
    "unable to read partition",
    "unable to read RDB block",
    "partition table beyond EOD",
    "Disk read failed",
    // Somebody opens a node whose device has just gone.
    "block device autoloading",
];

pub(super) fn cases() -> Vec<Case> {
    let groups = [
        verify::cases(),
        null::cases(),
        resume::cases(),
        grace::cases(),
        storm::cases(),
        stuck::cases(),
        cpus::cases(),
        sleep::cases(),
        ending::cases(),
        policy::cases(),
        force::cases(),
        takeover::cases(),
        standby::cases(),
        swap::cases(),
        leaks::cases(),
        hostile::cases(),
    ];
    groups.into_iter().flatten().collect()
}

/// Allows a case to make the kernel log what failing requests make it log.
pub(super) fn with_failing_requests(case: Case) -> Case {
    FAILING.iter().fold(case, |case, line| case.allow_log(line))
}

/// A job that writes, reads everything back and compares: direct, 32 requests at a time.
pub(super) fn verified(target: &Path, rw: &str, block: &str) -> Fio {
    let job = Fio::new(target, rw, block).option("iodepth", 32);
    job.option("verify", "crc32c").option("verify_fatal", 1)
}

/// A job whose requests come to the block layer up to 16 at a time.
pub(super) fn together(job: Fio) -> Fio {
    job.option("iodepth_batch_submit", 16).option("iodepth_batch_complete_min", 8)
}

/// Detaches a device once udev, which looks at whatever was written to, has left it alone.
pub(super) fn leave(device: Device) -> TestResult {
    settle()?;
    let name = device.name().to_owned();
    device.detach().map_err(|errno| Failed::from(format!("detach {name}: {errno}")))
}

/// Sets a parameter of the module.
pub(super) fn set_parameter(name: &str, value: i64) -> TestResult {
    let path = Path::new(sysfs::PARAMETERS).join(name);
    sysfs::write(path, value.to_string())
        .map_err(|errno| Failed::from(format!("{name}={value}: {errno}")))
}

/// Requests that wait for an agent. The kernel does not count them among those in flight.
pub(super) fn parked(device: &Device) -> TestResult<usize> {
    let list = Path::new("/sys/kernel/debug/block").join(device.name()).join("requeue_list");
    Ok(sysfs::read(list)?.lines().count())
}

/// Requests that are under way at an agent, as the kernel counts them.
pub(super) fn in_flight(device: &Device) -> TestResult<u64> {
    counter(device, 8)
}

/// Requests that a device has completed.
pub(super) fn completed(device: &Device) -> TestResult<u64> {
    Ok(counter(device, 0)?.saturating_add(counter(device, 4)?))
}

/// A number of the disk's `stat`, from 0 (Documentation/block/stat.rst).
pub(super) fn counter(device: &Device, at: usize) -> TestResult<u64> {
    let text = sysfs::read(device.sysfs("stat"))?;
    let word = text.split_whitespace().nth(at).ok_or("a line of numbers")?;
    Ok(word.parse()?)
}

/// Writes all dirty data and forgets every clean page, inode and name.
pub(super) fn drop_caches(machine: &Machine) -> TestResult {
    machine.sh("sync; echo 3 > /proc/sys/vm/drop_caches").map(drop)
}

/// Fails unless a device reads as this file does, over its whole length.
pub(super) fn expect_same(machine: &Machine, device: &Device, file: &Path) -> TestResult {
    let size = device.size_bytes()?;
    let stored = std::fs::metadata(file)?.len();
    if size != stored {
        return Err(format!("{}: {size} bytes, {stored} are stored", device.name()).into());
    }
    let (path, file) = (device.path(), file.display());
    machine.sh(&format!("blockdev --flushbufs {0} && cmp {0} {file}", path.display())).map(drop)
}

/// The end of a thread.
pub(super) fn join<T>(thread: JoinHandle<TestResult<T>>) -> TestResult<T> {
    thread.join().map_err(|_| Failed::from("a thread of the test panicked"))?
}

/// What something gave, and how long it took.
pub(super) fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let value = run();
    (value, began.elapsed())
}

/// Fails unless `what` took from `least` to `most`.
pub(super) fn expect_within(what: &str, took: Duration, least: u64, most: u64) -> TestResult {
    let most = patiently(Duration::from_secs(most));
    if took >= Duration::from_secs(least) && took <= most {
        return Ok(());
    }
    Err(format!("{what} took {took:?}, not {least} s to {most:?}").into())
}

/// Fails unless the outcome is one of these errors.
pub(super) fn expect_error<T>(
    what: &str,
    outcome: Result<T, Errno>,
    expected: &[Errno],
) -> TestResult {
    match outcome {
        Err(errno) if expected.contains(&errno) => Ok(()),
        Err(errno) => Err(format!("{what}: {errno}, not one of {expected:?}").into()),
        Ok(_) => Err(format!("{what} succeeded, and should not").into()),
    }
}

/// Waits for a line of the kernel's log.
pub(super) fn wait_for_log(log: &mut KernelLog, text: &str, bound: Duration) -> TestResult<Record> {
    wait_for(&format!("the kernel logs '{text}'"), bound, || {
        Ok(log.records()?.into_iter().find(|record| record.text.contains(text)))
    })
}
