// SPDX-License-Identifier: GPL-2.0-only
//! The creation of a volume: two requests that happen both, or are undone.
//!
//! Before: [`super::Volumes::create`]. After: [`crate::rest`], for each of PUT `If-None-Match: *`,
//! PUT `X-Scal-Truncate` and, to undo, DELETE. Runs on a task of its own on the control thread, so
//! that it outlives the one who asked and went away (Ctrl-C).
//!
//! # Whose volume is it?
//! "It exists" (412) is the truth for a name that is taken, and a misunderstanding after an own
//! first try whose answer was lost. The size tells them apart: this job has not set one yet, so a
//! volume of 0 bytes is either its own or that of somebody else who is at the same point at this
//! moment. The latter holds no data, and whoever comes second fails or sets the size once more:
//! nothing is lost by taking it for ours. Any other size is somebody else's volume, unless an
//! earlier agent was told to make it so (`repeated`). A volume is deleted only when it was made
//! here, or has 0 bytes.

use std::rc::Rc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{size_of, Volume};
use crate::errors::{ErrorKind, RequestError};
use crate::rest::{Client, Operation};

/// What is to be made.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) volume: Volume,
    pub(super) size: u64,
    pub(super) repeated: bool,
}

/// What the first request left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// An empty volume, ours.
    Empty,
    /// The whole volume, by an earlier agent.
    Whole,
}

/// A result, and where to say that it was received.
type Delivery = (Result<(), RequestError>, oneshot::Sender<()>);

/// Does the job. Dropping the future cancels it.
pub(super) async fn run(
    tasks: &TaskTracker,
    client: Rc<Client>,
    job: Job,
) -> Result<(), RequestError> {
    let cancelled = CancellationToken::new();
    let _cancel_on_drop = cancelled.clone().drop_guard();
    let (deliver, delivery) = oneshot::channel::<Delivery>();
    let what = job.to_string();
    tasks.spawn_local(async move {
        let _alone = job.volume.0.changing.lock().await;
        let result = job.carry_out(&client, &cancelled).await;
        let created = result.as_ref().is_ok_and(|made| *made == Made::Empty);
        let (received, receipt) = oneshot::channel();
        // Both fail when the one who asked is gone, also if it went without looking at the result.
        let _ = deliver.send((result.map(drop), received));
        if created && receipt.await.is_err() {
            tracing::info!(volume = job.volume.name(), "a cancelled create is undone");
            job.undo_for_nobody(&client).await;
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
        client: &Client,
        cancelled: &CancellationToken,
    ) -> Result<Made, RequestError> {
        // Not cut off by a cancellation: afterwards nobody could tell whose volume it is.
        let made = self.first_half(client).await.map_err(|error| error.within(self))?;
        if made == Made::Whole {
            return Ok(made);
        }
        let set_size = Operation::SetSize(&self.volume, self.size);
        let error = tokio::select! {
            biased;
            // The caller sees that nobody takes the result, and undoes.
            () = cancelled.cancelled() => return Ok(made),
            result = client.run(&set_size) => match result {
                Ok(_) => return Ok(made),
                Err(error) => error,
            },
        };
        Err(error.within(self).with_note(self.undo(client).await))
    }

    async fn first_half(&self, client: &Client) -> Result<Made, RequestError> {
        let Err(error) = client.run(&Operation::Create(&self.volume)).await else {
            return Ok(Made::Empty);
        };
        let unsure = self.repeated || error.may_have_happened();
        match (error.kind(), unsure) {
            (ErrorKind::Exists, true) => match size_of(client, &self.volume).await {
                Ok(0) => Ok(Made::Empty),
                Ok(size) if self.repeated && size == self.size => Ok(Made::Whole),
                _ => Err(error),
            },
            (_, true) if error.may_have_happened() => {
                // No try was answered; one may have made the volume.
                match size_of(client, &self.volume).await {
                    Ok(0) => Err(error.with_note(self.undo(client).await)),
                    _ => Err(error),
                }
            }
            _ => Err(error),
        }
    }

    /// Deletes what the first half made; says what came of it.
    async fn undo(&self, client: &Client) -> String {
        match client.run(&Operation::Delete(&self.volume)).await {
            Ok(_) => "what was done is undone".to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => "nothing is left of it".to_owned(),
            Err(error) => format!("an empty volume is left, undoing failed: {error}"),
        }
    }

    async fn undo_for_nobody(&self, client: &Client) {
        match client.run(&Operation::Delete(&self.volume)).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, "a cancelled create could not be undone");
            }
            _ => {}
        }
    }
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "create of volume {} with {} bytes", self.volume.name(), self.size)
    }
}
