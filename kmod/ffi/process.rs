// SPDX-License-Identifier: GPL-2.0-only
//! The calling process: who it is, what it may do, whether it can be frozen.

use kernel::{bindings, prelude::*};

extern "C" {
    /// `helpers.c`: whether the calling thread has CAP_SYS_ADMIN.
    fn srb_is_admin() -> bool;
    /// `helpers.c`: lets the freezer have the calling thread.
    fn srb_set_freezable();
}

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
        unsafe { srb_set_freezable() };
    }
}
