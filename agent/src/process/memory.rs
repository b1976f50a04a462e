// SPDX-License-Identifier: GPL-2.0-only
//! Keeps the agent from ever waiting for memory that waits for the agent, and for processors that
//! are busy with those who wait for it.
//!
//! When the kernel is short of memory it writes dirty pages out, perhaps to a volume, and so
//! through this process. Called from the main thread before there is any other: threads inherit
//! what is set here. Whatever is refused costs a warning; the agent serves without it.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{mlockall, MlockAllFlags};
use nix::sys::resource::{getrlimit, setrlimit, Resource};

/// Stack of each thread: what the deepest path needs, with room to spare.
pub const STACK_BYTES: usize = 512 << 10;

/// Bytes of a piece of [`fill_heap`].
const HEAP_PIECE: usize = 32 << 10;

/// Files that may be open at a time: connections of 4,096 devices with a few to spare for each.
const OPEN_FILES: u64 = 65_536;

/// Priority: ahead of what has none of its own, as other daemons below file systems.
const NICENESS: i32 = -10;

/// Of `<linux/prctl.h>`; libc has it for Android alone.
const PR_SET_IO_FLUSHER: i32 = 57;

/// Prepares the process; `lock` says whether its memory is locked.
pub fn prepare(lock: bool, oom_score_adj: i32) {
    let steps: [(&str, io::Result<()>); 5] = [
        ("raise its priority", raise_priority()),
        ("raise the limit of open files", raise_open_files()),
        ("set oom_score_adj", fs::write("/proc/self/oom_score_adj", oom_score_adj.to_string())),
        ("become an I/O flusher", become_io_flusher()),
        ("lock memory", if lock { lock_memory() } else { Ok(()) }),
    ];
    for (step, result) in steps {
        if let Err(error) = result {
            tracing::warn!("cannot {step}: {error}");
        }
    }
}

/// Whoever waits for a device waits for this process: it should not stand behind them.
fn raise_priority() -> io::Result<()> {
    let this = 0;
    // SAFETY: The call takes numbers alone.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, this, NICENESS) };
    Ok(Errno::result(result).map(drop)?)
}

fn raise_open_files() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = OPEN_FILES.max(soft);
    // Only root may raise the hard limit; below it, anybody may take all there is.
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted.max(hard)).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

/// Allocations on behalf of this process then start no I/O and are not throttled like a writer's.
fn become_io_flusher() -> io::Result<()> {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: The request takes numbers alone.
    let result = unsafe { libc::prctl(PR_SET_IO_FLUSHER, on, unused, unused, unused) };
    Ok(Errno::result(result).map(drop)?)
}

/// Has the allocator give nothing back to the system, for [`fill_heap`].
pub fn keep_heap() {
    for (parameter, value) in [(libc::M_TRIM_THRESHOLD, i32::MAX), (libc::M_TOP_PAD, 64 << 10)] {
        // SAFETY: Numbers alone; nothing of what was allocated changes.
        if unsafe { libc::mallopt(parameter, value) } == 0 {
            tracing::warn!("cannot have the allocator keep its memory");
        }
    }
}

/// Sees to it that the calling thread can allocate so many bytes without asking the system for
/// them: where memory is full of what is to be written to a volume, it has none until this process
/// has written some. The allocator must give nothing back, as [`keep_heap`] has it.
pub fn fill_heap(bytes: usize) {
    // Smaller pieces than those that the allocator maps each by itself.
    let pieces: Vec<Vec<u8>> = (0..bytes / HEAP_PIECE).map(|_| vec![1; HEAP_PIECE]).collect();
    drop(std::hint::black_box(pieces));
}

/// Locks what is mapped by now, as [`prepare`] does what was mapped then: stacks and heaps of
/// threads.
pub fn lock_more() {
    if let Err(error) = lock_memory() {
        tracing::warn!("cannot lock memory: {error}");
    }
}

/// Loads and locks what is mapped now, the program above all: its file may lie on a volume. What is
/// mapped later is locked page by page as it is used: windows have 128 MiB a channel and few pages.
fn lock_memory() -> io::Result<()> {
    mlockall(MlockAllFlags::MCL_CURRENT)?;
    // Not known to nix.
    let on_use = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    Ok(mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_use)?)
}
