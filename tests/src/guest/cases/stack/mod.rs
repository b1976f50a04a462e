// SPDX-License-Identifier: GPL-2.0-only
//! What people put on a disk: filesystems, LVM, encryption, device mapper's troublemakers,
//! partitions; and the tools that look at one.

mod exerciser;

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::faults::{Counts, Load};
use super::io::{drop_caches, leave, verified, FIO};
use crate::guest::process;
use crate::guest::random::Random;
use crate::guest::udev::settle;
use crate::guest::{Case, Device, Machine, Mount, TestResult};
use exerciser::Exerciser;

/// Operations on a file of each filesystem.
const OPERATIONS: u32 = 200;
/// How long files come and go beside that.
const LOAD: Duration = Duration::from_secs(2);
const FOLDER: &str = "/mnt/stack";

macro_rules! named {
    ($($name:ident),* $(,)?) => {
        [$(Case::new(concat!("stack::", stringify!($name)), $name)),*]
    };
}

pub(super) fn cases() -> Vec<Case> {
    let bound = Duration::from_secs(300);
    let mut cases: Vec<Case> = named![
        ext4_holds_what_was_written,
        xfs_holds_what_was_written,
        btrfs_holds_what_was_written,
        an_encrypted_disk_shows_nothing_below,
        writes_are_logged_in_order,
        tools_see_partitions_signatures_and_no_bad_block,
    ]
    .into();
    // What a filesystem says of a disk that fails, and the kernel of a mirror that is new.
    let failing = ["EXT4-fs", "JBD2", "Aborting journal", "I/O error", "buffer_io_error"];
    cases.extend(
        named![a_disk_that_fails_in_between_can_be_repaired]
            .map(|case| failing.iter().fold(case, |case, line| case.allow_log(line))),
    );
    cases.extend(
        named![lvm_stripes_mirrors_grows_and_takes_snapshots]
            .map(|case| case.allow_log("bitmap file is out of date")),
    );
    cases.into_iter().map(|case| case.bound(bound)).collect()
}

fn disk(machine: &Machine, volume: &str, size: &str, name: &str) -> TestResult<Device> {
    machine.create(volume, size)?;
    let device = machine.attach(volume, name)?;
    settle()?;
    Ok(device)
}

/// Makes a filesystem on this device, has files come and go there while one is exercised, and has
/// `check` look at it afterwards.
fn filesystem(machine: &Machine, make: &str, device: &Path, check: &str) -> TestResult {
    let device_text = device.display();
    machine.sh(&format!("{make} {device_text}"))?;
    let mount = Mount::new(device, Path::new(FOLDER))?;
    let (random, counts) = (Random::new("filesystem"), Arc::new(Counts::default()));
    let load = Load::files(mount.path(), random.clone(), &counts);
    let exercised = Exerciser::new(mount.path(), random).and_then(|file| file.run(OPERATIONS));
    thread::sleep(LOAD);
    load.finish()?;
    exercised?;
    assert_eq!((counts.io_errors(), counts.mismatches()), (0, 0));
    assert!(counts.passes() > 0, "no pass over the files ended");
    mount.unmount()?;
    machine.sh(&format!("{check} {device_text}")).map(drop)
}

fn on_a_disk(make: &str, check: &str) -> TestResult {
    let machine = Machine::builder().start()?;
    let device = disk(&machine, "vol1", "512M", "disk1")?;
    filesystem(&machine, make, &device.path(), check)?;
    leave(device)
}

fn ext4_holds_what_was_written() -> TestResult {
    on_a_disk("mkfs.ext4 -q", "e2fsck -fn")
}

fn xfs_holds_what_was_written() -> TestResult {
    on_a_disk("mkfs.xfs -q", "xfs_repair -n")
}

fn btrfs_holds_what_was_written() -> TestResult {
    on_a_disk("mkfs.btrfs -q", "btrfs check --readonly")
}

fn lvm_stripes_mirrors_grows_and_takes_snapshots() -> TestResult {
    let machine = Machine::builder().start()?;
    let devices =
        [disk(&machine, "vol1", "256M", "disk1")?, disk(&machine, "vol2", "256M", "disk2")?];
    machine.sh("pvcreate -q /dev/disk1 /dev/disk2 && vgcreate -q group1 /dev/disk1 /dev/disk2")?;
    machine.sh("lvcreate -q -y -i 2 -I 64k -L 128M -n stripes group1")?;
    filesystem(&machine, "mkfs.ext4 -q", Path::new("/dev/group1/stripes"), "e2fsck -fn")?;
    machine.sh("lvextend -q -L +64M group1/stripes && resize2fs -f /dev/group1/stripes")?;
    machine.sh("e2fsck -fn /dev/group1/stripes")?;
    // A snapshot keeps what the origin had.
    let sum = || machine.sh("cksum </dev/group1/frozen");
    machine.sh("lvcreate -q -s -L 64M -n frozen group1/stripes")?;
    let before = sum()?;
    machine
        .sh("dd if=/dev/urandom of=/dev/group1/stripes bs=1M count=16 conv=fsync status=none")?;
    drop_caches(&machine)?;
    assert_eq!(sum()?, before);
    machine.sh("lvremove -q -y group1/frozen group1/stripes")?;
    machine.sh("lvcreate -q -y --type raid1 -m 1 -L 64M -n mirror group1")?;
    let job = verified(Path::new("/dev/group1/mirror"), "randwrite", "16k");
    assert_eq!(job.option("size", "16M").run(FIO)?.errors, 0);
    machine.sh("vgremove -q -f group1 && pvremove -q /dev/disk1 /dev/disk2")?;
    process::kill_all(&["dmeventd"])?;
    settle()?;
    devices.into_iter().try_for_each(leave)
}

