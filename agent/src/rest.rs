// SPDX-License-Identifier: GPL-2.0-only
//! HTTP with the repository: an operation, carried through its tries on connections that one thread
//! keeps.
//!
//! Before: [`crate::pipeline`] for data, [`crate::volume`] for the rest. In here, in order:
//! [`Client::run`] (tries) → [`State::choose`] (URL) → `probe` (first write) → `pool`, `connect`
//! (connection) → `operation` (request) → `link` (HTTP) → `answer`. Everything belongs to the
//! worker's thread but the [`Repository`], which is shared.
//!
//! # Errors
//! A try ends in a [`Failure`]; [`ErrorKind::rule`] says whether another one follows. All waits are
//! bounded: by `server_conn_timeout`, `req_timeout`, and the longest backoff.

mod answer;
mod backoff;
mod connect;
mod link;
mod listing;
#[cfg(test)]
pub(crate) mod memory;
mod operation;
mod pool;
mod probe;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use tokio::time::{timeout, Instant};

pub(crate) use self::answer::Reply;
pub(crate) use self::operation::{Io, Operation};
pub(crate) use self::probe::{is_left_over, is_scratch};

use self::link::{Link, Rest};
use self::pool::Pool;
use crate::errors::{Blame, ErrorKind, RequestError, UrlAnswer};
use crate::repository::{Repository, Route, State, Url};
use crate::settings::Settings;
use crate::volume::{Landing, Volume};

/// Volumes whose paths a worker remembers.
const MAX_PATHS: usize = 8192;

/// Why a try failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    /// What the URL did, as the rest of a sentence.
    pub(crate) text: String,
    /// How long the server wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// The server may have carried the operation out all the same.
    pub(crate) ambiguous: bool,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        let ambiguous = kind.rule().ambiguous;
        Self { kind, text: text.into(), retry_after: None, ambiguous }
    }
}

/// One thread's connections to the repository.
pub(crate) struct Client {
    repository: Arc<Repository>,
    worker: usize,
    view: RefCell<Rc<View>>,
}

/// The repository's state as this thread last saw it, with what the thread has for each URL.
pub(crate) struct View {
    epoch: u64,
    pub(crate) state: Arc<State>,
    pools: Vec<Rc<Pool>>,
    /// The path of a volume at each URL.
    paths: RefCell<HashMap<u64, Rc<[Uri]>>>,
}

/// What became of the tries of an operation so far.
struct Tries<'a> {
    operation: &'a Operation<'a>,
    count: u32,
    failed: Vec<FailedUrl>,
    /// A try may have been carried out by a server although no answer said so.
    ambiguous: bool,
    /// Of a write of data: holds back what overlaps it while a try may still land.
    landing: Option<&'a Landing<'a>>,
}

/// A URL at which the operation has failed.
struct FailedUrl {
    url: Arc<Url>,
    last: UrlAnswer,
    count: u32,
    retry_after: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn new(repository: Arc<Repository>) -> Self {
        let (epoch, state) = (repository.epoch(), repository.state());
        let view = View::new(epoch, state, None, &repository);
        let worker = repository.join();
        Self { repository, worker, view: RefCell::new(Rc::new(view)) }
    }

