// SPDX-License-Identifier: GPL-2.0-only
//! What control operations work with, and the configuration that the module has for the agent.
//!
//! Before: [`super::control_channel`] learns that it has changed. After: the repository obeys, and
//! the module is told which URL is in use. Belongs to the main thread, but for the session.

use std::sync::Arc;

use super::devices::Devices;
use super::ended::Ended;
use super::session::Session;
use crate::base::failures::Failures;
use crate::base::settings::Settings;
use crate::paths::UrlNews;
use crate::process::logging::Log;
use crate::volume::{Repository, Volumes};

/// What control operations work with. Everything but the session belongs to the main thread.
pub struct Office {
    /// To the module.
    pub session: Arc<Session>,
    /// To the servers.
    pub repository: Arc<Repository>,
    /// Operations on volumes.
    pub volumes: Volumes,
    /// What is served.
    pub devices: Devices,
    /// Where failures are noted.
    pub failures: Arc<Failures>,
    /// Whose level follows the module's.
    pub log: Log,
}

impl Office {
    /// Reads parameters and URLs and puts them in force.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn read_config(&self) -> Result<(), Ended> {
        let (config, urls) = self.session.config()?;
        self.log.follow(config.debug);
        tracing::info!("configuration {}: {} URLs", config.version, urls.len());
        self.repository.apply(Settings::new(&config, urls));
        self.tell_active_url()
    }

    fn tell_active_url(&self) -> Result<(), Ended> {
        match self.repository.paths().news() {
            Some(UrlNews { version, active, fit_urls }) => {
                let index = u32::try_from(active).unwrap_or(u32::MAX);
                self.session.set_active_url(version, index, fit_urls)
            }
            None => Ok(()),
        }
    }

    /// Tells the module which URL is in use and which ones are fit, whenever that changes.
    pub async fn follow_active_url(&self) -> Ended {
        let mut changes = self.repository.subscribe();
        loop {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Err(ended) = self.tell_active_url() {
                return ended;
            }
        }
    }
}
