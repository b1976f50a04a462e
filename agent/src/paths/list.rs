// SPDX-License-Identifier: GPL-2.0-only
//! The list of URLs that lead to one repository: shared by all threads.
//!
//! Before: the session applies what the module has. After: [`super::Client`] asks which URL is best
//! for a try, and reports what became of it; the module and the status are told what is known.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{watch, Notify};
use tokio::time::Instant;

use super::state::{Route, State};
use super::url::{Url, UrlStatus};
use crate::base::errors::ErrorKind;
use crate::base::settings::Settings;
use crate::base::tuning::RestConfig;

/// What the module is to know of the URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlNews {
    /// Of the settings that the rest belongs to.
    pub version: u64,
    /// The place of the URL to which requests go first.
    pub active: usize,
    /// Which URLs were seen to honour ranges, a bit for each place.
    pub fit_urls: u32,
}

/// The paths.
#[derive(Debug)]
pub struct Paths {
    config: RestConfig,
    /// Start of the clock of [`Self::now_ms`].
    start: Instant,
    state: RwLock<Arc<State>>,
    /// Counts changes of `state`, so that a worker sees by one load that its copy is the latest.
    epoch: AtomicU64,
    news: watch::Sender<Option<UrlNews>>,
    workers: AtomicUsize,
    /// Ticks when there may be a URL to probe.
    probing: Notify,
}

impl Paths {
    /// No URLs yet.
    #[must_use]
    pub fn new(config: RestConfig) -> Arc<Self> {
        let settings = Arc::new(Settings::default());
        Arc::new(Self {
            config,
            start: Instant::now(),
            state: RwLock::new(Arc::new(State { settings, route: Route::Nowhere })),
            epoch: AtomicU64::new(0),
            news: watch::Sender::new(None),
            workers: AtomicUsize::new(0),
            probing: Notify::new(),
        })
    }

    /// Puts `settings` in force, for requests under way from their next try on.
    ///
    /// What is known of a URL is kept if it is in the old list and in the new one.
    pub fn apply(&self, settings: Settings) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let route = Route::new(&settings, &state.route);
        *state = Arc::new(State { settings: Arc::new(settings), route });
        // ORDERING: release, pairs with the acquire in `epoch`: who sees the number sees the state
        // behind the lock.
        self.epoch.fetch_add(1, Ordering::Release);
        drop(state);
        self.refresh_news();
        self.probing.notify_one();
    }

    /// Those in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.state().settings)
    }

    /// Where a new request goes first: the version of the settings, and the place in their list.
    #[must_use]
    pub fn active_url(&self) -> Option<(u64, usize)> {
        self.news().map(|news| (news.version, news.active))
    }

    /// What the module is to know of the URLs; `None` while there are none.
    #[must_use]
    pub fn news(&self) -> Option<UrlNews> {
        *self.news.borrow()
    }

    /// Ticks when [`Self::news`] changes, and carries it.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<UrlNews>> {
        self.news.subscribe()
    }

    /// Looks up the hosts of all URLs, for connections to come.
    pub async fn look_up(&self) {
        if let Route::Http(urls) = &self.state().route {
            let each = urls.iter().map(|url| url.lookup.refresh(url.host()));
            futures_util::future::join_all(each).await;
        }
    }

    /// Each URL, in the order of the settings.
    #[must_use]
    pub fn status(&self) -> Vec<UrlStatus> {
        let state = self.state();
        let active = self.active_url().map(|(_, index)| index);
        let describe = |(index, url): (usize, &srb_proto::command::RepositoryUrl)| {
            let known = match &state.route {
                Route::Http(urls) => urls.get(index).map(|url| url.status()),
                _ => None,
            };
            let unknown = || UrlStatus { url: url.as_str().to_owned(), ..UrlStatus::default() };
            UrlStatus { active: active == Some(index), ..known.unwrap_or_else(unknown) }
        };
        state.settings.urls.iter().enumerate().map(describe).collect()
    }

    /// The URL at a place of the list that had this version; `None` if the list has changed since.
    #[must_use]
    pub fn url_at(&self, version: u64, place: usize) -> Option<String> {
        let settings = self.settings();
        let url = settings.urls.get(place).filter(|_| settings.version == version);
        url.map(|url| url.as_str().to_owned())
    }

    pub(crate) const fn config(&self) -> &RestConfig {
        &self.config
    }

    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn epoch(&self) -> u64 {
        // ORDERING: acquire, pairs with the release in `apply`.
        self.epoch.load(Ordering::Acquire)
    }

    /// A number for a new worker.
    pub(crate) fn join(&self) -> usize {
        self.workers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    /// A moment on the clock of [`Self::now_ms`].
    pub(crate) fn ms_at(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.start);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes that `url` answered.
    pub(crate) fn succeeded(&self, url: &Url) {
        if url.health.succeeded(|| self.now_ms()) {
            tracing::info!(url = url.text(), "the URL answers again");
            self.refresh_news();
        }
    }

    /// Notes that a try at `url` failed.
    pub(crate) fn failed(&self, url: &Url, kind: ErrorKind, error: &str) {
        if url.health.failed(kind.rule().blame, error, self.now_ms()) {
            tracing::warn!(url = url.text(), error, "the URL is down");
            self.refresh_news();
            self.probing.notify_one();
        }
    }

    /// Waits until there may be one more URL to probe; for one task alone.
    pub(crate) async fn probing(&self) {
        self.probing.notified().await;
    }

    /// Has the module told what has changed in [`Self::news`].
    pub(crate) fn refresh_news(&self) {
        // The state is read inside: of two callers, the later one publishes what is true later.
        self.news.send_if_modified(|news| {
            let state = self.state();
            let version = state.settings.version;
            let previous = news.filter(|news| news.version == version);
            let active = state.active(previous.map(|news| news.active));
            let fit_urls = state.fit_urls();
            let new = active.map(|active| UrlNews { version, active, fit_urls });
            std::mem::replace(news, new) != new
        });
    }
}

#[cfg(test)]
mod tests;
