// SPDX-License-Identifier: GPL-2.0-only
//! A volume's handle, and the operations on volumes as a whole.
//!
//! Before: the control channel asks. After: [`crate::paths`] does a try at a time. [`Volumes`]
//! belongs to the control thread; a [`Volume`] is cloned to every worker that serves one of its
//! queues.

mod alone;
mod create;
mod doubts;
mod heritage;
mod landing;
mod limit;
pub mod pipeline;
mod prober;
mod repository;
mod settling;
mod unsettled;

use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::alone::Alone;
use self::doubts::{Doubt, Doubts};
pub(crate) use self::heritage::Heritage;
pub(crate) use self::landing::Landing;
use self::limit::Limit;
use self::limit::{Direction, Permit};
pub use self::pipeline::Pipeline;
pub use self::prober::Prober;
pub use self::repository::Repository;
#[cfg(test)]
pub(crate) use self::unsettled::hook;
use self::unsettled::Asker;
use self::unsettled::Unsettled;
use crate::base::errors::{ErrorKind, RequestError};
use crate::base::settings::Settings;
use crate::paths::{Client, Route, Watch};
use crate::store::cdmi::probe::{is_left_over, is_scratch};
use crate::store::cdmi::{Operation, Reply};
use crate::store::{null, Subject};

/// Scratch volumes of old probes that one listing has deleted at most.
const MAX_SWEPT: usize = 16;

/// A volume: its name, and what its requests share on all threads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Volume(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    subject: Subject,
    limit: Limit,
    /// Writes of data that may still land.
    unsettled: Arc<Unsettled>,
    /// Commands of which a request may still land.
    changes: Arc<Unsettled>,
    /// One operation on the whole volume at a time: the size that `extend` has seen must still be
    /// true when it sets the new one.
    changing: tokio::sync::Mutex<()>,
}

/// A volume that may be gone. What may still land on it is remembered all the same: it may come
/// back at any moment.
#[derive(Debug)]
pub(crate) struct WeakVolume {
    shared: Weak<Shared>,
    unsettled: Arc<Unsettled>,
    changes: Arc<Unsettled>,
}

impl Volume {
    /// A volume that comes for the first time, or comes back after `earlier`; `settle` is how long
    /// a try of a write may still land.
    pub(crate) fn shared(
        name: &str,
        (settle, heritage): (Duration, &Arc<Heritage>),
        earlier: Option<&WeakVolume>,
    ) -> Self {
        let new = || Unsettled::new(settle, Arc::clone(heritage));
        match earlier {
            None => Self::with_tables(name, new(), new()),
            Some(volume) => {
                let WeakVolume { unsettled, changes, .. } = volume;
                Self::with_tables(name, Arc::clone(unsettled), Arc::clone(changes))
            }
        }
    }

    fn with_tables(name: &str, unsettled: Arc<Unsettled>, changes: Arc<Unsettled>) -> Self {
        let size = Settings::default().thread_pool_size;
        Self(Arc::new(Shared {
            subject: Subject::new(name),
            limit: Limit::new(usize::try_from(size).unwrap_or(usize::MAX)),
            unsettled,
            changes,
            changing: tokio::sync::Mutex::default(),
        }))
    }

    /// As users write it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.subject.name()
    }

    /// Tries beyond the first one of each request, since the agent knows the volume.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.0.subject.retries()
    }

    /// As requests name it.
    pub(crate) fn subject(&self) -> &Subject {
        &self.0.subject
    }

    pub(crate) fn limit(&self) -> &Limit {
        &self.0.limit
    }

    pub(crate) fn unsettled(&self) -> &Arc<Unsettled> {
        &self.0.unsettled
    }

    pub(crate) fn downgrade(&self) -> WeakVolume {
        let Shared { unsettled, changes, .. } = &*self.0;
        let (unsettled, changes) = (Arc::clone(unsettled), Arc::clone(changes));
        WeakVolume { shared: Arc::downgrade(&self.0), unsettled, changes }
    }
}

impl WeakVolume {
    pub(crate) fn upgrade(&self) -> Option<Volume> {
        self.shared.upgrade().map(Volume)
    }

    /// Whether there is anything left of it.
    pub(crate) fn is_gone(&self) -> bool {
        let idle = self.unsettled.is_empty() && self.changes.is_empty();
        self.shared.strong_count() == 0 && idle
    }
}

