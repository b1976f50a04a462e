// SPDX-License-Identifier: GPL-2.0-only
//! The repository that is none: `null:` reads zeros and drops writes, to measure everything but a
//! server.
//!
//! Before: [`crate::volume`], when the only URL is `null:`. After: nothing.
//! Runs on whichever thread asks; reads and writes neither wait nor allocate.

use std::fmt;

use crate::base::errors::{ErrorKind, RequestError};
use crate::base::window::Window;

/// Zeros, whatever the window held before; `false` if it is too small.
pub(crate) fn read(window: &Window, len: usize) -> bool {
    window.zero(len)
}

/// Forgets the bytes; `false` if the window is too small.
pub(crate) fn write(window: &Window, len: usize) -> bool {
    window.mark_written();
    len <= window.len()
}

/// Every name is that of a volume already.
pub(crate) fn create(name: &str, size_bytes: u64) -> Result<(), RequestError> {
    let why = format!("on null: every volume exists, with {size_bytes} bytes");
    Err(RequestError::plain(ErrorKind::Exists, format_args!("create of volume {name}"), why))
}

/// Nothing about a volume can be changed.
pub(crate) fn fixed(operation: impl fmt::Display) -> RequestError {
    RequestError::plain(ErrorKind::Invalid, operation, "volumes on null: cannot be changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_zeros_whatever_was_written() {
        let window = Window::from_vec(vec![7; 16]);
        assert!(read(&window, 8));
        assert_eq!(window.to_vec(8), [0; 8]);
        assert!(window.copy_in(0, &[9; 16]));
        assert!(write(&window, 16));
        assert!(read(&window, 16));
        assert_eq!(window.to_vec(16), [0; 16]);
        assert!(!read(&window, 17) && !write(&window, 17));
    }
}
