// SPDX-License-Identifier: GPL-2.0-only
//! Signals of the calling thread.

use core::marker::PhantomData;
use kernel::bindings;

extern "C" {
    /// `helpers.c`: whether a signal that ends a wait is on its way to the calling thread.
    fn srb_must_end() -> bool;
    /// `helpers.c`: blocks harmless signals, and says what was blocked before.
    fn srb_hold_signals(old: *mut bindings::sigset_t);
    /// `helpers.c`: blocks again what was blocked before.
    fn srb_let_signals(old: *mut bindings::sigset_t);
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
