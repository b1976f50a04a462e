// SPDX-License-Identifier: GPL-2.0-only
//! A request's way through its tries, on connections that one thread keeps.
//!
//! Before: a store makes a request. In here, for each try: [`Client::choose`] (which URL; of a
//! read, [`super::reading`] has a say), `may_begin` (time and pauses), `require_fit` (before the
//! first write there), then `attempt`, or `hedge`, which makes two. After: the reply, or the
//! failure of all of them. Belongs to one thread; the list of URLs and what is known of each is
//! shared.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, Instant};

use super::attempt::Attempts;
use super::limits::{self, Limits};
use super::list::Paths;
use super::path::Path;
use super::prove::Prove;
use super::reading::{Candidate, Reading};
use super::request::{TryObserver, Watch};
use super::state::{Route, State};
use super::tries::Tries;
use super::url::Url;
use crate::base::errors::{ErrorKind, Failure, RequestError};
use crate::base::settings::Settings;
use crate::base::tuning::ReadChoice;

/// One thread's connections to the repository.
pub(crate) struct Client {
    pub(super) tries: Attempts,
    view: RefCell<Rc<View>>,
}

/// The repository's state as this thread last saw it, with what the thread has for each URL.
pub(crate) struct View {
    epoch: u64,
    pub(crate) state: Arc<State>,
    pub(super) paths: Vec<Rc<Path>>,
    reading: Reading,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("worker", &self.tries.worker()).finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn new(list: Arc<Paths>) -> Self {
        let (epoch, state) = (list.epoch(), list.state());
        let view = View::new(epoch, state, None, &list);
        let tries = Attempts::new(list);
        Self { tries, view: RefCell::new(Rc::new(view)) }
    }

    pub(crate) fn list(&self) -> &Arc<Paths> {
        self.tries.list()
    }

    /// The repository as it is now.
    pub(crate) fn view(&self) -> Rc<View> {
        let epoch = self.list().epoch();
        let mut view = self.view.borrow_mut();
        if view.epoch != epoch {
            let new = View::new(epoch, self.list().state(), Some(&view), self.list());
            *view = Rc::new(new);
        }
        Rc::clone(&view)
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn close_idle(&self) {
        self.view().paths.iter().for_each(|path| path.pool.close_idle());
    }

    /// Carries a request through its tries, and tells `watch` of each.
    pub(crate) async fn run<R: Prove, O: TryObserver>(
        &self,
        request: &R,
        watch: Watch<'_, O>,
    ) -> Result<R::Reply, RequestError> {
        let mut now = Instant::now();
        let mut tries = Tries::new(request, watch, self.list().ms_at(now));
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
            let result = match self.hedge_after(request, &view, explores) {
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
            tracing::debug!(operation = %request, url, why, "a try failed");
            tries.note(path.url(), failure, settings);
            let last = !kind.rule().elsewhere || self.choose(&self.view(), &tries).is_none();
            if last {
                return Err(tries.into_error());
            }
            request.is_tried_again();
            now = Instant::now();
        }
    }

    /// The URL for the next try.
    fn choose<'v, R: Prove, O: TryObserver>(
        &self,
        view: &'v View,
        tries: &Tries<'_, R, O>,
    ) -> Option<Choice<'v>> {
        let config = self.list().config();
        let needs_fit = config.probe && tries.request.needs_fit_server();
        let standing = |place| {
            let path: &Rc<Path> = view.paths.get(place)?;
            tries.standing(path.url(), &view.state.settings)
        };
        let (mut place, mut explores) = (view.state.choose(standing, needs_fit)?, false);
        let first_read = tries.failed.is_empty() && tries.request.is_read();
        if first_read && config.read_choice == ReadChoice::Latency && view.paths.len() > 1 {
            let candidates = || view.candidates(self.tries.worker());
            (place, explores) = view.reading.choose(place, candidates, tries.start_ms);
        }
        view.paths.get(place).map(|path| Choice { place, path, explores })
    }

    /// Whether there is time for another try, and the URL is to be asked now.
    fn may_begin<R: Prove, O: TryObserver>(
        &self,
        tries: &Tries<'_, R, O>,
        url: &Arc<Url>,
        settings: &Settings,
    ) -> Begin {
        if tries.count == 0 && tries.watch.since_ms.is_none() {
            return Begin::Now(Limits::of(settings));
        }
        let passed_ms = self.list().now_ms().saturating_sub(tries.start_ms);
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

    async fn one_try<R: Prove, O: TryObserver>(
        &self,
        path: &Path,
        tries: &mut Tries<'_, R, O>,
        limits: &Limits,
        mut now: Instant,
    ) -> Result<R::Reply, Failure> {
        if tries.request.needs_fit_server() && self.list().config().probe {
            let probes = path.url().fitness.verdict().is_none();
            self.require_fit::<R>(path, limits).await?;
            if probes {
                now = Instant::now();
            }
        }
        let request = tries.request;
        tries.sends();
        let result =
            self.tries.attempt(path, request, limits, now, &mut || tries.sends_again()).await;
        tries.has_sent(&result);
        result
    }

    async fn require_fit<R: Prove>(&self, path: &Path, limits: &Limits) -> Result<(), Failure> {
        let fitness = &path.url().fitness;
        let verdict = match fitness.verdict() {
            Some(verdict) => verdict,
            None => {
                let probe = Box::pin(R::prove(&self.tries, path, limits));
                let established = fitness.establish(probe).await;
                self.list().refresh_news();
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

    pub(super) fn blame(&self, path: &Path, failure: &Failure, limits: &Limits) {
        match failure.kind {
            // Answers that users ask for are nothing to remember of a URL.
            ErrorKind::NotFound | ErrorKind::Exists => {}
            // A server that was given less time than it should have may be well.
            ErrorKind::Timeout | ErrorKind::ConnectTimeout if limits.cut_it_short() => {}
            kind => self.list().failed(path.url(), kind, &failure.text),
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
    fn new(epoch: u64, state: Arc<State>, old: Option<&Self>, list: &Paths) -> Self {
        let known = |url: &Arc<Url>| {
            let mut paths = old?.paths.iter();
            paths.find(|path| Arc::ptr_eq(path.url(), url)).cloned()
        };
        let new = |url: &Arc<Url>| Rc::new(Path::new(Arc::clone(url), list.config()));
        let paths = match &state.route {
            Route::Http(urls) => {
                urls.iter().map(|url| known(url).unwrap_or_else(|| new(url))).collect()
            }
            _ => Vec::new(),
        };
        Self { epoch, state, paths, reading: Reading::default() }
    }

    /// The URLs that a read may go to, as a worker knows them.
    pub(super) fn candidates(&self, worker: usize) -> impl Iterator<Item = Candidate> + '_ {
        let up = |(_, path): &(usize, &Rc<Path>)| !path.url().health.is_down();
        let candidate = move |(place, path): (usize, &Rc<Path>)| {
            let latency = path.url().counters.shard(worker).read_latency();
            Candidate { place, latency }
        };
        self.paths.iter().enumerate().filter(up).map(candidate)
    }
}
