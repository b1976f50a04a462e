// SPDX-License-Identifier: GPL-2.0-only
//! The URLs in force, and which of them is the best for a try.
//!
//! Before: [`super::Paths`] puts a new state in force when the module has a new list; a try asks.
//! After: [`super::Client`] goes there. A state does not change; what it knows of a URL does.

use std::sync::Arc;

use srb_proto::command::{Kind, RepositoryUrl};

use super::url::Url;
use crate::base::settings::Settings;

fn bit(place: usize) -> u32 {
    u32::try_from(place).ok().and_then(|place| 1u32.checked_shl(place)).unwrap_or(0)
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

impl Route {
    pub(super) fn new(settings: &Settings, old: &Self) -> Self {
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
                let url = |(place, url): (usize, &RepositoryUrl)| {
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
    pub(super) fn fit_urls(&self) -> u32 {
        let Route::Http(urls) = &self.route else { return 0 };
        let fit = |(_, url): &(usize, &Arc<Url>)| url.fitness.verdict() == Some(&Ok(()));
        let bits = urls.iter().enumerate().filter(fit).map(|(place, _)| bit(place));
        bits.fold(0, |all, bit| all | bit)
    }

    pub(super) fn active(&self, previous: Option<usize>) -> Option<usize> {
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
