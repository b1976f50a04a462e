// SPDX-License-Identifier: GPL-2.0-only
//! The creation of a volume: two requests that happen both, or are undone.
//!
//! Before: [`super::Volumes::create`]. After: [`crate::paths`], for each of PUT `If-None-Match: *`,
//! PUT `X-Scal-Truncate` and, to undo, DELETE. Runs on a task of its own on the control thread, so
//! that it outlives the one who asked and went away (Ctrl-C).
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
//! not absent: after a try in doubt, the question and the DELETE wait for it ([`super::alone`]).
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

use std::rc::Rc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::doubts::{Doubt, Doubts};
use super::{Alone, Volume};
use crate::base::errors::{ErrorKind, RequestError};
use crate::paths::Client;
use crate::store::cdmi::Operation;

/// What is to be made.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) volume: Volume,
    pub(super) size: u64,
    pub(super) repeated: bool,
    /// Of all commands of this agent.
    pub(super) doubts: Rc<Doubts>,
}

/// What the first request left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// An empty volume, ours.
    Empty,
    /// The same, and it is not to become more.
    Half,
    /// The whole volume, by an earlier agent.
    Whole,
}

/// A result, and where to say that it was received.
type Delivery = (Result<(), RequestError>, oneshot::Sender<()>);

/// Does the job, or what of it cannot be left, when it is `cancelled`; that ends with
/// [`ErrorKind::Cancelled`] once it is undone. Dropping the future cancels it, too.
pub(super) async fn run(
    tasks: &TaskTracker,
    client: Rc<Client>,
    job: Job,
    cancelled: &CancellationToken,
) -> Result<(), RequestError> {
    let cancelled = cancelled.child_token();
    let _cancel_on_drop = cancelled.clone().drop_guard();
    let (deliver, delivery) = oneshot::channel::<Delivery>();
    let what = job.to_string();
    tasks.spawn_local(async move {
        let alone = Alone::with(&client, &job.volume, job.repeated).await;
        // It reads as zeros: no write to an earlier volume of this name may land on it.
        alone.data_settled().await;
        let result = job.carry_out(&alone, &cancelled).await;
        let made = result.as_ref().is_ok_and(|made| *made == Made::Half);
        if made {
            tracing::info!(volume = job.volume.name(), "a cancelled create is undone");
            let note = job.undo(&alone).await;
            let cancelled = RequestError::plain(ErrorKind::Cancelled, &job, note);
            let _ = deliver.send((Err(cancelled), oneshot::channel().0));
            return;
        }
        let created = result.as_ref().is_ok_and(|made| *made == Made::Empty);
        let (received, receipt) = oneshot::channel();
        // Both fail when the one who asked is gone, also if it went without looking at the result.
        let _ = deliver.send((result.map(drop), received));
        if created && receipt.await.is_err() {
            tracing::info!(volume = job.volume.name(), "a cancelled create is undone");
            job.undo_for_nobody(&alone).await;
        }
    });
    match delivery.await {
        Ok((result, received)) => {
            let _ = received.send(());
            result
        }
        Err(_) => Err(RequestError::plain(ErrorKind::Broken, what, "its task has ended")),
    }
}

impl Job {
    async fn carry_out(
        &self,
        alone: &Alone<'_>,
        cancelled: &CancellationToken,
    ) -> Result<Made, RequestError> {
        if cancelled.is_cancelled() {
            return Err(RequestError::plain(ErrorKind::Cancelled, self, "nothing was done"));
        }
        // Not cut off by a cancellation: afterwards nobody could tell whose volume it is.
        let made = self.first_half(alone).await.map_err(|error| error.within(self))?;
        self.settle();
        if made == Made::Whole {
            return Ok(made);
        }
        let set_size = Operation::SetSize(self.volume.subject(), self.size);
        let error = tokio::select! {
            biased;
            () = cancelled.cancelled() => return Ok(Made::Half),
            result = alone.change(&set_size) => match result {
                Ok(_) => return Ok(made),
                Err(error) => error,
            },
        };
        Err(error.within(self).with_note(self.undo(alone).await))
    }

    async fn first_half(&self, alone: &Alone<'_>) -> Result<Made, RequestError> {
        let Err(error) = alone.change(&Operation::Create(self.volume.subject())).await else {
            return Ok(Made::Empty);
        };
        let exists = error.kind() == ErrorKind::Exists;
        let earlier = self.doubts.created(self.volume.name());
        let may_be_ours = self.repeated || error.may_have_happened() || earlier.is_some();
        if !may_be_ours || !(exists || error.may_have_happened()) {
            return Err(error);
        }
        let whole = self.repeated || earlier == Some(self.size);
        if !exists {
            alone.settled().await;
        }
        match alone.size().await {
            Ok(0) if exists => Ok(Made::Empty),
            Ok(0) => Err(error.with_note(self.undo(alone).await)),
            Ok(size) if whole && size == self.size => Ok(Made::Whole),
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
        self.doubts.remember(self.volume.name(), Doubt::Created(self.size));
        let exists = error.kind() == ErrorKind::Exists;
        let error = if exists { error.became(ErrorKind::Unknown) } else { error };
        error.with_note(format!(
            "it may have been created, empty: create it again, or destroy it; {asked}"
        ))
    }

    /// Deletes what the first half made; says what came of it.
    async fn undo(&self, alone: &Alone<'_>) -> String {
        match self.delete(alone).await {
            Ok(()) => "what was done is undone".to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => "nothing is left of it".to_owned(),
            Err(error) => format!(
                "a volume may be left, undoing failed: create it again, or destroy it; {error}"
            ),
        }
    }

    async fn undo_for_nobody(&self, alone: &Alone<'_>) {
        match self.delete(alone).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, "a cancelled create could not be undone");
            }
            _ => {}
        }
    }

    /// Deletes the volume, and notes what is known of it then.
    async fn delete(&self, alone: &Alone<'_>) -> Result<(), RequestError> {
        // A PUT in doubt would make it once more.
        alone.settled().await;
        let deleted = alone.change(&Operation::Delete(self.volume.subject())).await;
        match &deleted {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                self.doubts.remember(self.volume.name(), Doubt::Created(self.size));
            }
            _ => self.settle(),
        }
        deleted.map(drop)
    }

    /// There is no doubt about the volume any more.
    fn settle(&self) {
        self.doubts.settle(self.volume.name());
    }
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "create of volume {} with {} bytes", self.volume.name(), self.size)
    }
}
