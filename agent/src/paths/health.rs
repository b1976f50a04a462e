// SPDX-License-Identifier: GPL-2.0-only
//! Whether a URL is fit to be used, as seen from the requests that went there.
//!
//! Before: each try reports what became of it. After: [`super::state::State::choose`] avoids what
//! is down, and [`super::prober`] asks it now and then whether it is back. Shared by all threads; a
//! request that succeeds on a healthy URL only loads two words.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::chance;
use crate::base::errors::Blame;

/// Failures in a row, each of which may be an accident, that make a URL down.
const FAILURES_TO_DOWN: u32 = 3;
/// How long a URL that went down is left alone.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long it is left alone at most; each failed probe doubles the pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A URL that goes down sooner than this after it came back is left alone twice as long as before:
/// it may be one that answers probes and nothing else. Longer than a request usually takes to fail.
const STEADY_AFTER: Duration = Duration::from_secs(120);
/// Pauses are up to so much longer or shorter, so that agents do not ask all at once.
const JITTER: f64 = 0.2;

/// What is thought of a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UrlState {
    /// Nothing was asked of it yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It is avoided until it answers again.
    Down,
}

/// States; 0 is unknown.
const UP: u8 = 1;
const DOWN: u8 = 2;

/// What is known. Times are milliseconds on the repository's clock.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: AtomicU8,
    failures: AtomicU32,
    probe_at_ms: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    error: Option<String>,
    pause: Duration,
    /// When it came back from being down.
    back_at_ms: u64,
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

    /// When a URL that is down is to be probed.
    pub(crate) fn probe_at_ms(&self) -> u64 {
        self.probe_at_ms.load(Relaxed)
    }

    /// Notes an answer. Returns whether the URL came back from being down.
    pub(crate) fn succeeded(&self, now_ms: impl FnOnce() -> u64) -> bool {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.state.load(Relaxed) == UP {
            return false;
        }
        let mut last = self.last();
        let is_back = self.state.swap(UP, Relaxed) == DOWN;
        if is_back {
            last.back_at_ms = now_ms();
        }
        is_back
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
        if now_ms.saturating_sub(last.back_at_ms) >= millis(STEADY_AFTER) {
            last.pause = Duration::ZERO;
        }
        self.pause_longer(&mut last, now_ms);
        self.state.swap(DOWN, Relaxed) != DOWN
    }

    /// Notes a probe that failed: the next one comes later.
    pub(crate) fn probe_failed(&self, error: &str, now_ms: u64) {
        let mut last = self.last();
        last.error = Some(error.to_owned());
        self.pause_longer(&mut last, now_ms);
    }

    fn pause_longer(&self, last: &mut Last, now_ms: u64) {
        last.pause = last.pause.saturating_mul(2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let least = last.pause.mul_f64(1.0 - JITTER);
        let jittered = least.saturating_add(chance::up_to(last.pause.mul_f64(2.0 * JITTER)));
        self.probe_at_ms.store(now_ms.saturating_add(millis(jittered)), Relaxed);
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
            assert!(!health.succeeded(|| 0));
        }
        assert_eq!((health.state(), health.failures()), (UrlState::Up, 0));
        assert!(!health.failed(Blame::Some, "a", 0) && !health.failed(Blame::Some, "b", 0));
        assert!(health.failed(Blame::Some, "c", 0));
        assert_eq!(health.last_error().as_deref(), Some("c"));
        assert!(health.is_down() && health.succeeded(|| 0) && !health.is_down());
    }

    #[test]
    fn a_refusal_of_the_request_says_nothing_of_the_url() {
        let health = Health::default();
        for _ in 0..10 {
            assert!(!health.failed(Blame::None, "404", 0));
        }
        assert_eq!((health.is_down(), health.failures()), (false, 0));
    }

    /// The pause that ends at the next probe, to the nearest of those that there are.
    fn pause_secs(health: &Health, now_ms: u64) -> u64 {
        let pause = health.probe_at_ms() - now_ms;
        let near = |secs: &u64| (secs * 800..=secs * 1200).contains(&pause);
        [1, 2, 4, 8, 16, 32, 60].into_iter().find(near).expect("a pause within its jitter")
    }

    #[test]
    fn a_probe_after_each_growing_pause() {
        let health = Health::default();
        assert!(health.failed(Blame::Down, "refused", 500));
        let (mut now_ms, mut pauses) = (500, Vec::new());
        for _ in 0..8 {
            pauses.push(pause_secs(&health, now_ms));
            now_ms = health.probe_at_ms();
            // Requests that try it all the same, because nothing is better, change nothing.
            assert!(!health.failed(Blame::Down, "refused", now_ms));
            assert_eq!(health.probe_at_ms(), now_ms);
            health.probe_failed("still refused", now_ms);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(health.last_error().as_deref(), Some("still refused"));
    }

    #[test]
    fn a_url_that_comes_and_goes_is_left_alone_for_longer() {
        let (health, steady) = (Health::default(), millis(STEADY_AFTER));
        let mut now_ms = 0;
        for pause in [1, 2, 4] {
            assert!(health.failed(Blame::Down, "refused", now_ms));
            assert_eq!(pause_secs(&health, now_ms), pause);
            now_ms += 10_000;
            assert!(health.succeeded(|| now_ms));
            now_ms += steady - 1;
        }
        now_ms += 1;
        assert!(health.failed(Blame::Down, "refused", now_ms));
        assert_eq!(pause_secs(&health, now_ms), 1, "it had been up for long");
    }
}
