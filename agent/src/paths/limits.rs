// SPDX-License-Identifier: GPL-2.0-only
//! How long things may take: a try, and all tries of an operation together.
//!
//! The module ends the session of an agent that keeps a request for longer than [`budget`] and a
//! margin: so no try goes on beyond it.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::settings::Settings;

/// What one round of the tries may take beyond its time-outs; as the module counts.
const SLACK: Duration = Duration::from_secs(2);
/// With less than this left, no further try is begun.
const LEAST_TRY: Duration = Duration::from_millis(100);

/// All tries of an operation, as the module counts (its `request_deadline_secs`, less the margin).
pub(crate) fn budget(settings: &Settings) -> Duration {
    let once = Limits::of(settings).whole().saturating_add(SLACK);
    once.saturating_mul(settings.nb_req_retries.saturating_add(1))
}

/// The limits of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    connect: Duration,
    answer: Duration,
    /// Nothing goes on beyond; `None` where both together end soon enough.
    end: Option<Instant>,
}

impl Limits {
    /// Those of a first try.
    pub(crate) const fn of(settings: &Settings) -> Self {
        let (connect, answer) = (settings.server_conn_timeout, settings.req_timeout);
        Self { connect, answer, end: None }
    }

    /// Those of a further try, when `left` is left of the budget; `None` if that is too little.
    pub(crate) fn of_another(settings: &Settings, left: Duration) -> Option<Self> {
        let limits = Self::of(settings);
        if left < LEAST_TRY {
            return None;
        }
        let fits = limits.whole() <= left;
        Some(if fits { limits } else { limits.within(left) })
    }

    /// The same, but over in `time`.
    pub(crate) fn within(self, time: Duration) -> Self {
        self.until(Instant::now().checked_add(time))
    }

    /// The same, but over at `end`.
    pub(crate) fn until(self, end: Option<Instant>) -> Self {
        let end = self.end.into_iter().chain(end).min();
        Self { end, ..self }
    }

    /// The longest that a try takes.
    pub(crate) const fn whole(&self) -> Duration {
        self.connect.saturating_add(self.answer)
    }

    /// For connecting now.
    pub(crate) fn connect(&self) -> Duration {
        self.left_of(self.connect)
    }

    /// For the answer to a request that is sent now.
    pub(crate) fn answer(&self) -> Duration {
        self.left_of(self.answer)
    }

    /// Whether a server that has not answered by now got less time than it should have.
    pub(crate) fn cut_it_short(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    fn left_of(&self, most: Duration) -> Duration {
        self.end.map_or(most, |end| most.min(end.saturating_duration_since(Instant::now())))
    }
}

/// How long to wait before a try that should not begin before `pause` is over: not so long that it
/// would have to be cut, if that can be.
pub(crate) fn pause_within(settings: &Settings, pause: Duration, left: Duration) -> Duration {
    let half = left.checked_div(2).unwrap_or_default();
    pause.min(left.saturating_sub(Limits::of(settings).whole()).max(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_budget_is_the_modules() {
        assert_eq!(budget(&Settings::default()), secs(4 * 62));
        let short = Settings { nb_req_retries: 0, req_timeout: secs(5), ..Settings::default() };
        assert_eq!(budget(&short), secs(37));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_ends_with_the_budget() {
        let settings = Settings { req_timeout: secs(10), ..Settings::default() };
        let whole = Limits::of_another(&settings, secs(40)).expect("time");
        assert_eq!(whole, Limits::of(&settings));
        let cut = Limits::of_another(&settings, secs(12)).expect("time");
        assert_eq!((cut.connect(), cut.answer()), (secs(12), secs(10)));
        tokio::time::advance(secs(9)).await;
        assert_eq!((cut.connect(), cut.answer()), (secs(3), secs(3)));
        assert!(!cut.cut_it_short());
        assert_eq!(cut.within(secs(60)), cut);
        assert_eq!(cut.within(secs(1)).answer(), secs(1));
        tokio::time::advance(secs(3)).await;
        assert!(cut.cut_it_short() && cut.answer().is_zero() && !whole.cut_it_short());
        assert_eq!(Limits::of_another(&settings, Duration::from_millis(99)), None);
        assert!(Limits::of_another(&settings, LEAST_TRY).is_some());
    }

    #[test]
    fn a_pause_leaves_time_for_the_try() {
        let settings = Settings { req_timeout: secs(10), ..Settings::default() };
        let pause = |pause, left| pause_within(&settings, secs(pause), secs(left));
        assert_eq!(pause(2, 100), secs(2));
        assert_eq!(pause(10, 45), secs(10).min(secs(45) / 2));
        assert_eq!(pause(30, 60), secs(30));
        assert_eq!(pause(30, 50), secs(25));
        assert_eq!(pause(1, 10), secs(1));
        assert_eq!(pause(10, 10), secs(5));
    }
}
