// SPDX-License-Identifier: GPL-2.0-only
//! Tells the supervisor how far the agent has come, as sd_notify(3) describes it.
//!
//! Called from the main thread; without a `NOTIFY_SOCKET` in the environment nothing happens. The
//! crate sends the words; what is here is the watchdog of a process that takes over.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::time::Duration;

pub use sd_notify::NotifyState;
use tokio::time::{interval, MissedTickBehavior};

/// Sends `state` to the supervisor, if there is one.
pub fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot tell the supervisor {state:?}: {error}");
    }
}

/// Tells the supervisor that this thread is alive, twice in each period that it asks for; never, if
/// it does not ask. `takes_over`: the supervisor may have started somebody else, whose child this
/// process is, and was told that it is the main one now.
pub async fn keep_alive(takes_over: bool) -> Infallible {
    let [period, pid] = ["WATCHDOG_USEC", "WATCHDOG_PID"].map(std::env::var_os);
    match half_period(period.as_deref(), pid.as_deref(), takes_over) {
        Some(period) => repeat(period, || notify(&[NotifyState::Watchdog])).await,
        None => std::future::pending().await,
    }
}

/// Half of what sd_watchdog_enabled(3) makes of the two variables.
fn half_period(micros: Option<&OsStr>, pid: Option<&OsStr>, takes_over: bool) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    let is_asked = match pid {
        Some(pid) => takes_over || number(pid) == Some(std::process::id().into()),
        None => true,
    };
    let micros = micros.and_then(number).filter(|micros| *micros > 0 && is_asked)?;
    Some(Duration::from_micros(micros / 2))
}

async fn repeat(period: Duration, mut tell: impl FnMut()) -> Infallible {
    // A period of zero is none.
    let mut ticks = interval(period.max(Duration::from_micros(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_of_the_process_that_it_names() {
        let me = std::process::id().to_string();
        let period = |micros: &str, pid: Option<&str>, takes_over| {
            half_period(Some(OsStr::new(micros)), pid.map(OsStr::new), takes_over)
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(period("2000000", None, false), second);
        assert_eq!(period("2000000", Some(&me), false), second);
        assert_eq!(period("2000000", Some("1"), false), None);
        assert_eq!(period("2000000", Some("1"), true), second);
        for nonsense in ["0", "", "-1", "soon"] {
            assert_eq!(period(nonsense, None, false), None, "{nonsense:?}");
        }
        assert_eq!(half_period(None, Some(OsStr::new(&me)), true), None);
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_keep_coming() {
        let mut count = 0;
        let signs = repeat(Duration::from_secs(10), || count += 1);
        assert!(tokio::time::timeout(Duration::from_secs(95), signs).await.is_err());
        assert_eq!(count, 10, "at once, and each ten seconds");
    }
}
