// SPDX-License-Identifier: GPL-2.0-only
//! `attach`.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use super::{attached, detach, done, refused};
use crate::guest::wait::wait_until;
use crate::guest::{sysfs, Case, Machine, TestResult};

/// How long a partition scan may take.
const SCAN: Duration = Duration::from_secs(10);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::from(named!["attach":
        an_attached_volume_is_a_disk_of_the_system,
        partitions_are_there_again_after_the_next_attach,
        a_volume_that_does_not_exist_is_not_attached,
        a_volume_is_attached_once,
        a_name_that_anything_has_is_not_given_to_a_device,
        a_name_that_a_partition_may_get_is_not_given_to_a_device,
        a_device_name_may_have_31_bytes,
        what_is_no_device_name_is_refused,
    ]);
    let [small] = named!["attach": a_volume_too_small_for_a_sector_is_not_attached];
    // The kernel looks for partition tables where a disk of one sector has none.
    cases.push(small.allow_log("unable to read RDB block").allow_log("beyond EOD"));
    cases
}

fn is_disk(name: &str) -> bool {
    let node = fs::metadata(Path::new("/dev").join(name));
    node.is_ok_and(|node| node.file_type().is_block_device())
}

fn an_attached_volume_is_a_disk_of_the_system() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "8M")?;
    done("attach", "vol1 disk1\n");
    // When the write has returned, all is there: nothing is waited for.
    assert!(is_disk("disk1"), "there is no /dev/disk1");
    assert_eq!(sysfs::devices(), ["disk1"]);
    assert_eq!(sysfs::read("/sys/block/disk1/size")?, "16384\n");
    let listed = machine.sh("lsblk --noheadings --bytes --output NAME,TYPE,SIZE /dev/disk1")?;
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["disk1", "disk", "8388608"]);
    super::settle()?;
    machine.sh("printf data | dd of=/dev/disk1 bs=512 conv=sync oflag=direct status=none")?;
    assert_eq!(machine.sh("dd if=/dev/disk1 bs=4 count=1 status=none")?, "data");
    super::settle()?;
    wait_until("detached", SCAN, || sysfs::command("detach", "disk1").is_ok())?;
    assert!(!is_disk("disk1") && sysfs::devices().is_empty());
    Ok(())
}

fn partitions_are_there_again_after_the_next_attach() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "16M", "disk1")?;
    machine.sh("printf ',4M\\n,\\n' | sfdisk --quiet --label gpt /dev/disk1")?;
    wait_until("the new partitions", SCAN, || is_disk("disk1p1") && is_disk("disk1p2"))?;
    machine.sh("mkfs.ext4 -q -O ^has_journal /dev/disk1p2")?;
    detach(device)?;
    assert!(!is_disk("disk1p1") && !is_disk("disk1p2"));
    // A name that does not end with a digit gets the number alone.
    let device = machine.attach("vol1", "other")?;
    wait_until("the old partitions", SCAN, || is_disk("other1") && is_disk("other2"))?;
    assert_eq!(sysfs::read("/sys/block/other/other1/size")?, "8192\n");
    machine.sh("fsck.ext4 -fn /dev/other2")?;
    detach(device)
}

fn a_volume_that_does_not_exist_is_not_attached() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "1M")?;
    refused("attach", "nosuch disk1", Errno::ENOENT);
    assert!(sysfs::devices().is_empty() && !is_disk("disk1"));
    let device = machine.attach("vol1", "disk1")?;
    detach(device)
}

fn a_volume_too_small_for_a_sector_is_not_attached() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let data = machine.playground(0)?.data().to_owned();
    fs::write(data.join("empty"), "")?;
    fs::write(data.join("half"), [1; 511])?;
    refused("attach", "empty disk1", Errno::EINVAL);
    refused("attach", "half disk1", Errno::EINVAL);
    assert!(sysfs::devices().is_empty());
    done("extend", "half 512");
    let device = machine.attach("half", "disk1")?;
    assert_eq!(device.size_bytes()?, 512);
    detach(device)
}

fn a_volume_is_attached_once() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    refused("attach", "vol1 disk1", Errno::EEXIST);
    refused("attach", "vol1 disk2", Errno::EEXIST);
    assert_eq!(sysfs::devices(), ["disk1"]);
    detach(device)?;
    detach(machine.attach("vol1", "disk2")?)
}

fn a_name_that_anything_has_is_not_given_to_a_device() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    machine.create("vol2", "1M")?;
    fs::write("/dev/a-file", "")?;
    for name in ["vda", "null", "disk1", "a-file", "srb-control", "shm"] {
        refused("attach", format!("vol2 {name}"), Errno::EEXIST);
    }
    fs::remove_file("/dev/a-file")?;
    assert_eq!(sysfs::devices(), ["disk1"]);
    assert!(is_disk("vda") && !is_disk("null"));
    detach(machine.attach("vol2", "a-file")?)?;
    detach(device)
}

fn a_name_that_a_partition_may_get_is_not_given_to_a_device() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol2", "1M")?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    refused("attach", "vol2 disk1p1", Errno::EEXIST);
    refused("attach", "vol2 disk1p77", Errno::EEXIST);
    detach(machine.attach("vol2", "disk11")?)?;
    detach(machine.attach("vol2", "disk1px")?)?;
    detach(device)?;
    let device = machine.attach("vol1", "data7")?;
    refused("attach", "vol2 data", Errno::EEXIST);
    detach(device)
}

fn a_device_name_may_have_31_bytes() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "1M")?;
    let longest = "d".repeat(31);
    refused("attach", format!("vol1 {longest}d"), Errno::EINVAL);
    assert!(sysfs::devices().is_empty());
    for name in [longest.as_str(), "a#b+c-d.e:f=g@h_i", "0", "..."] {
        let device = machine.attach("vol1", name)?;
        assert!(is_disk(name), "{name}");
        assert_eq!(sysfs::devices(), [name]);
        detach(device)?;
        assert!(!is_disk(name), "{name}");
    }
    Ok(())
}

fn what_is_no_device_name_is_refused() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "1M")?;
    for name in ["a/b", "/dev/a", ".", "..", "a!b", "a%b", "a,b", "a\\b", "ä", "a\u{1}b"] {
        refused("attach", format!("vol1 {name}\n"), Errno::EINVAL);
        refused("detach", format!("{name}\n"), Errno::EINVAL);
    }
    for words in ["\n", " ", "vol1\n", "vol1 disk1 more\n"] {
        refused("attach", words, Errno::EINVAL);
    }
    for words in ["\n", "disk1 disk2\n"] {
        refused("detach", words, Errno::EINVAL);
    }
    assert!(sysfs::devices().is_empty());
    Ok(())
}
