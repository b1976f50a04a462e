// SPDX-License-Identifier: GPL-2.0-only
//! The machine: its processors, its memory, its files.

use crate::proto::layout::MAX_QUEUES;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    str::CString,
    sync::atomic::{Atomic, Relaxed},
};

/// Queues of each device: one for each processor that is online, within bounds.
pub(crate) fn queues() -> u32 {
    // SAFETY: A counter of the kernel's.
    let online = unsafe { Atomic::<i32>::from_ptr(&raw mut bindings::__num_online_cpus.counter) };
    let first = FIRST_QUEUES.load(Relaxed);
    if first != 0 {
        return first;
    }
    let count = (online.load(Relaxed).max(1) as u32).min(MAX_QUEUES as u32);
    FIRST_QUEUES.store(count, Relaxed);
    count
}

/// What [`queues`] said first: processors may come and go, queues do not.
static FIRST_QUEUES: Atomic<u32> = Atomic::new(0);

/// Pages of the machine's memory.
pub(crate) fn total_pages() -> usize {
    // SAFETY: A counter of the kernel's.
    let total = unsafe { Atomic::<i64>::from_ptr(&raw mut bindings::_totalram_pages.counter) };
    usize::try_from(total.load(Relaxed)).unwrap_or(0)
}

/// Whether a path leads to anything, in the caller's view of the file system. Opens it without
/// asking its driver.
pub(crate) fn path_exists(path: &str) -> Result<bool> {
    let path = CString::try_from_fmt(fmt!("{}", path))?;
    let flags = (bindings::O_PATH | bindings::O_NOFOLLOW) as c_int;
    // SAFETY: A terminated string.
    match from_err_ptr(unsafe { bindings::filp_open(path.as_char_ptr(), flags, 0) }) {
        Ok(file) => {
            // SAFETY: Opened above.
            unsafe { bindings::filp_close(file, core::ptr::null_mut()) };
            Ok(true)
        }
        Err(error) if error == ENOENT || error == ENOTDIR => Ok(false),
        Err(error) => Err(error),
    }
}
