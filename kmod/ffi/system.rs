// SPDX-License-Identifier: GPL-2.0-only
//! Processes, time, paths: what the module asks of the rest of the kernel.

use crate::proto::layout::MAX_QUEUES;
use core::marker::PhantomData;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    str::CString,
    sync::atomic::{Atomic, Relaxed},
    time::{msecs_to_jiffies, Delta, Instant, Jiffies, Monotonic},
};

extern "C" {
    /// `helpers.c`: a locked instruction between two barriers.
    fn srb_set_bit(bit: c_uint, word: *mut u64);
    /// `helpers.c`: whether the calling thread may keep its processor.
    fn srb_may_spin() -> bool;
    /// `helpers.c`: whether a signal that ends a wait is on its way to the calling thread.
    fn srb_must_end() -> bool;
    /// `helpers.c`: blocks harmless signals, and says what was blocked before.
    fn srb_hold_signals(old: *mut bindings::sigset_t);
    /// `helpers.c`: blocks again what was blocked before.
    fn srb_let_signals(old: *mut bindings::sigset_t);
    /// `helpers.c`: sleeps, signals or not, where the freezer may come.
    fn srb_nap(jiffies: c_long);
    /// `helpers.c`: whether the calling thread has CAP_SYS_ADMIN.
    fn srb_is_admin() -> bool;
}

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

/// Whether the caller may do what root may. A file that was opened by root and handed on, or a root
/// without rights, is not enough. EPERM: it may not.
pub(crate) fn admin_only() -> Result {
    // SAFETY: Looks at the calling thread alone.
    if unsafe { srb_is_admin() } {
        return Ok(());
    }
    Err(EPERM)
}

/// The calling process, as all its threads see it.
pub(crate) fn current_process() -> i32 {
    // SAFETY: The current task; this never changes.
    unsafe { (*kernel::current!().as_ptr()).tgid }
}

/// Whether the calling thread is on its way out.
pub(crate) fn current_is_exiting() -> bool {
    current_flags() & bindings::PF_EXITING != 0
}

fn current_flags() -> u32 {
    // SAFETY: The current task reads its own flags.
    unsafe { (*kernel::current!().as_ptr()).flags }
}

/// Whether the calling thread goes on when the machine is about to sleep and freezes its
/// processes, and so do the threads that it makes from now on. For an agent: what the others wait
/// for must be done for them to be frozen.
///
/// With `false` the freezer may have the thread at once; no lock may be held.
pub(crate) fn stays_awake(stays: bool) {
    if stays {
        // SAFETY: The current task changes its own flags, as nobody else does.
        unsafe { (*kernel::current!().as_ptr()).flags |= bindings::PF_NOFREEZE };
    } else if bindings::PF_NOFREEZE & current_flags() != 0 {
        // SAFETY: Process context, no lock held.
        unsafe { bindings::set_freezable() };
    }
}

/// Sets a bit of a word that others change at the same time, as a full barrier on both sides.
pub(crate) fn set_bit_full(bit: u32, word: *mut u64) {
    // SAFETY: Our callers pass a live word and a bit within it.
    unsafe { srb_set_bit(bit, word) };
}

/// While it exists, the calling thread is not sent those signals that say nothing about what it
/// waits for: SIGCHLD, SIGWINCH, SIGURG, and those of job control. They come when it is dropped.
pub(crate) struct SignalsHeld {
    before: bindings::sigset_t,
    /// It is about the calling thread.
    _not_send: PhantomData<*mut ()>,
}

impl SignalsHeld {
    pub(crate) fn new() -> Self {
        let mut before = bindings::sigset_t::default();
        // SAFETY: Changes the calling thread alone.
        unsafe { srb_hold_signals(&raw mut before) };
        Self { before, _not_send: PhantomData }
    }
}

impl Drop for SignalsHeld {
    fn drop(&mut self) {
        // SAFETY: The same thread as in `new`, by the type not being `Send`.
        unsafe { srb_let_signals(&raw mut self.before) };
    }
}

/// Whether a signal wants the calling thread to stop waiting.
pub(crate) fn must_end() -> bool {
    // SAFETY: Looks at the calling thread alone.
    unsafe { srb_must_end() }
}

/// Sleeps. EINTR: a signal came.
pub(crate) fn sleep_interruptible(msecs: u32) -> Result {
    // SAFETY: Process context, no spinlock held.
    let left = unsafe { bindings::msleep_interruptible(msecs) };
    if must_end() {
        return Err(EINTR);
    }
    // What looked like a signal was none, and must not make the caller spin.
    if left > 0 {
        nap(msecs_to_jiffies((left as u32).min(msecs)));
    }
    Ok(())
}

/// Sleeps, signals or not.
pub(crate) fn sleep_msecs(msecs: u32) {
    // SAFETY: Process context, no spinlock held.
    unsafe { bindings::msleep(msecs) };
}

/// Sleeps, signals or not, for one who waits for others: the machine may go to sleep meanwhile.
pub(crate) fn nap(jiffies: Jiffies) {
    // SAFETY: Process context, no spinlock held.
    unsafe { srb_nap(jiffies as c_long) };
}

/// Keeps the processor for `usecs` or until something is `over`, but no longer than nobody else
/// could use it and no signal comes.
pub(crate) fn spin(usecs: u32, over: impl Fn() -> bool) {
    if usecs == 0 {
        return;
    }
    let (start, most) = (Instant::<Monotonic>::now(), Delta::from_micros(usecs.into()));
    // SAFETY: Looks at the calling thread and its processor alone.
    while !over() && start.elapsed() < most && unsafe { srb_may_spin() } {}
}

/// Waits for an RCU grace period.
pub(crate) fn synchronize_rcu() {
    // SAFETY: Process context, no lock held but mutexes.
    unsafe { bindings::synchronize_rcu() };
}

/// Waits for an RCU grace period, at the cost of interrupting the processors: for what holds up
/// requests.
pub(crate) fn synchronize_rcu_expedited() {
    // SAFETY: Process context, no lock held but mutexes.
    unsafe { bindings::synchronize_rcu_expedited() };
}

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
