// SPDX-License-Identifier: GPL-2.0-only
//! Where volumes live: the kinds of repositories, behind one trait.
//!
//! Before: [`crate::volume`] has a request, or a command, whose turn it is. After: [`crate::paths`]
//! carry what a server is asked through its tries; or nothing, on [`null`].
//!
//! [`Store`] is what each kind does. [`Stores`] has one of each, and is the one place that tells
//! them apart: the URLs say which kind the repository is, and may change at any time. A new kind is
//! a folder here, and an arm there.
//!
//! # Who owns what
//! A [`Stores`] belongs to one thread, with its connections. A [`Subject`] is shared by all.
//!
//! # Errors
//! [`RequestError`], complete: what was asked, what each try met, and what may have happened.

mod cdmi;
mod kind;
mod null;
mod subject;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use srb_proto::descriptor::DataOp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::cdmi::Cdmi;
#[cfg(test)]
pub(crate) use self::cdmi::Operation;
pub(crate) use self::kind::{fits, words, Create, Created, Store, Turn};
use self::null::Null;
pub(crate) use self::subject::Subject;
use crate::base::errors::RequestError;
use crate::base::window::{Io, Window};
use crate::paths::{Client, Paths, Route, TryObserver, Watch};

/// One store of each kind, for one thread.
#[derive(Debug)]
pub(crate) struct Stores {
    client: Rc<Client>,
    cdmi: Cdmi,
}

/// The kind that the repository is.
enum Kind<'a> {
    Null(Null),
    /// Also without a URL, and with a mixture of kinds: its requests fail with the reason.
    Cdmi(&'a Cdmi),
}

impl Stores {
    /// With connections of its own. What outlives the one who asked for it is in `tasks`.
    pub(crate) fn new(paths: Arc<Paths>, tasks: TaskTracker) -> Self {
        let client = Rc::new(Client::new(paths));
        Self { cdmi: Cdmi::new(Rc::clone(&client), tasks), client }
    }

    /// The thread's way to the servers.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    fn kind(&self) -> Kind<'_> {
        match self.client.view().state.route {
            Route::Null { size_bytes } => Kind::Null(Null { size_bytes }),
            Route::Nowhere | Route::Mixed | Route::Http(_) => Kind::Cdmi(&self.cdmi),
        }
    }
}

/// Calls a method of whichever store the repository is.
macro_rules! dispatch {
    ($stores:ident . $method:ident ( $($argument:expr),* )) => {
        match $stores.kind() {
            Kind::Null(store) => store.$method($($argument),*).await,
            Kind::Cdmi(store) => store.$method($($argument),*).await,
        }
    };
}

impl Store for Stores {
    fn at_once(&self, op: DataOp, window: &Window, len: usize) -> Option<bool> {
        match self.kind() {
            Kind::Null(store) => store.at_once(op, window, len),
            Kind::Cdmi(store) => store.at_once(op, window, len),
        }
    }

    async fn read(
        &self,
        volume: &Subject,
        io: Io<'_>,
        watch: Watch<'_, impl TryObserver>,
    ) -> Result<(), RequestError> {
        dispatch!(self.read(volume, io, watch))
    }

    async fn write(
        &self,
        volume: &Subject,
        io: Io<'_>,
        watch: Watch<'_, impl TryObserver>,
    ) -> Result<(), RequestError> {
        dispatch!(self.write(volume, io, watch))
    }

    async fn list(&self) -> Result<Vec<String>, RequestError> {
        dispatch!(self.list())
    }

    async fn size(&self, volume: &Subject) -> Result<u64, RequestError> {
        dispatch!(self.size(volume))
    }

    async fn create(
        &self,
        create: &Create<'_>,
        turn: &impl Turn,
        cancelled: &CancellationToken,
    ) -> Result<Created, RequestError> {
        dispatch!(self.create(create, turn, cancelled))
    }

    async fn take_back(&self, create: &Create<'_>, turn: &impl Turn) {
        dispatch!(self.take_back(create, turn))
    }

    async fn undo_create(
        &self,
        volume: &Subject,
        made: u64,
        turn: &impl Turn,
    ) -> Result<(), RequestError> {
        dispatch!(self.undo_create(volume, made, turn))
    }

    async fn extend(
        &self,
        volume: &Subject,
        size: u64,
        repeated: bool,
        turn: &impl Turn,
    ) -> Result<(), RequestError> {
        dispatch!(self.extend(volume, size, repeated, turn))
    }

    async fn destroy(
        &self,
        volume: &Subject,
        repeated: bool,
        turn: &impl Turn,
    ) -> Result<(), RequestError> {
        dispatch!(self.destroy(volume, repeated, turn))
    }
}

/// Asks URLs that are down whether they are back, for ever.
pub(crate) async fn ask_who_is_back(client: Client) -> Infallible {
    cdmi::ask_who_is_back(client).await
}
