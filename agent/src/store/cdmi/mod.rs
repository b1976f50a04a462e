// SPDX-License-Identifier: GPL-2.0-only
//! Volumes as files on a CDMI server: read and written in place, by ranges.
//!
//! Before: [`super::Stores`]. In here each [`Operation`] is one request; a command on a volume is
//! several ([`create`], [`change`]), and what it could not find out is remembered ([`doubts`]).
//! After: [`crate::paths`] carry an operation through its tries; [`answer`] says what came of one,
//! and [`listing`] reads the JSON in it. [`probe`] proves that a server honours ranges, before
//! anything is written to it.
//!
//! # Errors
//! The table of statuses is `answer`'s; what is no answer to what was asked is
//! [`crate::base::errors::ErrorKind::Protocol`].

mod answer;
mod change;
mod create;
mod doubts;
mod listing;
mod operation;
mod probe;
mod request;

use std::convert::Infallible;
use std::rc::Rc;

use srb_proto::descriptor::DataOp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::Reply;
use self::doubts::Doubts;
pub(crate) use self::operation::Operation;
use super::kind::{Create, Created, Store, Turn};
use super::subject::Subject;
use crate::base::errors::{ErrorKind, RequestError};
use crate::base::window::{Io, Window};
use crate::paths::{Client, Prober, TryObserver, Watch};

/// Scratch volumes of old probes that one listing has deleted at most.
const MAX_SWEPT: usize = 16;

/// The store, as one thread uses it.
#[derive(Debug)]
pub(super) struct Cdmi {
    client: Rc<Client>,
    doubts: Doubts,
    tasks: TaskTracker,
}

impl Cdmi {
    /// What outlives the one who asked for it is in `tasks`.
    pub(super) fn new(client: Rc<Client>, tasks: TaskTracker) -> Self {
        Self { client, doubts: Doubts::default(), tasks }
    }

    /// A request that changes a volume.
    async fn change(
        &self,
        operation: &Operation<'_>,
        turn: &impl Turn,
    ) -> Result<Reply, RequestError> {
        let watch = Watch { observer: Some(turn), ..Watch::default() };
        self.client.run(operation, watch).await
    }

    /// Has a scratch volume deleted that its probe has left.
    fn sweep(&self, name: &str) {
        let (client, volume) = (Rc::clone(&self.client), Subject::new(name));
        self.tasks.spawn_local(async move {
            let _ = ask(&client, &Operation::Delete(&volume)).await;
        });
    }
}

impl Store for Cdmi {
    fn at_once(&self, _op: DataOp, _window: &Window, _len: usize) -> Option<bool> {
        None
    }

    async fn read(
        &self,
        volume: &Subject,
        io: Io<'_>,
        watch: Watch<'_, impl TryObserver>,
    ) -> Result<(), RequestError> {
        self.client.run(&Operation::Read(volume, io), watch).await.map(drop)
    }

    async fn write(
        &self,
        volume: &Subject,
        io: Io<'_>,
        watch: Watch<'_, impl TryObserver>,
    ) -> Result<(), RequestError> {
        self.client.run(&Operation::Write(volume, io), watch).await.map(drop)
    }

    /// Scratch volumes of probes are left out, and deleted if nobody uses them any more.
    ///
    /// # Panics
    /// Outside of a `LocalSet`, if there is something to delete.
    async fn list(&self) -> Result<Vec<String>, RequestError> {
        let reply = ask(&self.client, &Operation::List).await?;
        let Reply::Names(mut names) = reply else { return Ok(Vec::new()) };
        let left_over = names.iter().filter(|name| probe::is_left_over(name));
        left_over.take(MAX_SWEPT).for_each(|name| self.sweep(name));
        names.retain(|name| !probe::is_scratch(name));
        Ok(names)
    }

    async fn size(&self, volume: &Subject) -> Result<u64, RequestError> {
        let operation = Operation::Size(volume);
        match ask(&self.client, &operation).await? {
            Reply::Size(size) => Ok(size),
            Reply::Done | Reply::Names(_) => {
                Err(RequestError::plain(ErrorKind::Protocol, operation, "no size came"))
            }
        }
    }

    async fn create(
        &self,
        create: &Create<'_>,
        turn: &impl Turn,
        cancelled: &CancellationToken,
    ) -> Result<Created, RequestError> {
        create::Job { store: self, create, turn }.run(cancelled).await
    }

    async fn take_back(&self, create: &Create<'_>, turn: &impl Turn) {
        create::Job { store: self, create, turn }.take_back().await;
    }

    async fn undo_create(
        &self,
        volume: &Subject,
        made: u64,
        turn: &impl Turn,
    ) -> Result<(), RequestError> {
        create::undo(self, volume, made, turn).await
    }

    async fn extend(
        &self,
        volume: &Subject,
        size: u64,
        repeated: bool,
        turn: &impl Turn,
    ) -> Result<(), RequestError> {
        change::extend(self, volume, size, repeated, turn).await
    }

    async fn destroy(
        &self,
        volume: &Subject,
        repeated: bool,
        turn: &impl Turn,
    ) -> Result<(), RequestError> {
        change::destroy(self, volume, repeated, turn).await
    }
}

/// An operation that leaves nothing behind that others must wait for.
async fn ask(client: &Client, operation: &Operation<'_>) -> Result<Reply, RequestError> {
    client.run(operation, Watch::<Nobody>::default()).await
}

/// Who follows tries that leave nothing behind.
#[derive(Debug)]
enum Nobody {}

impl TryObserver for Nobody {
    fn begin_try(&self) {}
    fn end_try(&self) {}
    fn abandon_try(&self) {}
}

/// Asks URLs that are down whether they are back, for ever.
pub(super) async fn ask_who_is_back(client: Client) -> Infallible {
    // No volume has this name: to answer 404 costs a server next to nothing.
    let nobody = Subject::new(&format!("{}nobody", probe::PREFIX));
    Prober::new(client, Operation::Size(&nobody)).run().await
}

#[cfg(test)]
mod tests;