    pub(crate) const fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// The repository as it is now.
    pub(crate) fn view(&self) -> Rc<View> {
        let epoch = self.repository.epoch();
        let mut view = self.view.borrow_mut();
        if view.epoch != epoch {
            let new = View::new(epoch, self.repository.state(), Some(&view), &self.repository);
            *view = Rc::new(new);
        }
        Rc::clone(&view)
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn close_idle(&self) {
        self.view().pools.iter().for_each(|pool| pool.close_idle());
    }

    /// Carries an operation through its tries.
    pub(crate) async fn run(&self, operation: &Operation<'_>) -> Result<Reply, RequestError> {
        self.run_tries(Tries::new(operation, None)).await
    }

    /// The same for a write of data; `landing` is told of each try.
    pub(crate) async fn run_write(
        &self,
        operation: &Operation<'_>,
        landing: &Landing<'_>,
    ) -> Result<Reply, RequestError> {
        self.run_tries(Tries::new(operation, Some(landing))).await
    }

    async fn run_tries(&self, mut tries: Tries<'_>) -> Result<Reply, RequestError> {
        let operation = tries.operation;
        loop {
            let view = self.view();
            let settings = &view.state.settings;
            let now_ms = self.repository.now_ms();
            let choice = view.state.choose(|index| tries.failures(&view, index), now_ms);
            let Some(pool) = choice.and_then(|index| view.pools.get(index)) else {
                return Err(tries.no_url(&view.state.route));
            };
            let pause = tries.pause_before(pool.url());
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let failure = match self.one_try(pool, &mut tries, settings).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            self.blame(pool.url(), &failure);
            let Failure { kind, ambiguous, .. } = failure;
            tries.ambiguous |= ambiguous;
            let last = !kind.rule().retry || tries.count > settings.nb_req_retries;
            if !last {
                let (url, why) = (pool.url().text(), &failure.text);
                tracing::debug!(%operation, url, why, "a try failed, another one follows");
            }
            tries.note(pool.url(), failure, settings);
            if last {
                return Err(tries.into_error());
            }
            if let Some(volume) = operation.volume() {
                volume.count_retry();
            }
        }
    }

    async fn one_try(
        &self,
        pool: &Pool,
        tries: &mut Tries<'_>,
        settings: &Settings,
    ) -> Result<Reply, Failure> {
        tries.count = tries.count.saturating_add(1);
        if tries.operation.needs_fit_server() && self.repository.config().probe {
            self.require_fit(pool, settings).await?;
        }
        let operation = tries.operation;
        tries.begin();
        let result = self.attempt(pool, operation, settings, &mut || tries.sent_again()).await;
        tries.end(&result);
        result
    }

    async fn require_fit(&self, pool: &Pool, settings: &Settings) -> Result<(), Failure> {
        let fitness = &pool.url().fitness;
        let verdict = match fitness.verdict() {
            Some(verdict) => verdict,
            None => {
                let probe = Box::pin(probe::probe(self, pool, settings));
                fitness.establish(probe).await.map_err(|mut failure| {
                    failure.text.push_str(" when it was probed for ranges");
                    // The operation itself was not sent.
                    failure.ambiguous = false;
                    failure
                })?
            }
        };
        verdict.as_ref().copied().map_err(|why| {
            let text = format!("does not honour ranges, nothing is written there: {why}");
            Failure::new(ErrorKind::Unfit, text)
        })
    }

    /// One try at one URL. A kept connection that turns out dead is replaced at once; `sent_again`
    /// is told.
    async fn attempt(
        &self,
        pool: &Pool,
        operation: &Operation<'_>,
        settings: &Settings,
        sent_again: &mut dyn FnMut(),
    ) -> Result<Reply, Failure> {
        let start = Instant::now();
        let path = self.path(pool.url(), operation)?;
        let kept = if operation.has_one_answer() { pool.take().await } else { None };
        let result = match kept {
            Some(link) => {
                match self.exchange(pool, link, operation, path.clone(), settings).await {
                    Err((_, true)) => {
                        sent_again();
                        self.on_fresh_link(pool, operation, path, settings).await
                    }
                    result => result.map_err(|(failure, _)| failure),
                }
            }
            None => self.on_fresh_link(pool, operation, path, settings).await,
        };
        let shard = pool.url().counters.shard(self.worker);
        match &result {
            Ok(_) => {
                let (read, written) = operation.data_bytes();
                shard.answered(start.elapsed(), read, written);
                self.repository.succeeded(pool.url());
            }
            // The server works, whatever it thinks of the operation.
            Err(failure) if failure.kind.rule().blame == Blame::None => {
                shard.answered(start.elapsed(), 0, 0);
                self.repository.succeeded(pool.url());
            }
            Err(_) => shard.failed(),
        }
        result
    }

    async fn on_fresh_link(
        &self,
        pool: &Pool,
        operation: &Operation<'_>,
        path: Uri,
        settings: &Settings,
    ) -> Result<Reply, Failure> {
        let stream = connect::open(pool.url().host(), settings.server_conn_timeout).await?;
        let link = Link::new(stream).await.map_err(|error| answer::broken(&error))?;
        let result = self.exchange(pool, link, operation, path, settings).await;
        result.map_err(|(failure, _)| failure)
    }

    /// One request and its answer. With an error comes whether the connection was closed before any
    /// answer.
    async fn exchange(
        &self,
        pool: &Pool,
        mut link: Link,
        operation: &Operation<'_>,
        path: Uri,
        settings: &Settings,
    ) -> Result<Reply, (Failure, bool)> {
        let request = operation.request(pool.url(), path).map_err(|failure| (failure, false))?;
        let both = async {
            let response = link.send(request).await.map_err(|error| {
                let unanswered = !error.is_parse() && !error.is_user();
                (answer::broken(&error), unanswered)
            })?;
            Ok(answer::receive(&mut link, operation, response).await)
        };
        match timeout(settings.req_timeout, both).await {
            Ok(Ok((reply, rest))) => {
                if rest == Rest::Reusable {
                    pool.keep(link);
                }
                reply.map_err(|failure| (failure, false))
            }
            Ok(Err(failed)) => Err(failed),
            Err(_) => {
                let text =
                    format!("did not answer within {} s", settings.req_timeout.as_secs_f64());
                Err((Failure::new(ErrorKind::Timeout, text), false))
            }
        }
    }

    fn path(&self, url: &Url, operation: &Operation<'_>) -> Result<Uri, Failure> {
        let Some(volume) = operation.volume() else { return Ok(Uri::default()) };
        let view = self.view.borrow();
        let place = view.pools.iter().position(|pool| std::ptr::eq(&**pool.url(), url));
        let known = view
            .paths
            .borrow()
            .get(&volume.id())
            .and_then(|paths| place.and_then(|place| paths.get(place)).cloned());
        if let Some(path) = known {
            return Ok(path);
        }
        let path = path_at(url, volume)?;
        let all: Result<Rc<[Uri]>, Failure> =
            view.pools.iter().map(|pool| path_at(pool.url(), volume)).collect();
        let mut paths = view.paths.borrow_mut();
        if paths.len() >= MAX_PATHS {
            paths.clear();
        }
        paths.insert(volume.id(), all?);
        Ok(path)
    }

    fn blame(&self, url: &Url, failure: &Failure) {
        // Answers that users ask for are nothing to remember of a URL.
        if !matches!(failure.kind, ErrorKind::NotFound | ErrorKind::Exists) {
            self.repository.failed(url, failure.kind, &failure.text);
        }
    }
}

fn path_at(url: &Url, volume: &Volume) -> Result<Uri, Failure> {
    operation::uri(format!("{}/{}", url.path(), volume.segment()))
}

impl View {
    fn new(epoch: u64, state: Arc<State>, old: Option<&Self>, repository: &Repository) -> Self {
        let known = |url: &Arc<Url>| {
            let mut pools = old?.pools.iter();
            pools.find(|pool| Arc::ptr_eq(pool.url(), url)).cloned()
        };
        let new = |url: &Arc<Url>| Rc::new(Pool::new(Arc::clone(url), repository.config()));
        let pools = match &state.route {
            Route::Http(urls) => {
                urls.iter().map(|url| known(url).unwrap_or_else(|| new(url))).collect()
            }
            _ => Vec::new(),
        };
        Self { epoch, state, pools, paths: RefCell::default() }
    }
}

impl<'a> Tries<'a> {
    const fn new(operation: &'a Operation<'a>, landing: Option<&'a Landing<'a>>) -> Self {
        Self { operation, count: 0, failed: Vec::new(), ambiguous: false, landing }
    }

