// SPDX-License-Identifier: GPL-2.0-only
//! A create that outlives the one who asked for it.
//!
//! Before: [`super::Volumes::create`]. After: [`crate::store`] makes the volume, or nothing. That
//! runs on a task of its own on the control thread: whoever goes away amid it (Ctrl-C) leaves
//! somebody who undoes what was done.

use std::rc::Rc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Alone, Volume};
use crate::base::errors::{ErrorKind, RequestError};
use crate::store::{Create, Created, Store, Stores};

/// What is to be made.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) volume: Volume,
    pub(super) size: u64,
    pub(super) repeated: bool,
}

/// A result, and where to say that it was received.
type Delivery = (Result<(), RequestError>, oneshot::Sender<()>);

/// Does the job, or what of it cannot be left, when it is `cancelled`; that ends with
/// [`ErrorKind::Cancelled`] once it is undone. Dropping the future cancels it, too.
pub(super) async fn run(
    tasks: &TaskTracker,
    stores: Rc<Stores>,
    job: Job,
    cancelled: &CancellationToken,
) -> Result<(), RequestError> {
    let cancelled = cancelled.child_token();
    let _cancel_on_drop = cancelled.clone().drop_guard();
    let (deliver, delivery) = oneshot::channel::<Delivery>();
    let what = job.create().to_string();
    tasks.spawn_local(async move {
        let create = job.create();
        let alone = Alone::with(&job.volume, job.repeated).await;
        // It reads as zeros: no write to an earlier volume of this name may land on it.
        alone.data_settled().await;
        let result = stores.create(&create, &alone, &cancelled).await;
        let new = result.as_ref().is_ok_and(|created| *created == Created::New);
        let (received, receipt) = oneshot::channel();
        // Both fail when the one who asked is gone, also if it went without looking at the result.
        let _ = deliver.send((result.map(drop), received));
        if new && receipt.await.is_err() {
            tracing::info!(volume = job.volume.name(), "a cancelled create is undone");
            stores.take_back(&create, &alone).await;
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
    fn create(&self) -> Create<'_> {
        Create { volume: self.volume.subject(), size: self.size, repeated: self.repeated }
    }
}
