// SPDX-License-Identifier: GPL-2.0-only
//! The last failures, kept so that somebody who got a bare errno can be told the cause.
//!
//! The hop before are the workers, which log a failure and note it here; the hop after is the
//! status socket. Shared by all threads behind one lock that is taken for failures alone.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::errors::RequestError;
use srb_status::{Failure, MAX_FAILURES};

/// Failures that are logged in a second; all are counted and the last ones kept.
const LOGGED_PER_SECOND: u32 = 20;

/// The last [`MAX_FAILURES`] failures.
#[derive(Debug, Default)]
pub struct Failures {
    last: Mutex<VecDeque<Failure>>,
}

impl Failures {
    /// Notes the failure of `what` on `volume`.
    pub fn note(&self, what: &str, volume: Option<&str>, error: &RequestError) {
        let failure = Failure {
            unix_ms: unix_ms(),
            what: what.to_owned(),
            volume: volume.map(str::to_owned),
            message: error.to_string(),
            errno: error.errno(),
            url: error.answers().last().map(|answer| answer.url.clone()),
        };
        self.push(failure);
    }

    /// Notes a failure in which no server had a part.
    pub fn note_local(&self, what: &str, volume: Option<&str>, message: String, errno: i32) {
        let (what, volume) = (what.to_owned(), volume.map(str::to_owned));
        self.push(Failure { unix_ms: unix_ms(), what, volume, message, errno, url: None });
    }

    fn push(&self, failure: Failure) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.truncate(MAX_FAILURES - 1);
        last.push_front(failure);
    }

    /// The newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Failure> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Keeps a server's outage from filling the log: lets so many lines pass in a second.
#[derive(Debug)]
pub struct LogLimit {
    since: Instant,
    passed: u32,
    held: u64,
}

impl Default for LogLimit {
    fn default() -> Self {
        Self { since: Instant::now(), passed: 0, held: 0 }
    }
}

impl LogLimit {
    /// Whether a line may pass; says how many were held back before it.
    pub fn pass(&mut self) -> Option<u64> {
        if self.since.elapsed() >= Duration::from_secs(1) {
            (self.since, self.passed) = (Instant::now(), 0);
        }
        if self.passed == LOGGED_PER_SECOND {
            self.held = self.held.wrapping_add(1);
            return None;
        }
        self.passed = self.passed.wrapping_add(1);
        Some(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::errors::ErrorKind;

    #[test]
    fn the_newest_are_kept_and_come_first() {
        let failures = Failures::default();
        for i in 0..MAX_FAILURES + 3 {
            let error = RequestError::plain(ErrorKind::NoUrl, "list of volumes", i.to_string());
            failures.note("list", None, &error);
        }
        failures.note_local("open", Some("v"), "no memory".into(), 12);
        let list = failures.list();
        assert_eq!(list.len(), MAX_FAILURES);
        assert_eq!((list[0].errno, &*list[0].message), (12, "no memory"));
        assert_eq!(list[1].message, format!("list of volumes: {}", MAX_FAILURES + 2));
        assert_eq!(list[MAX_FAILURES - 1].message, "list of volumes: 4");
    }

    #[test]
    fn a_flood_is_held_back_and_counted() {
        let mut limit = LogLimit::default();
        let passed = (0..100).filter(|_| limit.pass() == Some(0)).count();
        assert_eq!(passed, LOGGED_PER_SECOND as usize);
        limit.since = Instant::now() - Duration::from_secs(2);
        assert_eq!(limit.pass(), Some(80));
        assert_eq!(limit.pass(), Some(0));
    }
}
