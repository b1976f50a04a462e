// SPDX-License-Identifier: GPL-2.0-only
//! The control files and those of a disk, while a real agent serves them; and a disk's requests.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use srb_proto::layout::PAGE_BYTES;

use super::{each_of_the_module, named, succeeded};
use crate::guest::cases::io::disk::Disk;
use crate::guest::cases::io::leave;
use crate::guest::udev::settle;
use crate::guest::wait::wait_until;
use crate::guest::{sysfs, Case, Machine, TestResult};

/// Another URL, of a server that is not there.
const URL: &str = "http://127.0.0.1:8099/";
/// How long a device's node may take to come or go.
const NODE: std::time::Duration = std::time::Duration::from_secs(20);
/// Bytes of a request: several pages of a window.
const REQUEST_BYTES: usize = 16 << 10;
/// Requests that come together.
const TOGETHER: u64 = 4;

pub(super) fn cases() -> Vec<Case> {
    vec![
        named!(urls_come_and_go),
        named!(a_volume_is_made_grown_and_destroyed),
        named!(attach_leaves_all_or_nothing),
        named!(detach_can_be_repeated),
        named!(files_are_read_and_written),
        named!(requests_succeed),
        named!(requests_that_come_together_succeed),
    ]
}

fn urls_come_and_go() -> TestResult {
    let _machine = Machine::builder().start()?;
    let before = sysfs::urls();
    each_of_the_module("add_urls", |nth| {
        let outcome = nth.during(|| sysfs::command("add_urls", URL))?;
        match succeeded(outcome)? {
            Some(()) => sysfs::command("remove_urls", URL)?,
            None => assert_eq!(sysfs::urls(), before, "a URL was added all the same"),
        }
        Ok(())
    })?;
    each_of_the_module("remove_urls", |nth| {
        sysfs::command("add_urls", URL)?;
        let outcome = nth.during(|| sysfs::command("remove_urls", URL))?;
        if succeeded(outcome)?.is_none() {
            sysfs::command("remove_urls", URL)?;
        }
        assert_eq!(sysfs::urls(), before);
        Ok(())
    })
}

fn volumes() -> TestResult<Vec<String>> {
    let text = sysfs::read(Path::new(sysfs::CLASS).join("volumes"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn a_volume_is_made_grown_and_destroyed() -> TestResult {
    let machine = Machine::builder().start()?;
    each_of_the_module("create", |nth| {
        let outcome = nth.during(|| sysfs::command("create", "vol1 1M"))?;
        let made = succeeded(outcome)?.is_some();
        assert_eq!(volumes()?, if made { vec!["vol1"] } else { vec![] }, "after create");
        if made {
            machine.destroy("vol1")?;
        }
        Ok(())
    })?;
    machine.create("vol1", "1M")?;
    let mut mib = 2;
    each_of_the_module("extend", |nth| {
        let words = format!("vol1 {mib}M");
        let outcome = nth.during(|| sysfs::command("extend", &words))?;
        if succeeded(outcome)?.is_none() {
            sysfs::command("extend", &words)?;
        }
        mib += 1;
        Ok(())
    })?;
    each_of_the_module("volumes", |nth| {
        let outcome = nth.during(|| sysfs::read(Path::new(sysfs::CLASS).join("volumes")))?;
        let listed = succeeded(outcome)?;
        assert!(listed.is_none_or(|text| text == "vol1\n"), "a listing of something else");
        Ok(())
    })?;
    each_of_the_module("destroy", |nth| {
        let outcome = nth.during(|| sysfs::command("destroy", "vol1"))?;
        let gone = succeeded(outcome)?.is_some();
        assert_eq!(volumes()?.is_empty(), gone, "after destroy");
        if gone {
            machine.create("vol1", "1M")?;
        }
        Ok(())
    })?;
    machine.destroy("vol1")
}

fn attach_leaves_all_or_nothing() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "1M")?;
    let node = Path::new("/dev/disk1");
    each_of_the_module("attach", |nth| {
        let outcome = nth.during(|| sysfs::command("attach", "vol1 disk1"))?;
        if succeeded(outcome)?.is_some() {
            wait_until("the node is there", NODE, || node.exists())?;
            settle()?;
            // Its partition scan is over, and what it serves is the volume.
            assert_eq!(sysfs::devices(), ["disk1"]);
            return Ok(sysfs::command("detach", "disk1")?);
        }
        assert!(sysfs::devices().is_empty(), "a device is left");
        wait_until("the node is gone", NODE, || !node.exists())
    })?;
    let device = machine.attach("vol1", "disk1")?;
    let disk = Disk::open(&device.path())?;
    assert_eq!(disk.write(0, &[7; REQUEST_BYTES])?, REQUEST_BYTES);
    assert_eq!(disk.read(0, REQUEST_BYTES)?, [7; REQUEST_BYTES]);
    drop(disk);
    leave(device)
}

fn detach_can_be_repeated() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "1M")?;
    for words in ["disk1", "disk1 force"] {
        each_of_the_module(&format!("detach {words}"), |nth| {
            let device = machine.attach("vol1", "disk1")?;
            settle()?;
            let outcome = nth.during(|| sysfs::command("detach", words))?;
            if succeeded(outcome)?.is_none() {
                assert_eq!(sysfs::devices(), ["disk1"], "it failed, and half of it was done");
                return leave(device);
            }
            assert!(sysfs::devices().is_empty(), "it succeeded, and the device is left");
            std::mem::forget(device);
            Ok(())
        })?;
    }
    Ok(())
}

