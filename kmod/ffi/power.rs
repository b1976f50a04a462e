// SPDX-License-Identifier: GPL-2.0-only
//! What the kernel's power management tells the control device, as it does every device.

use kernel::{bindings, prelude::*};

#[expect(improper_ctypes, reason = "a device is passed by pointer, its layout is the bindings'")]
extern "C" {
    /// `helpers.c`: has `sleep` called when the device goes to sleep, and `thaw` when it is woken
    /// to have the machine's image written.
    fn srb_watch_sleep(device: *mut bindings::device, sleep: Callback, thaw: Callback);
}

type Callback = unsafe extern "C" fn(*mut bindings::device) -> c_int;

/// Who is told of the machine's sleeps.
pub(crate) trait Sleeper {
    /// The devices go to sleep; processes and kernel threads have been frozen.
    fn fall_asleep();
    /// The machine's image is about to be written.
    fn wake();
}

/// # Safety
/// Called by the power management, with what it passes.
unsafe extern "C" fn sleep<S: Sleeper>(_device: *mut bindings::device) -> c_int {
    S::fall_asleep();
    0
}

/// # Safety
/// Called by the power management, with what it passes.
unsafe extern "C" fn thaw<S: Sleeper>(_device: *mut bindings::device) -> c_int {
    S::wake();
    0
}

/// Has `S` told of the machine's sleeps, for as long as the device exists.
///
/// # Safety
/// A registered device, which is no driver's.
pub(super) unsafe fn watch<S: Sleeper>(device: *mut bindings::device) {
    // SAFETY: The contract.
    unsafe { srb_watch_sleep(device, sleep::<S>, thaw::<S>) };
}
