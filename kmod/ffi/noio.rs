// SPDX-License-Identifier: GPL-2.0-only
//! Locks whose holders wait for no I/O.
//!
//! An allocation may have to wait until memory is free, and that may be until a page is written to
//! swap or to a file system: on a device of this module, whose agent has just died, and whose
//! recovery needs the very lock that the allocating thread holds. So whoever holds a lock that
//! recovery takes allocates without I/O, and the types here make that the only way to hold one.

use core::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
};
use kernel::prelude::*;

extern "C" {
    /// `helpers.c`: has the thread's allocations start no I/O; returns what held before.
    fn srb_noio_enter() -> c_uint;
    /// `helpers.c`: lets hold again what held before.
    fn srb_noio_leave(before: c_uint);
}

/// While it lives, nothing that its thread allocates starts I/O. They end in the opposite order of
/// their beginnings, as scopes do.
struct NoIo {
    before: c_uint,
    /// It is the thread's.
    _not_send: PhantomData<*mut ()>,
}

impl NoIo {
    fn enter() -> Self {
        // SAFETY: Changes a flag of the calling thread; ended by the drop, on the same thread.
        Self { before: unsafe { srb_noio_enter() }, _not_send: PhantomData }
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        // SAFETY: What `srb_noio_enter` returned to this thread.
        unsafe { srb_noio_leave(self.before) };
    }
}

/// A lock's guard, whose holder allocates without I/O.
pub(crate) struct NoIoGuard<G> {
    // In this order: the lock is let go first.
    guard: G,
    _no_io: NoIo,
}

impl<G> NoIoGuard<G> {
    /// Takes a lock by `lock`.
    pub(crate) fn new(lock: impl FnOnce() -> G) -> Self {
        // Before the lock is waited for: who holds it may be waiting for this thread's I/O.
        let no_io = NoIo::enter();
        Self { guard: lock(), _no_io: no_io }
    }
}

impl<G: Deref> Deref for NoIoGuard<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for NoIoGuard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

/// A mutex that recovery takes: a module of this name with `init` and `lock`, and the name of its
/// guard. What it protects cannot be had in another way.
macro_rules! recovery_mutex {
    ($name:ident: $raw:ident of $type:ty = $value:expr, guard $vis:vis $guard:ident) => {
        mod $name {
            #[allow(unused_imports, reason = "what the mutex protects may need neither")]
            use {super::*, kernel::prelude::*};
            use kernel::sync::{global_lock, GlobalGuard};

            global_lock! {
                // SAFETY: `init` runs before anything else of the module.
                unsafe(uninit) static $raw: Mutex<$type> = $value;
            }

            /// The right to what the mutex protects.
            $vis struct $guard(crate::ffi::noio::NoIoGuard<GlobalGuard<$raw>>);

            impl core::ops::Deref for $guard {
                type Target = $type;

                fn deref(&self) -> &$type {
                    &self.0
                }
            }

            impl core::ops::DerefMut for $guard {
                fn deref_mut(&mut self) -> &mut $type {
                    &mut self.0
                }
            }

            /// # Safety
            /// Called once, before anything else here.
            pub(crate) unsafe fn init() {
                // SAFETY: The contract.
                unsafe { $raw.init() };
            }

            $vis fn lock() -> $guard {
                $guard(crate::ffi::noio::NoIoGuard::new(|| $raw.lock()))
            }
        }
    };
}
pub(crate) use recovery_mutex;
