// SPDX-License-Identifier: GPL-2.0-only
//! HTTP with the repository: an operation, carried through its tries on connections that one thread
//! keeps.
//!
//! Before: [`crate::pipeline`] for data, [`crate::volume`] for the rest. In here, in order:
//! [`Client::run`] (tries) → [`State::choose`] and `reading` (URL) → `probe` (first write) →
//! `attempt` (or `hedge`: two of them) → `operation` (request) → [`crate::http`] → `answer`.
//! Beside: [`Prober`], which asks what is down. Everything belongs to the worker's thread but the
//! [`Repository`], which is shared.
//!
//! # Errors
//! A try ends in a [`Failure`]; [`ErrorKind::rule`] says whether another one follows. An operation
//! fails when no URL is left to try: each has failed it `nb_req_retries + 1` times, or refused it
//! for good; or when the time for all tries is over (`limits`), which bounds every wait.

mod answer;
mod attempt;
mod backoff;
mod hedge;
mod limits;
mod listing;
mod operation;
mod path;
mod probe;
mod prober;
mod progress;
mod reading;
mod subject;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, Instant};

pub(crate) use self::answer::Reply;
pub(crate) use self::limits::budget;
pub(crate) use self::operation::Operation;
pub(crate) use self::probe::{is_left_over, is_scratch};
pub use self::prober::Prober;
pub use self::progress::{Progress, Seen};
pub(crate) use self::subject::Subject;

use self::limits::Limits;
use self::path::Path;
use self::reading::{Candidate, Reading};
use crate::errors::{ErrorKind, Failure, RequestError, UrlAnswer};
use crate::repository::{ReadChoice, Repository, Route, State, Url};
use crate::settings::Settings;
use crate::volume::Landing;

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
    paths: Vec<Rc<Path>>,
    reading: Reading,
}

/// Who follows an operation through its tries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch<'a> {
    /// For those who want to know how far it is.
    pub(crate) progress: Option<&'a Progress>,
    /// Of what changes a volume: holds back what must not meet it while a try may still land.
    pub(crate) landing: Option<&'a Landing<'a>>,
    /// On the repository's clock, if it had to wait for its turn: since when. Its time counts from
    /// there.
    pub(crate) since_ms: Option<u64>,
}

/// What became of the tries of an operation so far.
struct Tries<'a> {
    operation: &'a Operation<'a>,
    watch: Watch<'a>,
    /// On the repository's clock.
    start_ms: u64,
    count: u32,
    failed: Vec<FailedUrl>,
    /// A try may have been carried out by a server although no answer said so.
    ambiguous: bool,
}