    fn failures(&self, view: &View, index: usize) -> u32 {
        if self.failed.is_empty() {
            return 0;
        }
        view.pools.get(index).map_or(0, |pool| self.failures_of(pool.url()))
    }

    fn failures_of(&self, url: &Arc<Url>) -> u32 {
        self.at(url).map_or(0, |failed| failed.count)
    }

    fn at(&self, url: &Arc<Url>) -> Option<&FailedUrl> {
        self.failed.iter().find(|failed| Arc::ptr_eq(&failed.url, url))
    }

    /// How long to leave `url` alone: not at all if it has not failed this operation.
    fn pause_before(&self, url: &Arc<Url>) -> Duration {
        self.at(url)
            .map_or(Duration::ZERO, |failed| backoff::wait(failed.count).max(failed.retry_after))
    }

    fn note(&mut self, url: &Arc<Url>, failure: Failure, settings: &Settings) {
        let Failure { kind, text, retry_after, .. } = failure;
        let last = UrlAnswer { url: url.text().to_owned(), kind, text };
        let retry_after = retry_after.unwrap_or_default().min(settings.req_timeout);
        match self.failed.iter_mut().find(|failed| Arc::ptr_eq(&failed.url, url)) {
            Some(failed) => {
                failed.last = last;
                failed.retry_after = retry_after;
                failed.count = failed.count.saturating_add(1);
            }
            None => {
                let url = Arc::clone(url);
                self.failed.push(FailedUrl { url, last, count: 1, retry_after });
            }
        }
    }

    /// A try begins; if this is dropped before its end, it may have landed.
    fn begin(&self) {
        self.landing.inspect(|landing| landing.begin_try());
    }

    /// The operation is sent once more within a try, although a server may have got it already.
    fn sent_again(&mut self) {
        self.ambiguous = true;
        self.landing.inspect(|landing| landing.abandon_try());
        self.begin();
    }

    fn end(&self, result: &Result<Reply, Failure>) {
        self.landing.inspect(|landing| match result {
            Err(failure) if failure.ambiguous => landing.abandon_try(),
            _ => landing.end_try(),
        });
    }

    /// Nothing can be tried (any more).
    fn no_url(self, route: &Route) -> RequestError {
        if !self.failed.is_empty() {
            return self.into_error().with_note("no URL is left");
        }
        let (kind, why) = match route {
            Route::Mixed => (ErrorKind::MixedNull, "null: cannot stand beside other URLs"),
            Route::Null { .. } => (ErrorKind::Invalid, "null: takes no such operation"),
            Route::Nowhere | Route::Http(_) => (ErrorKind::NoUrl, "no URL is configured"),
        };
        RequestError::plain(kind, self.operation, why)
    }

    fn into_error(self) -> RequestError {
        let answers = self.failed.into_iter().map(|failed| failed.last).collect();
        RequestError::after_tries(self.operation, answers, self.count)
            .may_have_happened_if(self.ambiguous)
    }
}
