// SPDX-License-Identifier: GPL-2.0-only
//! The repository that is none: `null:` reads zeros and drops writes, to measure everything but a
//! server.
//!
//! Before: [`super::Stores`], when the only URL is `null:`. After: nothing.
//! Runs on whichever thread asks; reads and writes neither wait nor allocate.

use std::fmt;

use srb_proto::descriptor::DataOp;
use tokio_util::sync::CancellationToken;

use super::kind::{fits, Create, Created, Store, Turn};
use super::subject::Subject;
use crate::base::errors::{ErrorKind, RequestError};
use crate::base::window::{Io, Window};
use crate::paths::{TryObserver, Watch};

/// The store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Null {
    /// Of every volume.
    pub(super) size_bytes: u64,
}

impl Store for Null {
    /// Zeros, whatever the window held before; and bytes that are forgotten.
    fn at_once(&self, op: DataOp, window: &Window, len: usize) -> Option<bool> {
        Some(match op {
            DataOp::Read => window.zero(len),
            DataOp::Write => {
                window.mark_written();
                len <= window.len()
            }
        })
    }

    async fn read(
        &self,
        _volume: &Subject,
        io: Io<'_>,
        _watch: Watch<'_, impl TryObserver>,
    ) -> Result<(), RequestError> {
        self.now(DataOp::Read, &io)
    }

    async fn write(
        &self,
        _volume: &Subject,
        io: Io<'_>,
        _watch: Watch<'_, impl TryObserver>,
    ) -> Result<(), RequestError> {
        self.now(DataOp::Write, &io)
    }

    async fn list(&self) -> Result<Vec<String>, RequestError> {
        Ok(Vec::new())
    }

    async fn size(&self, _volume: &Subject) -> Result<u64, RequestError> {
        Ok(self.size_bytes)
    }

    /// Every name is that of a volume already.
    async fn create(
        &self,
        create: &Create<'_>,
        _turn: &impl Turn,
        _cancelled: &CancellationToken,
    ) -> Result<Created, RequestError> {
        let why = format!("on null: every volume exists, with {} bytes", self.size_bytes);
        Err(RequestError::plain(ErrorKind::Exists, create, why))
    }

    async fn take_back(&self, _create: &Create<'_>, _turn: &impl Turn) {}

    async fn undo_create(
        &self,
        _volume: &Subject,
        _made: u64,
        _turn: &impl Turn,
    ) -> Result<(), RequestError> {
        Ok(())
    }

    async fn extend(
        &self,
        volume: &Subject,
        size: u64,
        _repeated: bool,
        _turn: &impl Turn,
    ) -> Result<(), RequestError> {
        Err(fixed(format_args!("extend of volume {} to {size} bytes", volume.name())))
    }

    async fn destroy(
        &self,
        volume: &Subject,
        _repeated: bool,
        _turn: &impl Turn,
    ) -> Result<(), RequestError> {
        Err(fixed(format_args!("delete of volume {}", volume.name())))
    }
}

impl Null {
    fn now(&self, op: DataOp, io: &Io<'_>) -> Result<(), RequestError> {
        fits(self.at_once(op, io.window, io.len) == Some(true))
    }
}

/// Nothing about a volume can be changed.
fn fixed(operation: impl fmt::Display) -> RequestError {
    RequestError::plain(ErrorKind::Invalid, operation, "volumes on null: cannot be changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_zeros_whatever_was_written() {
        let null = Null { size_bytes: 1 << 20 };
        let read = |window: &Window, len| null.at_once(DataOp::Read, window, len);
        let write = |window: &Window, len| null.at_once(DataOp::Write, window, len);
        let window = Window::from_vec(vec![7; 16]);
        assert_eq!(read(&window, 8), Some(true));
        assert_eq!(window.to_vec(8), [0; 8]);
        assert!(window.copy_in(0, &[9; 16]));
        assert_eq!(write(&window, 16), Some(true));
        assert_eq!(read(&window, 16), Some(true));
        assert_eq!(window.to_vec(16), [0; 16]);
        assert_eq!((read(&window, 17), write(&window, 17)), (Some(false), Some(false)));
    }
}
