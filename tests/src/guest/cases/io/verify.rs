// SPDX-License-Identifier: GPL-2.0-only
//! What was written is what is read: any size, any place, any number of devices and queues.

use std::fs;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::disk::Disk;
use super::{
    drop_caches, expect_error, expect_same, join, leave, timed, together, verified,
    with_failing_requests, Random, FIO,
};
use crate::guest::fio::Fio;
use crate::guest::udev::settle;
use crate::guest::wait::patiently;
use crate::guest::{Case, Device, Machine, TestResult};

const SECTOR: u64 = 512;
/// How long a server may take, unless it is said otherwise.
const ANSWER: Duration = Duration::from_secs(30);
/// Sizes of requests and their shares in percent.
const SIZES: &str = "512/15:1536/10:4k/25:20k/15:64k/15:1M/15:4M/5";

pub(super) fn cases() -> Vec<Case> {
    vec![
        named!("verify", direct_requests_of_any_size_come_back_as_written),
        named!("verify", requests_that_come_together_come_back_as_written),
        named!("verify", buffered_writes_come_back_as_written_once_the_cache_is_gone),
        named!("verify", sixteen_devices_at_once_keep_their_data_apart),
        named!("verify", four_writers_on_all_queues_read_back_what_they_wrote),
        named!("verify", large_sequential_requests_are_stored_as_written),
        named!("verify", single_sectors_are_stored_where_they_were_written),
        named!("verify", nothing_lies_beyond_the_end),
        // A disk of a few sectors has no room for the tables that the kernel looks for.
        with_failing_requests(named!("verify", a_volume_need_be_a_multiple_of_a_sector_only)),
    ]
}

fn attached(machine: &Machine, size: &str) -> TestResult<Device> {
    machine.create("vol1", size)?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    Ok(device)
}

fn direct_requests_of_any_size_come_back_as_written() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "512M")?;
    let job = verified(&device.path(), "randwrite", "4k").option("bssplit", SIZES);
    let report = job.option("size", "512M").option("io_size", "24M").run(FIO)?;
    assert!(report.write.bytes >= 24 << 20 && report.errors == 0, "{report:?}");
    // As asynchronous requests of the older kind, to the odd place as well.
    let job = verified(&device.path(), "randrw", "4k").option("ioengine", "libaio");
    let job = job.option("bssplit", "512/40:1k/20:3584/20:12k/20").option("size", "64M");
    let report = job.option("io_size", "2M").run(FIO)?;
    assert_eq!(report.errors, 0);
    leave(device)
}

fn requests_that_come_together_come_back_as_written() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "64M")?;
    // Reads that find their pages, and writes small and large, side by side in one batch.
    let job = together(verified(&device.path(), "randrw", "4k")).option("size", "64M");
    let job = job.option("bssplit", "512/20:4k/50:20k/20:1M/10").option("io_size", "24M");
    let report = job.run(FIO)?;
    assert!(report.read.bytes > 0 && report.write.bytes > 0, "{report:?}");
    assert_eq!(report.errors, 0);
    leave(device)
}

fn buffered_writes_come_back_as_written_once_the_cache_is_gone() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "64M")?;
    let job = verified(&device.path(), "randwrite", "4k").option("bssplit", "512/30:4k/50:100k/20");
    let job = job.option("direct", 0).option("size", "64M").option("io_size", "8M");
    job.clone().option("do_verify", 0).option("end_fsync", 1).run(FIO)?;
    drop_caches(&machine)?;
    let report = job.option("verify_only", 1).run(FIO)?;
    assert_eq!(report.errors, 0);
    leave(device)
}

fn sixteen_devices_at_once_keep_their_data_apart() -> TestResult {
    // Of 512 requests at a time the last ones take long on a slow kernel.
    let answer = patiently(ANSWER).as_secs();
    let mut machine = Machine::builder().parameter("req_timeout", answer).start()?;
    let folder = machine.playground(0)?.data().to_owned();
    let mut devices = Vec::new();
    for number in 0..16 {
        machine.create(&format!("many{number:02}"), "1M")?;
        devices.push(machine.attach(&format!("many{number:02}"), &format!("disk{number:02}"))?);
    }
    settle()?;
    let jobs = devices.iter().map(|device| {
        // Each block says whose it is and where it belongs.
        let job = verified(&device.path(), "randwrite", "4k").option("size", "1M");
        let job = job.option("bssplit", "4k/40:16k/40:128k/20").option("verify", "pattern");
        let job = job.option("verify_pattern", format!("\"{}\"%o", device.name()));
        thread::spawn(move || job.run(FIO))
    });
    for job in jobs.collect::<Vec<_>>() {
        assert_eq!(join(job)?.errors, 0);
    }
    settle()?;
    for (device, number) in devices.into_iter().zip(0..) {
        let file = folder.join(format!("many{number:02}"));
        expect_same(&machine, &device, &file)?;
        expect_only_marks_of(device.name(), &fs::read(file)?);
        leave(device)?;
    }
    Ok(())
}

/// Fails unless the data are marked as this device's from beginning to end, and as no other's.
fn expect_only_marks_of(name: &str, data: &[u8]) {
    let is_mark = |word: &&[u8]| match word.strip_prefix(b"disk") {
        // At the end of a block a mark is cut short, and followed by the next one's beginning.
        Some(number) => number.iter().all(u8::is_ascii_digit),
        None => false,
    };
    let marks = data.windows(name.len()).filter(is_mark);
    let (own, foreign): (Vec<_>, Vec<_>) = marks.partition(|word| *word == name.as_bytes());
    assert!(foreign.is_empty(), "{name} holds {:?}", foreign.first());
    // A mark and an offset are 14 bytes.
    assert!(own.len() > data.len() / 20, "{name}: {} marks in {} bytes", own.len(), data.len());
}

