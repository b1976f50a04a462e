// SPDX-License-Identifier: GPL-2.0-only
//! How the REST half is tuned: the part of the configuration file that volumes and paths obey.
//!
//! Before: [`crate::process::config`] has read it. After: it stays as it is while the agent runs;
//! what changes meanwhile is in [`super::settings`].

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// Tuning of the HTTP side, from the agent's configuration file.
#[derive(Clone, Debug)]
pub struct RestConfig {
    /// Whether a server must show that it honours ranges before anything is written to it.
    pub probe: bool,
    /// Idle connections that each worker keeps for each URL.
    pub idle_connections: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Where reads go among the URLs that are up.
    pub read_choice: ReadChoice,
    /// A read that is not answered for so long goes to a second URL as well; `None`: never.
    pub hedge_reads_after: Option<Duration>,
    /// How long after a write's try was given up nothing else is written to the same bytes.
    pub settle: Duration,
    /// Where the next agent finds until when it has to mind that.
    pub settling_file: Option<PathBuf>,
}

/// Where reads go among the URLs that are up. Everything else goes to the first of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadChoice {
    /// To one that answers reads clearly faster than the first does, if there is one.
    #[default]
    Latency,
    /// To the first of the list.
    Order,
}

impl Default for RestConfig {
    fn default() -> Self {
        Self {
            probe: true,
            idle_connections: 64,
            idle_timeout: Duration::from_secs(30),
            read_choice: ReadChoice::default(),
            hedge_reads_after: None,
            settle: Duration::from_secs(2),
            settling_file: None,
        }
    }
}
