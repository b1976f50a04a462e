// SPDX-License-Identifier: GPL-2.0-only
//! Module parameters that show in sysfs; the `module!` macro makes only such as do not.

use crate::proto::command::Policy;
use core::fmt::Write as _;
use kernel::{
    bindings,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        SetOnce,
    },
};

/// Who is told that a parameter was written, and whether: parameters are set before the module's
/// init runs, when there is nobody to tell.
static CHANGED: SetOnce<fn()> = SetOnce::new();
static WATCHED: Atomic<bool> = Atomic::new(false);

/// Has `changed` called when a parameter was written, until [`watch_no_more`]. Called once.
pub(crate) fn watch(changed: fn()) {
    CHANGED.populate(changed);
    WATCHED.store(true, Release);
}

/// Ends [`watch`]: whoever was writing a parameter has done what follows from it.
pub(crate) fn watch_no_more() {
    WATCHED.store(false, Release);
    // SAFETY: This module, whose parameters are written under this lock.
    unsafe { bindings::kernel_param_lock(super::this_module()) };
    // SAFETY: Locked above.
    unsafe { bindings::kernel_param_unlock(super::this_module()) };
}

/// An unsigned parameter with its least and greatest value.
pub(crate) struct UintRange<const MIN: u32, const MAX: u32>;

/// A signed parameter with its least and greatest value.
pub(crate) struct IntRange<const MIN: i32, const MAX: i32>;

/// A [`Policy`], kept as [`Policy::to_secs`].
pub(crate) struct PolicyWord;

impl<const MIN: u32, const MAX: u32> UintRange<MIN, MAX> {
    pub(crate) const OPS: bindings::kernel_param_ops = bindings::kernel_param_ops {
        flags: 0,
        set: Some(Self::set),
        get: Some(bindings::param_get_uint),
        free: None,
    };

    /// Where the kernel finds the value.
    pub(crate) const fn address(value: &'static Atomic<u32>) -> *mut c_void {
        value.as_ptr().cast()
    }

    /// # Safety
    /// Called by the module loader or sysfs, for a parameter of ours, with what it passes.
    unsafe extern "C" fn set(value: *const c_char, param: *const bindings::kernel_param) -> c_int {
        // SAFETY: Called by the module loader or sysfs; `arg` points to a u32, by `address`.
        let result = unsafe { bindings::param_set_uint_minmax(value, param, MIN, MAX) };
        finish(result)
    }
}

impl<const MIN: i32, const MAX: i32> IntRange<MIN, MAX> {
    pub(crate) const OPS: bindings::kernel_param_ops = bindings::kernel_param_ops {
        flags: 0,
        set: Some(Self::set),
        get: Some(bindings::param_get_int),
        free: None,
    };

    /// Where the kernel finds the value.
    pub(crate) const fn address(value: &'static Atomic<i32>) -> *mut c_void {
        value.as_ptr().cast()
    }

    /// # Safety
    /// Called by the module loader or sysfs, for a parameter of ours, with what it passes.
    unsafe extern "C" fn set(value: *const c_char, param: *const bindings::kernel_param) -> c_int {
        let mut parsed: c_int = 0;
        // SAFETY: A string from the module loader or sysfs.
        let result = unsafe { bindings::kstrtoint(value, 0, &mut parsed) };
        if result != 0 || !(MIN..=MAX).contains(&parsed) {
            return EINVAL.to_errno();
        }
        // SAFETY: `arg` points to an i32 that is accessed as an atomic, by `address`.
        let target = unsafe { Atomic::<i32>::from_ptr((*param).__bindgen_anon_1.arg.cast()) };
        target.store(parsed, Relaxed);
        finish(0)
    }
}

impl PolicyWord {
    pub(crate) const OPS: bindings::kernel_param_ops = bindings::kernel_param_ops {
        flags: 0,
        set: Some(Self::set),
        get: Some(Self::get),
        free: None,
    };

    /// Where the kernel finds the value.
    pub(crate) const fn address(value: &'static Atomic<i64>) -> *mut c_void {
        value.as_ptr().cast()
    }