fn an_encrypted_disk_shows_nothing_below() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = disk(&machine, "vol1", "256M", "disk1")?;
    let key = "0123456789abcdef".repeat(4);
    let table =
        format!("0 $(blockdev --getsz /dev/disk1) crypt aes-xts-plain64 {key} 0 /dev/disk1 0");
    machine.sh(&format!("modprobe dm-crypt && dmsetup create secret --table \"{table}\""))?;
    filesystem(&machine, "mkfs.ext4 -q", Path::new("/dev/mapper/secret"), "e2fsck -fn")?;
    machine.sh("dmsetup remove --retry secret")?;
    settle()?;
    assert_eq!(machine.sh("blkid -p /dev/disk1 || test $? = 2")?, "", "a signature shows");
    leave(device)
}

/// dm-log-writes records each write and flush on a second disk.
fn writes_are_logged_in_order() -> TestResult {
    let machine = Machine::builder().start()?;
    let devices =
        [disk(&machine, "vol1", "128M", "disk1")?, disk(&machine, "vol2", "512M", "disk2")?];
    let table = "0 $(blockdev --getsz /dev/disk1) log-writes /dev/disk1 /dev/disk2";
    machine.sh(&format!("modprobe dm-log-writes && dmsetup create logged --table \"{table}\""))?;
    filesystem(&machine, "mkfs.ext4 -q", Path::new("/dev/mapper/logged"), "e2fsck -fn")?;
    machine.sh("dmsetup message logged 0 mark end && dmsetup remove --retry logged")?;
    // The log begins with its magic number and says how many entries it has.
    let head = machine.sh("dd if=/dev/disk2 bs=512 count=1 status=none | od -An -tx8 -N24")?;
    let mut words = head.split_whitespace();
    assert_eq!(words.next(), Some("006a736677736872"), "{head}");
    let entries = words.nth(1).and_then(|count| u64::from_str_radix(count, 16).ok());
    assert!(entries.is_some_and(|entries| entries > 100), "{head}");
    settle()?;
    devices.into_iter().try_for_each(leave)
}

/// dm-flakey fails every request for a while. What was synced before is there afterwards.
fn a_disk_that_fails_in_between_can_be_repaired() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = disk(&machine, "vol1", "128M", "disk1")?;
    let table = |up: u32, down: u32| {
        format!("0 $(blockdev --getsz /dev/disk1) flakey /dev/disk1 0 {up} {down}")
    };
    let load = |up, down| {
        let load = format!("dmsetup load flaky --table \"{}\"", table(up, down));
        machine.sh(&format!("dmsetup suspend --nolockfs flaky && {load} && dmsetup resume flaky"))
    };
    let sound = table(60, 0);
    machine.sh(&format!("modprobe dm-flakey && dmsetup create flaky --table \"{sound}\""))?;
    machine.sh("mkfs.ext4 -q /dev/mapper/flaky")?;
    let mount = Mount::new(Path::new("/dev/mapper/flaky"), Path::new(FOLDER))?;
    machine.sh(&format!("cp -r /etc {FOLDER}/kept && sync -f {FOLDER}"))?;
    load(0, 60)?;
    // Some of it fails, now or when it is synced.
    let failed = machine.sh(&format!("cp -r /etc {FOLDER}/lost && sync -f {FOLDER}"));
    assert!(failed.is_err(), "nothing failed");
    load(60, 0)?;
    mount.unmount()?;
    // 1: errors were corrected.
    machine.sh("e2fsck -fy /dev/mapper/flaky || test $? = 1")?;
    let mount = Mount::new(Path::new("/dev/mapper/flaky"), Path::new(FOLDER))?;
    machine.sh(&format!("diff -r --no-dereference /etc {FOLDER}/kept"))?;
    mount.unmount()?;
    machine.sh("e2fsck -fn /dev/mapper/flaky && dmsetup remove --retry flaky")?;
    settle()?;
    leave(device)
}

fn tools_see_partitions_signatures_and_no_bad_block() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = disk(&machine, "vol1", "64M", "disk1")?;
    machine.sh("badblocks -wsv -b 4096 /dev/disk1 2>&1 | grep -q '0 bad blocks found'")?;
    machine
        .sh("parted -s /dev/disk1 mklabel gpt mkpart one ext4 1MiB 32MiB mkpart two 32MiB 100%")?;
    settle()?;
    machine.sh("mkfs.ext4 -q -L one /dev/disk1p1 && mkswap -q -L two /dev/disk1p2")?;
    let seen = machine.sh("blkid -p -s LABEL -o value /dev/disk1p1 /dev/disk1p2")?;
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["one", "two"]);
    // Its status says whether the partition begins where the disk's `io_opt` wants it.
    machine.sh("parted -s /dev/disk1 align-check optimal 1")?;
    machine.sh("wipefs -q -a /dev/disk1p1 /dev/disk1p2 && wipefs -q -a /dev/disk1")?;
    settle()?;
    assert_eq!(machine.sh("wipefs /dev/disk1")?, "", "a signature is left");
    assert!(!Path::new("/dev/disk1p1").exists(), "a partition is left");
    leave(device)
}