/// A URL at which the operation has failed.
struct FailedUrl {
    url: Arc<Url>,
    last: UrlAnswer,
    count: u32,
    /// Times that it was not even asked, for want of something on this machine. They do not count:
    /// another program may hold what is missing for as long as it likes.
    shortages: u32,
    /// It will never do this.
    refused: bool,
    /// To be left alone until then.
    not_before: Instant,
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
        self.view().paths.iter().for_each(|path| path.pool.close_idle());
    }

    /// Carries an operation through its tries.
    pub(crate) async fn run(&self, operation: &Operation<'_>) -> Result<Reply, RequestError> {
        self.run_watched(operation, Watch::default()).await
    }

    /// The same, and tells `watch` of it.
    pub(crate) async fn run_watched(
        &self,
        operation: &Operation<'_>,
        watch: Watch<'_>,
    ) -> Result<Reply, RequestError> {
        let mut now = Instant::now();
        let mut tries = Tries::new(operation, watch, self.repository.ms_at(now));
        loop {
            let view = self.view();
            let settings = &view.state.settings;
            let Some(Choice { place, path, explores }) = self.choose(&view, &tries) else {
                return Err(tries.no_url(&view.state.route));
            };
            let limits = match self.may_begin(&tries, path.url(), settings) {
                Begin::Now(limits) => limits,
                Begin::After(pause) => {
                    sleep(pause).await;
                    tries.has_paused(path.url());
                    now = Instant::now();
                    // Something better may have turned up.
                    continue;
                }
                Begin::Never => return Err(tries.no_time()),
            };
            tries.begin(settings.version, place);
            let result = match self.hedge_after(operation, &view, explores) {
                // Large, and rare.
                Some(after) => Box::pin(self.hedged(after, &view, path, &mut tries, &limits)).await,
                None => self.one_try(path, &mut tries, &limits, now).await,
            };
            let failure = match result {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            self.blame(path, &failure, &limits);
            let Failure { kind, ambiguous, .. } = failure;
            tries.ambiguous |= ambiguous;
            let (url, why) = (path.url().text(), &failure.text);
            tracing::debug!(%operation, url, why, "a try failed");
            tries.note(path.url(), failure, settings);
            let last = !kind.rule().elsewhere || self.choose(&self.view(), &tries).is_none();
            if last {
                return Err(tries.into_error());
            }
            if let Some(volume) = operation.volume() {
                volume.count_retry();
            }
            now = Instant::now();
        }
    }

    /// The URL for the next try.
    fn choose<'v>(&self, view: &'v View, tries: &Tries<'_>) -> Option<Choice<'v>> {
        let config = self.repository.config();
        let needs_fit = config.probe && tries.operation.needs_fit_server();
        let standing = |place| {
            let path: &Rc<Path> = view.paths.get(place)?;
            tries.standing(path.url(), &view.state.settings)
        };
        let (mut place, mut explores) = (view.state.choose(standing, needs_fit)?, false);
        let first_read = tries.failed.is_empty() && matches!(tries.operation, Operation::Read(..));
        if first_read && config.read_choice == ReadChoice::Latency && view.paths.len() > 1 {
            let candidates = || view.candidates(self.worker);
            (place, explores) = view.reading.choose(place, candidates, tries.start_ms);
        }
        view.paths.get(place).map(|path| Choice { place, path, explores })
    }

    /// Whether there is time for another try, and the URL is to be asked now.
    fn may_begin(&self, tries: &Tries<'_>, url: &Arc<Url>, settings: &Settings) -> Begin {
        if tries.count == 0 && tries.watch.since_ms.is_none() {
            return Begin::Now(Limits::of(settings));
        }
        let passed_ms = self.repository.now_ms().saturating_sub(tries.start_ms);
        let left = limits::budget(settings).saturating_sub(Duration::from_millis(passed_ms));
        let pause = tries.at(url).map_or(Duration::ZERO, |failed| {
            failed.not_before.saturating_duration_since(Instant::now())
        });
        match Limits::of_another(settings, left) {
            None => Begin::Never,
            Some(limits) => match limits::pause_within(settings, pause, left) {
                Duration::ZERO => Begin::Now(limits),
                pause => Begin::After(pause),
            },
        }
    }

    async fn one_try(
        &self,
        path: &Path,
        tries: &mut Tries<'_>,
        limits: &Limits,
        mut now: Instant,
    ) -> Result<Reply, Failure> {
        if tries.operation.needs_fit_server() && self.repository.config().probe {
            let probes = path.url().fitness.verdict().is_none();
            self.require_fit(path, limits).await?;
            if probes {
                now = Instant::now();
            }
        }
        let operation = tries.operation;
        tries.sends();
        let result = self.attempt(path, operation, limits, now, &mut || tries.sends_again()).await;
        tries.has_sent(&result);
        result
    }

    async fn require_fit(&self, path: &Path, limits: &Limits) -> Result<(), Failure> {
        let fitness = &path.url().fitness;
        let verdict = match fitness.verdict() {
            Some(verdict) => verdict,
            None => {
                let probe = Box::pin(probe::probe(self, path, limits));
                let established = fitness.establish(probe).await;
                self.repository.refresh_news();
                established.map_err(|mut failure| {
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

    fn blame(&self, path: &Path, failure: &Failure, limits: &Limits) {
        match failure.kind {
            // Answers that users ask for are nothing to remember of a URL.
            ErrorKind::NotFound | ErrorKind::Exists => {}
            // A server that was given less time than it should have may be well.
            ErrorKind::Timeout | ErrorKind::ConnectTimeout if limits.cut_it_short() => {}
            kind => self.repository.failed(path.url(), kind, &failure.text),
        }
        if failure.kind == ErrorKind::Shortage {
            // Idle connections hold some of what is missing.
            self.view().paths.iter().for_each(|path| path.pool.close_all());
        }
    }
}

/// Where a try goes.
struct Choice<'v> {
    /// In the list of URLs.
    place: usize,
    path: &'v Rc<Path>,
    /// A read goes there to see how fast it is.
    explores: bool,
}

/// When a try may begin.
enum Begin {
    Now(Limits),
    After(Duration),
    Never,
}

impl View {
    fn new(epoch: u64, state: Arc<State>, old: Option<&Self>, repository: &Repository) -> Self {
        let known = |url: &Arc<Url>| {
            let mut paths = old?.paths.iter();
            paths.find(|path| Arc::ptr_eq(path.url(), url)).cloned()
        };
        let new = |url: &Arc<Url>| Rc::new(Path::new(Arc::clone(url), repository.config()));
        let paths = match &state.route {
            Route::Http(urls) => {
                urls.iter().map(|url| known(url).unwrap_or_else(|| new(url))).collect()
            }
            _ => Vec::new(),
        };
        Self { epoch, state, paths, reading: Reading::default() }
    }

    /// The URLs that a read may go to, as a worker knows them.
    fn candidates(&self, worker: usize) -> impl Iterator<Item = Candidate> + '_ {
        let up = |(_, path): &(usize, &Rc<Path>)| !path.url().health.is_down();
        let candidate = move |(place, path): (usize, &Rc<Path>)| {
            let latency = path.url().counters.shard(worker).read_latency();
            Candidate { place, latency }
        };
        self.paths.iter().enumerate().filter(up).map(candidate)
    }
}

impl<'a> Tries<'a> {
    fn new(operation: &'a Operation<'a>, watch: Watch<'a>, now_ms: u64) -> Self {
        let start_ms = watch.since_ms.unwrap_or(now_ms);
        Self { operation, watch, start_ms, count: 0, failed: Vec::new(), ambiguous: false }
    }

    fn begin(&mut self, version: u64, place: usize) {
        self.count = self.count.saturating_add(1);
        if let Some(progress) = self.watch.progress {
            progress.trying(version, place, self.count);
        }
    }

    /// How often the operation failed at `url`; `None` if it is not to go there any more.
    fn standing(&self, url: &Arc<Url>, settings: &Settings) -> Option<u32> {
        let Some(failed) = self.at(url) else { return Some(0) };
        let out = failed.refused || failed.count > settings.nb_req_retries;
        (!out).then(|| failed.count.saturating_add(failed.shortages))
    }

    /// The pause before the next try at `url` is over, even if it was cut.
    fn has_paused(&mut self, url: &Arc<Url>) {
        if let Some(failed) = self.failed.iter_mut().find(|at| Arc::ptr_eq(&at.url, url)) {
            failed.not_before = Instant::now();
        }
    }

    fn at(&self, url: &Arc<Url>) -> Option<&FailedUrl> {
        self.failed.iter().find(|failed| Arc::ptr_eq(&failed.url, url))
    }

    fn note(&mut self, url: &Arc<Url>, failure: Failure, settings: &Settings) {
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
    fn sends(&self) {
        self.watch.landing.inspect(|landing| landing.begin_try());
    }

    /// It is sent once more within a try, although a server may have got it already.
    fn sends_again(&mut self) {
        self.ambiguous = true;
        self.watch.landing.inspect(|landing| landing.abandon_try());
        self.sends();
    }

    fn has_sent(&self, result: &Result<Reply, Failure>) {
        self.watch.landing.inspect(|landing| match result {
            Err(failure) if failure.ambiguous => landing.abandon_try(),
            _ => landing.end_try(),
        });
    }

    /// The time for it is over.
    fn no_time(self) -> RequestError {
        if self.count == 0 {
            let why = "its time went by while it waited for others";
            return RequestError::plain(ErrorKind::Timeout, self.operation, why);
        }
        self.into_error().with_note("there is no time left")
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

#[cfg(test)]
mod tests;
