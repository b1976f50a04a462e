// SPDX-License-Identifier: GPL-2.0-only
//! Reads and writes of volumes. One for each data worker, on its thread.
//!
//! Before: the worker has fetched a submission. Here: what overlaps a write that may still land
//! waits for it, and no more than `thread_pool_size` requests of a volume go on. After:
//! [`crate::rest`] carries the request through its tries; or [`crate::null`], at once.

use std::rc::Rc;
use std::sync::Arc;

use crate::errors::{ErrorKind, RequestError};
use crate::null;
use crate::repository::{Repository, Route};
use crate::rest::{Client, Io, Operation, Progress};
use crate::volume::{Permit, Volume};
use crate::window::Window;

/// A worker's way to the repository, with connections of its own.
#[derive(Debug)]
pub struct Pipeline {
    client: Client,
}

impl Pipeline {
    /// A pipeline without connections.
    #[must_use]
    pub fn new(repository: Arc<Repository>) -> Rc<Self> {
        Rc::new(Self { client: Client::new(repository) })
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
        offset_bytes: u64,
        window: &Window,
        len: usize,
    ) -> Result<(), RequestError> {
        self.read_observed(volume, offset_bytes, window, len, None).await
    }

    /// [`Self::read`] that notes for others how far it is.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub async fn read_observed(
        &self,
        volume: &Volume,
        offset_bytes: u64,
        window: &Window,
        len: usize,
        progress: Option<&Progress>,
    ) -> Result<(), RequestError> {
        if let Some(done) = self.read_at_once(window, len) {
            return done;
        }
        let io = Io { volume, offset: offset_bytes, window, len };
        self.carry_out(io, Operation::Read(io), progress).await
    }

    /// Writes the first `len` bytes of `window` to `offset_bytes` of the volume.
    ///
    /// Dropping the future closes the connection in use; the server may have carried the write out,
    /// or not.
    ///
    /// # Errors
    /// See [`ErrorKind`]. What the volume holds there is then undefined.
    pub async fn write(
        &self,
        volume: &Volume,
        offset_bytes: u64,
        window: &Window,
        len: usize,
    ) -> Result<(), RequestError> {
        self.write_observed(volume, offset_bytes, window, len, None).await
    }

    /// [`Self::write`] that notes for others how far it is.
    ///
    /// # Errors
    /// Those of [`Self::write`].
    pub async fn write_observed(
        &self,
        volume: &Volume,
        offset_bytes: u64,
        window: &Window,
        len: usize,
        progress: Option<&Progress>,
    ) -> Result<(), RequestError> {
        if let Some(done) = self.write_at_once(window, len) {
            return done;
        }
        window.mark_written();
        let io = Io { volume, offset: offset_bytes, window, len };
        self.carry_out(io, Operation::Write(io), progress).await
    }

    /// [`Self::read`] where that needs no waiting, that is of a `null:` repository; `None`
    /// elsewhere.
    pub fn read_at_once(&self, window: &Window, len: usize) -> Option<Result<(), RequestError>> {
        self.is_null().then(|| fits(null::read(window, len)))
    }

    /// [`Self::write`] where that needs no waiting, that is to a `null:` repository; `None`
    /// elsewhere.
    pub fn write_at_once(&self, window: &Window, len: usize) -> Option<Result<(), RequestError>> {
        self.is_null().then(|| fits(null::write(window, len)))
    }

    /// Closes connections that have been idle for too long; for the worker to call about once in
    /// ten seconds.
    pub fn close_idle(&self) {
        self.client.close_idle();
    }

    fn is_null(&self) -> bool {
        matches!(self.client.view().state.route, Route::Null { .. })
    }

    async fn carry_out(
        &self,
        io: Io<'_>,
        operation: Operation<'_>,
        progress: Option<&Progress>,
    ) -> Result<(), RequestError> {
        if io.len == 0 {
            return Ok(());
        }
        if io.len > io.window.len() {
            return fits(false);
        }
        let _permit = self.admit(&io).await;
        self.client.run_observed(&operation, progress).await.map(drop)
    }

    /// Waits for the request's turn. Whoever waits for a write to settle holds no permit.
    async fn admit<'a>(&self, io: &Io<'a>) -> Permit<'a> {
        let size = self.client.view().state.settings.thread_pool_size;
        let limit = io.volume.limit();
        limit.resize(usize::try_from(size).unwrap_or(usize::MAX));
        loop {
            io.volume.unsettled().wait(&io.range()).await;
            let permit = limit.enter().await;
            // One may have become unsettled while this request waited for the permit.
            if !io.volume.unsettled().blocks(&io.range()) {
                return permit;
            }
        }
    }
}

fn fits(fits: bool) -> Result<(), RequestError> {
    let why = "the window is too small";
    fits.then_some(()).ok_or_else(|| RequestError::plain(ErrorKind::Invalid, "request", why))
}
