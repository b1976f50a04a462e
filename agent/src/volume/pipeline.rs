// SPDX-License-Identifier: GPL-2.0-only
//! Reads and writes of volumes. One for each data worker, on its thread.
//!
//! Before: the worker has fetched a submission. Here: what overlaps a write that may still land
//! waits for it, and no more than `thread_pool_size` requests of a volume go on. After:
//! [`crate::store`] carries it out, some at once.
//! docs/ordering.md says what this guarantees.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use srb_proto::descriptor::DataOp;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{Asker, Direction, Landing, Permit, Repository, Volume};
use crate::base::errors::{ErrorKind, RequestError};
use crate::base::window::{Io, Window};
use crate::paths::{budget, Progress, TryObserver, Watch};
use crate::store::{fits, words, Store, Stores};

/// A worker's way to the repository, with connections of its own.
///
/// ```
/// use srb_agent::base::{settings::Settings, tuning::RestConfig, window::Window};
/// use srb_agent::volume::{Pipeline, Repository};
/// use srb_proto::command::RepositoryUrl;
///
/// let repository = Repository::new(RestConfig::default());
/// let urls = vec![RepositoryUrl::parse(b"null:1G").expect("a URL")];
/// repository.apply(Settings { version: 1, urls, ..Settings::default() });
///
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// tokio::task::LocalSet::new().block_on(&runtime, async {
///     let (pipeline, volume) = (Pipeline::new(repository.clone()), repository.volume("any"));
///     // The memory of a tag; in the agent the module has it, too.
///     let window = Window::from_vec(vec![0xff; 4096]);
///     pipeline.read(&volume, 0, &window, 4096).await.expect("zeros");
///     assert_eq!(window.to_vec(4096), [0; 4096]);
/// });
/// ```
#[derive(Debug)]
pub struct Pipeline {
    stores: Stores,
}

impl Pipeline {
    /// A pipeline without connections.
    #[must_use]
    pub fn new(repository: Arc<Repository>) -> Rc<Self> {
        let paths = Arc::clone(repository.paths());
        // Nothing that a request of data begins outlives it.
        Rc::new(Self { stores: Stores::new(paths, TaskTracker::new()) })
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
        let io = Io { offset: offset_bytes, window, len };
        if let Some(done) = without_work(&io) {
            return done;
        }
        let Turn { permit: _permit, since_ms } =
            self.turn(volume, &io, DataOp::Read, Asker::Read).await?;
        let watch = Watch { progress, observer: None::<&Landing<'_>>, since_ms };
        self.stores.read(volume.subject(), io, watch).await
    }

    /// Writes the first `len` bytes of `window` to `offset_bytes` of the volume.
    ///
    /// `repeated`: an earlier agent was given this write and may have sent it.
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
        repeated: bool,
    ) -> Result<(), RequestError> {
        self.write_observed(volume, offset_bytes, window, len, repeated, None).await
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
        repeated: bool,
        progress: Option<&Progress>,
    ) -> Result<(), RequestError> {
        if let Some(done) = self.write_at_once(window, len) {
            return done;
        }
        window.mark_written();
        let io = Io { offset: offset_bytes, window, len };
        if let Some(done) = without_work(&io) {
            return done;
        }
        let landing = Landing::new(volume.unsettled(), io.range());
        if repeated {
            // From now on, so that it settles also if it is dropped before its first try.
            landing.abandon_try();
        }
        loop {
            let Turn { permit, since_ms } =
                self.turn(volume, &io, DataOp::Write, landing.asker()).await?;
            if repeated {
                landing.abandon_try();
            }
            let watch = Watch { observer: Some(&landing), since_ms, progress };
            self.stores.write(volume.subject(), io, watch).await?;
            drop(permit);
            if !landing.is_contested() {
                return Ok(());
            }
            // Something that was under way to the same bytes at the same time may still land on top
            // of what is there now. Answered, this write must not change any more: it goes out
            // again when that is over. Its entry holds back what comes later.
            landing.enter();
        }
    }

    /// [`Self::read`] where that needs no waiting; `None` where it does.
    pub fn read_at_once(&self, window: &Window, len: usize) -> Option<Result<(), RequestError>> {
        self.stores.at_once(DataOp::Read, window, len).map(fits)
    }

    /// [`Self::write`] where that needs no waiting; `None` where it does.
    pub fn write_at_once(&self, window: &Window, len: usize) -> Option<Result<(), RequestError>> {
        self.stores.at_once(DataOp::Write, window, len).map(fits)
    }

    /// Closes connections that have been idle for too long; for the worker to call about once in
    /// ten seconds.
    pub fn close_idle(&self) {
        self.stores.client().close_idle();
    }

    /// The request's turn, for which it waits no longer than its tries might take: the module's
    /// deadline counts that time as well.
    async fn turn<'a>(
        &self,
        volume: &'a Volume,
        io: &Io<'_>,
        op: DataOp,
        asker: Asker,
    ) -> Result<Turn<'a>, RequestError> {
        let direction = match op {
            DataOp::Read => Direction::Read,
            DataOp::Write => Direction::Write,
        };
        let mut admitted = pin!(self.admit(volume, io, direction, asker));
        let at_once = std::future::poll_fn(|cx| Poll::Ready(admitted.as_mut().poll(cx))).await;
        if let Poll::Ready(permit) = at_once {
            return Ok(Turn { permit, since_ms: None });
        }
        let since_ms = Some(self.stores.client().list().now_ms());
        let patience = budget(&self.stores.client().view().state.settings);
        match timeout(patience, admitted).await {
            Ok(permit) => Ok(Turn { permit, since_ms }),
            Err(_) => {
                let why = "its time went by while it waited for others";
                let what = words(op, volume.subject(), io);
                Err(RequestError::plain(ErrorKind::Timeout, what, why))
            }
        }
    }

    /// Waits for the request's turn. Whoever waits for a write to settle holds no permit.
    async fn admit<'a>(
        &self,
        volume: &'a Volume,
        io: &Io<'_>,
        direction: Direction,
        asker: Asker,
    ) -> Permit<'a> {
        let size = self.stores.client().view().state.settings.thread_pool_size;
        let limit = volume.limit();
        limit.resize(usize::try_from(size).unwrap_or(usize::MAX));
        loop {
            volume.unsettled().wait(&io.range(), asker).await;
            let permit = limit.enter(direction, io.len).await;
            // One may have become unsettled while this request waited for the permit.
            if !volume.unsettled().blocks(&io.range(), asker) {
                return permit;
            }
        }
    }
}

/// A request's turn.
struct Turn<'a> {
    permit: Permit<'a>,
    /// On the repository's clock, if it had to wait: since when.
    since_ms: Option<u64>,
}

/// What becomes of a request that cannot or need not be asked.
fn without_work(io: &Io<'_>) -> Option<Result<(), RequestError>> {
    match io.len {
        0 => Some(Ok(())),
        len if len > io.window.len() => Some(fits(false)),
        _ => None,
    }
}

#[cfg(test)]
mod simulation;
