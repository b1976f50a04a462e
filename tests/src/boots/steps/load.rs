// SPDX-License-Identifier: GPL-2.0-only
//! Writes to a file on a volume while something happens, and a look at what the volume has then.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::run;
use crate::guest::{Failed, TestResult};

const FILE: &str = "/mnt/load";
const BLOCK_BYTES: usize = 4096;
/// The file's size. A write goes elsewhere each time: one to where a lost write may still land
/// waits for that.
const BLOCKS: u64 = 4096;

/// Writes without a pause, each write through to the volume, until it is ended.
pub(super) struct Load {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Written>>,
}

/// What a load has done.
struct Written {
    /// The longest that a write took.
    longest: Duration,
    /// How many writes there were, each of which said which one it was.
    turns: u64,
}

/// The block that the write of this number carries.
fn block(turn: u64) -> Vec<u8> {
    turn.to_le_bytes().repeat(BLOCK_BYTES / size_of::<u64>())
}

fn place(turn: u64) -> u64 {
    turn % BLOCKS * BLOCK_BYTES as u64
}

impl Load {
    pub(super) fn start() -> std::io::Result<Self> {
        let file = File::options().write(true).create(true).truncate(false).open(FILE)?;
        let ends = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut written = Written { longest: Duration::ZERO, turns: 0 };
            // ORDERING: nothing else is read after it.
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                file.write_all_at(&block(written.turns), place(written.turns))?;
                file.sync_data()?;
                written.turns += 1;
                written.longest = written.longest.max(began.elapsed());
            }
            Ok(written)
        });
        Ok(Self { ends, thread })
    }

    /// Ends it, and reads from the volume what it has written; the longest that a write took.
    pub(super) fn end(self) -> TestResult<Duration> {
        // ORDERING: see `start`.
        self.ends.store(true, Ordering::Relaxed);
        let written = self.thread.join().map_err(|_| "the load panicked")?;
        let written = written.map_err(|error| format!("a write failed: {error}"))?;
        run("echo 1 >/proc/sys/vm/drop_caches")?;
        let file = File::open(FILE)?;
        let mut found = vec![0; BLOCK_BYTES];
        for turn in written.turns.saturating_sub(BLOCKS)..written.turns {
            file.read_exact_at(&mut found, place(turn))?;
            if found != block(turn) {
                return Err(Failed::from(format!("write {turn} is not what the volume has")));
            }
        }
        Ok(written.longest)
    }
}