    /// # Safety
    /// `param` is one that was declared with this type.
    unsafe fn value<'a>(param: *const bindings::kernel_param) -> &'a Atomic<i64> {
        // SAFETY: `arg` points to a static i64 that is accessed as an atomic, by `address`.
        unsafe { Atomic::<i64>::from_ptr((*param).__bindgen_anon_1.arg.cast()) }
    }

    /// # Safety
    /// Called by the module loader or sysfs, for a parameter of ours, with what it passes.
    unsafe extern "C" fn set(value: *const c_char, param: *const bindings::kernel_param) -> c_int {
        // SAFETY: A string from the module loader or sysfs.
        let text = unsafe { CStr::from_char_ptr(value) };
        let Ok(policy) = Policy::parse(text.to_bytes()) else {
            return EINVAL.to_errno();
        };
        // SAFETY: The contract.
        unsafe { Self::value(param) }.store(policy.to_secs(), Relaxed);
        finish(0)
    }

    /// # Safety
    /// Called by sysfs, for a parameter of ours, with what it passes.
    unsafe extern "C" fn get(buffer: *mut c_char, param: *const bindings::kernel_param) -> c_int {
        // SAFETY: The contract.
        let secs = unsafe { Self::value(param) }.load(Relaxed);
        // SAFETY: sysfs passes a page.
        let mut page = unsafe { super::sysfs::Page::from_raw(buffer) };
        match writeln!(page, "{}", Policy::from_secs(secs)) {
            Ok(()) => page.len() as c_int,
            Err(_) => EIO.to_errno(),
        }
    }
}

/// What a setter returns. A number beyond 32 bits is out of range like any other, not ERANGE.
fn finish(result: c_int) -> c_int {
    if result != 0 {
        return EINVAL.to_errno();
    }
    if let (true, Some(changed)) = (WATCHED.load(Acquire), CHANGED.as_ref()) {
        changed();
    }
    0
}

/// Declares a parameter: name, range, the atomic that holds it, mode, description.
macro_rules! parameter {
    (
        $name:ident: $range:ident $(($min:literal, $max:literal))?,
        $value:ident, $mode:literal, $what:literal
    ) => {
        const _: () = {
            use kernel::bindings;
            type Range = $crate::ffi::param::$range $(<$min, $max>)?;

            static OPS: bindings::kernel_param_ops = Range::OPS;

            #[link_section = "__param"]
            #[used(compiler)]
            static PARAM: kernel::module_param::KernelParam =
                kernel::module_param::KernelParam::new(bindings::kernel_param {
                    name: kernel::str::as_char_ptr_in_const_context(
                        match core::ffi::CStr::from_bytes_with_nul(
                            concat!(stringify!($name), "\0").as_bytes(),
                        ) {
                            Ok(name) => name,
                            Err(_) => panic!(),
                        },
                    ),
                    mod_: $crate::ffi::this_module(),
                    ops: &raw const OPS,
                    perm: $mode,
                    level: -1,
                    flags: 0,
                    __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
                        arg: Range::address(&$value),
                    },
                });

            const TYPE: &str = concat!(
                "parmtype=",
                stringify!($name),
                $crate::ffi::param::parameter_type!($range)
            );
            #[link_section = ".modinfo"]
            #[used(compiler)]
            static TYPE_INFO: [u8; TYPE.len()] = $crate::ffi::param::bytes(TYPE);

            const TEXT: &str = concat!("parm=", stringify!($name), ":", $what, "\0");
            #[link_section = ".modinfo"]
            #[used(compiler)]
            static TEXT_INFO: [u8; TEXT.len()] = $crate::ffi::param::bytes(TEXT);
        };
    };
}
pub(crate) use parameter;

/// What modinfo calls the type.
macro_rules! parameter_type {
    (PolicyWord) => {
        ":charp\0"
    };
    ($number:ident) => {
        ":int\0"
    };
}
pub(crate) use parameter_type;

/// A string as an array.
pub(crate) const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut array = [0; N];
    let mut at = 0;
    while at < N {
        array[at] = text.as_bytes()[at];
        at += 1;
    }
    array
}
