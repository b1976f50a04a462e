// SPDX-License-Identifier: GPL-2.0-only
//! Where the kernels that srb is built for differ. `Kbuild` looks at what the tree has, never at
//! its version, and says so by `--cfg`.

use kernel::bindings;

/// This module, as owner of what the kernel calls it by.
pub(crate) const fn this_module() -> *mut bindings::module {
    (&raw const bindings::__this_module).cast_mut()
}

/// How far an iterator is into its current vector, in bytes.
pub(super) fn bvec_done(iter: &bindings::bvec_iter) -> usize {
    #[cfg(srb_has_bi_offset)]
    let done = iter.bi_offset;
    #[cfg(not(srb_has_bi_offset))]
    let done = iter.bi_bvec_done;
    done as usize
}