fn files_are_read_and_written() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "1M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    for file in ["srb_name", "srb_urls", "srb_size", "srb_debug", "srb_policy"] {
        let path = device.sysfs(file);
        let before = sysfs::read(&path)?;
        each_of_the_module(&format!("reading {file}"), |nth| {
            let outcome = nth.during(|| sysfs::read(&path))?;
            assert!(succeeded(outcome)?.is_none_or(|text| text == before), "{file} has changed");
            Ok(())
        })?;
    }
    for (file, words) in [("srb_debug", "7"), ("srb_policy", "queue=3")] {
        let path = device.sysfs(file);
        each_of_the_module(&format!("writing {file}"), |nth| {
            let outcome = nth.during(|| sysfs::write(&path, words))?;
            succeeded(outcome).map(drop)
        })?;
    }
    for (parameter, words) in [("req_timeout", "31"), ("policy", "queue"), ("agent_grace", "61")] {
        let path = Path::new(sysfs::PARAMETERS).join(parameter);
        each_of_the_module(&format!("writing {parameter}"), |nth| {
            let outcome = nth.during(|| sysfs::write(&path, words))?;
            succeeded(outcome).map(drop)
        })?;
    }
    leave(device)
}

/// Requests wait for memory, or get it from the reserve: none fails.
fn requests_succeed() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "1M")?;
    for bytes in [REQUEST_BYTES, 4 * REQUEST_BYTES] {
        let mut value = 0;
        each_of_the_module(&format!("a write of {bytes} bytes and a read"), |nth| {
            // A new device's windows have no pages.
            let device = machine.attach("vol1", "disk1")?;
            settle()?;
            let disk = Disk::open(&device.path())?;
            value ^= 0x5a;
            let data = vec![value; bytes];
            let written = nth.during(|| disk.write(0, &data))??;
            assert_eq!(written, bytes, "a write was cut short");
            let read = nth.during(|| disk.read(0, bytes))??;
            assert_eq!(read.len(), bytes, "a read was cut short");
            assert!(read == data, "what was read is not what was written");
            drop(disk);
            leave(device)
        })?;
    }
    Ok(())
}

/// The same of requests that the block layer has gathered, for which memory runs out on the way.
fn requests_that_come_together_succeed() -> TestResult {
    let machine = Machine::builder().start()?;
    machine.create("vol1", "1M")?;
    let mut value = 0;
    each_of_the_module(&format!("{TOGETHER} pages, written back together"), |nth| {
        let device = machine.attach("vol1", "disk1")?;
        settle()?;
        let file = OpenOptions::new().write(true).open(device.path())?;
        value ^= 0x5a;
        // Every second page, so that none is merged with another.
        let offset = |number: u64| number * 2 * PAGE_BYTES as u64;
        for number in 0..TOGETHER {
            file.write_all_at(&[value; PAGE_BYTES], offset(number))?;
        }
        nth.during(|| file.sync_data())??;
        drop(file);
        let disk = Disk::open(&device.path())?;
        for number in 0..TOGETHER {
            assert!(
                disk.read(offset(number), PAGE_BYTES)? == [value; PAGE_BYTES],
                "page {number} is another"
            );
        }
        drop(disk);
        leave(device)
    })
}
