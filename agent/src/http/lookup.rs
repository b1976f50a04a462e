// SPDX-License-Identifier: GPL-2.0-only
//! The addresses of a host, looked up before they are needed.
//!
//! Before: an agent that stands by has them looked up now and then ([`Lookup::refresh`]): once it
//! serves, a name server may be out of reach, or the files that name resolution reads may lie on a
//! device that waits for this agent. After: [`super::connect`] takes them while they are fresh, and
//! looks the name up if none of them can be connected to. Shared by all threads.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::{timeout, Instant};

/// Addresses beyond these are left out: nobody waits for so many.
pub(crate) const MAX_ADDRESSES: usize = 16;
/// For how long they are used.
const FRESH: Duration = Duration::from_secs(60);
/// How long a name server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was found, and when.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    found: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Lookup {
    /// Looks the host up. If that fails, what was found before stays as long as it is fresh.
    pub(crate) async fn refresh(&self, (host, port): (&str, u16)) {
        if host.parse::<IpAddr>().is_ok() {
            // Nothing has to be asked for it.
            return;
        }
        if let Ok(Ok(addresses)) = timeout(PATIENCE, lookup_host((host, port))).await {
            let addresses = addresses.take(MAX_ADDRESSES).collect();
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            *found = Some((Instant::now(), addresses));
        }
    }

    /// The addresses, if they are fresh.
    pub(crate) fn fresh(&self) -> Vec<SocketAddr> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.as_ref().is_some_and(|(at, _)| at.elapsed() >= FRESH) {
            *found = None;
        }
        found.as_ref().map(|(_, addresses)| addresses.clone()).unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn of(addresses: Vec<SocketAddr>) -> Self {
        Self { found: Mutex::new(Some((Instant::now(), addresses))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_known_for_a_while() {
        let lookup = Lookup::default();
        assert_eq!(lookup.fresh(), []);
        lookup.refresh(("localhost", 7)).await;
        assert!(lookup.fresh().contains(&"127.0.0.1:7".parse().expect("an address")));
        lookup.refresh(("no-such-host.invalid", 7)).await;
        assert_ne!(lookup.fresh(), []);
        tokio::time::pause();
        tokio::time::advance(FRESH).await;
        assert_eq!(lookup.fresh(), []);
    }

    #[tokio::test]
    async fn an_address_needs_no_look_up() {
        let lookup = Lookup::default();
        lookup.refresh(("127.0.0.1", 7)).await;
        lookup.refresh(("::1", 7)).await;
        assert_eq!(lookup.fresh(), []);
    }
}