fn four_writers_on_all_queues_read_back_what_they_wrote() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "256M")?;
    let queues = fs::read_dir(device.sysfs("mq"))?.count();
    assert_eq!(queues, thread::available_parallelism()?.get(), "a queue for each CPU");
    let job = verified(&device.path(), "randwrite", "16k").option("group_reporting", 1);
    let job = job.option("numjobs", 4).option("size", "64M").option("offset_increment", "64M");
    let job = job.option("cpus_allowed", format!("0-{}", queues.saturating_sub(1)));
    let job = job.option("cpus_allowed_policy", "split").option("io_size", "4M");
    let report = job.run(FIO)?;
    assert!(report.write.bytes >= 16 << 20 && report.errors == 0, "{report:?}");
    leave(device)
}

fn large_sequential_requests_are_stored_as_written() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let file = machine.playground(0)?.data().join("vol1");
    let device = attached(&machine, "64M")?;
    let largest: u64 = fs::read_to_string(device.sysfs("queue/max_sectors_kb"))?.trim().parse()?;
    assert!(largest >= 1024, "the largest request is {largest} KiB");
    let path = device.path();
    let path = path.display();
    machine.sh("head -c 64M /dev/urandom > /tmp/pattern")?;
    let (copied, took) =
        timed(|| machine.sh(&format!("dd if=/tmp/pattern of={path} bs=16M oflag=direct")));
    copied?;
    machine.sh(&format!("cmp /tmp/pattern {}", file.display()))?;
    let line = format!("dd if={path} bs=16M iflag=direct | cmp - /tmp/pattern; rm /tmp/pattern");
    machine.sh(&line)?;
    println!("64 MiB in requests of 1 MiB: written in {took:.1?}");
    expect_same(&machine, &device, &file)?;
    leave(device)
}

fn single_sectors_are_stored_where_they_were_written() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let file = machine.playground(0)?.data().join("vol1");
    let device = attached(&machine, "8M")?;
    let disk = Disk::open(&device.path())?;
    let mut random = Random::new("sectors");
    let last = device.size_bytes()? / SECTOR - 1;
    let mut places = vec![(0, 1), (1, 1), (3, 5), (7, 2), (last, 1), (last - 3, 3)];
    places.extend((0..40).map(|_| (random.below(last - 16), 1 + random.below(16))));
    for (sector, count) in places {
        let byte = |at: u64| (sector.wrapping_mul(31).wrapping_add(at) % 251) as u8;
        let data: Vec<u8> = (0..count * SECTOR).map(byte).collect();
        let before = fs::read(&file)?;
        assert_eq!(disk.write(sector * SECTOR, &data), Ok(data.len()));
        let after = fs::read(&file)?;
        let (start, end) = ((sector * SECTOR) as usize, ((sector + count) * SECTOR) as usize);
        assert!(after.get(start..end) == Some(&*data), "sector {sector}");
        assert!(after.get(..start) == before.get(..start), "before sector {sector}");
        assert!(after.get(end..) == before.get(end..), "after sector {sector}");
        assert!(disk.read(sector * SECTOR, data.len())? == data, "sector {sector}");
    }
    drop(disk);
    leave(device)
}

fn nothing_lies_beyond_the_end() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let file = machine.playground(0)?.data().join("vol1");
    let device = attached(&machine, "1M")?;
    let size = device.size_bytes()?;
    let disk = Disk::open(&device.path())?;
    for beyond in [size, size + SECTOR, size + (1 << 30)] {
        assert_eq!(disk.read(beyond, 4096)?.len(), 0, "read at {beyond}");
        expect_error("write at the end", disk.write(beyond, &[7; 512]), &[Errno::ENOSPC])?;
    }
    // Half within: the half that is there.
    assert_eq!(disk.read(size - SECTOR, 1024)?.len(), 512);
    assert_eq!(disk.write(size - SECTOR, &[7; 1024]), Ok(512));
    drop(disk);
    assert_eq!(fs::metadata(&file)?.len(), size);
    leave(device)
}

fn a_volume_need_be_a_multiple_of_a_sector_only() -> TestResult {
    let mut machine = Machine::builder().start()?;
    let folder = machine.playground(0)?.data().to_owned();
    for size in [512, 4096 + 512, (1 << 20) + 3 * 512] {
        machine.create("odd", &size.to_string())?;
        let device = machine.attach("odd", "disk1")?;
        settle()?;
        assert_eq!(device.size_bytes()?, size);
        let job = Fio::new(&device.path(), "write", "512").option("verify", "crc32c");
        let job = if size > 65536 { job.option("bs", "37k,37k") } else { job };
        assert_eq!(job.option("verify_fatal", 1).run(FIO)?.errors, 0);
        let disk = Disk::open(&device.path())?;
        assert_eq!(disk.write(size - SECTOR, &[0xa5; 512]), Ok(512));
        drop(disk);
        let mut end = [0; 512];
        let file = folder.join("odd");
        fs::File::open(&file)?.read_exact_at(&mut end, size - SECTOR)?;
        assert!(end == [0xa5; 512], "the last sector of {size} bytes");
        settle()?;
        // Also through the page cache, whose last page is not whole.
        expect_same(&machine, &device, &file)?;
        leave(device)?;
        machine.destroy("odd")?;
    }
    Ok(())
}
