// SPDX-License-Identifier: GPL-2.0-only
//! The creation of a volume: two requests that happen both, or are undone.
//!
//! Before: [`super::Cdmi`] has the volume's turn. After: [`crate::paths`], for each of PUT
//! `If-None-Match: *`, PUT `X-Scal-Truncate` and, to undo, DELETE.
//!
//! # Whose volume is it?
//! "It exists" (412) is the truth for a name that is taken, and a misunderstanding after an own
//! first try whose answer was lost. The size tells them apart: this job has not set one yet, so a
//! volume of 0 bytes is either its own or that of somebody else who is at the same point at this
//! moment. The latter holds no data, and whoever comes second fails or sets the size once more:
//! nothing is lost by taking it for ours. Any other size is somebody else's volume, unless an
//! earlier agent was told to make it so (`repeated`), or an earlier create of this agent may have
//! ([`super::doubts`]). A volume is deleted only when it was made here, or has 0 bytes.
//!
//! # When nobody can tell
//! A question that is not answered is no answer, and what is absent while a PUT may still land is
//! not absent: after a try in doubt, the question and the DELETE wait for it ([`Turn::settled`]).
//!
//! | first request | its size | the create says |
//! |---|---|---|
//! | exists, perhaps since an own try | 0 | goes on |
//! | the same | as wanted, and it may be ours | done |
//! | the same | another | EEXIST |
//! | the same | could not be asked, or is gone | EIO: it may have been created, empty |
//! | no answer | 0 | its error, and the volume is deleted |
//! | no answer | another | EEXIST, or done if it may be ours |
//! | no answer | no such volume | its error: nothing was made |
//! | no answer | could not be asked | its error, and that it may have been created, empty |
//!
//! What may be left is named, and remembered as a doubt: the same command goes on from there.

use tokio_util::sync::CancellationToken;

use super::doubts::Doubt;
use super::{Cdmi, Operation};
use crate::base::errors::{ErrorKind, RequestError};
use crate::store::kind::{Create, Created, Store, Turn};
use crate::store::subject::Subject;

/// What is to be made, and what it takes.
pub(super) struct Job<'a, T> {
    pub(super) store: &'a Cdmi,
    pub(super) create: &'a Create<'a>,
    pub(super) turn: &'a T,
}

impl<T: Turn> Job<'_, T> {
    /// See [`Store::create`].
    pub(super) async fn run(&self, cancelled: &CancellationToken) -> Result<Created, RequestError> {
        if cancelled.is_cancelled() {
            return Err(RequestError::plain(ErrorKind::Cancelled, self.create, "nothing was done"));
        }
        // Not cut off by a cancellation: afterwards nobody could tell whose volume it is.
        let made = self.first_half().await.map_err(|error| error.within(self.create))?;
        self.settle();
        if made == Created::Before {
            return Ok(made);
        }
        let set_size = Operation::SetSize(self.create.volume, self.create.size);
        let error = tokio::select! {
            biased;
            () = cancelled.cancelled() => {
                tracing::info!(volume = self.name(), "a cancelled create is undone");
                let note = self.undo().await;
                return Err(RequestError::plain(ErrorKind::Cancelled, self.create, note));
            }
            result = self.store.change(&set_size, self.turn) => match result {
                Ok(_) => return Ok(made),
                Err(error) => error,
            },
        };
        Err(error.within(self.create).with_note(self.undo().await))
    }

    /// See [`Store::take_back`].
    pub(super) async fn take_back(&self) {
        match self.delete().await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, "a cancelled create could not be undone");
            }
            _ => {}
        }
    }

    fn name(&self) -> &str {
        self.create.volume.name()
    }

    /// After it there is an empty volume that is ours, or the whole one.
    async fn first_half(&self) -> Result<Created, RequestError> {
        let Create { volume, size: wanted, repeated } = *self.create;
        let Err(error) = self.store.change(&Operation::Create(volume), self.turn).await else {
            return Ok(Created::New);
        };
        let exists = error.kind() == ErrorKind::Exists;
        let earlier = self.store.doubts.created(self.name());
        let may_be_ours = repeated || error.may_have_happened() || earlier.is_some();
        if !may_be_ours || !(exists || error.may_have_happened()) {
            return Err(error);
        }
        let whole = repeated || earlier == Some(wanted);
        if !exists {
            self.turn.settled().await;
        }
        match self.store.size(volume).await {
            Ok(0) if exists => Ok(Created::New),
            Ok(0) => Err(error.with_note(self.undo().await)),
            Ok(size) if whole && size == wanted => Ok(Created::Before),
            Ok(size) => {
                if earlier != Some(size) {
                    self.settle();
                }
                let note = format!("it exists with {size} bytes");
                Err(error.became(ErrorKind::Exists).with_note(note))
            }
            Err(asked) if asked.kind() == ErrorKind::NotFound && !exists => {
                self.settle();
                Err(error)
            }
            Err(asked) => Err(self.unknown(error, &asked)),
        }
    }

    /// The error of a create of which nobody can tell whether it has made the volume.
    fn unknown(&self, error: RequestError, asked: &RequestError) -> RequestError {
        self.store.doubts.remember(self.name(), Doubt::Created(self.create.size));
        let exists = error.kind() == ErrorKind::Exists;
        let error = if exists { error.became(ErrorKind::Unknown) } else { error };
        error.with_note(format!(
            "it may have been created, empty: create it again, or destroy it; {asked}"
        ))
    }

    /// Deletes what the first half made; says what came of it.
    async fn undo(&self) -> String {
        match self.delete().await {
            Ok(()) => "what was done is undone".to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => "nothing is left of it".to_owned(),
            Err(error) => format!(
                "a volume may be left, undoing failed: create it again, or destroy it; {error}"
            ),
        }
    }

    /// Deletes the volume, and notes what is known of it then.
    async fn delete(&self) -> Result<(), RequestError> {
        // A PUT in doubt would make it once more.
        self.turn.settled().await;
        let deleted = self.store.change(&Operation::Delete(self.create.volume), self.turn).await;
        match &deleted {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                self.store.doubts.remember(self.name(), Doubt::Created(self.create.size));
            }
            _ => self.settle(),
        }
        deleted.map(drop)
    }

    /// There is no doubt about the volume any more.
    fn settle(&self) {
        self.store.doubts.settle(self.name());
    }
}

/// See [`Store::undo_create`].
///
/// # Errors
/// [`ErrorKind::Exists`] if a volume of another size is there. Whose that is nobody can tell, so it
/// stays.
pub(super) async fn undo(
    store: &Cdmi,
    volume: &Subject,
    made: u64,
    turn: &impl Turn,
) -> Result<(), RequestError> {
    let what = format!("undoing the create of volume {}", volume.name());
    // That agent's requests may still land, on what was found to be absent.
    turn.settled().await;
    match store.size(volume).await {
        Ok(size) if size == 0 || size == made => {}
        Ok(size) => {
            let why = format!("it has {size} bytes, and may have been there before");
            return Err(RequestError::plain(ErrorKind::Exists, what, why));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.within(what)),
    }
    match store.change(&Operation::Delete(volume), turn).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.within(what)),
        _ => Ok(()),
    }
}
