// SPDX-License-Identifier: GPL-2.0-only
//! Waiting for something to become true, never longer than a bound.

use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Failed, TestResult};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(20);

/// The factor for all bounds, where the kernel is slow.
pub const PATIENCE: &str = "SRB_PATIENCE";

/// A bound as it is on this kernel: [`PATIENCE`] times as long.
#[must_use]
pub fn patiently(bound: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| {
        let text = std::env::var(PATIENCE).unwrap_or_else(|_| "1".to_owned());
        text.parse().unwrap_or_else(|error| panic!("{PATIENCE}={text}: {error}"))
    });
    bound.saturating_mul(*factor)
}

/// Waits until `condition` gives a value, at most for `bound`; `what` says in the error what was
/// waited for.
///
/// # Errors
/// The condition's own error at once; else, when the bound is over, one that names `what`.
pub fn wait_for<T>(
    what: &str,
    bound: Duration,
    mut condition: impl FnMut() -> TestResult<Option<T>>,
) -> TestResult<T> {
    let (began, bound) = (Instant::now(), patiently(bound));
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if began.elapsed() > bound {
            return Err(Failed::from(format!("{what}: not so after {bound:?}")));
        }
        sleep(STEP);
    }
}

/// Waits until `condition` is true, at most for `bound`.
///
/// # Errors
/// When the bound is over; the error names `what`.
pub fn wait_until(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) -> TestResult {
    wait_for(what, bound, || Ok(condition().then_some(())))
}
