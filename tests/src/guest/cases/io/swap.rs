// SPDX-License-Identifier: GPL-2.0-only
//! Swap on a device of srb, with one agent that serves and one that stands by: whoever dies, the
//! machine goes on.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{join, leave, Random};
use crate::guest::memory::{no_groups, Eater};
use crate::guest::udev::settle;
use crate::guest::wait::wait_for;
use crate::guest::{process, sysfs, Case, Failed, Machine, TestResult};

/// How often the agent is killed.
const KILLS: u32 = 20;
/// What is eaten, and what of it may be in memory, in MiB.
const EATEN_MIB: u64 = 72;
const MEMORY_MIB: u64 = 32;
/// How long all of it may take.
const BOUND: Duration = Duration::from_secs(600);
/// For pages to be swapped again, and for commands.
const SOON: Duration = Duration::from_secs(60);
/// Until all that is eaten was there once.
const FULL: Duration = Duration::from_secs(240);
/// Between commands, which are to meet each death, not to keep all others from work.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn cases() -> Vec<Case> {
    let case = named!("swap", twenty_deaths_under_memory_pressure_cost_pauses_only);
    vec![case.bound(BOUND).needs(no_groups)]
}

/// Swap that is in use.
#[derive(Debug)]
struct Swap(PathBuf);

impl Swap {
    fn on(device: &Path) -> TestResult<Self> {
        let name = device.display();
        process::sh(&format!("mkswap -q {name} && swapon {name}"), SOON)?.success()?;
        Ok(Self(device.to_owned()))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // What does not go is found by the check after the test.
        let off = process::sh(&format!("swapoff {}", self.0.display()), BOUND);
        if let Err(why) = off.and_then(process::Output::success) {
            println!("swapoff: {why:?}");
        }
    }
}

/// Commands, again and again; their number is the result.
fn commands(stop: &Arc<AtomicBool>) -> JoinHandle<TestResult<u32>> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut done = 0;
        // ORDERING: a flag that guards nothing.
        while !stop.load(Ordering::Relaxed) {
            for (file, words) in [("create", "vol2 1M"), ("extend", "vol2 2M"), ("destroy", "vol2")]
            {
                // One that comes between two agents is refused; the others are carried on with.
                let asked = Instant::now();
                while let Err(errno) = sysfs::command(file, words) {
                    if errno != Errno::ENOTCONN || asked.elapsed() > SOON {
                        return Err(Failed::from(format!("{file} {words}: {errno}")));
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                done += 1;
                thread::sleep(PAUSE);
            }
        }
        Ok(done)
    })
}

/// Pages that were swapped out and in since the machine was started.
fn swapped() -> TestResult<[i64; 2]> {
    let text = sysfs::read("/proc/vmstat")?;
    let count = |name: &str| -> TestResult<i64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such count")?;
        Ok(line.trim().parse()?)
    };
    Ok([count("pswpout ")?, count("pswpin ")?])
}

fn wait_for_swapping(eater: &mut Eater) -> TestResult {
    let before = swapped()?;
    wait_for("pages are swapped", SOON, || {
        eater.compared()?;
        let now = swapped()?;
        Ok((now[0] > before[0] && now[1] > before[1]).then_some(()))
    })
}

fn twenty_deaths_under_memory_pressure_cost_pauses_only() -> TestResult {
    let mut machine = Machine::builder().data("/scratch/swap").start()?;
    machine.create("vol1", "512M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    let swap = Swap::on(&device.path())?;
    let mut eater = Eater::start(EATEN_MIB, MEMORY_MIB, BOUND)?;
    wait_for("memory was eaten", FULL, || Ok((eater.compared()? > 0).then_some(())))?;
    let stop = Arc::new(AtomicBool::new(false));
    let commands = commands(&stop);
    let outcome = kill_and_kill(&mut machine, &mut eater);
    // ORDERING: as above.
    stop.store(true, Ordering::Relaxed);
    let done = join(commands);
    let compared = eater.compared();
    drop(eater);
    drop(swap);
    let [out, back] = swapped()?;
    println!("{done:?} commands, {compared:?} pages compared, {out} swapped out, {back} in");
    outcome?;
    assert!(done? > 0 && compared? > 0);
    leave(device)
}

/// Kills the agent while pages are swapped, and starts another one that stands by, as a supervisor
/// does.
fn kill_and_kill(machine: &mut Machine, eater: &mut Eater) -> TestResult {
    let mut random = Random::new("moments");
    let mut starts = Vec::new();
    for _ in 0..KILLS {
        let began = Instant::now();
        let standby = machine.start_standby()?;
        starts.push(began.elapsed());
        wait_for_swapping(eater)?;
        thread::sleep(random.pause(0, 500));
        machine.kill_agent_for(standby)?;
        wait_for("who stood by serves", SOON, || Ok((sysfs::standbys()? == 0).then_some(())))?;
    }
    println!("from the start of an agent until it stood by: {starts:.1?}");
    wait_for_swapping(eater)
}
