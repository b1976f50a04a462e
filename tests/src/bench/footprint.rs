// SPDX-License-Identifier: GPL-2.0-only
//! What srb costs beside time a request: memory, time to attach, and how large the requests are
//! that the page cache makes.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::jobs::SPAN_MIB;
use super::Figure;
use crate::guest::fio::Fio;
use crate::guest::{sysfs, udev, Device, Machine, TestResult};

/// Devices that are attached when the cost of one is looked at.
const DEVICES: u32 = 1000;
/// Attached and detached one after another; the median counts.
const ATTACHES: usize = 9;
/// Longer than the module leaves pages to an idle device.
const IDLE: Duration = Duration::from_secs(20);
/// Longer than anything is busy after a load, and shorter than idle connections are kept.
const CALM: Duration = Duration::from_secs(5);
/// For the load between two looks at the agent's memory.
const LOAD: Duration = Duration::from_secs(300);
const MIB_KIB: f64 = 1024.0;

/// The agent's memory at rest, and after so many million requests to `null:`.
pub(super) fn agent_rss(
    machine: &mut Machine,
    device: &Device,
    millions: u32,
) -> TestResult<Vec<Figure>> {
    sleep(IDLE);
    let at_rest = rss_kib(machine)?;
    let fio = Fio::new(&device.path(), "randrw", "4k").option("iodepth", 32);
    let fio = fio.option("size", format!("{SPAN_MIB}m")).option("norandommap", 1);
    let requests = u64::from(millions) * 1_000_000;
    // `size` would end it before.
    let report = fio.option("io_size", format!("{}k", requests * 4)).run(LOAD)?;
    let done = report.read.requests + report.write.requests;
    if report.errors > 0 || done < requests {
        return Err(format!("{done} of {requests} requests, {} failed", report.errors).into());
    }
    let busy = rss_kib(machine)?;
    sleep(IDLE);
    let after = rss_kib(machine)?;
    Ok(vec![
        Figure::new("agent_rss_mib_at_rest", at_rest / MIB_KIB, "MiB"),
        Figure::new("agent_rss_mib_right_after_load", busy / MIB_KIB, "MiB"),
        Figure::new("agent_rss_mib", after / MIB_KIB, "MiB"),
        Figure::new("agent_rss_requests", f64::from(millions) * 1e6, "requests"),
    ])
}

fn rss_kib(machine: &mut Machine) -> TestResult<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", machine.agent()?.pid()))?;
    kib(&status, "VmRSS:")
}

/// A line of /proc's files about memory: `NAME: NUMBER kB`.
fn kib(text: &str, name: &str) -> TestResult<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.and_then(|rest| rest.split_whitespace().next());
    Ok(value.ok_or_else(|| format!("no {name}"))?.parse()?)
}

/// The average request, in KiB, that writing and reading the whole device through the page cache
/// makes.
pub(super) fn buffered(machine: &Machine, device: &Device) -> TestResult<Vec<Figure>> {
    let path = device.path();
    let count = SPAN_MIB * 256;
    let before = Served::of(device)?;
    let write = format!("dd if=/dev/zero of={} bs=4k count={count} conv=fsync", path.display());
    machine.sh(&write)?;
    let written = Served::of(device)?;
    let forget = "blockdev --flushbufs %; echo 3 >/proc/sys/vm/drop_caches";
    machine.sh(&forget.replace("%", &path.to_string_lossy()))?;
    let cold = Served::of(device)?;
    machine.sh(&format!("dd if={} of=/dev/null bs=4k count={count}", path.display()))?;
    let read = Served::of(device)?;
    let write_kib = (written.write_kib - before.write_kib) / (written.writes - before.writes);
    let read_kib = (read.read_kib - cold.read_kib) / (read.reads - cold.reads);
    Ok(vec![
        Figure::new("seq_buffered_write_avg_request_kib", write_kib, "KiB"),
        Figure::new("seq_buffered_read_avg_request_kib", read_kib, "KiB"),
    ])
}

