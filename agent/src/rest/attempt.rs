// SPDX-License-Identifier: GPL-2.0-only
//! One try of an operation at one URL: a connection, a request, an answer.
//!
//! Before: [`Client::run`] has chosen the URL. After: what came of it is counted for the URL, and
//! [`Client::run`] goes on from there.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use hyper::Uri;
use tokio::time::Instant;

use super::limits::Limits;
use super::link::Rest;
use super::operation::{self, Operation};
use super::pool::{Connection, Pool};
use super::{answer, connect, Client, Failure, Reply};
use crate::errors::{Blame, ErrorKind};
use crate::repository::Url;
use crate::volume::Volume;

/// Volumes whose paths a worker remembers.
const MAX_PATHS: usize = 8192;

/// Why a request on a connection brought nothing.
enum Lost {
    /// The connection had ended before it was sent.
    Unsent(Failure),
    /// The connection ended before any answer.
    Unanswered(Failure),
    /// The head of the answer is longer than the connection has room for.
    TooLong(Failure),
    /// Anything else.
    Failed(Failure),
}

impl Client {
    /// One try at one URL. A kept connection that turns out dead is replaced at once; `sent_again`
    /// is told if the server may have got the operation on it.
    pub(super) async fn attempt(
        &self,
        pool: &Pool,
        operation: &Operation<'_>,
        limits: &Limits,
        sent_again: &mut dyn FnMut(),
    ) -> Result<Reply, Failure> {
        let start = Instant::now();
        let result = self.ask(pool, operation, limits, start, sent_again).await;
        let shard = pool.url().counters.shard(self.worker);
        match &result {
            Ok(_) => {
                let (read, written) = operation.data_bytes();
                shard.answered(start.elapsed(), read, written);
                self.repository.succeeded(pool.url());
            }
            Err(failure) => match failure.kind.rule().blame {
                // The server works, whatever it thinks of the operation.
                Blame::None => {
                    shard.answered(start.elapsed(), 0, 0);
                    self.repository.succeeded(pool.url());
                }
                Blame::Ours => {}
                Blame::Some | Blame::Down => shard.failed(),
            },
        }
        result
    }

    /// The same, counted nowhere. `start`: now.
    pub(super) async fn ask(
        &self,
        pool: &Pool,
        operation: &Operation<'_>,
        limits: &Limits,
        start: Instant,
        sent_again: &mut dyn FnMut(),
    ) -> Result<Reply, Failure> {
        let path = self.path(pool.url(), operation)?;
        let mut limits = *limits;
        let may_repeat = operation.has_one_answer();
        let mut kept = if may_repeat { pool.take(start) } else { None };
        loop {
            let was_kept = kept.is_some();
            let (connection, sent) = match kept.take() {
                Some(connection) => (connection, start),
                // Large, and rare.
                None => (Box::pin(fresh(pool.url(), &limits)).await?, Instant::now()),
            };
            let is_roomy = connection.link.is_roomy();
            let asked = self.exchange(pool, connection, operation, path.clone(), &limits, sent);
            match asked.await {
                Ok(reply) => return Ok(reply),
                Err(Lost::Unsent(_)) if was_kept => {
                    kept = pool.take(start);
                    continue;
                }
                Err(Lost::Unanswered(_)) if was_kept => {}
                Err(Lost::TooLong(_)) if may_repeat && !is_roomy => {
                    pool.url().sends_many_headers();
                    pool.close_all();
                }
                Err(
                    Lost::Unsent(failure)
                    | Lost::Unanswered(failure)
                    | Lost::TooLong(failure)
                    | Lost::Failed(failure),
                ) => return Err(failure),
            }
            sent_again();
            // However late that was: it is one try.
            limits = limits.until(start.checked_add(limits.whole()));
        }
    }

    /// One request and its answer.
    async fn exchange(
        &self,
        pool: &Pool,
        mut connection: Box<Connection>,
        operation: &Operation<'_>,
        path: Uri,
        limits: &Limits,
        sent: Instant,
    ) -> Result<Reply, Lost> {
        let time = limits.answer();
        let answered = {
            let Connection { link, alarm } = &mut *connection;
            let headers = link.take_headers();
            let request = operation.request(pool.url(), path, headers).map_err(Lost::Failed)?;
            let both = pin!(async {
                let response = link.send(request).await.map_err(|error| lost(&error))?;
                if matches!(operation, Operation::Read(_)) && response.status().is_success() {
                    self.read_began(pool, sent);
                }
                Ok(answer::receive(link, operation, response).await)
            });
            alarm.bound(sent.checked_add(time).unwrap_or(sent), both).await
        };
        match answered {
            Some(Ok((reply, rest))) => {
                if rest == Rest::Reusable {
                    pool.keep(connection, Instant::now());
                }
                reply.map_err(Lost::Failed)
            }
            Some(Err(lost)) => Err(lost),
            None => {
                let text = format!("did not answer within {} s", time.as_secs_f64());
                Err(Lost::Failed(Failure::new(ErrorKind::Timeout, text)))
            }
        }
    }

    /// Notes how long a read has taken so far.
    pub(super) fn read_began(&self, pool: &Pool, sent: Instant) {
        let (now, shard) = (Instant::now(), pool.url().counters.shard(self.worker));
        shard.read_began(now.saturating_duration_since(sent), self.repository.ms_at(now));
    }

    fn path(&self, url: &Url, operation: &Operation<'_>) -> Result<Uri, Failure> {
        let Some(volume) = operation.volume() else { return Ok(Uri::default()) };
        let view = self.view.borrow();
        if let Some((id, of, path)) = &*view.last_path.borrow() {
            if *id == volume.id() && std::ptr::eq(&**of, url) {
                return Ok(path.clone());
            }
        }
        let place = view.pools.iter().position(|pool| std::ptr::eq(&**pool.url(), url));
        let known = view
            .paths
            .borrow()
            .get(&volume.id())
            .and_then(|paths| place.and_then(|place| paths.get(place)).cloned());
        if let Some(path) = known {
            let of = place.and_then(|place| view.pools.get(place)).map(|pool| pool.url());
            *view.last_path.borrow_mut() = of.map(|of| (volume.id(), Arc::clone(of), path.clone()));
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
}

/// A connection of its own.
async fn fresh(url: &Url, limits: &Limits) -> Result<Box<Connection>, Failure> {
    let stream = connect::open(url.host(), limits.connect()).await?;
    let connection = Connection::new(stream, url.has_many_headers()).await;
    connection.map_err(|error| answer::broken(&error))
}

/// What an error means that came instead of an answer.
fn lost(error: &hyper::Error) -> Lost {
    let failure = answer::broken(error);
    if error.is_canceled() {
        Lost::Unsent(failure)
    } else if error.is_parse_too_large() {
        Lost::TooLong(failure)
    } else if error.is_parse() || error.is_user() {
        Lost::Failed(failure)
    } else {
        Lost::Unanswered(failure)
    }
}

fn path_at(url: &Url, volume: &Volume) -> Result<Uri, Failure> {
    operation::uri(format!("{}/{}", url.path(), volume.segment()))
}
