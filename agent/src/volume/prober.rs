// SPDX-License-Identifier: GPL-2.0-only
//! Asks URLs that are down whether they are back: what is asked, and where.
//!
//! Before: [`crate::agent`] has it run beside the control worker. After: [`crate::paths`] say which
//! URL is asked when.

use std::convert::Infallible;
use std::sync::Arc;

use super::Repository;
use crate::paths::{self, Client};
use crate::store::cdmi::{probe, Operation};
use crate::store::Subject;

/// The one who asks.
#[derive(Debug)]
pub struct Prober {
    repository: Arc<Repository>,
    /// No volume has this name.
    nobody: Subject,
}

impl Prober {
    /// One with connections of its own.
    #[must_use]
    pub fn new(repository: Arc<Repository>) -> Self {
        Self { repository, nobody: Subject::new(&format!("{}nobody", probe::PREFIX)) }
    }

    /// Probes what is down, for ever.
    pub async fn run(&self) -> Infallible {
        let client = Client::new(Arc::clone(self.repository.paths()));
        // To answer 404 costs a server next to nothing.
        paths::Prober::new(client, Operation::Size(&self.nobody)).run().await
    }
}
