// SPDX-License-Identifier: GPL-2.0-only
//! How long a device keeps its users waiting.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::uio::pread;

use super::wait::wait_until;
use super::TestResult;

/// For reads to go on.
const BOUND: Duration = Duration::from_secs(60);
const BLOCK: usize = 4096;

#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    reads: AtomicU64,
    longest_nanos: AtomicU64,
}

/// Reads one block after another, past the page cache.
#[derive(Debug)]
pub struct Pauses {
    seen: Arc<Seen>,
    thread: JoinHandle<Result<(), String>>,
}

#[repr(align(4096))]
struct Aligned([u8; BLOCK]);

fn read_on(file: &File, seen: &Seen) -> Result<(), String> {
    let mut block = Box::new(Aligned([0; BLOCK]));
    // ORDERING: a flag and counters that guard nothing.
    while !seen.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let count = pread(file, &mut block.0, 0).map_err(|errno| format!("a read: {errno}"))?;
        if count != BLOCK {
            return Err(format!("a read gave {count} bytes"));
        }
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        seen.longest_nanos.fetch_max(nanos, Ordering::Relaxed);
        seen.reads.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

impl Pauses {
    /// Begins to read `device`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn of(device: &Path) -> TestResult<Self> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(device)?;
        let seen = Arc::new(Seen::default());
        let theirs = Arc::clone(&seen);
        Ok(Self { seen, thread: thread::spawn(move || read_on(&file, &theirs)) })
    }

    /// Does something that makes reads wait, sees them go on, and gives the longest.
    ///
    /// # Errors
    /// That of `cause`; or reads do not go on.
    pub fn caused_by(&self, cause: impl FnOnce() -> TestResult) -> TestResult<Duration> {
        let reads = || self.seen.reads.load(Ordering::Relaxed);
        self.seen.longest_nanos.store(0, Ordering::Relaxed);
        cause()?;
        // The one that waited, and those to which it had given way.
        let enough = reads() + 3;
        let over = || reads() >= enough || self.thread.is_finished();
        wait_until("reads go on", BOUND, over)?;
        Ok(Duration::from_nanos(self.seen.longest_nanos.load(Ordering::Relaxed)))
    }

    /// Ends the reads.
    ///
    /// # Errors
    /// When one had failed.
    pub fn finish(self) -> TestResult {
        self.seen.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| "the reader panicked")??)
    }
}
