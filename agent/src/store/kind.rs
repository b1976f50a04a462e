// SPDX-License-Identifier: GPL-2.0-only
//! What each kind of repository does.
//!
//! Before: [`super::Stores`] has chosen one. After: [`super::cdmi`] or [`super::null`].

use std::fmt;

use srb_proto::descriptor::DataOp;
use tokio_util::sync::CancellationToken;

use super::subject::Subject;
use crate::base::errors::{ErrorKind, RequestError};
use crate::base::window::{Io, Window};
use crate::paths::{TryObserver, Watch};

/// A kind of repository, as one thread uses it.
///
/// What comes here has had its turn: which requests may meet, and how many go on at a time, is
/// [`crate::volume`]'s. Whoever changes a volume is alone with it, and has a [`Turn`] that says so.
pub(crate) trait Store {
    /// Carries out what needs no waiting; `None` where nothing does. `false`: the window is too
    /// small for `len` bytes.
    fn at_once(&self, op: DataOp, window: &Window, len: usize) -> Option<bool>;

    /// Bytes of a volume into a window. What the window holds after an error is undefined.
    async fn read(
        &self,
        volume: &Subject,
        io: Io<'_>,
        watch: Watch<'_, impl TryObserver>,
    ) -> Result<(), RequestError>;

    /// Bytes of a window into a volume. What the volume holds there after an error is undefined.
    async fn write(
        &self,
        volume: &Subject,
        io: Io<'_>,
        watch: Watch<'_, impl TryObserver>,
    ) -> Result<(), RequestError>;

    /// The names of all volumes, in any order.
    async fn list(&self) -> Result<Vec<String>, RequestError>;

    /// The size of a volume in bytes.
    async fn size(&self, volume: &Subject) -> Result<u64, RequestError>;

    /// Makes a volume, or nothing: what was done when the rest fails, or is cancelled, is undone
    /// before this returns. The error says so, or what may be left.
    async fn create(
        &self,
        create: &Create<'_>,
        turn: &impl Turn,
        cancelled: &CancellationToken,
    ) -> Result<Created, RequestError>;

    /// Takes back a volume that is [`Created::New`], which nobody wants any more. What cannot be
    /// taken back is logged.
    async fn take_back(&self, create: &Create<'_>, turn: &impl Turn);

    /// Deletes what the create of an earlier agent has left: a volume without data, or of `made`
    /// bytes, which that create is known to have made. Nothing there is a success.
    async fn undo_create(
        &self,
        volume: &Subject,
        made: u64,
        turn: &impl Turn,
    ) -> Result<(), RequestError>;

    /// Makes a volume larger. `repeated`: an earlier agent may have done it.
    async fn extend(
        &self,
        volume: &Subject,
        size: u64,
        repeated: bool,
        turn: &impl Turn,
    ) -> Result<(), RequestError>;

    /// Deletes a volume. `repeated`: an earlier agent may have done it.
    async fn destroy(
        &self,
        volume: &Subject,
        repeated: bool,
        turn: &impl Turn,
    ) -> Result<(), RequestError>;
}

/// What a command has while it is alone with a volume: it tells of each try, and may wait for those
/// of its tries that were not answered.
pub(crate) trait Turn: TryObserver {
    /// Waits until no request of this command can land any more that was not answered: what the
    /// server says then stays true.
    async fn settled(&self);
}

/// A volume that is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Create<'a> {
    /// Its name.
    pub(crate) volume: &'a Subject,
    /// In bytes.
    pub(crate) size: u64,
    /// An earlier agent may have made it, fully or in part.
    pub(crate) repeated: bool,
}

impl fmt::Display for Create<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "create of volume {} with {} bytes", self.volume.name(), self.size)
    }
}

/// Whose volume it is, after a create that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// This create has made it.
    New,
    /// An earlier agent had made it, by the same command.
    Before,
}

/// A read or a write in words, for errors.
pub(crate) fn words(op: DataOp, volume: &Subject, io: &Io<'_>) -> String {
    let Io { len, offset, .. } = io;
    format!("{} of {len} bytes at {offset} of volume {}", op.name(), volume.name())
}

/// What becomes of a request whose window has room for it, or has not.
pub(crate) fn fits(fits: bool) -> Result<(), RequestError> {
    let why = "the window is too small";
    fits.then_some(()).ok_or_else(|| RequestError::plain(ErrorKind::Invalid, "request", why))
}
