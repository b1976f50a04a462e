// SPDX-License-Identifier: GPL-2.0-only
//! A volume's handle, and the operations on volumes as a whole.
//!
//! Before: the control channel asks. After: [`crate::rest`] does a try at a time. [`Volumes`] belongs to the control
//! thread; a [`Volume`] is cloned to every worker that serves one of its queues.

use std::sync::Arc;

use crate::errors::{ErrorKind, RequestError};
use crate::repository::Repository;

/// A volume: its name, and what its requests share on all threads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Volume {
    name: Arc<str>,
}

impl Volume {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: Arc::from(name) }
    }

    /// As users write it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The operations. Must be used inside a `LocalSet`: what is begun ends or is undone on a task of its own.
#[derive(Debug)]
pub struct Volumes {
    _repository: Arc<Repository>,
}

impl Volumes {
    /// With connections of its own.
    #[must_use]
    pub fn new(repository: Arc<Repository>) -> Self {
        Self { _repository: repository }
    }

    /// The names, sorted.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn list(&self) -> Result<Vec<String>, RequestError> {
        Err(RequestError::plain(ErrorKind::NoUrl, "list of volumes", "no URL"))
    }

    /// The size of a volume in bytes.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn stat(&self, name: &str) -> Result<u64, RequestError> {
        Err(RequestError::plain(ErrorKind::NoUrl, name, "no URL"))
    }

    /// Creates a volume of `size` bytes, or nothing. Dropping the future undoes what was done.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn create(
        &self,
        name: &str,
        _size: u64,
        _repeated: bool,
    ) -> Result<(), RequestError> {
        Err(RequestError::plain(ErrorKind::NoUrl, name, "no URL"))
    }

    /// Makes a volume larger.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn extend(
        &self,
        name: &str,
        _size: u64,
        _repeated: bool,
    ) -> Result<(), RequestError> {
        Err(RequestError::plain(ErrorKind::NoUrl, name, "no URL"))
    }

    /// Deletes a volume.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn destroy(&self, name: &str, _repeated: bool) -> Result<(), RequestError> {
        Err(RequestError::plain(ErrorKind::NoUrl, name, "no URL"))
    }

    /// Waits for what cancelled operations left to be undone; for the end of the process.
    pub async fn settle(&self) {}
}
