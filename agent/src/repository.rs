// SPDX-License-Identifier: GPL-2.0-only
//! The set of URLs that lead to one repository, and what is known of each: shared by all threads.
//!
//! Before: the session applies what the module has. After: each try of a request asks which URL is best
//! ([`crate::pipeline`], [`crate::volume`]) and reports what became of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::settings::Settings;
use crate::volume::Volume;

/// Tuning of the HTTP side, from the agent's configuration file.
#[derive(Clone, Debug)]
pub struct RestConfig {
    /// Whether a server must show that it honours ranges before anything is written to it.
    pub probe: bool,
    /// Idle connections that each worker keeps for each URL.
    pub idle_connections: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
}

impl Default for RestConfig {
    fn default() -> Self {
        Self { probe: true, idle_connections: 64, idle_timeout: Duration::from_secs(30) }
    }
}

/// What is thought of a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UrlState {
    /// Nothing was asked of it yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It is avoided until it answers again.
    Down,
}

/// One URL at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlStatus {
    /// In canonical form.
    pub url: String,
    /// Whether it is fit to be used.
    pub state: UrlState,
    /// Whether requests go there first.
    pub active: bool,
    /// Failed tries since the last answer.
    pub consecutive_failures: u32,
    /// Of the last failed try.
    pub last_error: Option<String>,
    /// Of answers, smoothed; zero before the first.
    pub latency: Duration,
    /// Tries, failed ones included.
    pub requests: u64,
    /// Tries that failed.
    pub errors: u64,
    /// Data bytes that came from it.
    pub bytes_read: u64,
    /// Data bytes that it took.
    pub bytes_written: u64,
}

/// The repository.
#[derive(Debug)]
pub struct Repository {
    changes: watch::Sender<Option<(u64, usize)>>,
    settings: std::sync::RwLock<Arc<Settings>>,
}

impl Repository {
    /// A repository without URLs.
    #[must_use]
    pub fn new(_config: RestConfig) -> Arc<Self> {
        let settings = std::sync::RwLock::new(Arc::new(Settings::default()));
        Arc::new(Self { changes: watch::Sender::new(None), settings })
    }

    /// Puts `settings` in force, for requests under way from their next try on.
    pub fn apply(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(|e| e.into_inner()) = Arc::new(settings);
    }

    /// Those in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(|e| e.into_inner()))
    }

    /// Where a new request goes first: the version of the settings, and the place in their list.
    #[must_use]
    pub fn active_url(&self) -> Option<(u64, usize)> {
        *self.changes.borrow()
    }

    /// Ticks when [`Self::active_url`] changes, and carries it.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<(u64, usize)>> {
        self.changes.subscribe()
    }

    /// Each URL, in the order of the settings.
    #[must_use]
    pub fn status(&self) -> Vec<UrlStatus> {
        Vec::new()
    }

    /// The handle of a volume; all handles of one name share what its requests share.
    #[must_use]
    pub fn volume(&self, name: &str) -> Volume {
        Volume::new(name)
    }
}
