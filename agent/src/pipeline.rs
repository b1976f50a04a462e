// SPDX-License-Identifier: GPL-2.0-only
//! Reads and writes of volumes, each carried through all its tries. One for each data worker, on its thread.
//!
//! Before: the worker has fetched a submission. After: [`crate::rest`] does a try at a time.

use std::rc::Rc;
use std::sync::Arc;

use crate::errors::{ErrorKind, RequestError};
use crate::repository::Repository;
use crate::volume::Volume;
use crate::window::Window;

/// A worker's way to the repository, with connections of its own.
#[derive(Debug)]
pub struct Pipeline {
    _repository: Arc<Repository>,
}

impl Pipeline {
    /// A pipeline without connections.
    #[must_use]
    pub fn new(repository: Arc<Repository>) -> Rc<Self> {
        Rc::new(Self { _repository: repository })
    }

    /// Fills the first `len` bytes of `window` from `offset_bytes` of the volume.
    ///
    /// Dropping the future closes the connection in use; the window is not touched any more.
    ///
    /// # Errors
    /// See [`ErrorKind`]. The window's contents are then undefined.
    pub async fn read(
        &self,
        volume: &Volume,
        _offset_bytes: u64,
        _window: &Window,
        _len: usize,
    ) -> Result<(), RequestError> {
        Err(RequestError::plain(ErrorKind::NoUrl, volume.name(), "no URL"))
    }

    /// Writes the first `len` bytes of `window` to `offset_bytes` of the volume.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn write(
        &self,
        volume: &Volume,
        _offset_bytes: u64,
        _window: &Window,
        _len: usize,
    ) -> Result<(), RequestError> {
        Err(RequestError::plain(ErrorKind::NoUrl, volume.name(), "no URL"))
    }

    /// [`Self::read`] where that needs no waiting, that is of a `null:` repository; `None` elsewhere.
    pub fn read_at_once(&self, _window: &Window, _len: usize) -> Option<Result<(), RequestError>> {
        None
    }

    /// [`Self::write`] where that needs no waiting, that is to a `null:` repository; `None` elsewhere.
    pub fn write_at_once(&self, _window: &Window, _len: usize) -> Option<Result<(), RequestError>> {
        None
    }

    /// Closes connections that have been idle for too long; for the worker to call about once in ten seconds.
    pub fn close_idle(&self) {}
}
