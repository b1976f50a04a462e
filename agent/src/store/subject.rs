// SPDX-License-Identifier: GPL-2.0-only
//! What a store knows of a volume: its name, and how often requests for it were tried again.
//!
//! Part of a [`crate::volume::Volume`], which all threads share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::http::target::Segment;

/// A volume, as requests name it.
#[derive(Debug)]
pub(crate) struct Subject {
    name: String,
    segment: Segment,
    retries: AtomicU64,
}

impl Subject {
    /// The volume of this name.
    pub(crate) fn new(name: &str) -> Self {
        let (name, segment) = (name.to_owned(), Segment::new(name));
        Self { name, segment, retries: AtomicU64::new(0) }
    }

    /// As users write it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name in a path.
    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Tries beyond the first one of each request so far.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    pub(crate) fn count_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }
}
