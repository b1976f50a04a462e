// SPDX-License-Identifier: GPL-2.0-only
//! A program that plays the agent and does to the rings whatever comes to its mind, while two
//! devices are in use.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Campaign, Figures, Plan};
use crate::guest::cases::hostile_program::WORD;
use crate::guest::cases::io::disk::Disk;
use crate::guest::cases::io::hostile::storm::{pattern, DONE};
use crate::guest::cases::io::{join, leave, verified, FIO};
use crate::guest::random::Random;
use crate::guest::udev::settle;
use crate::guest::{process, Device, Machine, TestResult};

/// Operations of one process.
const CHUNK: u64 = 20_000;
/// How long one process may take.
const CHUNK_BOUND: Duration = Duration::from_secs(90);
/// Bytes of a device that are used.
const USED: u64 = 4 << 20;

/// Its size is the number of operations.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "hostile_ring_ops",
    run,
    short: 20_000,
    full: 1_000_000,
    bound: Duration::from_secs(3600),
    memory_mib: 2048,
    fails_requests: true,
    allowed: &[],
};

/// Somebody who reads and writes a device without end, and may be told that it failed.
struct User {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<TestResult>,
}

// ORDERING: numbers that guard nothing.
#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    failures: AtomicU64,
    leaks: AtomicU64,
}

impl User {
    fn start(device: &Device, index: u32, mut random: Random, seen: &Arc<Seen>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, path, seen) = (Arc::clone(&stop), device.path(), Arc::clone(seen));
        let own = pattern(index).to_ne_bytes().repeat((16 << 10) / 8);
        let foreign = pattern(index ^ 1).to_ne_bytes();
        let thread = thread::spawn(move || {
            let disk = Disk::open(&path)?;
            // ORDERING: a flag that guards nothing.
            while !told.load(Ordering::Relaxed) {
                let place = random.below(USED / 4096 - 4) * 4096;
                let len = 4096 * (1 + random.below(4) as usize);
                let outcome = if random.one_in(2) {
                    disk.read(place, len)
                } else {
                    let data = own.get(..len).unwrap_or_default();
                    disk.write(place, data).map(|_| Vec::new())
                };
                seen.requests.fetch_add(1, Ordering::Relaxed);
                match outcome {
                    Ok(data) if data.chunks_exact(8).any(|word| word == foreign) => {
                        seen.leaks.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(_) => {}
                    Err(_) => {
                        seen.failures.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            Ok(())
        });
        Self { stop, thread }
    }

    fn finish(self) -> TestResult {
        // ORDERING: as above.
        self.stop.store(true, Ordering::Relaxed);
        join(self.thread)
    }
}

/// Lets the program do this many operations; returns how many it did.
fn storm(seed: u64, operations: u64) -> TestResult<u64> {
    let mut command = Command::new("/proc/self/exe");
    command.args([WORD, "storm", &seed.to_string(), &operations.to_string()]);
    let text = process::run(&mut command, CHUNK_BOUND)?.success()?;
    let line = text.lines().find_map(|line| line.strip_prefix(DONE)).ok_or("no count")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}

fn run(plan: &Plan, figures: &mut Figures) -> TestResult {
    let mut random = plan.random();
    // What it says of each session that it ends would fill the kernel's log.
    let mut machine =
        Machine::builder().parameter("agent_grace", -1).parameter("debug", 0).start()?;
    let mut devices = Vec::new();
    for index in 0..2 {
        machine.create(&format!("vol{index}"), "16M")?;
        devices.push(machine.attach(&format!("vol{index}"), &format!("disk{index}"))?);
    }
    settle()?;
    machine.kill_agent()?;
    let seen = Arc::new(Seen::default());
    let mut users = Vec::new();
    for (device, index) in devices.iter().zip(0..) {
        for _ in 0..2 {
            let numbers = Random::from_seed(random.next_u64());
            users.push(User::start(device, index, numbers, &seen));
        }
    }
    let mut count = 0;
    let mut outcome = Ok(());
    while outcome.is_ok() && count < plan.size {
        let done = storm(random.next_u64(), CHUNK.min(plan.size - count));
        outcome = done.map(|done| count += done);
    }
    machine.start_agent()?;
    let ended = users.into_iter().try_for_each(User::finish);
    figures.set("count", count);
    figures.set("requests", seen.requests.load(Ordering::Relaxed));
    figures.set("failed_requests", seen.failures.load(Ordering::Relaxed));
    let leaks = seen.leaks.load(Ordering::Relaxed);
    figures.set("leaks", leaks);
    outcome.and(ended)?;
    for device in &devices {
        let job = verified(&device.path(), "randwrite", "64k").option("size", "16M");
        assert_eq!(job.option("io_size", "4M").run(FIO)?.errors, 0);
    }
    devices.into_iter().try_for_each(leave)?;
    if leaks > 0 {
        return Err(format!("{leaks} reads showed data of the other device").into());
    }
    Ok(())
}
