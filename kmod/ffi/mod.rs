// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's C interfaces behind safe types: the only place where raw bindings appear.
//!
//! Each file wraps one subsystem, and imports nothing from above it: callbacks from C are turned
//! into calls of a trait that what lies above implements, so that the rest of the module is free of
//! pointers whose lifetime the compiler cannot see.

use kernel::prelude::*;

pub(crate) mod barrier;
pub(crate) mod chardev;
mod compat;
pub(crate) mod disk;
pub(crate) mod machine;
pub(crate) mod mm;
pub(crate) mod noio;
pub(crate) mod param;
pub(crate) mod power;
pub(crate) mod process;
pub(crate) mod request;
pub(crate) mod signals;
pub(crate) mod sleep;
pub(crate) mod sysfs;
pub(crate) mod wait;
pub(crate) mod work;

pub(crate) use compat::{errors, this_module};

/// Lets an immutable C descriptor be a static.
#[repr(transparent)]
pub(crate) struct Descriptor<T>(pub(crate) T);

// SAFETY: Descriptors are constant tables of pointers to functions and to other statics.
unsafe impl<T> Sync for Descriptor<T> {}

/// What a C callback returns for a result: 0 or a negative errno.
fn to_c(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}
