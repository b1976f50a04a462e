// SPDX-License-Identifier: GPL-2.0-only
//! Everything at once: devices come and go from several threads, names are fought over, files are
//! read, agents are replaced.
//!
//! What a single step says depends on the others, so only errors that nobody may see count; what
//! counts besides is what the kernel says of it, and that all is gone at the end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::disk::Disk;
use super::{join, with_failing_requests, Random};
use crate::guest::udev::settle;
use crate::guest::wait::wait_until;
use crate::guest::{sysfs, Case, Machine, TestResult};

/// Threads that attach and detach, and volumes that they share.
const THREADS: usize = 4;
const VOLUMES: u64 = 3;
/// What each of them does.
const STEPS: u32 = 60;
/// Pause between two agents.
const REPLACED_EVERY: Duration = Duration::from_secs(2);
/// How long a device that is left may take to be free.
const GONE: Duration = Duration::from_secs(30);

pub(super) fn cases() -> Vec<Case> {
    vec![with_failing_requests(named!("storm", devices_come_and_go_from_many_sides))
        .bound(Duration::from_secs(400))]
}

/// What several threads do to the same names at once may be refused, in these ways.
fn expected(what: &str, outcome: Result<(), Errno>) -> TestResult {
    match outcome {
        Ok(()) | Err(Errno::EBUSY | Errno::EEXIST | Errno::ENOENT | Errno::ENOTCONN) => Ok(()),
        Err(errno) => Err(format!("{what}: {errno}").into()),
    }
}

fn step(random: &mut Random, files: &[&str]) -> TestResult {
    let (volume, device) = (random.below(VOLUMES), random.below(VOLUMES));
    match random.below(8) {
        0..=2 => {
            let words = format!("vol{volume} disk{device}");
            expected(&words, sysfs::command("attach", &words))
        }
        3..=4 => expected("detach", sysfs::command("detach", format!("disk{device}"))),
        5 => expected("detach", sysfs::command("detach", format!("disk{device} force"))),
        6 => {
            // Whatever comes of it: the device may go meanwhile.
            if let Ok(disk) = Disk::open(Path::new(&format!("/dev/disk{device}"))) {
                let _ = disk.write(0, &[1; 4096]).and_then(|_| disk.read(0, 4096));
            }
            Ok(())
        }
        _ => {
            for file in files {
                let _ = sysfs::read(format!("/sys/block/disk{device}/{file}"));
            }
            let urls = sysfs::read(Path::new(sysfs::CLASS).join("urls"));
            urls.map(drop).map_err(|errno| format!("urls: {errno}").into())
        }
    }
}

fn devices_come_and_go_from_many_sides() -> TestResult {
    let mut machine = Machine::builder().start()?;
    for volume in 0..VOLUMES {
        machine.create(&format!("vol{volume}"), "4M")?;
    }
    let mut random = Random::new("storm");
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (mut random, done) = (Random::from_seed(random.next_u64()), Arc::clone(&stop));
            thread::spawn(move || -> TestResult {
                let files = ["srb_name", "srb_urls", "srb_size", "srb_policy"];
                for _ in 0..STEPS {
                    // ORDERING: a flag that guards nothing.
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    step(&mut random, &files)?;
                }
                Ok(())
            })
        })
        .collect();
    let replaced = replace_agents(&mut machine, &threads);
    // ORDERING: as above.
    stop.store(true, Ordering::Relaxed);
    let outcome = threads.into_iter().map(join).fold(Ok(()), TestResult::and);
    replaced.and(outcome)?;
    settle()?;
    for device in sysfs::devices() {
        let gone = || sysfs::command("detach", &device).is_ok();
        wait_until(&format!("{device} is free"), GONE, gone)?;
    }
    Ok(())
}

/// Agents are killed, and replaced, until the threads have done.
fn replace_agents(machine: &mut Machine, threads: &[thread::JoinHandle<TestResult>]) -> TestResult {
    let mut rounds = 0;
    while threads.iter().any(|thread| !thread.is_finished()) {
        thread::sleep(REPLACED_EVERY);
        machine.kill_agent()?;
        machine.start_agent()?;
        rounds += 1;
    }
    println!("{rounds} agents were killed");
    Ok(())
}
