// SPDX-License-Identifier: GPL-2.0-only
//! A volume's handle, and the operations on volumes as a whole.
//!
//! Before: the control channel asks. After: [`crate::store`] does it. [`Volumes`] belongs to the
//! control thread; a [`Volume`] is cloned to every worker that serves one of its queues.

mod alone;
mod create;
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
use crate::base::errors::RequestError;
use crate::base::settings::Settings;
use crate::store::{Store, Stores, Subject};

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
///
/// ```
/// use srb_agent::base::{settings::Settings, tuning::RestConfig};
/// use srb_agent::volume::{Repository, Volumes};
/// use srb_proto::command::RepositoryUrl;
///
/// let repository = Repository::new(RestConfig::default());
/// let urls = vec![RepositoryUrl::parse(b"null:1G").expect("a URL")];
/// repository.apply(Settings { version: 1, urls, ..Settings::default() });
///
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// tokio::task::LocalSet::new().block_on(&runtime, async {
///     let volumes = Volumes::new(repository);
///     assert_eq!(volumes.stat("any").await, Ok(1 << 30));
///     let error = volumes.destroy("any", false).await.expect_err("nothing can be changed");
///     assert_eq!(error.errno(), nix::libc::EINVAL);
/// });
/// ```
pub struct Volumes {
    stores: Rc<Stores>,
    repository: Arc<Repository>,
    tasks: TaskTracker,
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
        let tasks = TaskTracker::new();
        let stores = Rc::new(Stores::new(Arc::clone(repository.paths()), tasks.clone()));
        Self { stores, repository, tasks }
    }

    /// The names, sorted.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::base::errors::ErrorKind).
    ///
    /// # Panics
    /// Outside of a `LocalSet`, if there is something to tidy up.
    pub async fn list(&self) -> Result<Vec<String>, RequestError> {
        let mut names = self.stores.list().await?;
        names.sort_unstable();
        Ok(names)
    }

    /// The size of a volume in bytes.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::base::errors::ErrorKind).
    pub async fn stat(&self, name: &str) -> Result<u64, RequestError> {
        self.stores.size(self.volume(name).subject()).await
    }

    /// Creates a volume of `size` bytes, or nothing: what was done when the rest fails, or when the
    /// future is dropped, is undone. `repeated`: an earlier agent may have done it, fully or in
    /// part.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::base::errors::ErrorKind). The text says whether something was
    /// undone, and whether that failed.
    ///
    /// # Panics
    /// Outside of a `LocalSet`.
    pub async fn create(&self, name: &str, size: u64, repeated: bool) -> Result<(), RequestError> {
        self.create_unless(name, size, repeated, &CancellationToken::new()).await
    }

    /// As [`Self::create`], until it is `cancelled`: then what was done is undone first.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::base::errors::ErrorKind); `Cancelled` when it is undone.
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
        let job = create::Job { volume: self.volume(name), size, repeated };
        create::run(&self.tasks, Rc::clone(&self.stores), job, cancelled).await
    }

    /// Deletes what a create has left that was interrupted and whose agent is gone: a volume of 0
    /// bytes, or of as many as that create is known to have made, `made`. Nothing there is a
    /// success.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::base::errors::ErrorKind); `Exists` if a volume of another size is
    /// there. Whose that is nobody can tell, so it stays.
    pub async fn undo_create(&self, name: &str, made: u64) -> Result<(), RequestError> {
        let volume = self.volume(name);
        let alone = Alone::with(&volume, true).await;
        self.stores.undo_create(volume.subject(), made, &alone).await
    }

    /// Makes a volume larger.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::base::errors::ErrorKind); `Invalid` if the volume would not grow.
    /// With `repeated`, and after an extend to the same size of which nobody could tell whether it
    /// had happened, a volume that has the size already is a success.
    pub async fn extend(&self, name: &str, size: u64, repeated: bool) -> Result<(), RequestError> {
        let volume = self.volume(name);
        let alone = Alone::with(&volume, repeated).await;
        self.stores.extend(volume.subject(), size, repeated, &alone).await
    }

    /// Deletes a volume. With `repeated`, and after a destroy of which nobody could tell whether it
    /// had happened, one that does not exist is a success.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::base::errors::ErrorKind).
    pub async fn destroy(&self, name: &str, repeated: bool) -> Result<(), RequestError> {
        let volume = self.volume(name);
        let alone = Alone::with(&volume, repeated).await;
        self.stores.destroy(volume.subject(), repeated, &alone).await
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
}
