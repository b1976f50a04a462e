// SPDX-License-Identifier: GPL-2.0-only
//! Whether a URL is fit to be used, as seen from the requests that went there.
//!
//! Before: each try reports what became of it. After: [`super::State::choose`] avoids what is down.
//! Shared by all threads; a request that succeeds on a healthy URL only loads two words.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::UrlState;
use crate::errors::Blame;

/// Failures in a row, each of which may be an accident, that make a URL down.
const FAILURES_TO_DOWN: u32 = 3;
/// How long a URL that went down is avoided.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long it is avoided at most; each failed trial doubles the pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// States; 0 is unknown.
const UP: u8 = 1;
const DOWN: u8 = 2;

/// What is known. Times are milliseconds on the repository's clock.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: AtomicU8,
    failures: AtomicU32,
    trial_at_ms: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    error: Option<String>,
    pause: Duration,
}

impl Health {
    pub(crate) fn is_down(&self) -> bool {
        self.state.load(Relaxed) == DOWN
    }

    pub(crate) fn state(&self) -> UrlState {
        match self.state.load(Relaxed) {
            UP => UrlState::Up,
            DOWN => UrlState::Down,
            _ => UrlState::Unknown,
        }
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }

    pub(crate) fn last_error(&self) -> Option<String> {
        self.last().error.clone()
    }

    /// When a URL that is down may be tried again.
    pub(crate) fn trial_at_ms(&self) -> u64 {
        self.trial_at_ms.load(Relaxed)
    }

    /// Notes an answer. Returns whether the URL came back from being down.
    pub(crate) fn succeeded(&self) -> bool {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        self.state.load(Relaxed) != UP && self.state.swap(UP, Relaxed) == DOWN
    }

    /// Notes a failed try. Returns whether the URL went down by it.
    pub(crate) fn failed(&self, blame: Blame, error: &str, now_ms: u64) -> bool {
        let mut last = self.last();
        last.error = Some(error.to_owned());
        if matches!(blame, Blame::None | Blame::Ours) {
            return false;
        }
        let failures = self.failures.load(Relaxed).saturating_add(1);
        self.failures.store(failures, Relaxed);
        if self.is_down() || (blame == Blame::Some && failures < FAILURES_TO_DOWN) {
            return false;
        }
        last.pause = FIRST_PAUSE;
        self.trial_at_ms.store(after(now_ms, FIRST_PAUSE), Relaxed);
        self.state.swap(DOWN, Relaxed) != DOWN
    }

    /// Whether a URL that is down is to be tried now, by the caller and nobody else until the next
    /// pause is over.
    pub(crate) fn claim_trial(&self, now_ms: u64) -> bool {
        if now_ms < self.trial_at_ms() {
            return false;
        }
        let mut last = self.last();
        if now_ms < self.trial_at_ms() {
            return false;
        }
        // Grows with each trial: one that succeeds makes the URL up, and the pause starts anew when
        // it goes down.
        last.pause = last.pause.saturating_mul(2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.trial_at_ms.store(after(now_ms, last.pause), Relaxed);
        true
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn after(now_ms: u64, pause: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accident_is_forgiven_and_a_series_is_not() {
        let health = Health::default();
        assert_eq!(health.state(), UrlState::Unknown);
        for _ in 0..10 {
            assert!(!health.failed(Blame::Some, "503", 0));
            assert!(!health.failed(Blame::Some, "503", 0));
            assert!(!health.succeeded());
        }
        assert_eq!((health.state(), health.failures()), (UrlState::Up, 0));
        assert!(!health.failed(Blame::Some, "a", 0) && !health.failed(Blame::Some, "b", 0));
        assert!(health.failed(Blame::Some, "c", 0));
        assert_eq!(health.last_error().as_deref(), Some("c"));
        assert!(health.is_down() && health.succeeded() && !health.is_down());
    }

    #[test]
    fn a_refusal_of_the_request_says_nothing_of_the_url() {
        let health = Health::default();
        for _ in 0..10 {
            assert!(!health.failed(Blame::None, "404", 0));
        }
        assert_eq!((health.is_down(), health.failures()), (false, 0));
    }

    #[test]
    fn one_trial_after_each_growing_pause() {
        let health = Health::default();
        assert!(health.failed(Blame::Down, "refused", 500));
        let (mut now_ms, mut pauses) = (500, Vec::new());
        for _ in 0..8 {
            let at = health.trial_at_ms();
            pauses.push((at - now_ms) / 1000);
            assert!(!health.claim_trial(at - 1));
            assert!(health.claim_trial(at));
            assert!(!health.claim_trial(at), "only one caller makes the trial");
            assert!(!health.failed(Blame::Down, "refused", at));
            now_ms = at;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(health.succeeded());
        assert!(health.failed(Blame::Down, "refused", now_ms));
        assert_eq!(health.trial_at_ms() - now_ms, 1000);
    }
}
