// SPDX-License-Identifier: GPL-2.0-only
//! Whether a server was seen to honour ranges: found out once for each URL, by whoever writes
//! first.
//!
//! Before: [`super::Client`] asks before it sends a write. After: the store finds out. Shared by
//! all threads; once the verdict is known, asking is one load.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::OnceLock;

use tokio::sync::Mutex;

use crate::base::errors::Failure;

/// Fit, or why not.
pub(crate) type Verdict = Result<(), String>;

/// The verdict on a URL, and the place where writers wait for it.
#[derive(Debug, Default)]
pub(crate) struct Fitness {
    verdict: OnceLock<Verdict>,
    /// Probes that came to no verdict.
    failed: AtomicU64,
    /// What the last of them failed with.
    probing: Mutex<Option<Failure>>,
}

impl Fitness {
    /// The verdict; `None` before the first probe that came to one.
    pub(crate) fn verdict(&self) -> Option<&Verdict> {
        self.verdict.get()
    }

    /// An earlier agent has seen that it honours ranges.
    pub(crate) fn trust(&self) {
        // Whoever has found out since knows better.
        let _ = self.verdict.set(Ok(()));
    }

    /// Whether it was seen not to honour ranges.
    pub(crate) fn is_unfit(&self) -> bool {
        self.verdict().is_some_and(Result::is_err)
    }

    /// The verdict, after `probe` if there is none yet; others wait meanwhile.
    ///
    /// # Errors
    /// What the probe failed with when it came to no verdict, for all who waited for it. The next
    /// caller probes again.
    pub(crate) async fn establish(
        &self,
        probe: impl Future<Output = Result<Verdict, Failure>>,
    ) -> Result<&Verdict, Failure> {
        let failed_before = self.failed.load(Relaxed);
        let mut failure = self.probing.lock().await;
        if let Some(verdict) = self.verdict() {
            return Ok(verdict);
        }
        match &*failure {
            Some(failure) if self.failed.load(Relaxed) != failed_before => {
                return Err(failure.clone());
            }
            _ => {}
        }
        match probe.await {
            Ok(verdict) => Ok(self.verdict.get_or_init(|| verdict)),
            Err(error) => {
                self.failed.fetch_add(1, Relaxed);
                *failure = Some(error.clone());
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::errors::ErrorKind;
    use std::cell::Cell;
    use tokio::task::yield_now;

    async fn slow<T>(calls: &Cell<u32>, result: T) -> T {
        calls.set(calls.get() + 1);
        yield_now().await;
        result
    }

    #[tokio::test]
    async fn one_probe_for_all_who_wait() {
        let (fitness, calls) = (Fitness::default(), Cell::new(0));
        let unreachable = || Err(Failure::new(ErrorKind::Refused, "refused"));
        let (one, two) = tokio::join!(
            fitness.establish(slow(&calls, unreachable())),
            fitness.establish(slow(&calls, unreachable())),
        );
        assert_eq!((one.is_err(), two.is_err(), calls.get()), (true, true, 1));
        let (one, two) = tokio::join!(
            fitness.establish(slow(&calls, Ok(Ok(())))),
            fitness.establish(slow(&calls, Ok(Err("no".to_owned())))),
        );
        assert_eq!((one, two, calls.get()), (Ok(&Ok(())), Ok(&Ok(())), 2));
        assert_eq!(fitness.verdict(), Some(&Ok(())));
    }

    #[tokio::test]
    async fn a_probe_that_is_dropped_leaves_its_place_to_the_next() {
        let fitness = Fitness::default();
        tokio::select! {
            biased;
            _ = fitness.establish(std::future::pending()) => unreachable!(),
            () = yield_now() => {}
        }
        assert_eq!(fitness.establish(async { Ok(Ok(())) }).await, Ok(&Ok(())));
    }
}
