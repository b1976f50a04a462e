// SPDX-License-Identifier: GPL-2.0-only
//! Waiting for time to pass.

use super::signals::must_end;
use kernel::{
    bindings,
    prelude::*,
    time::{msecs_to_jiffies, Delta, Instant, Jiffies, Monotonic},
};

extern "C" {
    /// `helpers.c`: whether the calling thread may keep its processor.
    fn srb_may_spin() -> bool;
    /// `helpers.c`: sleeps, signals or not, where the freezer may come.
    fn srb_nap(jiffies: c_long);
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
