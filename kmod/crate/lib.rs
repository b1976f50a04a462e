// SPDX-License-Identifier: GPL-2.0-only
//! The root of the `kernel` crate that is brought along: of the kernel's own it has what srb needs,
//! file by file as they are there but for what `changes` says.

#![no_std]
// What the files that are taken need of the compiler (rust/kernel/lib.rs of the kernel's source).
#![feature(arbitrary_self_types)]
#![feature(derive_coerce_pointee)]
#![feature(generic_arg_infer)]
#![feature(unsigned_is_multiple_of)]
#![feature(used_with_arg)]

// Macros name the crate from inside it, too.
extern crate self as kernel;

pub use ffi;

pub mod alloc;
pub mod bits;
pub mod build_assert;
pub mod cred;
pub mod error;
pub mod fmt;
pub mod fs;
#[doc(hidden)]
pub mod impl_flags;
pub mod init;
pub mod mm;
pub mod module;
pub mod module_param;
pub mod page;
pub mod prelude;
pub mod print;
pub mod processor;
pub mod ptr;
pub mod safety;
pub mod sizes;
#[doc(hidden)]
pub mod std_vendor;
pub mod str;
pub mod sync;
pub mod task;
mod text;
pub mod time;
pub mod transmute;
pub mod types;
pub mod uaccess;
pub mod workqueue;

#[doc(hidden)]
pub use bindings;
pub use macros;
pub use module::{InPlaceModule, Module, ModuleMetadata, ThisModule};

/// What the crate's own lines in the log begin with.
const __LOG_PREFIX: &[u8] = b"srb\0";

/// A panic is a bug: it says its message and ends the thread, as BUG() does.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    pr_emerg!("{}\n", info);
    // SAFETY: Has no preconditions; never returns.
    unsafe { bindings::BUG() };
}

/// The structure that a field is in, by the field's address.
///
/// # Safety
/// The pointer and the result point into the same allocation.
#[macro_export]
macro_rules! container_of {
    ($field:expr, $container:ty, $($path:tt)*) => {{
        let field = $field;
        let offset: usize = ::core::mem::offset_of!($container, $($path)*);
        let container = field.byte_sub(offset).cast::<$container>();
        // The field has the type that the caller took it for.
        let _ = [field, (&raw const (*container).$($path)*).cast_mut()];
        container
    }};
}

/// The file of a place in the code, for the kernel's own messages: older compilers have it without
/// the zero byte that C wants.
pub fn file_from_location<'a>(_: &'a core::panic::Location<'a>) -> &'a core::ffi::CStr {
    c"srb"
}
