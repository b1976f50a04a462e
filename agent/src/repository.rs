// SPDX-License-Identifier: GPL-2.0-only
//! The set of URLs that lead to one repository, and what is known of each: shared by all threads.
//!
//! Before: the session applies what the module has. After: each try of a request asks which URL is
//! best ([`crate::rest`]) and reports what became of it.

mod counters;
mod fitness;
mod health;
mod url;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::Deserialize;
use srb_proto::command::Kind;
use tokio::sync::{watch, Notify};
use tokio::time::Instant;

pub(crate) use self::counters::{count, ReadLatency};
pub use self::health::UrlState;
pub(crate) use self::url::Url;
pub use self::url::UrlStatus;
use crate::errors::ErrorKind;
use crate::settings::Settings;
use crate::volume::{Heritage, Volume, WeakVolume};

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

fn bit(place: usize) -> u32 {
    u32::try_from(place).ok().and_then(|place| 1u32.checked_shl(place)).unwrap_or(0)
}

/// The repository.
#[derive(Debug)]
pub struct Repository {
    config: RestConfig,
    heritage: Arc<Heritage>,
    /// Start of the clock of [`Self::now_ms`].
    start: Instant,
    state: RwLock<Arc<State>>,
    /// Counts changes of `state`, so that a worker sees by one load that its copy is the latest.
    epoch: AtomicU64,
    news: watch::Sender<Option<UrlNews>>,
    volumes: Mutex<HashMap<String, WeakVolume>>,
    workers: AtomicUsize,
    /// Ticks when there may be a URL to probe.
    probing: Notify,
}

/// Settings in force, with what is known of their URLs.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) settings: Arc<Settings>,
    pub(crate) route: Route,
}

/// Where requests go.
#[derive(Debug)]
pub(crate) enum Route {
    /// Nowhere: there is no URL.
    Nowhere,
    /// Nowhere: `null:` stands beside other URLs.
    Mixed,
    /// To `null:`, whose volumes have this size.
    Null { size_bytes: u64 },
    /// To the best of these.
    Http(Vec<Arc<Url>>),
}

impl Repository {
    /// A repository without URLs.
    #[must_use]
    pub fn new(config: RestConfig) -> Arc<Self> {
        let heritage = Heritage::open(config.settling_file.as_deref());
        Self::with_heritage(config, heritage)
    }

    pub(crate) fn with_heritage(config: RestConfig, heritage: Heritage) -> Arc<Self> {
        let settings = Arc::new(Settings::default());
        Arc::new(Self {
            config,
            heritage: Arc::new(heritage),
            start: Instant::now(),
            state: RwLock::new(Arc::new(State { settings, route: Route::Nowhere })),
            epoch: AtomicU64::new(0),
            news: watch::Sender::new(None),
            volumes: Mutex::default(),
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

    /// The handle of a volume; all handles of one name share what its requests share.
    #[must_use]
    pub fn volume(&self, name: &str) -> Volume {
        let mut volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(volume) = volumes.get(name).and_then(WeakVolume::upgrade) {
            return volume;
        }
        volumes.retain(|_, volume| !volume.is_gone());
        let volume = Volume::shared(name, (self.config.settle, &self.heritage), volumes.get(name));
        volumes.insert(name.to_owned(), volume.downgrade());
        volume
    }

    /// The URL at a place of the list that had this version; `None` if the list has changed since.
    #[must_use]
    pub fn url_at(&self, version: u64, place: usize) -> Option<String> {
        let settings = self.settings();
        let url = settings.urls.get(place).filter(|_| settings.version == version);
        url.map(|url| url.as_str().to_owned())
    }

    #[cfg(test)]
    pub(crate) fn heritage(&self) -> &Heritage {
        &self.heritage
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

impl Route {
    fn new(settings: &Settings, old: &Self) -> Self {
        let mut nulls = settings.urls.iter().filter_map(|url| match url.kind() {
            Kind::Null { size_bytes } => Some(size_bytes),
            Kind::Http { .. } => None,
        });
        match (nulls.next(), settings.urls.len()) {
            (_, 0) => Self::Nowhere,
            (Some(size_bytes), 1) => Self::Null { size_bytes },
            (Some(_), _) => Self::Mixed,
            (None, _) => {
                let known = |url: &str| match old {
                    Self::Http(urls) => urls.iter().find(|known| known.text() == url).cloned(),
                    _ => None,
                };
                let url = |(place, url): (usize, &srb_proto::command::RepositoryUrl)| {
                    let url = url.as_str();
                    let url = known(url).unwrap_or_else(|| Arc::new(Url::new(url)));
                    if settings.fit_urls & bit(place) != 0 {
                        url.fitness.trust();
                    }
                    url
                };
                Self::Http(settings.urls.iter().enumerate().map(url).collect())
            }
        }
    }
}

impl State {
    /// The place of the URL for the next try of a request. `standing` says how often the request
    /// failed at each place, and `None` if it is not to go there any more; `needs_fit`: whether it
    /// changes what the server holds.
    ///
    /// In this order: one that honours ranges, if that matters; one that is not down; one that
    /// failed the request least; the first of the list. Those that are down get a request only when
    /// it can go nowhere else; then the one that is probed next comes first.
    pub(crate) fn choose(
        &self,
        standing: impl Fn(usize) -> Option<u32>,
        needs_fit: bool,
    ) -> Option<usize> {
        let Route::Http(urls) = &self.route else { return None };
        let rank = |(index, url): (usize, &Arc<Url>)| {
            let failures = standing(index)?;
            let unfit = needs_fit && url.fitness.is_unfit();
            let down = url.health.is_down();
            let probe_at_ms = if down { url.health.probe_at_ms() } else { 0 };
            Some((unfit, down, failures, probe_at_ms, index))
        };
        urls.iter().enumerate().filter_map(rank).min().map(|(.., index)| index)
    }

    /// Those that were seen to honour ranges, a bit for each.
    fn fit_urls(&self) -> u32 {
        let Route::Http(urls) = &self.route else { return 0 };
        let fit = |(_, url): &(usize, &Arc<Url>)| url.fitness.verdict() == Some(&Ok(()));
        let bits = urls.iter().enumerate().filter(fit).map(|(place, _)| bit(place));
        bits.fold(0, |all, bit| all | bit)
    }

    fn active(&self, previous: Option<usize>) -> Option<usize> {
        match &self.route {
            Route::Nowhere | Route::Mixed => None,
            Route::Null { .. } => Some(0),
            Route::Http(urls) => {
                let up = urls.iter().position(|url| !url.health.is_down());
                Some(up.or(previous).unwrap_or(0))
            }
        }
    }
}

#[cfg(test)]
mod tests;
