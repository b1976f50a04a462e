// SPDX-License-Identifier: GPL-2.0-only
//! Where the kernels that srb is built for differ. `Kbuild` looks at what the tree has, never at
//! its version, and says so by `--cfg`.

use kernel::{bindings, prelude::*};

/// This module, as owner of what the kernel calls it by.
pub(crate) const fn this_module() -> *mut bindings::module {
    (&raw const bindings::__this_module).cast_mut()
}

/// A full memory barrier.
pub(crate) fn smp_mb() {
    // SAFETY: Has no preconditions.
    unsafe { bindings::smp_mb() };
}

/// The error of this number.
const fn error(number: u32) -> Error {
    // SAFETY: An `Error` is a negative number other than 0, and nothing else: see below.
    unsafe { core::mem::transmute::<i32, Error>(-(number as i32)) }
}
const _: () = assert!(matches!(error(bindings::EINVAL), EINVAL), "kernel::error::Error differs");

macro_rules! errors {
    ($($name:ident),* $(,)?) => {
        /// Errors that not every kernel has in Rust.
        pub(crate) mod errors {
            use super::{bindings, error, Error};
            $(pub(crate) const $name: Error = error(bindings::$name);)*
        }
    };
}
errors!(EDEADLK, EDESTADDRREQ, ENOTCONN, EOPNOTSUPP, EPROTO, ESHUTDOWN, ESTALE);

/// A file's name and mode; with lockdep there is more to it.
#[allow(clippy::needless_update, reason = "without lockdep these are all fields")]
pub(super) const fn attribute(name: &'static CStr, mode: u16) -> bindings::attribute {
    bindings::attribute {
        name: kernel::str::as_char_ptr_in_const_context(name),
        mode,
        ..pin_init::zeroed()
    }
}

/// How far an iterator is into its current vector, in bytes.
pub(super) fn bvec_done(iter: &bindings::bvec_iter) -> usize {
    #[cfg(srb_has_bi_offset)]
    let done = iter.bi_offset;
    #[cfg(not(srb_has_bi_offset))]
    let done = iter.bi_bvec_done;
    done as usize
}
