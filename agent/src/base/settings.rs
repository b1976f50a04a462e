// SPDX-License-Identifier: GPL-2.0-only
//! What the module decides and the agent obeys: URLs and limits, replaced as a whole while requests
//! run.
//!
//! Before: the session reads them from the module. After: [`crate::paths::Paths`] hand
//! the set in force to every try of every request.

use std::time::Duration;

use srb_proto::command::RepositoryUrl;
use srb_proto::control::Config;

/// URLs and limits, as the module's parameters give them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Changes with every change of the rest; goes back to the module with the active URL.
    pub version: u64,
    /// Paths to the one repository, the preferred one first.
    pub urls: Vec<RepositoryUrl>,
    /// Which of them an earlier agent has seen to honour ranges: a bit for each place in the list.
    pub fit_urls: u32,
    /// For the whole answer to a try, after the connection stands.
    pub req_timeout: Duration,
    /// For looking up the host's name and connecting.
    pub server_conn_timeout: Duration,
    /// Tries after the first one.
    pub nb_req_retries: u32,
    /// Requests of one volume at the servers at a time.
    pub thread_pool_size: u32,
    /// The module's log level, 0 to 7.
    pub debug: u32,
}

impl Settings {
    /// From what the module says.
    #[must_use]
    pub fn new(config: &Config, urls: Vec<RepositoryUrl>) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Self {
            version: config.version,
            urls,
            fit_urls: config.fit_urls,
            req_timeout: seconds(config.req_timeout_secs),
            server_conn_timeout: seconds(config.server_conn_timeout_secs),
            nb_req_retries: config.nb_req_retries,
            thread_pool_size: config.thread_pool_size,
            debug: config.debug,
        }
    }
}

impl Default for Settings {
    /// The original driver's defaults, without a URL.
    fn default() -> Self {
        Self {
            version: 0,
            urls: Vec::new(),
            fit_urls: 0,
            req_timeout: Duration::from_secs(30),
            server_conn_timeout: Duration::from_secs(30),
            nb_req_retries: 3,
            thread_pool_size: 8,
            debug: 4,
        }
    }
}