/// The operations. To be used inside a `LocalSet`: what is begun ends, or is undone, on a task of
/// its own.
pub struct Volumes {
    client: Rc<Client>,
    repository: Arc<Repository>,
    tasks: TaskTracker,
    doubts: Rc<Doubts>,
}

impl fmt::Debug for Volumes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volumes").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

impl Volumes {
    /// With connections of its own.
    #[must_use]
    pub fn new(repository: Arc<Repository>) -> Self {
        let client = Rc::new(Client::new(Arc::clone(repository.paths())));
        Self { client, repository, tasks: TaskTracker::new(), doubts: Rc::default() }
    }

    /// The names, sorted. Scratch volumes of probes are left out, and deleted if nobody uses them
    /// any more.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    ///
    /// # Panics
    /// Outside of a `LocalSet`, if there is something to delete.
    pub async fn list(&self) -> Result<Vec<String>, RequestError> {
        if self.null_size().is_some() {
            return Ok(Vec::new());
        }
        let reply = ask(&self.client, &Operation::List).await?;
        let Reply::Names(mut names) = reply else { return Ok(Vec::new()) };
        let left_over = names.iter().filter(|name| is_left_over(name));
        left_over.take(MAX_SWEPT).for_each(|name| self.sweep(name));
        names.retain(|name| !is_scratch(name));
        names.sort_unstable();
        Ok(names)
    }

