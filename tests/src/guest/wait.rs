// SPDX-License-Identifier: GPL-2.0-only
//! Waiting for something to become true, never longer than a bound.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Failed, TestResult};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(20);

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
    let began = Instant::now();
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
