// SPDX-License-Identifier: GPL-2.0-only
//! One URL of the repository, and all that is known of it. Shared by all threads.

use std::time::Duration;

use srb_proto::command::{Kind, RepositoryUrl};

use super::counters::Counters;
use super::fitness::Fitness;
use super::health::{Health, UrlState};
use crate::http::lookup::Lookup;
use crate::http::target::Target;

/// One URL at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlStatus {
    /// In canonical form.
    pub url: String,
    /// Whether it is fit to be used.
    pub state: UrlState,
    /// Why nothing is written there, if the server does not honour ranges.
    pub unfit: Option<String>,
    /// Whether requests go there first.
    pub active: bool,
    /// Failed tries since the last answer.
    pub consecutive_failures: u32,
    /// Of the last failed try.
    pub last_error: Option<String>,
    /// Of answers, smoothed; zero before the first.
    pub latency: Duration,
    /// Tries, failed ones included.
    pub requests: u64,
    /// Tries that failed.
    pub errors: u64,
    /// Data bytes that came from it.
    pub bytes_read: u64,
    /// Data bytes that it took.
    pub bytes_written: u64,
    /// Of reads, up to the head of the answer, smoothed; zero before the first.
    pub read_latency: Duration,
    /// Probes sent while it was down; not among `requests`.
    pub probes: u64,
    /// Probes that found it still down.
    pub failed_probes: u64,
    /// Reads that it got because another URL was slow; among `requests`.
    pub hedged: u64,
    /// Those of them that it answered first.
    pub hedge_wins: u64,
    /// Connections that were opened since the agent knows the URL.
    pub connections_opened: u64,
}

/// A URL with `http`.
#[derive(Debug)]
pub(crate) struct Url {
    text: String,
    host: String,
    port: u16,
    target: Target,
    pub(crate) health: Health,
    pub(crate) fitness: Fitness,
    pub(crate) counters: Counters,
    pub(crate) lookup: Lookup,
}

impl Url {
    /// From the canonical form of a URL with `http`.
    pub(crate) fn new(text: &str) -> Self {
        let parsed = RepositoryUrl::parse(text.as_bytes()).ok();
        let authority = text.strip_prefix("http://").unwrap_or(text);
        let authority = authority.split('/').next().unwrap_or_default();
        let parts = match parsed.as_ref().map(RepositoryUrl::kind) {
            Some(Kind::Http { host, port, path }) => {
                Target::new(path, authority).map(|target| (host, port, target))
            }
            _ => None,
        };
        // Leads nowhere; the caller has no such URL.
        let (host, port, target) = parts.unwrap_or_else(|| ("", 0, Target::default()));
        Self {
            text: text.to_owned(),
            host: host.to_owned(),
            port,
            target,
            health: Health::default(),
            fitness: Fitness::default(),
            counters: Counters::default(),
            lookup: Lookup::default(),
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

    /// What its requests have in common.
    pub(crate) const fn target(&self) -> &Target {
        &self.target
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
            connections_opened: totals.connections,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let url = Url::new("http://[::1]:8080/a/b");
        assert_eq!(url.host(), ("::1", 8080));
        assert_eq!(Some(url.target().clone()), Target::new("/a/b", "[::1]:8080"));
        let url = Url::new("http://store.example");
        assert_eq!(url.host(), ("store.example", 80));
        assert_eq!(Some(url.target().clone()), Target::new("", "store.example"));
    }
}