    /// The size of a volume in bytes.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn stat(&self, name: &str) -> Result<u64, RequestError> {
        match self.null_size() {
            Some(size) => Ok(size),
            None => size_of(&self.client, &self.volume(name)).await,
        }
    }

    /// Creates a volume of `size` bytes, or nothing: what was done when the rest fails, or when the
    /// future is dropped, is undone. `repeated`: an earlier agent may have done it, fully or in
    /// part.
    ///
    /// # Errors
    /// See [`ErrorKind`]. The text says whether something was undone, and whether that failed.
    ///
    /// # Panics
    /// Outside of a `LocalSet`.
    pub async fn create(&self, name: &str, size: u64, repeated: bool) -> Result<(), RequestError> {
        self.create_unless(name, size, repeated, &CancellationToken::new()).await
    }

    /// As [`Self::create`], until it is `cancelled`: then what was done is undone first.
    ///
    /// # Errors
    /// See [`ErrorKind`]; [`ErrorKind::Cancelled`] when it is undone.
    ///
    /// # Panics
    /// Outside of a `LocalSet`.
    pub async fn create_unless(
        &self,
        name: &str,
        size: u64,
        repeated: bool,
        cancelled: &CancellationToken,
    ) -> Result<(), RequestError> {
        if let Some(known) = self.null_size() {
            return null::create(name, known);
        }
        let doubts = Rc::clone(&self.doubts);
        let job = create::Job { volume: self.volume(name), size, repeated, doubts };
        create::run(&self.tasks, Rc::clone(&self.client), job, cancelled).await
    }

    /// Deletes what a create has left that was interrupted and whose agent is gone: a volume of 0
    /// bytes, or of as many as that create is known to have made, `made`. Nothing there is a
    /// success.
    ///
    /// # Errors
    /// See [`ErrorKind`]; [`ErrorKind::Exists`] if a volume of another size is there. Whose that
    /// is nobody can tell, so it stays.
    pub async fn undo_create(&self, name: &str, made: u64) -> Result<(), RequestError> {
        if self.null_size().is_some() {
            return Ok(());
        }
        let what = format!("undoing the create of volume {name}");
        let volume = self.volume(name);
        // That agent's requests may still land, on what was found to be absent.
        let alone = Alone::with(&self.client, &volume, true).await;
        alone.settled().await;
        match alone.size().await {
            Ok(size) if size == 0 || size == made => {}
            Ok(size) => {
                let why = format!("it has {size} bytes, and may have been there before");
                return Err(RequestError::plain(ErrorKind::Exists, what, why));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.within(what)),
        }
        match alone.change(&Operation::Delete(volume.subject())).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.within(what)),
            _ => Ok(()),
        }
    }

    /// Makes a volume larger.
    ///
    /// The new size is not read back: a 2xx is the server's word, and the probe has seen it keep
    /// that word.
    ///
    /// # Errors
    /// See [`ErrorKind`]; [`ErrorKind::Invalid`] if the volume would not grow. With `repeated`, and
    /// after an extend to the same size of which nobody could tell whether it had happened, a
    /// volume that has the size already is a success.
    pub async fn extend(&self, name: &str, size: u64, repeated: bool) -> Result<(), RequestError> {
        let what = format!("extend of volume {name} to {size} bytes");
        if self.null_size().is_some() {
            return Err(null::fixed(what));
        }
        let volume = self.volume(name);
        let alone = Alone::with(&self.client, &volume, repeated).await;
        let old = alone.size().await.map_err(|error| error.within(&what))?;
        let repeated = repeated || self.doubts.holds(name, Doubt::Extended(size));
        if repeated && old == size {
            self.doubts.settle(name);
            return Ok(());
        }
        if size <= old {
            let why = format!("it would not grow: it has {old} bytes");
            return Err(RequestError::plain(ErrorKind::Invalid, what, why));
        }
        let error = match alone.change(&Operation::SetSize(volume.subject(), size)).await {
            Ok(_) => {
                self.doubts.settle(name);
                return Ok(());
            }
            Err(error) if !error.may_have_happened() => return Err(error.within(what)),
            Err(error) => error,
        };
        alone.settled().await;
        match alone.size().await {
            Ok(now) if now == size => {
                self.doubts.settle(name);
                Ok(())
            }
            Ok(now) => Err(error.within(what).with_note(format!("it has {now} bytes"))),
            Err(asked) => {
                self.doubts.remember(name, Doubt::Extended(size));
                let note = format!("it may have been extended: extend it again; {asked}");
                Err(error.within(what).with_note(note))
            }
        }
    }

    /// Deletes a volume. With `repeated`, and after a destroy of which nobody could tell whether it
    /// had happened, one that does not exist is a success.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn destroy(&self, name: &str, repeated: bool) -> Result<(), RequestError> {
        let what = format!("delete of volume {name}");
        if self.null_size().is_some() {
            return Err(null::fixed(what));
        }
        let volume = self.volume(name);
        let alone = Alone::with(&self.client, &volume, repeated).await;
        let repeated = repeated || self.doubts.holds(name, Doubt::Destroyed);
        // Asked first, "no such volume" is the truth; after a try whose answer was lost it might
        // come from that try. A server that cannot tell a size may delete all the same.
        let existed = match alone.size().await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.doubts.settle(name);
                return if repeated { Ok(()) } else { Err(error.within(what)) };
            }
            Err(error) if error.may_pass() => return Err(error.within(what)),
            known => known.is_ok(),
        };
        match alone.change(&Operation::Delete(volume.subject())).await {
            Ok(_) => {}
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && (existed || repeated || error.may_have_happened()) => {}
            Err(error) if error.may_have_happened() => self.is_gone(&alone, error).await?,
            Err(error) => return Err(error),
        }
        self.doubts.settle(name);
        Ok(())
    }

    /// After a delete that ended in `error`, and may have happened.
    async fn is_gone(&self, alone: &Alone<'_>, error: RequestError) -> Result<(), RequestError> {
        alone.settled().await;
        match alone.size().await {
            Err(asked) if asked.kind() == ErrorKind::NotFound => Ok(()),
            Ok(_) => Err(error.with_note("it is still there")),
            Err(asked) => {
                self.doubts.remember(alone.volume().name(), Doubt::Destroyed);
                let note = format!("it may have been deleted: destroy it again; {asked}");
                Err(error.with_note(note))
            }
        }
    }

    /// Waits until everything that dropped operations left behind is undone; for the end of the
    /// process.
    pub async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    fn volume(&self, name: &str) -> Volume {
        self.repository.volume(name)
    }

    fn null_size(&self) -> Option<u64> {
        match self.client.view().state.route {
            Route::Null { size_bytes } => Some(size_bytes),
            _ => None,
        }
    }

    fn sweep(&self, name: &str) {
        let (client, volume) = (Rc::clone(&self.client), self.volume(name));
        self.tasks.spawn_local(async move {
            let _ = ask(&client, &Operation::Delete(volume.subject())).await;
        });
    }
}

/// An operation that leaves nothing behind that others must wait for.
async fn ask(client: &Client, operation: &Operation<'_>) -> Result<Reply, RequestError> {
    client.run(operation, Watch::<Landing<'_>>::default()).await
}

async fn size_of(client: &Client, volume: &Volume) -> Result<u64, RequestError> {
    let operation = Operation::Size(volume.subject());
    match ask(client, &operation).await? {
        Reply::Size(size) => Ok(size),
        Reply::Done | Reply::Names(_) => {
            Err(RequestError::plain(ErrorKind::Protocol, operation, "no size came"))
        }
    }
}
