// SPDX-License-Identifier: GPL-2.0-only
//! Where the kernels that srb is built for differ. `Kbuild` looks at what the tree has, never at
//! its version, and says so by `--cfg`.

use kernel::{bindings, prelude::*};

/// This module, as owner of what the kernel calls it by.
pub(crate) const fn this_module() -> *mut bindings::module {
    (&raw const bindings::__this_module).cast_mut()
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

/// A file of a disk, from its callbacks.
pub(super) const fn device_attribute(
    attr: bindings::attribute,
    show: ShowDevice,
    store: Option<StoreDevice>,
) -> bindings::device_attribute {
    #[cfg(srb_has_show_const)]
    return bindings::device_attribute {
        attr,
        __bindgen_anon_1: bindings::device_attribute__bindgen_ty_1 { show_const: Some(show) },
        __bindgen_anon_2: bindings::device_attribute__bindgen_ty_2 { store_const: store },
    };
    #[cfg(not(srb_has_show_const))]
    bindings::device_attribute { attr, show: Some(show), store }
}

/// What the callbacks of a disk's files are given as their attribute.
#[cfg(srb_has_show_const)]
pub(super) type DeviceAttribute = *const bindings::device_attribute;
#[cfg(not(srb_has_show_const))]
pub(super) type DeviceAttribute = *mut bindings::device_attribute;

pub(super) type ShowDevice =
    unsafe extern "C" fn(*mut bindings::device, DeviceAttribute, *mut c_char) -> isize;
pub(super) type StoreDevice =
    unsafe extern "C" fn(*mut bindings::device, DeviceAttribute, *const c_char, usize) -> isize;

/// A group of attributes, from a list with a null at its end.
pub(super) const fn attribute_group(
    list: *const *const bindings::attribute,
) -> bindings::attribute_group {
    bindings::attribute_group {
        #[cfg(srb_has_attrs_const)]
        __bindgen_anon_2: bindings::attribute_group__bindgen_ty_2 { attrs_const: list },
        // Never written to: the kernel only had no `const` there.
        #[cfg(not(srb_has_attrs_const))]
        attrs: list.cast_mut().cast(),
        ..pin_init::zeroed()
    }
}

/// The bit of a request's flags that says that it has been begun before.
#[cfg(srb_has_rqf_flags___RQF_DONTPREP)]
pub(super) const DONTPREP: u32 = 1 << bindings::rqf_flags___RQF_DONTPREP;
#[cfg(not(srb_has_rqf_flags___RQF_DONTPREP))]
pub(super) const DONTPREP: u32 = 1 << bindings::__RQF_DONTPREP;

/// A queue for work, whose items run side by side; null without memory.
///
/// # Safety
/// The flags are those of `<linux/workqueue.h>`.
pub(super) unsafe fn alloc_workqueue(
    name: &CStr,
    flags: bindings::wq_flags,
) -> *mut bindings::workqueue_struct {
    #[cfg(srb_has_alloc_workqueue_noprof)]
    // SAFETY: The name is no format; the contract.
    return unsafe { bindings::alloc_workqueue_noprof(name.as_char_ptr(), flags, 0) };
    #[cfg(not(srb_has_alloc_workqueue_noprof))]
    // SAFETY: The name is no format; the contract.
    unsafe {
        bindings::alloc_workqueue(name.as_char_ptr(), flags, 0)
    }
}
