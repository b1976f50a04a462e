// SPDX-License-Identifier: GPL-2.0-only
//! Memory comes back: after attach and detach, and from a device that is idle.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use super::disk::Disk;
use super::{drop_caches, leave, with_failing_requests, FIO};
use crate::guest::fio::Fio;
use crate::guest::udev::settle;
use crate::guest::wait::wait_for;
use crate::guest::{kmemleak, sysfs, Case, Machine, TestResult};

/// Attachments until the kernel's and the agent's caches have all that they keep.
const WARM_UP: u32 = 20;
const ATTACHMENTS: u32 = 200;
/// What may be kept of those after the warm-up: less than 20 KiB of each, which is less than any
/// ring, worker or disk.
const KEPT_KIB: i64 = 3400;
/// How long freed memory may take to be free: grace periods, and a busy VM.
const FREED: Duration = Duration::from_secs(30);

pub(super) fn cases() -> Vec<Case> {
    vec![
        // A detach that comes before the partition scan cuts it short.
        with_failing_requests(named!("leaks", two_hundred_attachments_leave_nothing_behind))
            .bound(Duration::from_secs(240))
            .needs(kmemleak::keeps_memory),
        named!("leaks", an_idle_device_gives_its_windows_back).needs(kmemleak::keeps_memory),
    ]
}

/// What is in use, of the kernel and of the agent.
#[derive(Debug, Clone, Copy)]
pub(in crate::guest::cases) struct Usage {
    slab_kib: i64,
    stacks_kib: i64,
    vmalloc_kib: i64,
    /// Areas that vmalloc has given out.
    areas: i64,
    agent_kib: i64,
    agent_files: i64,
    agent_mappings: i64,
}

/// A number of a file of lines `NAME: NUMBER`.
pub(in crate::guest::cases) fn field(path: &str, name: &str) -> TestResult<i64> {
    let text = fs::read_to_string(path)?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let rest = lines.find_map(|rest| rest.strip_prefix(':')).ok_or(format!("no {name}"))?;
    Ok(rest.split_whitespace().next().unwrap_or_default().parse()?)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Usage {
    pub(in crate::guest::cases) fn now(machine: &mut Machine) -> TestResult<Self> {
        drop_caches(machine)?;
        let agent = format!("/proc/{}", machine.agent()?.pid());
        // Areas that are free are listed until a number of them is returned at once.
        let areas = fs::read_to_string("/proc/vmallocinfo")?;
        let areas = areas.lines().filter(|line| !line.contains("unpurged")).count();
        let mappings = fs::read_to_string(format!("{agent}/maps"))?.lines().count();
        Ok(Self {
            slab_kib: field("/proc/meminfo", "SUnreclaim")?,
            stacks_kib: field("/proc/meminfo", "KernelStack")?,
            vmalloc_kib: field("/proc/meminfo", "VmallocUsed")?,
            areas: count(areas),
            agent_kib: field(&format!("{agent}/status"), "VmRSS")?,
            agent_files: count(fs::read_dir(format!("{agent}/fd"))?.count()),
            agent_mappings: count(mappings),
        })
    }

    /// Whether it is no more than it was, but for what caches and udev's workers come to.
    pub(in crate::guest::cases) fn is_flat(&self, before: &Self) -> bool {
        self.slab_kib - before.slab_kib <= KEPT_KIB
            && self.stacks_kib - before.stacks_kib <= 512
            && self.vmalloc_kib - before.vmalloc_kib <= 1024
            && self.areas - before.areas <= 40
            && self.agent_kib - before.agent_kib <= 1024
            && self.agent_files - before.agent_files <= 4
            && self.agent_mappings - before.agent_mappings <= 8
    }
}

/// Attaches, reads and detaches; udev may have the device open for a moment. Returns how often it
/// had.
fn attach_and_detach() -> TestResult<u32> {
    sysfs::command("attach", "vol1 disk1")?;
    let disk = Disk::open(Path::new("/dev/disk1"))?;
    assert_eq!(disk.read(0, 4096)?.len(), 4096);
    drop(disk);
    let mut refused = 0;
    wait_for("nobody has the device open", FREED, || match sysfs::command("detach", "disk1") {
        Ok(()) => Ok(Some(())),
        Err(Errno::EBUSY) => {
            refused += 1;
            Ok(None)
        }
        Err(errno) => Err(format!("detach: {errno}").into()),
    })?;
    Ok(refused)
}

fn two_hundred_attachments_leave_nothing_behind() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "16M")?;
    for _ in 0..WARM_UP {
        attach_and_detach()?;
    }
    settle()?;
    let before = Usage::now(&mut machine)?;
    let mut refused = 0;
    for _ in WARM_UP..ATTACHMENTS {
        refused += attach_and_detach()?;
    }
    settle()?;
    let mut last = before;
    let flat = wait_for("memory is free again", FREED, || {
        last = Usage::now(&mut machine)?;
        Ok(last.is_flat(&before).then_some(()))
    });
    println!("after {WARM_UP}: {before:?}\nafter {ATTACHMENTS}: {last:?}\nrefused: {refused}");
    flat
}

fn an_idle_device_gives_its_windows_back() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "1G")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let status = format!("/proc/{}/status", machine.agent()?.pid());
    // Windows are shared pages; what the agent allocates for itself is anonymous memory.
    let look = || -> TestResult<_> {
        let shared = field(&status, "RssFile")? + field(&status, "RssShmem")?;
        Ok((shared, field("/proc/meminfo", "MemFree")?))
    };
    let before = look()?;
    // A volume without data takes no memory of the playground's when it is read.
    let job = Fio::new(&device.path(), "randread", "1M").option("iodepth", 64);
    job.option("number_ios", 200).option("numjobs", 2).option("group_reporting", 1).run(FIO)?;
    let loaded = look()?;
    let grown = loaded.0 - before.0;
    assert!(grown >= 20 * 1024, "the load took {grown} KiB of windows only");
    let (mut shared, mut free) = loaded;
    let given_back = wait_for("the windows' pages are free again", FREED, || {
        (shared, free) = look()?;
        let given_back = shared - before.0 <= grown / 20;
        Ok((given_back && free - loaded.1 >= grown / 2).then_some(()))
    });
    println!("the agent's shared pages: {} KiB, loaded {}, idle {shared}", before.0, loaded.0);
    println!("free memory: {} KiB, loaded {}, idle {free}", before.1, loaded.1);
    given_back?;
    leave(device)
}
