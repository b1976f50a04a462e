// SPDX-License-Identifier: GPL-2.0-only
//! A program that uses more memory than it may have, so that it is swapped out and in all the time.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use super::process::Daemon;
use super::random::Random;
use super::{Failed, TestResult};

/// The first argument that makes `srb-guest-tests` the program that eats memory.
pub const WORD: &str = "eat-memory";
const PAGE_WORDS: usize = 512;

/// A process that uses more memory than it may have: writes and compares it, page by page, in an
/// order without locality.
#[derive(Debug)]
pub struct Eater {
    process: Daemon,
    /// Dropped after the process that is in it.
    _group: Group,
}

/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";
const GROUP: &str = "/sys/fs/cgroup/eater";

/// The control group of processes that have less memory than the machine.
#[derive(Debug)]
struct Group;

impl Group {
    fn new(most_mib: u64) -> TestResult<Self> {
        fs::write(Path::new(GROUPS).join("cgroup.subtree_control"), "+memory")?;
        fs::create_dir(GROUP)?;
        fs::write(Path::new(GROUP).join("memory.max"), format!("{most_mib}M"))?;
        Ok(Self)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(GROUP) {
            println!("{GROUP}: {error}");
        }
    }
}

/// What is missing for an [`Eater`].
#[must_use]
pub fn no_groups() -> Option<String> {
    let known = fs::read_to_string(Path::new(GROUPS).join("cgroup.controllers"));
    let has_memory = known.is_ok_and(|known| known.split_whitespace().any(|it| it == "memory"));
    (!has_memory).then(|| "the kernel has no memory control groups".to_owned())
}

impl Eater {
    /// Starts it, for at most so long: it uses `mib`, of which it may have `most_mib` in memory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mib: u64, most_mib: u64, most: Duration) -> TestResult<Self> {
        let group = Group::new(most_mib)?;
        let (exe, secs) = (std::env::current_exe()?, most.as_secs());
        let line = format!("echo $$ >{GROUP}/cgroup.procs && exec \"$0\" {WORD} {mib} {secs}");
        let mut command = Command::new("sh");
        let process = Daemon::start("eater", command.arg("-c").arg(line).arg(exe))?;
        Ok(Self { process, _group: group })
    }

    /// How many pages it has compared so far.
    ///
    /// # Errors
    /// When it is over: it found a wrong page, or was killed.
    pub fn compared(&mut self) -> TestResult<u64> {
        if let Some(status) = self.process.ended()? {
            let log = self.process.log();
            return Err(Failed::from(format!("the eater ended with {status}: {log}")));
        }
        let log = self.process.log();
        let last = log.lines().rev().find_map(|line| line.strip_prefix("compared "));
        Ok(last.map(str::parse).transpose()?.unwrap_or(0))
    }
}

/// The program: `MIB SECONDS`.
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    let numbers: Result<Vec<u64>, _> = arguments.iter().map(|word| word.parse()).collect();
    let Ok([mib, secs]) = numbers.as_deref() else {
        eprintln!("{WORD}: MIB SECONDS");
        return ExitCode::FAILURE;
    };
    match eat(*mib, Duration::from_secs(*secs)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn sum(page: &[u64; PAGE_WORDS]) -> u64 {
    page.iter().skip(3).fold(0, |sum, word| sum.rotate_left(1) ^ word)
}

fn eat(mib: u64, most: Duration) -> Result<(), String> {
    let (began, mut random) = (Instant::now(), Random::from_seed(mib));
    let pages = usize::try_from(mib * 256).map_err(|error| error.to_string())?;
    // Each page begins with its place, how often it was written, and what the rest adds up to.
    let mut memory: Vec<Box<[u64; PAGE_WORDS]>> = Vec::with_capacity(pages);
    for place in 0..pages {
        let mut page = Box::new([0; PAGE_WORDS]);
        page.fill_with(|| random.next_u64());
        [page[0], page[1], page[2]] = [place as u64, 0, sum(&page)];
        memory.push(page);
    }
    let (mut written, mut compared) = (vec![0u64; pages], 0u64);
    let mut told = Instant::now();
    while began.elapsed() < most {
        let place = random.below(pages as u64) as usize;
        let (page, written) = (&mut memory[place], &mut written[place]);
        let found = [page[0], page[1], page[2]];
        if found != [place as u64, *written, sum(page)] {
            return Err(format!("page {place} is {found:?}, and was written {written} times"));
        }
        *written += 1;
        page[1] = *written;
        compared += 1;
        if told.elapsed() > Duration::from_millis(200) {
            told = Instant::now();
            let line = format!("compared {compared}\n");
            std::io::stdout().write_all(line.as_bytes()).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}
