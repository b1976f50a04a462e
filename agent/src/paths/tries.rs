// SPDX-License-Identifier: GPL-2.0-only
//! What became of a request's tries so far, and what follows from it.
//!
//! Before: [`super::Client`] reports each try. After: it asks whether the request may go to a URL
//! again, and when; at the end, what the failure is called. Belongs to the request.

use std::sync::Arc;

use tokio::time::Instant;

use super::backoff;
use super::request::{Request, TryObserver, Watch};
use super::state::Route;
use super::url::Url;
use crate::base::errors::{ErrorKind, Failure, RequestError, UrlAnswer};
use crate::base::settings::Settings;

/// What became of the tries of a request so far.
pub(super) struct Tries<'a, R, O> {
    pub(super) request: &'a R,
    pub(super) watch: Watch<'a, O>,
    /// On the repository's clock.
    pub(super) start_ms: u64,
    pub(super) count: u32,
    pub(super) failed: Vec<FailedUrl>,
    /// A try may have been carried out by a server although no answer said so.
    pub(super) ambiguous: bool,
}

/// A URL at which the operation has failed.
pub(super) struct FailedUrl {
    url: Arc<Url>,
    last: UrlAnswer,
    count: u32,
    /// Times that it was not even asked, for want of something on this machine. They do not count:
    /// another program may hold what is missing for as long as it likes.
    shortages: u32,
    /// It will never do this.
    refused: bool,
    /// To be left alone until then.
    pub(super) not_before: Instant,
}

impl<'a, R: Request, O: TryObserver> Tries<'a, R, O> {
    pub(super) fn new(request: &'a R, watch: Watch<'a, O>, now_ms: u64) -> Self {
        let start_ms = watch.since_ms.unwrap_or(now_ms);
        Self { request, watch, start_ms, count: 0, failed: Vec::new(), ambiguous: false }
    }

    pub(super) fn begin(&mut self, version: u64, place: usize) {
        self.count = self.count.saturating_add(1);
        if let Some(progress) = self.watch.progress {
            progress.trying(version, place, self.count);
        }
    }

    /// How often the operation failed at `url`; `None` if it is not to go there any more.
    pub(super) fn standing(&self, url: &Arc<Url>, settings: &Settings) -> Option<u32> {
        let Some(failed) = self.at(url) else { return Some(0) };
        let out = failed.refused || failed.count > settings.nb_req_retries;
        (!out).then(|| failed.count.saturating_add(failed.shortages))
    }

    /// The pause before the next try at `url` is over, even if it was cut.
    pub(super) fn has_paused(&mut self, url: &Arc<Url>) {
        if let Some(failed) = self.failed.iter_mut().find(|at| Arc::ptr_eq(&at.url, url)) {
            failed.not_before = Instant::now();
        }
    }

    pub(super) fn at(&self, url: &Arc<Url>) -> Option<&FailedUrl> {
        self.failed.iter().find(|failed| Arc::ptr_eq(&failed.url, url))
    }

    pub(super) fn note(&mut self, url: &Arc<Url>, failure: Failure, settings: &Settings) {
        let Failure { kind, text, retry_after, status, .. } = failure;
        if let Some(progress) = self.watch.progress {
            progress.failed(kind, status);
        }
        let last = UrlAnswer { url: url.text().to_owned(), kind, text };
        let (before, index) = match self.failed.iter().position(|at| Arc::ptr_eq(&at.url, url)) {
            Some(index) => (self.failed.get(index).map(|at| (at.count, at.shortages)), index),
            None => (None, self.failed.len()),
        };
        let (mut count, mut shortages) = before.unwrap_or((0, 0));
        match kind {
            ErrorKind::Shortage => shortages = shortages.saturating_add(1),
            _ => count = count.saturating_add(1),
        }
        let retry_after = retry_after.unwrap_or_default().min(settings.req_timeout);
        let pause = backoff::wait(count.saturating_add(shortages)).max(retry_after);
        let now = Instant::now();
        let failed = FailedUrl {
            url: Arc::clone(url),
            last,
            count,
            shortages,
            refused: !kind.rule().retry,
            not_before: now.checked_add(pause).unwrap_or(now),
        };
        match self.failed.get_mut(index) {
            Some(known) => *known = failed,
            None => self.failed.push(failed),
        }
    }

    /// The operation is sent; if this is dropped before there is an answer, it may have landed.
    pub(super) fn sends(&self) {
        self.watch.observer.inspect(|observer| observer.begin_try());
    }

    /// It is sent once more within a try, although a server may have got it already.
    pub(super) fn sends_again(&mut self) {
        self.ambiguous = true;
        self.watch.observer.inspect(|observer| observer.abandon_try());
        self.sends();
    }

    pub(super) fn has_sent(&self, result: &Result<R::Reply, Failure>) {
        self.watch.observer.inspect(|observer| match result {
            Err(failure) if failure.ambiguous => observer.abandon_try(),
            _ => observer.end_try(),
        });
    }

    /// The time for it is over.
    pub(super) fn no_time(self) -> RequestError {
        if self.count == 0 {
            let why = "its time went by while it waited for others";
            return RequestError::plain(ErrorKind::Timeout, self.request, why);
        }
        self.into_error().with_note("there is no time left")
    }

    /// Nothing can be tried (any more).
    pub(super) fn no_url(self, route: &Route) -> RequestError {
        if !self.failed.is_empty() {
            return self.into_error().with_note("no URL is left");
        }
        let (kind, why) = match route {
            Route::Mixed => (ErrorKind::MixedNull, "null: cannot stand beside other URLs"),
            Route::Null { .. } => (ErrorKind::Invalid, "null: takes no such operation"),
            Route::Nowhere | Route::Http(_) => (ErrorKind::NoUrl, "no URL is configured"),
        };
        RequestError::plain(kind, self.request, why)
    }

    pub(super) fn into_error(self) -> RequestError {
        let answers = self.failed.into_iter().map(|failed| failed.last).collect();
        RequestError::after_tries(self.request, answers, self.count)
            .may_have_happened_if(self.ambiguous)
    }
}
