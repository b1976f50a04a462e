// SPDX-License-Identifier: GPL-2.0-only
//! One thread's way to a URL: what all threads know of it, and this one's connections to it.

use std::sync::Arc;

use super::url::Url;
use crate::base::tuning::RestConfig;
use crate::http::pool::Pool;

/// A URL and connections to it.
pub(crate) struct Path {
    url: Arc<Url>,
    pub(crate) pool: Pool,
}

impl Path {
    /// Without connections.
    pub(crate) fn new(url: Arc<Url>, config: &RestConfig) -> Self {
        Self { url, pool: Pool::new(config.idle_connections, config.idle_timeout) }
    }

    pub(crate) const fn url(&self) -> &Arc<Url> {
        &self.url
    }
}
