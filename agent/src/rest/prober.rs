// SPDX-License-Identifier: GPL-2.0-only
//! Asks URLs that are down whether they are back, so that no request of a user has to.
//!
//! Before: [`Repository::failed`] made a URL down. After: an answer makes it up, and requests go
//! there again in the order of the list. One task on the control thread; at each URL one probe at a
//! time, after the pause that `repository::health` sets. A probe is a request for the size of a
//! volume that nobody has: to answer 404 costs a server next to nothing.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{sleep, Instant};

use super::limits::Limits;
use super::operation::Operation;
use super::path::Path;
use super::{probe, Client, Subject};
use crate::repository::{count, Repository, Url};

/// The one who asks.
#[derive(Debug)]
pub struct Prober {
    client: Client,
    /// No volume has this name.
    nobody: Subject,
}

impl Prober {
    /// One with connections of its own.
    #[must_use]
    pub fn new(repository: Arc<Repository>) -> Self {
        let nobody = Subject::new(&format!("{}nobody", probe::PREFIX));
        Self { client: Client::new(repository), nobody }
    }

    /// Probes what is down, for ever.
    pub async fn run(&self) -> Infallible {
        let repository = self.client.repository();
        let mut probes = FuturesUnordered::new();
        let mut probed: Vec<Arc<Url>> = Vec::new();
        loop {
            let (due, next) = self.due(&probed);
            for path in due {
                probed.push(Arc::clone(path.url()));
                probes.push(self.probe(path));
            }
            tokio::select! {
                () = repository.probing() => {}
                () = sleep(next.unwrap_or_default()), if next.is_some() => {}
                Some(url) = probes.next() => probed.retain(|probed| !Arc::ptr_eq(probed, &url)),
            }
        }
    }

    /// What is to be probed now, and how long until there is more. What is being `probed` is left
    /// out.
    fn due(&self, probed: &[Arc<Url>]) -> (Vec<Rc<Path>>, Option<Duration>) {
        let (view, now_ms) = (self.client.view(), self.client.repository().now_ms());
        let is_probed = |url: &Arc<Url>| probed.iter().any(|probed| Arc::ptr_eq(probed, url));
        let down = |path: &&Rc<Path>| path.url().health.is_down() && !is_probed(path.url());
        let (mut due, mut next) = (Vec::new(), None::<u64>);
        for path in view.paths.iter().filter(down) {
            match path.url().health.probe_at_ms().saturating_sub(now_ms) {
                0 => due.push(Rc::clone(path)),
                wait_ms => next = Some(next.map_or(wait_ms, |next| next.min(wait_ms))),
            }
        }
        (due, next.map(Duration::from_millis))
    }

    async fn probe(&self, path: Rc<Path>) -> Arc<Url> {
        let (url, repository) = (path.url(), self.client.repository());
        let limits = Limits::of(&repository.settings());
        let operation = Operation::Size(&self.nobody);
        count(&url.counters.probes);
        let answer = self.client.ask(&path, &operation, &limits, Instant::now(), &mut || {}).await;
        // The next probe comes when nobody remembers this one.
        path.pool.close_all();
        match answer {
            Err(failure) if !failure.server_works() => {
                count(&url.counters.failed_probes);
                tracing::debug!(url = url.text(), why = failure.text, "the URL is still down");
                url.health.probe_failed(&failure.text, repository.now_ms());
            }
            _ => repository.succeeded(url),
        }
        Arc::clone(url)
    }
}