/// What a device has done so far.
#[derive(Debug, PartialEq)]
struct Served {
    reads: f64,
    read_kib: f64,
    writes: f64,
    write_kib: f64,
}

impl Served {
    fn of(device: &Device) -> TestResult<Self> {
        Self::parse(&fs::read_to_string(device.sysfs("stat"))?)
    }

    /// The kernel's Documentation/block/stat.rst: requests, merges, sectors, ticks of each
    /// direction.
    fn parse(text: &str) -> TestResult<Self> {
        let numbers: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
        match numbers?.as_slice() {
            [reads, _, read_sectors, _, writes, _, write_sectors, ..] => Ok(Self {
                reads: *reads,
                read_kib: read_sectors / 2.0,
                writes: *writes,
                write_kib: write_sectors / 2.0,
            }),
            _ => Err(format!("stat: {text}").into()),
        }
    }
}

/// The time to attach the first device and the last of many, and what one of these costs. The
/// caller's machine has no device.
pub(super) fn scale(machine: &mut Machine) -> TestResult<Vec<Figure>> {
    for number in 0..=DEVICES {
        machine.create(&format!("many{number}"), "64M")?;
    }
    let extra = format!("many{DEVICES}");
    let first = attach_ms(&extra)?;
    sleep(IDLE);
    let before = Memory::now(machine)?;
    let mut devices = Vec::new();
    for number in 0..DEVICES {
        devices.push(machine.attach(&format!("many{number}"), &format!("many{number}"))?);
        // udev's look at each would else compete with those that follow, and its memory be counted.
        if number % 50 == 49 {
            udev::settle_within(LOAD)?;
        }
    }
    udev::settle_within(LOAD)?;
    sleep(IDLE);
    let after = Memory::now(machine)?;
    let last = attach_ms(&extra)?;
    drop(devices);
    let mut figures = vec![
        Figure::new("attach_ms_at_1_device", first, "ms"),
        Figure::new("attach_ms_at_1000_devices", last, "ms"),
    ];
    figures.extend(after.each_since(&before));
    Ok(figures)
}

/// What an idle connection costs the agent: of as many as a device may have, less the first.
pub(super) fn connections(machine: &mut Machine, device: &Device) -> TestResult<Vec<Figure>> {
    let load = |depth: u32| {
        let job = Fio::new(&device.path(), "randread", "4k").option("iodepth", depth);
        let report =
            job.option("size", format!("{SPAN_MIB}m")).option("io_size", "16m").run(LOAD)?;
        sleep(CALM);
        if report.errors > 0 {
            Err("a request failed".into())
        } else {
            TestResult::Ok(())
        }
    };
    load(1)?;
    let (before, first) = (rss_kib(machine)?, sockets()?);
    load(32)?;
    let (after, all) = (rss_kib(machine)?, sockets()?);
    // Both ends are on this machine.
    let more = (all - first) / 2.0;
    if more < 8.0 {
        return Err(format!("{first} sockets, then {all}: too few to tell").into());
    }
    Ok(vec![
        Figure::new("connections_opened", more, "connections"),
        Figure::new("connection_agent_kib", (after - before) / more, "KiB"),
    ])
}

/// TCP sockets that are connected, or listen.
fn sockets() -> TestResult<f64> {
    let text = fs::read_to_string("/proc/net/sockstat")?;
    in_use(&text).ok_or_else(|| format!("sockstat: {text}").into())
}

fn in_use(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: inuse "))?;
    line.split(' ').next()?.parse().ok()
}

/// The median time in which the command `attach` returns.
fn attach_ms(volume: &str) -> TestResult<f64> {
    let mut times = Vec::new();
    for _ in 0..ATTACHES {
        let began = Instant::now();
        command("attach", &format!("{volume} {volume}"))?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        udev::settle_within(LOAD)?;
        command("detach", volume)?;
        udev::settle_within(LOAD)?;
    }
    times.sort_by(f64::total_cmp);
    times.get(ATTACHES / 2).copied().ok_or_else(|| "no time was taken".into())
}

