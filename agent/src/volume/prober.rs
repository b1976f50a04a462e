// SPDX-License-Identifier: GPL-2.0-only
//! Asks URLs that are down whether they are back.
//!
//! Before: [`crate::agent`] has it run beside the control worker. After: the store knows what
//! is asked, [`crate::paths`] say which URL is asked when.

use std::convert::Infallible;
use std::sync::Arc;

use super::Repository;
use crate::paths::Client;
use crate::store;

/// The one who asks.
#[derive(Debug)]
pub struct Prober {
    repository: Arc<Repository>,
}

impl Prober {
    /// One with connections of its own.
    #[must_use]
    pub fn new(repository: Arc<Repository>) -> Self {
        Self { repository }
    }

    /// Probes what is down, for ever.
    pub async fn run(&self) -> Infallible {
        store::ask_who_is_back(Client::new(Arc::clone(self.repository.paths()))).await
    }
}
