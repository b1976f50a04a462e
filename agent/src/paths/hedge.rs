// SPDX-License-Identifier: GPL-2.0-only
//! Reads that are sent to a second URL when the first one is slow ("The Tail at Scale", J. Dean and
//! L. A. Barroso, 2013). An option, `hedge_reads_after_ms`; and always for the few reads that are
//! sent somewhere to see how fast it is there, so that none of them waits for a server in trouble.
//!
//! Before: [`Client::run`] has chosen the URL of a read. After: the first good answer. The other
//! request is dropped, which closes its connection. Both fill the same window: the bytes of a range
//! are the same at every URL, unless a write to it is under way, and then none of them is promised.

use std::future::Future;
use std::pin::{pin, Pin};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{timeout, Instant};

use super::client::{Client, View};
use super::counters::count;
use super::limits::Limits;
use super::path::Path;
use super::reading::{Candidate, EXPLORING_PATIENCE};
use super::request::{Request, TryObserver};
use super::tries::Tries;
use crate::base::errors::Failure;

/// What is under way when a second request goes out.
struct Slow<'a, F> {
    answer: Pin<&'a mut F>,
    since: Instant,
    path: &'a Path,
}

impl Client {
    /// When a read goes to a second URL; `None` for what never does.
    pub(super) fn hedge_after<R: Request>(
        &self,
        request: &R,
        view: &View,
        explores: bool,
    ) -> Option<Duration> {
        let asked_for = self.list().config().hedge_reads_after;
        if !request.is_read() || view.paths.len() < 2 {
            return None;
        }
        asked_for.into_iter().chain(explores.then_some(EXPLORING_PATIENCE)).min()
    }

    /// A try of a read at one URL, and at another one if that takes longer than `after`.
    pub(super) async fn hedged<R: Request, O: TryObserver>(
        &self,
        after: Duration,
        view: &View,
        path: &Rc<Path>,
        tries: &mut Tries<'_, R, O>,
        limits: &Limits,
    ) -> Result<R::Reply, Failure> {
        let since = Instant::now();
        let mut nothing = || {};
        let mut answer = pin!(self.tries.attempt(path, tries.request, limits, since, &mut nothing));
        if let Ok(answer) = timeout(after, answer.as_mut()).await {
            return answer;
        }
        let Some(other) = self.second(view, path, tries) else { return answer.await };
        let slow = Slow { answer, since, path };
        Box::pin(self.race(slow, &other, (view, tries), limits)).await
    }

    /// Where a read goes that is at `first` already: the best of the others that are up.
    fn second<R: Request, O: TryObserver>(
        &self,
        view: &View,
        first: &Rc<Path>,
        tries: &Tries<'_, R, O>,
    ) -> Option<Rc<Path>> {
        let rank = |candidate: Candidate| {
            let other = view.paths.get(candidate.place).filter(|path| !Rc::ptr_eq(path, first))?;
            let failures = tries.standing(other.url(), &view.state.settings)?;
            let us = candidate.latency.map_or(u64::MAX, |latency| latency.us);
            Some(((failures, us, candidate.place), other))
        };
        let best =
            view.candidates(self.tries.worker()).filter_map(rank).min_by_key(|(rank, _)| *rank);
        best.map(|(_, path)| Rc::clone(path))
    }

    async fn race<F, R: Request, O: TryObserver>(
        &self,
        mut slow: Slow<'_, F>,
        other: &Path,
        (view, tries): (&View, &mut Tries<'_, R, O>),
        limits: &Limits,
    ) -> Result<R::Reply, Failure>
    where
        F: Future<Output = Result<R::Reply, Failure>>,
    {
        let (request, settings) = (tries.request, &view.state.settings);
        tries.count = tries.count.saturating_add(1);
        count(&other.url().counters.hedged);
        let mut nothing = || {};
        let mut hedge =
            pin!(self.tries.attempt(other, request, limits, Instant::now(), &mut nothing));
        let first = tokio::select! {
            biased;
            first = slow.answer.as_mut() => first,
            second = hedge.as_mut() => match second {
                Ok(reply) => {
                    count(&other.url().counters.hedge_wins);
                    // It has taken so long at the least: the choice of a URL is to know.
                    self.tries.read_began(slow.path, slow.since, Instant::now());
                    return Ok(reply);
                }
                Err(failure) => {
                    self.blame(other, &failure, limits);
                    tries.note(other.url(), failure, settings);
                    return slow.answer.await;
                }
            },
        };
        let failure = match first {
            Err(failure) if failure.kind.rule().retry => failure,
            first => return first,
        };
        match hedge.await {
            Ok(reply) => {
                count(&other.url().counters.hedge_wins);
                self.blame(slow.path, &failure, limits);
                Ok(reply)
            }
            Err(second) => {
                self.blame(other, &second, limits);
                tries.note(other.url(), second, settings);
                Err(failure)
            }
        }
    }
}