fn command(file: &str, words: &str) -> TestResult {
    Ok(sysfs::command(file, words).map_err(|errno| format!("{file} {words}: {errno}"))?)
}

/// What the kernel's memory is used for, of which devices take some: a line of /proc/meminfo, its
/// name in figures, and whether it counts as the device's own.
const PARTS: [(&str, &str, bool); 7] = [
    ("SUnreclaim:", "slab", true),
    ("VmallocUsed:", "vmalloc", true),
    ("Percpu:", "percpu", true),
    ("SReclaimable:", "reclaimable_slab", false),
    ("PageTables:", "page_tables", false),
    ("AnonPages:", "programs", false),
    ("Shmem:", "tmpfs", false),
];

/// Memory in KiB.
struct Memory {
    parts: [f64; PARTS.len()],
    agent: f64,
    available: f64,
}

impl Memory {
    fn now(machine: &mut Machine) -> TestResult<Self> {
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        let text = fs::read_to_string(Path::new("/proc/meminfo"))?;
        let mut parts = [0.0; PARTS.len()];
        for (part, (line, _, _)) in parts.iter_mut().zip(PARTS) {
            *part = kib(&text, line)?;
        }
        Ok(Self { parts, agent: rss_kib(machine)?, available: kib(&text, "MemAvailable:")? })
    }

    /// What each of the devices has taken since then.
    fn each_since(&self, before: &Self) -> Vec<Figure> {
        let mut figures = Vec::new();
        let mut add = |name: &str, kib: f64| {
            let name = format!("idle_device_{name}kib");
            figures.push(Figure::new(name, kib / f64::from(DEVICES), "KiB"));
        };
        let parts = || self.parts.iter().zip(&before.parts).map(|(now, then)| now - then);
        let agent = self.agent - before.agent;
        let own = parts().zip(PARTS).filter(|(_, (_, _, own))| *own).map(|(kib, _)| kib);
        add("", own.sum::<f64>() + agent);
        add("agent_", agent);
        for (kib, (_, name, _)) in parts().zip(PARTS) {
            add(&format!("{name}_"), kib);
        }
        add("available_", before.available - self.available);
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_served_is_read() {
        let served = Served::parse("  10 1 80 7 20 2 400 9 0 1 2 3 4 5 6 7 8\n").unwrap();
        let expected = Served { reads: 10.0, read_kib: 40.0, writes: 20.0, write_kib: 200.0 };
        assert_eq!(served, expected);
        assert!(Served::parse("1 2 3").is_err());
    }

    #[test]
    fn a_device_costs_what_is_its_own() {
        let mut parts = [0.0; PARTS.len()];
        let before = Memory { parts, agent: 1000.0, available: 9000.0 };
        for (part, kib) in parts.iter_mut().zip([1.0, 2.0, 4.0, 8.0]) {
            *part = kib * f64::from(DEVICES);
        }
        let after = Memory { parts, agent: 17_000.0, available: 2000.0 };
        let figures = after.each_since(&before);
        let value = |name: &str| super::super::goals::find(&figures, name).unwrap();
        assert!((value("idle_device_kib") - 23.0).abs() < 1e-9);
        assert!((value("idle_device_agent_kib") - 16.0).abs() < 1e-9);
        assert!((value("idle_device_reclaimable_slab_kib") - 8.0).abs() < 1e-9);
        assert!((value("idle_device_available_kib") - 7.0).abs() < 1e-9);
    }

    #[test]
    fn sockets_are_counted() {
        let text = "sockets: used 99\nTCP: inuse 67 orphan 0 tw 2 alloc 68 mem 3\nUDP: inuse 1\n";
        assert_eq!(in_use(text), Some(67.0));
        assert_eq!(in_use("UDP: inuse 1"), None);
    }

    #[test]
    fn a_line_about_memory_is_read() {
        let text = "VmPeak:\t 9 kB\nVmRSS:\t   1234 kB\n";
        assert_eq!(kib(text, "VmRSS:").unwrap().to_bits(), 1234.0_f64.to_bits());
        assert!(kib(text, "VmSwap:").is_err());
    }
}
