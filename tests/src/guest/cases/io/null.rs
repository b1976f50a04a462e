// SPDX-License-Identifier: GPL-2.0-only
//! The repository that is none: reads are zeros, writes are dropped, requests go all the way else.

use super::disk::Disk;
use super::{leave, FIO};
use crate::guest::fio::Fio;
use crate::guest::udev::settle;
use crate::guest::{sysfs, Case, Machine, TestResult};

pub(super) fn cases() -> Vec<Case> {
    vec![named!("null", a_device_on_null_reads_zeros_and_drops_writes)]
}

fn a_device_on_null_reads_zeros_and_drops_writes() -> TestResult {
    let machine = Machine::builder().playgrounds(0).start()?;
    sysfs::command("add_urls", "null:64M")?;
    let device = machine.attach("any", "disk1")?;
    settle()?;
    assert_eq!(device.size_bytes()?, 64 << 20);
    let disk = Disk::open(&device.path())?;
    assert_eq!(disk.write(4096, &[7; 8192]), Ok(8192));
    assert!(disk.read(0, 1 << 20)? == vec![0; 1 << 20], "not zeros");
    drop(disk);
    let job = Fio::new(&device.path(), "randrw", "4k").option("bssplit", "4k/80:1M/20");
    let report = job.option("iodepth", 32).option("number_ios", 1000).run(FIO)?;
    assert!(report.read.requests + report.write.requests >= 1000 && report.errors == 0);
    println!("null: {:.0} reads/s, {:.0} writes/s", report.read.iops, report.write.iops);
    leave(device)
}
