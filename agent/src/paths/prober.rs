// SPDX-License-Identifier: GPL-2.0-only
//! Asks URLs that are down whether they are back, so that no request of a user has to.
//!
//! Before: [`super::Paths::failed`] made a URL down. After: an answer makes it up, and requests go
//! there again in the order of the list. One task on the control thread; at each URL one probe at a
//! time, after the pause that [`super::health`] sets. What is asked is the store's to say.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{sleep, Instant};

use super::client::Client;
use super::counters::count;
use super::limits::Limits;
use super::path::Path;
use super::request::Request;
use super::url::Url;

/// The one who asks, with connections of its own.
pub(crate) struct Prober<R> {
    client: Client,
    /// What is asked; whatever the server says to it, it is there.
    question: R,
}

impl<R: Request> Prober<R> {
    pub(crate) const fn new(client: Client, question: R) -> Self {
        Self { client, question }
    }

    /// Probes what is down, for ever.
    pub(crate) async fn run(&self) -> Infallible {
        let list = self.client.list();
        let mut probes = FuturesUnordered::new();
        let mut probed: Vec<Arc<Url>> = Vec::new();
        loop {
            let (due, next) = self.due(&probed);
            for path in due {
                probed.push(Arc::clone(path.url()));
                probes.push(self.probe(path));
            }
            tokio::select! {
                () = list.probing() => {}
                () = sleep(next.unwrap_or_default()), if next.is_some() => {}
                Some(url) = probes.next() => probed.retain(|probed| !Arc::ptr_eq(probed, &url)),
            }
        }
    }

    /// What is to be probed now, and how long until there is more. What is being `probed` is left
    /// out.
    fn due(&self, probed: &[Arc<Url>]) -> (Vec<Rc<Path>>, Option<Duration>) {
        let (view, now_ms) = (self.client.view(), self.client.list().now_ms());
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
        let (url, list) = (path.url(), self.client.list());
        let limits = Limits::of(&list.settings());
        count(&url.counters.probes);
        let answer =
            self.client.tries.ask(&path, &self.question, &limits, Instant::now(), &mut || {}).await;
        // The next probe comes when nobody remembers this one.
        path.pool.close_all();
        match answer {
            Err(failure) if !failure.server_works() => {
                count(&url.counters.failed_probes);
                tracing::debug!(url = url.text(), why = failure.text, "the URL is still down");
                url.health.probe_failed(&failure.text, list.now_ms());
            }
            _ => list.succeeded(url),
        }
        Arc::clone(url)
    }
}
