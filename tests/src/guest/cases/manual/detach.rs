// SPDX-License-Identifier: GPL-2.0-only
//! `detach`.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use super::{attached, detach, refused, timed};
use crate::guest::wait::{patiently, wait_until};
use crate::guest::{sysfs, Case, Machine, TestResult};

const BOUND: Duration = Duration::from_secs(10);

pub(super) fn cases() -> Vec<Case> {
    named!["detach":
        a_detached_device_is_gone_and_its_volume_stays,
        what_is_no_device_of_srb_is_not_detached,
        a_mounted_device_stays,
        a_device_with_a_partition_in_use_stays,
        a_device_that_lvm_uses_stays,
        a_device_that_a_process_has_open_stays,
    ]
    .into()
}

fn a_detached_device_is_gone_and_its_volume_stays() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let volume = machine.playground(0)?.data().join("vol1");
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    machine.sh("printf kept | dd of=/dev/disk1 conv=fsync status=none")?;
    detach(device)?;
    assert!(!Path::new("/dev/disk1").exists() && !Path::new("/sys/block/disk1").exists());
    let partitions = fs::read_to_string("/proc/partitions")?;
    assert!(!partitions.contains("disk1"), "{partitions}");
    assert!(fs::read(&volume)?.starts_with(b"kept"));
    let device = machine.attach("vol1", "disk1")?;
    assert_eq!(machine.sh("head -c 4 /dev/disk1")?, "kept");
    detach(device)
}

fn what_is_no_device_of_srb_is_not_detached() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    for name in ["nosuch", "vol1", "vda", "null", "disk1p1"] {
        refused("detach", name, Errno::ENOENT);
    }
    detach(device)?;
    refused("detach", "disk1", Errno::ENOENT);
    Ok(())
}

fn a_mounted_device_stays() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "16M", "disk1")?;
    machine.sh("mkfs.ext4 -q -O ^has_journal /dev/disk1")?;
    let mount = device.mount()?;
    super::settle()?;
    let (result, time) = timed(|| sysfs::command("detach", "disk1"));
    assert_eq!(result, Err(Errno::EBUSY));
    assert!(time < patiently(BOUND), "it took {time:?}");
    machine.sh("echo works > /mnt/disk1/file && sync /mnt/disk1/file")?;
    mount.unmount()?;
    detach(device)
}

fn a_device_with_a_partition_in_use_stays() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "16M", "disk1")?;
    machine.sh("printf ',\\n' | sfdisk --quiet --label dos /dev/disk1")?;
    wait_until("the partition", BOUND, || Path::new("/dev/disk1p1").exists())?;
    super::settle()?;
    let partition = File::open("/dev/disk1p1")?;
    refused("detach", "disk1", Errno::EBUSY);
    drop(partition);
    machine.sh("mkswap -q /dev/disk1p1 && swapon /dev/disk1p1")?;
    super::settle()?;
    refused("detach", "disk1", Errno::EBUSY);
    machine.sh("swapoff /dev/disk1p1")?;
    detach(device)
}

fn a_device_that_lvm_uses_stays() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "32M", "disk1")?;
    machine.sh("pvcreate -q /dev/disk1 && vgcreate -q group1 /dev/disk1")?;
    machine.sh("lvcreate -q -Wn -l 100%FREE -n part1 group1")?;
    super::settle()?;
    refused("detach", "disk1", Errno::EBUSY);
    assert!(Path::new("/dev/group1/part1").exists());
    machine.sh("vgchange -q -an group1")?;
    detach(device)?;
    // All of it is on the volume, whatever the device is called.
    let device = machine.attach("vol1", "disk2")?;
    super::settle()?;
    machine.sh("vgchange -q -ay group1 && vgremove -q -f group1")?;
    detach(device)
}

fn a_device_that_a_process_has_open_stays() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    let node = File::open("/dev/disk1")?;
    refused("detach", "disk1", Errno::EBUSY);
    assert_eq!(sysfs::devices(), ["disk1"]);
    drop(node);
    detach(device)
}
