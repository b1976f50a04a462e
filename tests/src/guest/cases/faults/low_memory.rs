// SPDX-License-Identifier: GPL-2.0-only
//! A machine with little memory writes much through its page cache, agent and server beside it: the
//! agent never waits for memory that waits for the agent.
//!
//! The machine has little from the start. Memory that is taken from one that has more leaves the
//! kernel with its old limit of dirty pages, which it lowers by a thirty-second in 200 ms
//! (`update_dirty_limit` in mm/page-writeback.c): all that is left is dirty before the writer is
//! slowed down, and the OOM killer comes, whatever device it is.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Campaign, Figures, Plan};
use crate::guest::cases::io::leaks::field;
use crate::guest::cases::io::{drop_caches, join, leave};
use crate::guest::random::Random;
use crate::guest::wait::wait_for;
use crate::guest::{Machine, TestResult};

/// A file's size in MiB.
const FILE_MIB: u64 = 16;
/// The part of a machine's memory that the module lets windows have, which are nearly all that an
/// agent maps of a file.
const WINDOWS: i64 = 8;
/// What else it maps of files: its program and libraries, in KiB.
const PROGRAM_KIB: i64 = 16 << 10;
/// How often the agent is killed on the way.
const KILLS: u64 = 2;
/// How long writing a file may take.
const PROGRESS: Duration = Duration::from_secs(60);

/// Its size is the number of MiB written.
pub(super) const CAMPAIGN: Campaign = Campaign {
    name: "low_memory",
    run,
    short: 256,
    full: 2048,
    bound: Duration::from_secs(1800),
    memory_mib: 256,
    fails_requests: false,
    allowed: &[],
};

fn file(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("file{number}"))
}

/// The content of the files, MiB by MiB: the same noise, in which each page has its own number.
struct Content {
    block: Vec<u8>,
    page: u64,
}

impl Content {
    fn new(seed: u64) -> Self {
        Self { block: Random::from_seed(seed).bytes(1 << 20), page: seed }
    }

    fn next(&mut self) -> &[u8] {
        for page in self.block.chunks_exact_mut(4096) {
            self.page = self.page.wrapping_add(1);
            for (to, from) in page.iter_mut().zip(self.page.to_ne_bytes()) {
                *to = from;
            }
        }
        &self.block
    }
}

/// Writes the files through the page cache; the kernel decides when to write what to the device.
fn write_all(folder: &Path, seed: u64, files: u64) -> TestResult {
    let mut content = Content::new(seed);
    for number in 0..files {
        let mut file = File::create(file(folder, number))?;
        for _ in 0..FILE_MIB {
            file.write_all(content.next())?;
        }
    }
    nix::unistd::syncfs(File::open(folder)?)?;
    Ok(())
}

/// How many files differ from what was written.
fn count_mismatches(folder: &Path, seed: u64, files: u64) -> TestResult<u64> {
    let (mut wrong, mut content) = (0, Content::new(seed));
    let mut read = vec![0; 1 << 20];
    for number in 0..files {
        let mut file = File::open(file(folder, number))?;
        let mut differs = false;
        for _ in 0..FILE_MIB {
            file.read_exact(&mut read)?;
            differs |= read != content.next();
        }
        wrong += u64::from(differs);
    }
    Ok(wrong)
}

/// Kills the agent when a third and two thirds of the files are there, and sees the writer to its
/// end.
fn kill_on_the_way(
    machine: &mut Machine,
    folder: &Path,
    files: u64,
    writer: &JoinHandle<TestResult>,
    figures: &mut Figures,
) -> TestResult {
    let (mut kills, mut windows_kib, mut least_kib) = (0u64, 0, i64::MAX);
    let bound = PROGRESS * u32::try_from(files)?;
    let outcome = wait_for("all is written", bound, || {
        // The windows are all that the agent maps of a file.
        let status = format!("/proc/{}/status", machine.agent()?.pid());
        windows_kib = windows_kib.max(field(&status, "RssFile")?);
        least_kib = least_kib.min(field("/proc/meminfo", "MemAvailable")?);
        if kills < KILLS && file(folder, files * (kills + 1) / (KILLS + 1)).exists() {
            machine.kill_agent()?;
            machine.start_agent()?;
            kills += 1;
        }
        Ok(writer.is_finished().then_some(()))
    });
    figures.set("count", kills);
    figures.set("most_agent_file_kib", windows_kib);
    figures.set("least_available_kib", least_kib);
    outcome?;
    let most_kib = field("/proc/meminfo", "MemTotal")? / WINDOWS + PROGRAM_KIB;
    if windows_kib > most_kib {
        return Err(format!("the agent maps {windows_kib} KiB of files, not {most_kib}").into());
    }
    if kills < KILLS {
        return Err(format!("the writer ended when the agent had been killed {kills} times").into());
    }
    Ok(())
}

fn run(plan: &Plan, figures: &mut Figures) -> TestResult {
    let mut machine = Machine::builder().data("/scratch/low-memory").start()?;
    let files = plan.size.div_ceil(FILE_MIB);
    machine.create("vol1", &format!("{}M", files * FILE_MIB * 9 / 8 + 128))?;
    let device = machine.attach("vol1", "disk1")?;
    machine.sh("mkfs.ext4 -q /dev/disk1")?;
    let mount = device.mount()?;
    figures.set("available_kib", field("/proc/meminfo", "MemAvailable")?);
    let (folder, seed, began) = (mount.path().to_owned(), plan.seed, Instant::now());
    let writer = thread::spawn(move || write_all(&folder, seed, files));
    let outcome = kill_on_the_way(&mut machine, mount.path(), files, &writer, figures);
    figures.set("written_mib", files * FILE_MIB);
    figures.set("write_ms", super::millis(began.elapsed()));
    if outcome.is_err() && !writer.is_finished() {
        // What it hangs in, and what the memory is used for, stand in the kernel's log then.
        fs::write("/proc/sysrq-trigger", "m")?;
        fs::write("/proc/sysrq-trigger", "w")?;
    } else {
        let written = join(writer);
        figures.set("io_errors", u64::from(written.is_err()));
        written?;
    }
    outcome?;
    drop_caches(&machine)?;
    figures.set("mismatches", count_mismatches(mount.path(), plan.seed, files)?);
    mount.unmount()?;
    machine.sh("e2fsck -fn /dev/disk1")?;
    leave(device)
}
