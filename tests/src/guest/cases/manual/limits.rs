// SPDX-License-Identifier: GPL-2.0-only
//! What the block layer is told of a disk.

use super::{attached, detach};
use crate::guest::{sysfs, Case, Device, Machine, TestResult};

pub(super) fn cases() -> Vec<Case> {
    named!["limits": a_disk_tells_the_block_layer_what_is_best_for_it].into()
}

fn limit(device: &Device, file: &str) -> TestResult<String> {
    Ok(sysfs::read(device.sysfs(&format!("queue/{file}")))?.trim_end().to_owned())
}

fn a_disk_tells_the_block_layer_what_is_best_for_it() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "8M", "disk1")?;
    for (file, value) in [
        ("logical_block_size", "512"),
        ("physical_block_size", "4096"),
        ("minimum_io_size", "4096"),
        ("rotational", "0"),
        // A write is done when the server says so: there is nothing to flush.
        ("write_cache", "write through"),
        ("fua", "0"),
        ("scheduler", "[none] mq-deadline"),
        // Nothing promises that a server frees or zeroes what is discarded.
        ("discard_max_bytes", "0"),
        ("write_zeroes_max_bytes", "0"),
    ] {
        let found = limit(&device, file)?;
        let same = if file == "scheduler" { found.starts_with("[none]") } else { found == value };
        assert!(same, "{file} is {found}, not {value}");
    }
    let largest: u64 = limit(&device, "max_hw_sectors_kb")?.parse::<u64>()? * 1024;
    assert!(largest >= 1 << 20, "the largest request is {largest} bytes");
    assert_eq!(limit(&device, "optimal_io_size")?, largest.to_string());
    let in_use: u64 = limit(&device, "max_sectors_kb")?.parse()?;
    assert!(in_use * 1024 >= 1 << 20, "requests are cut at {in_use} KiB");
    for (file, value) in [("ro", "0"), ("removable", "0"), ("hidden", "0")] {
        assert_eq!(sysfs::read(device.sysfs(file))?.trim_end(), value, "{file}");
    }
    detach(device)
}
