// SPDX-License-Identifier: GPL-2.0-only
//! Lines for the kernel's log, made here: only a kernel that is built with CONFIG_RUST knows how to
//! print what `format_args!` makes.

use crate::{bindings, fmt, print::format_strings};

/// Bytes of a line; what is beyond them is cut off. The kernel's own limit is about 1,000, and the
/// stack is small.
const LINE_BYTES: usize = 400;

/// Text that ends with a zero byte, whatever is written.
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Line {
    fn of(args: fmt::Arguments<'_>) -> Self {
        let mut line = Self { bytes: [0; LINE_BYTES], len: 0 };
        // It never fails: too much is cut off.
        let _ = fmt::Write::write_fmt(&mut line, args);
        line
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LINE_BYTES - 1 - self.len;
        let taken = text.len().min(room);
        self.bytes[self.len..self.len + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        Ok(())
    }
}

/// Prints a line with the module's name before it.
///
/// # Safety
/// The format is one of [`format_strings`] but `CONT`, and the name ends with a zero byte.
#[doc(hidden)]
pub unsafe fn call_printk(
    format: &[u8; format_strings::LENGTH],
    module: &[u8],
    args: fmt::Arguments<'_>,
) {
    let line = Line::of(args);
    // SAFETY: The format takes two strings of C, which the contract and `Line` make them.
    unsafe { bindings::_printk(format.as_ptr(), module.as_ptr(), line.bytes.as_ptr()) };
}

/// Prints more of the line before.
#[doc(hidden)]
pub fn call_printk_cont(args: fmt::Arguments<'_>) {
    let line = Line::of(args);
    // SAFETY: The format takes one string of C.
    unsafe { bindings::_printk(format_strings::CONT.as_ptr(), line.bytes.as_ptr()) };
}
