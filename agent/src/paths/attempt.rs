// SPDX-License-Identifier: GPL-2.0-only
//! One try of a request at one URL: a connection, a request, an answer.
//!
//! Before: [`super::Client`] has chosen the URL. After: what came of it is counted for the URL, and
//! the client goes on from there.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::Instant;

use super::counters::count;
use super::limits::Limits;
use super::list::Paths;
use super::path::Path;
use super::request::Request;
use super::url::Url;
use crate::base::errors::{Blame, ErrorKind, Failure};
use crate::http::connect;
use crate::http::link::{Lost, Rest};
use crate::http::pool::Connection;

/// One thread's tries: what it needs to make one, but for the connection.
pub(crate) struct Attempts {
    list: Arc<Paths>,
    worker: usize,
}

impl Attempts {
    /// Those of a new worker.
    pub(super) fn new(list: Arc<Paths>) -> Self {
        let worker = list.join();
        Self { list, worker }
    }

    /// The URLs.
    pub(super) const fn list(&self) -> &Arc<Paths> {
        &self.list
    }

    /// The number under which this thread counts.
    pub(super) const fn worker(&self) -> usize {
        self.worker
    }

    /// One try at one URL, from `start`, which is now. A kept connection that turns out dead is
    /// replaced at once; `sent_again` is told if the server may have got the request on it.
    pub(crate) async fn attempt<R: Request>(
        &self,
        path: &Path,
        request: &R,
        limits: &Limits,
        start: Instant,
        sent_again: &mut dyn FnMut(),
    ) -> Result<R::Reply, Failure> {
        let result = self.ask(path, request, limits, start, sent_again).await;
        let shard = path.url().counters.shard(self.worker);
        match &result {
            Ok((_, end)) => {
                let (read, written) = request.data_bytes();
                shard.answered(end.saturating_duration_since(start), read, written);
                self.list.succeeded(path.url());
            }
            Err(failure) => match failure.kind.rule().blame {
                // The server works, whatever it thinks of the request.
                Blame::None => {
                    shard.answered(start.elapsed(), 0, 0);
                    self.list.succeeded(path.url());
                }
                Blame::Ours => {}
                Blame::Some | Blame::Down => shard.failed(),
            },
        }
        result.map(|(reply, _)| reply)
    }

    /// The same, counted nowhere; also when it was over.
    pub(super) async fn ask<R: Request>(
        &self,
        path: &Path,
        request: &R,
        limits: &Limits,
        start: Instant,
        sent_again: &mut dyn FnMut(),
    ) -> Result<(R::Reply, Instant), Failure> {
        let mut limits = *limits;
        let mut kept = path.pool.take(start);
        loop {
            let was_kept = kept.is_some();
            let (connection, sent) = match kept.take() {
                Some(connection) => (connection, start),
                // Large, and rare.
                None => (Box::pin(fresh(path.url(), &limits)).await?, Instant::now()),
            };
            match self.exchange(path, connection, request, &limits, sent).await {
                Ok(reply) => return Ok(reply),
                Err(Lost::Unsent(_)) if was_kept => {
                    kept = path.pool.take(start);
                    continue;
                }
                Err(Lost::Unanswered(_)) if was_kept => {}
                Err(Lost::Unsent(failure) | Lost::Unanswered(failure) | Lost::Failed(failure)) => {
                    return Err(failure);
                }
            }
            sent_again();
            // However late that was: it is one try.
            limits = limits.until(start.checked_add(limits.whole()));
        }
    }

    /// One request and its answer; also when that was over.
    async fn exchange<R: Request>(
        &self,
        path: &Path,
        mut connection: Box<Connection>,
        request: &R,
        limits: &Limits,
        sent: Instant,
    ) -> Result<(R::Reply, Instant), Lost> {
        let time = limits.answer();
        let answered = {
            let Connection { link, alarm } = &mut *connection;
            request.write_head(path.url().target(), link.request_mut());
            let both = pin!(async {
                let head = link.ask(request.body()).await?;
                let is_read = request.is_read() && head.is_success();
                // A short body comes with its head, and one look at the clock is enough.
                let short = link.has_come(&head.body);
                if is_read && !short {
                    self.read_began(path, sent, Instant::now());
                }
                let (reply, rest) = request.receive(link, &head).await;
                let end = Instant::now();
                if is_read && short {
                    self.read_began(path, sent, end);
                }
                Ok((reply, rest, end))
            });
            alarm.bound(sent.checked_add(time).unwrap_or(sent), both).await
        };
        match answered {
            Some(Ok((reply, rest, end))) => {
                if rest == Rest::Reusable {
                    path.pool.keep(connection, end);
                }
                reply.map(|reply| (reply, end)).map_err(Lost::Failed)
            }
            Some(Err(lost)) => Err(lost),
            None => {
                let text = format!("did not answer within {} s", time.as_secs_f64());
                Err(Lost::Failed(Failure::new(ErrorKind::Timeout, text)))
            }
        }
    }

    /// Notes that a read was `sent` then, and that its answer has begun now.
    pub(super) fn read_began(&self, path: &Path, sent: Instant, now: Instant) {
        let shard = path.url().counters.shard(self.worker);
        shard.read_began(now.saturating_duration_since(sent), self.list.ms_at(now));
    }
}

/// A connection of its own.
async fn fresh(url: &Url, limits: &Limits) -> Result<Box<Connection>, Failure> {
    let stream = connect::open(url.host(), &url.lookup, limits.connect()).await?;
    count(&url.counters.connections);
    Ok(Connection::new(stream))
}
