// SPDX-License-Identifier: GPL-2.0-only
//! One try of an operation at one URL: a connection, a request, an answer.
//!
//! Before: [`Client::run`] has chosen the URL. After: what came of it is counted for the URL, and
//! [`Client::run`] goes on from there.

use std::rc::Rc;

use hyper::Uri;
use tokio::time::{timeout, Instant};

use super::limits::Limits;
use super::link::{Link, Rest};
use super::operation::{self, Operation};
use super::pool::Pool;
use super::{answer, connect, Client, Failure, Reply};
use crate::errors::{Blame, ErrorKind};
use crate::repository::Url;
use crate::volume::Volume;

/// Volumes whose paths a worker remembers.
const MAX_PATHS: usize = 8192;

impl Client {
    /// One try at one URL. A kept connection that turns out dead is replaced at once; `sent_again`
    /// is told.
    pub(super) async fn attempt(
        &self,
        pool: &Pool,
        operation: &Operation<'_>,
        limits: &Limits,
        sent_again: &mut dyn FnMut(),
    ) -> Result<Reply, Failure> {
        let start = Instant::now();
        let result = self.ask(pool, operation, limits, sent_again).await;
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

    /// The same, counted nowhere.
    pub(super) async fn ask(
        &self,
        pool: &Pool,
        operation: &Operation<'_>,
        limits: &Limits,
        sent_again: &mut dyn FnMut(),
    ) -> Result<Reply, Failure> {
        let path = self.path(pool.url(), operation)?;
        let kept = if operation.has_one_answer() { pool.take().await } else { None };
        let Some(link) = kept else {
            return self.on_fresh_link(pool, operation, path, limits).await;
        };
        let start = Instant::now();
        match self.exchange(pool, link, operation, path.clone(), limits).await {
            Err((_, true)) => {
                sent_again();
                // However late the connection ended: it was one try.
                let limits = limits.until(start.checked_add(limits.whole()));
                self.on_fresh_link(pool, operation, path, &limits).await
            }
            result => result.map_err(|(failure, _)| failure),
        }
    }

    async fn on_fresh_link(
        &self,
        pool: &Pool,
        operation: &Operation<'_>,
        path: Uri,
        limits: &Limits,
    ) -> Result<Reply, Failure> {
        let stream = connect::open(pool.url().host(), limits.connect()).await?;
        let link = Link::new(stream).await.map_err(|error| answer::broken(&error))?;
        let result = self.exchange(pool, link, operation, path, limits).await;
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
        limits: &Limits,
    ) -> Result<Reply, (Failure, bool)> {
        let request = operation.request(pool.url(), path).map_err(|failure| (failure, false))?;
        let sent = Instant::now();
        let both = async {
            let response = link.send(request).await.map_err(|error| {
                let unanswered = !error.is_parse() && !error.is_user();
                (answer::broken(&error), unanswered)
            })?;
            if matches!(operation, Operation::Read(_)) && response.status().is_success() {
                self.read_began(pool, sent);
            }
            Ok(answer::receive(&mut link, operation, response).await)
        };
        let time = limits.answer();
        match timeout(time, both).await {
            Ok(Ok((reply, rest))) => {
                if rest == Rest::Reusable {
                    pool.keep(link);
                }
                reply.map_err(|failure| (failure, false))
            }
            Ok(Err(failed)) => Err(failed),
            Err(_) => {
                let text = format!("did not answer within {} s", time.as_secs_f64());
                Err((Failure::new(ErrorKind::Timeout, text), false))
            }
        }
    }

    /// Notes how long a read has taken so far.
    pub(super) fn read_began(&self, pool: &Pool, sent: Instant) {
        let shard = pool.url().counters.shard(self.worker);
        shard.read_began(sent.elapsed(), self.repository.now_ms());
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
}

fn path_at(url: &Url, volume: &Volume) -> Result<Uri, Failure> {
    operation::uri(format!("{}/{}", url.path(), volume.segment()))
}
