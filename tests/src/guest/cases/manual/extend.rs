// SPDX-License-Identifier: GPL-2.0-only
//! `extend`.

use std::fs;

use nix::errno::Errno;

use super::{attached, detach, done, refused};
use crate::guest::{sysfs, Case, Device, Machine, TestResult};

const MIB: u64 = 1 << 20;

pub(super) fn cases() -> Vec<Case> {
    named!["extend":
        a_volume_that_is_not_attached_grows,
        an_attached_volume_grows_and_the_system_sees_it,
        a_mounted_volume_grows_and_its_file_system_after_it,
        a_volume_only_grows,
        a_volume_that_does_not_exist_does_not_grow,
    ]
    .into()
}

fn a_volume_that_is_not_attached_grows() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let volume = machine.playground(0)?.data().join("vol1");
    machine.create("vol1", "1M")?;
    done("extend", "vol1 3M\n");
    assert_eq!(fs::metadata(&volume)?.len(), 3 * MIB);
    let device = machine.attach("vol1", "disk1")?;
    assert_eq!(device.size_bytes()?, 3 * MIB);
    detach(device)
}

/// The size of a device as each place shows it, which must be one.
fn size_everywhere(machine: &Machine, device: &Device) -> TestResult<u64> {
    let name = device.name();
    let bytes = device.size_bytes()?;
    assert_eq!(sysfs::read(device.sysfs("srb_size"))?, format!("{bytes}\n"));
    let ioctl = machine.sh(&format!("blockdev --getsize64 /dev/{name}"))?;
    assert_eq!(ioctl.trim(), bytes.to_string(), "BLKGETSIZE64");
    let partitions = fs::read_to_string("/proc/partitions")?;
    let line = partitions.lines().find(|line| line.ends_with(&format!(" {name}")));
    let blocks = line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or("none");
    assert_eq!(blocks, (bytes / 1024).to_string(), "/proc/partitions");
    Ok(bytes)
}

fn an_attached_volume_grows_and_the_system_sees_it() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let volume = machine.playground(0)?.data().join("vol1");
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    assert_eq!(size_everywhere(&machine, &device)?, MIB);
    done("extend", "vol1 10G");
    assert_eq!(size_everywhere(&machine, &device)?, 10 << 30);
    assert_eq!(fs::metadata(&volume)?.len(), 10 << 30);
    machine.sh("printf end | dd of=/dev/disk1 bs=1 seek=$((10 * 1024**3 - 512)) status=none")?;
    detach(device)?;
    assert_eq!(fs::metadata(&volume)?.len(), 10 << 30);
    Ok(())
}

fn a_mounted_volume_grows_and_its_file_system_after_it() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "32M", "disk1")?;
    machine.sh("mkfs.ext4 -q -O ^has_journal -E nodiscard /dev/disk1")?;
    let mount = device.mount()?;
    machine.sh("echo before > /mnt/disk1/file")?;
    done("extend", "vol1 96M");
    assert_eq!(size_everywhere(&machine, &device)?, 96 * MIB);
    machine.sh("resize2fs /dev/disk1")?;
    let kib: u64 = machine.sh("df --output=size -k /mnt/disk1 | tail -1")?.trim().parse()?;
    assert!(kib > 80 * 1024, "the file system has {kib} KiB");
    assert_eq!(machine.sh("cat /mnt/disk1/file")?, "before\n");
    mount.unmount()?;
    detach(device)
}

fn a_volume_only_grows() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let volume = machine.playground(0)?.data().join("vol1");
    machine.create("vol1", "2M")?;
    for size in ["1M", "2M", "512"] {
        refused("extend", format!("vol1 {size}"), Errno::EINVAL);
    }
    let device = machine.attach("vol1", "disk1")?;
    for size in ["1M", "2M", "512"] {
        refused("extend", format!("vol1 {size}"), Errno::EINVAL);
    }
    assert_eq!(device.size_bytes()?, 2 * MIB);
    assert_eq!(fs::metadata(&volume)?.len(), 2 * MIB);
    detach(device)
}

fn a_volume_that_does_not_exist_does_not_grow() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let data = machine.playground(0)?.data().to_owned();
    refused("extend", "nosuch 1M", Errno::ENOENT);
    assert!(!data.join("nosuch").exists());
    // A device's name is no volume's.
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    refused("extend", "disk1 2M", Errno::ENOENT);
    detach(device)
}
