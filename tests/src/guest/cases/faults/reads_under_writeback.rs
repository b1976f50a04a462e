// SPDX-License-Identifier: GPL-2.0-only
//! Reads while a backlog of dirty pages is written to the same device: how much longer they take.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use super::{Campaign, Figures, Plan};
use crate::guest::cases::io::disk::Disk;
use crate::guest::cases::io::leaks::field;
use crate::guest::cases::io::{join, leave, verified, FIO};
use crate::guest::random::Random;
use crate::guest::udev::settle;
use crate::guest::{Device, Machine, TestResult};

/// Where the reads go: behind the backlog.
const READS_AT: u64 = 1 << 30;
/// Of how many bytes they read.
const READS_OVER: u64 = 32 << 20;
/// Reads of the idle device, and one more for each MiB of the backlog.
const IDLE_READS: u64 = 200;
/// There must be a read for each so many MiB of the backlog: fewer say nothing.
const FEWEST_READS_MIB: u64 = 8;

/// How much longer than on an idle device 99 % of reads may take, in full; a small backlog has too
/// few reads to tell.
const WORST_RATIO: f64 = 5.0;

/// Its size is the backlog in MiB.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "reads_under_writeback",
    run,
    short: 128,
    full: 1024,
    bound: Duration::from_secs(900),
    memory_mib: 4096,
    fails_requests: false,
    allowed: &[],
};

/// The kernel's limits of dirty memory, which are restored.
struct Dirty(Vec<(&'static str, String)>);

impl Dirty {
    /// Lets this many bytes be dirty without anybody writing them.
    fn allow(bytes: u64) -> TestResult<Self> {
        let values = [
            ("dirty_bytes", bytes.saturating_mul(2)),
            ("dirty_background_bytes", bytes.saturating_mul(2).saturating_sub(4096)),
            ("dirty_writeback_centisecs", 0),
        ];
        // Bytes are zero while the ratios count, and cannot be written back as such.
        let names = ["dirty_ratio", "dirty_background_ratio", "dirty_writeback_centisecs"];
        let mut saved = Self(Vec::new());
        for name in names {
            saved.0.push((name, fs::read_to_string(path(name))?));
        }
        for (name, value) in values {
            fs::write(path(name), value.to_string())?;
        }
        Ok(saved)
    }
}

fn path(name: &str) -> String {
    format!("/proc/sys/vm/{name}")
}

impl Drop for Dirty {
    fn drop(&mut self) {
        for (name, value) in &self.0 {
            if let Err(error) = fs::write(path(name), value) {
                println!("{name}: {error}");
            }
        }
    }
}

/// Reads 4 KiB at a time, one after another, at least `least` times and for as long as `goes_on`;
/// returns how long each took.
fn read_times(
    device: &Device,
    random: &mut Random,
    least: u64,
    goes_on: impl Fn() -> bool,
) -> TestResult<Vec<Duration>> {
    let disk = Disk::open(&device.path())?;
    let mut times = Vec::new();
    while (times.len() as u64) < least || goes_on() {
        let place = READS_AT + random.below(READS_OVER / 4096) * 4096;
        let began = Instant::now();
        let data = disk.read(place, 4096)?;
        times.push(began.elapsed());
        assert_eq!(data.len(), 4096);
    }
    Ok(times)
}

/// The time in microseconds that this share of them, in percent, does not exceed.
fn percentile(times: &mut [Duration], percent: usize) -> u64 {
    times.sort_unstable();
    let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
    let time = times.get(at).copied().unwrap_or_default();
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Makes this many MiB dirty.
fn make_dirty(file: &File, random: &mut Random, mib: u64) -> TestResult {
    let block = random.bytes(1 << 20);
    for number in 0..mib {
        file.write_all_at(&block, number << 20)?;
    }
    let dirty_kib = field("/proc/meminfo", "Dirty")?;
    if dirty_kib < i64::try_from(mib << 10)? * 9 / 10 {
        return Err(format!("of {mib} MiB only {dirty_kib} KiB are dirty").into());
    }
    Ok(())
}

fn run(plan: &Plan, figures: &mut Figures) -> TestResult {
    let mut random = plan.random();
    // The data are on a disk, so that the backlog alone is in memory.
    let machine = Machine::builder().data("/scratch/writeback").start()?;
    machine.create("vol1", "2G")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let fill = verified(&device.path(), "write", "1M").option("offset", READS_AT);
    fill.option("size", READS_OVER).option("do_verify", 0).run(FIO)?;
    let mut idle = read_times(&device, &mut random, IDLE_READS + plan.size, || false)?;

    let file = OpenOptions::new().write(true).open(device.path())?;
    let dirty = Dirty::allow(plan.size << 20)?;
    make_dirty(&file, &mut random, plan.size)?;
    let began = Instant::now();
    let flusher = thread::spawn(move || {
        file.sync_all()?;
        Ok(began.elapsed())
    });
    let busy = read_times(&device, &mut random, 0, || !flusher.is_finished());
    let took = join(flusher)?;
    drop(dirty);
    let mut busy = busy?;

    let (idle_p99, busy_p99) = (percentile(&mut idle, 99), percentile(&mut busy, 99));
    figures.set("count", busy.len());
    figures.set("backlog_mib", plan.size);
    figures.set("flush_ms", super::millis(took));
    figures.set("idle_p50_us", percentile(&mut idle, 50));
    figures.set("idle_p99_us", idle_p99);
    figures.set("p50_us", percentile(&mut busy, 50));
    figures.set("p99_us", busy_p99);
    let ratio = busy_p99 as f64 / idle_p99.max(1) as f64;
    figures.set("ratio", (ratio * 10.0).round() / 10.0);
    if (busy.len() as u64) < plan.size / FEWEST_READS_MIB {
        return Err(format!("{} reads while the backlog was written", busy.len()).into());
    }
    if plan.size >= CAMPAIGN.full && ratio > WORST_RATIO {
        return Err(format!("99 % of reads: up to {ratio:.1} times as long").into());
    }
    leave(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let mut times: Vec<Duration> = (1..=200).rev().map(Duration::from_micros).collect();
        assert_eq!(percentile(&mut times, 99), 198);
        assert_eq!(percentile(&mut times, 50), 100);
        assert_eq!(percentile(&mut [], 99), 0);
    }
}
