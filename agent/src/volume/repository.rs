// SPDX-License-Identifier: GPL-2.0-only
//! The one repository that an agent has: the paths to it, and its volumes.
//!
//! Before: [`crate::agent`] makes it, and has it obey what the module says. After: every worker
//! asks it for the paths, and whoever serves a device for its volume. Shared by all threads.
//!
//! # Locks
//! That of the volumes, for a look-up; nothing is awaited under it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{Heritage, Volume, WeakVolume};
use crate::base::settings::Settings;
use crate::base::tuning::RestConfig;
use crate::paths::{Paths, UrlNews, UrlStatus};

/// The repository.
#[derive(Debug)]
pub struct Repository {
    paths: Arc<Paths>,
    heritage: Arc<Heritage>,
    volumes: Mutex<HashMap<String, WeakVolume>>,
}

impl Repository {
    /// A repository without URLs.
    #[must_use]
    pub fn new(config: RestConfig) -> Arc<Self> {
        let heritage = Heritage::open(config.settling_file.as_deref());
        Self::with_heritage(config, heritage)
    }

    pub(crate) fn with_heritage(config: RestConfig, heritage: Heritage) -> Arc<Self> {
        let (paths, heritage) = (Paths::new(config), Arc::new(heritage));
        Arc::new(Self { paths, heritage, volumes: Mutex::default() })
    }

    /// The URLs that lead to it.
    pub(crate) const fn paths(&self) -> &Arc<Paths> {
        &self.paths
    }

    #[cfg(test)]
    pub(crate) fn heritage(&self) -> &Heritage {
        &self.heritage
    }

    /// The handle of a volume; all handles of one name share what its requests share.
    #[must_use]
    pub fn volume(&self, name: &str) -> Volume {
        let mut volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(volume) = volumes.get(name).and_then(WeakVolume::upgrade) {
            return volume;
        }
        volumes.retain(|_, volume| !volume.is_gone());
        let settle = self.paths.config().settle;
        let volume = Volume::shared(name, (settle, &self.heritage), volumes.get(name));
        volumes.insert(name.to_owned(), volume.downgrade());
        volume
    }

    /// See [`Paths::apply`].
    pub fn apply(&self, settings: Settings) {
        self.paths.apply(settings);
    }

    /// See [`Paths::settings`].
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.paths.settings()
    }

    /// See [`Paths::active_url`].
    #[must_use]
    pub fn active_url(&self) -> Option<(u64, usize)> {
        self.paths.active_url()
    }

    /// See [`Paths::status`].
    #[must_use]
    pub fn status(&self) -> Vec<UrlStatus> {
        self.paths.status()
    }

    /// See [`Paths::subscribe`].
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<UrlNews>> {
        self.paths.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_of_one_volume_share_until_the_last_is_gone() {
        let repository = Repository::new(RestConfig::default());
        let (one, two) = (repository.volume("v"), repository.volume("v"));
        one.subject().count_retry();
        assert_eq!((two.retries(), repository.volume("w").retries()), (1, 0));
        drop((one, two));
        assert_eq!(repository.volume("v").retries(), 0);
    }

    #[test]
    fn what_threads_share_can_be_shared() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<Repository>();
        shared::<Volume>();
        shared::<crate::base::errors::RequestError>();
    }
}
