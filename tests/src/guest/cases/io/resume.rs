// SPDX-License-Identifier: GPL-2.0-only
//! An agent may go at any moment: users see a pause, and no error.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{completed, in_flight, join, leave, parked, together, verified, Random, FIO};
use crate::guest::fio::Fio;
use crate::guest::udev::settle;
use crate::guest::wait::wait_for;
use crate::guest::{process, Case, Device, Machine, TestResult};

/// How often an agent is taken away in one test.
const ROUNDS: usize = 5;
/// How long the first request after a new agent's start may take.
const RESUME: Duration = Duration::from_secs(20);

pub(super) fn cases() -> Vec<Case> {
    vec![
        named!("resume", an_agent_killed_during_verified_writes_costs_a_pause_only),
        named!("resume", an_agent_killed_under_ext4_costs_a_pause_only),
        named!("resume", an_agent_restarted_during_verified_writes_costs_a_pause_only),
        named!("resume", requests_wait_for_the_next_agent),
    ]
}

/// Work that goes on until it is told to stop; how often it was done is its result.
struct Work {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<TestResult<u32>>,
}

impl Work {
    fn start(round: impl Fn() -> TestResult + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut rounds = 0u32;
            // ORDERING: a flag that guards nothing.
            while !told.load(Ordering::Relaxed) {
                round()?;
                rounds += 1;
            }
            Ok(rounds)
        });
        Self { stop, thread }
    }

    fn finish(self) -> TestResult<u32> {
        // ORDERING: as above.
        self.stop.store(true, Ordering::Relaxed);
        join(self.thread)
    }
}

/// Verified direct writes of all sizes, again and again; in batches, if `shape` makes them so.
fn verified_writes(path: PathBuf, shape: fn(Fio) -> Fio) -> Work {
    Work::start(move || {
        let job = shape(verified(&path, "randwrite", "4k"));
        let job = job.option("bssplit", "512/20:4k/50:64k/20:1M/10");
        let report = job.option("size", "64M").option("io_size", "4M").run(FIO)?;
        assert_eq!(report.errors, 0);
        Ok(())
    })
}

/// Takes the agent away at random moments and starts another one, while requests are under way.
fn disturb(
    machine: &mut Machine,
    device: &Device,
    take_away: impl Fn(&mut Machine) -> TestResult,
) -> TestResult {
    let mut random = Random::new("moments");
    let mut pauses = Vec::new();
    for _ in 0..ROUNDS {
        wait_for("requests are under way", RESUME, || Ok((in_flight(device)? > 0).then_some(())))?;
        thread::sleep(random.pause(0, 700));
        take_away(machine)?;
        let before = completed(device)?;
        let began = Instant::now();
        machine.start_agent()?;
        wait_for("requests are done again", RESUME, || {
            Ok((completed(device)? > before).then_some(()))
        })?;
        pauses.push(began.elapsed());
    }
    println!("from an agent's start to the first request done: {pauses:.2?}");
    Ok(())
}

fn an_agent_killed_during_verified_writes_costs_a_pause_only() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "64M")?;
    let device = machine.attach("vol1", "disk1")?;
    let work = verified_writes(device.path(), together);
    disturb(&mut machine, &device, Machine::kill_agent)?;
    println!("verified {} times", work.finish()?);
    leave(device)
}

fn an_agent_restarted_during_verified_writes_costs_a_pause_only() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "64M")?;
    let device = machine.attach("vol1", "disk1")?;
    let work = verified_writes(device.path(), |job| job);
    disturb(&mut machine, &device, Machine::stop_agent)?;
    println!("verified {} times", work.finish()?);
    leave(device)
}

/// Copies some hundred files, reads them back from the server, and compares them.
const COPY_AND_COMPARE: &str = "\
    set -e; cd /usr/share/zoneinfo; rm -rf /mnt/disk1/copy; mkdir /mnt/disk1/copy
    cp -a Europe Asia America /mnt/disk1/copy; sync -f /mnt/disk1
    echo 3 > /proc/sys/vm/drop_caches
    for folder in Europe Asia America; do diff -r $folder /mnt/disk1/copy/$folder; done";

fn an_agent_killed_under_ext4_costs_a_pause_only() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "128M")?;
    let device = machine.attach("vol1", "disk1")?;
    machine.sh("mkfs.ext4 -q /dev/disk1")?;
    let mount = device.mount()?;
    let work = Work::start(|| process::sh(COPY_AND_COMPARE, FIO)?.success().map(drop));
    disturb(&mut machine, &device, Machine::kill_agent)?;
    println!("compared {} times", work.finish()?);
    mount.unmount()?;
    machine.sh("e2fsck -fn /dev/disk1")?;
    leave(device)
}

fn requests_wait_for_the_next_agent() -> TestResult {
    let mut machine = Machine::builder().start()?;
    machine.create("vol1", "64M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    machine.kill_agent()?;
    let job = verified(&device.path(), "randwrite", "64k").option("iodepth", 16);
    let job = job.option("size", "64M").option("io_size", "4M");
    let writer = thread::spawn(move || job.run(FIO));
    wait_for("16 requests are parked", RESUME, || Ok((parked(&device)? == 16).then_some(())))?;
    let before = completed(&device)?;
    thread::sleep(Duration::from_secs(3));
    assert_eq!((parked(&device)?, completed(&device)?), (16, before), "they did not wait");
    machine.start_agent()?;
    let report = join(writer)?;
    assert!(report.errors == 0 && report.write.bytes >= 4 << 20, "{report:?}");
    leave(device)
}
