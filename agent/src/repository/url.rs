// SPDX-License-Identifier: GPL-2.0-only
//! One URL of the repository, and all that is known of it. Shared by all threads.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hyper::header::HeaderValue;
use srb_proto::command::{Kind, RepositoryUrl};

use super::counters::Counters;
use super::fitness::Fitness;
use super::health::Health;
use super::UrlStatus;

/// A URL with `http`.
#[derive(Debug)]
pub(crate) struct Url {
    text: String,
    host: String,
    port: u16,
    path: String,
    host_header: HeaderValue,
    many_headers: AtomicBool,
    pub(crate) health: Health,
    pub(crate) fitness: Fitness,
    pub(crate) counters: Counters,
}

impl Url {
    /// From the canonical form of a URL with `http`.
    pub(crate) fn new(text: &str) -> Self {
        let parsed = RepositoryUrl::parse(text.as_bytes()).ok();
        let (host, port, path) = match parsed.as_ref().map(RepositoryUrl::kind) {
            Some(Kind::Http { host, port, path }) => (host.to_owned(), port, path.to_owned()),
            // Leads nowhere; the caller has no such URL.
            _ => (String::new(), 0, String::new()),
        };
        let authority = text.strip_prefix("http://").unwrap_or(text);
        let authority = authority.split('/').next().unwrap_or_default();
        Self {
            text: text.to_owned(),
            host,
            port,
            path,
            host_header: HeaderValue::from_str(authority)
                .unwrap_or_else(|_| HeaderValue::from_static("")),
            many_headers: AtomicBool::new(false),
            health: Health::default(),
            fitness: Fitness::default(),
            counters: Counters::default(),
        }
    }

    /// The whole URL, in canonical form.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Name or address, and port.
    pub(crate) fn host(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Empty, or `/` and more without a slash at the end.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) const fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// Whether its answers have more headers than most servers send.
    pub(crate) fn has_many_headers(&self) -> bool {
        self.many_headers.load(Relaxed)
    }

    /// Notes that they do, for connections to come.
    pub(crate) fn sends_many_headers(&self) {
        self.many_headers.store(true, Relaxed);
    }

    pub(super) fn status(&self) -> UrlStatus {
        let totals = self.counters.totals();
        UrlStatus {
            url: self.text.clone(),
            state: self.health.state(),
            unfit: self.fitness.verdict().and_then(|verdict| verdict.clone().err()),
            active: false,
            consecutive_failures: self.health.failures(),
            last_error: self.health.last_error(),
            latency: totals.latency,
            requests: totals.requests,
            errors: totals.errors,
            bytes_read: totals.bytes_read,
            bytes_written: totals.bytes_written,
            read_latency: totals.read_latency,
            probes: totals.probes,
            failed_probes: totals.failed_probes,
            hedged: totals.hedged,
            hedge_wins: totals.hedge_wins,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let url = Url::new("http://[::1]:8080/a/b");
        assert_eq!((url.host(), url.path()), (("::1", 8080), "/a/b"));
        assert_eq!(url.host_header(), "[::1]:8080");
        let url = Url::new("http://store.example");
        assert_eq!((url.host(), url.path()), (("store.example", 80), ""));
        assert_eq!(url.host_header(), "store.example");
    }
}
