// SPDX-License-Identifier: GPL-2.0-only
//! How many requests of one volume are at the servers at a time; can be changed while they run.
//!
//! Shared by the workers of the volume's queues. Whoever waits is served in order.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

/// A semaphore that can shrink while its permits are out.
#[derive(Debug)]
pub(crate) struct Limit {
    semaphore: Semaphore,
    size: AtomicUsize,
    /// Permits that are out and must not come back.
    surplus: AtomicUsize,
    resizing: Mutex<()>,
}

/// The right to one request.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a Limit);

impl Limit {
    pub(crate) fn new(size: usize) -> Self {
        let size = clamped(size);
        Self {
            semaphore: Semaphore::new(size),
            size: AtomicUsize::new(size),
            surplus: AtomicUsize::new(0),
            resizing: Mutex::new(()),
        }
    }

    /// Changes the limit; one load if it is `size` already.
    pub(crate) fn resize(&self, size: usize) {
        let size = clamped(size);
        if self.size.load(Relaxed) == size {
            return;
        }
        let _one_at_a_time = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.size.swap(size, Relaxed);
        let removed = old.saturating_sub(size);
        let left_out = removed.saturating_sub(self.semaphore.forget_permits(removed));
        self.surplus.fetch_add(left_out, Relaxed);
        let mut added = size.saturating_sub(old);
        while added > 0 && self.forgive_one() {
            added = added.saturating_sub(1);
        }
        self.semaphore.add_permits(added);
    }

    /// Waits for a permit.
    pub(crate) async fn enter(&self) -> Permit<'_> {
        match self.semaphore.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => {
                // An error would mean that the semaphore was closed, which nobody does.
                if let Ok(permit) = self.semaphore.acquire().await {
                    permit.forget();
                }
            }
        }
        Permit(self)
    }

    fn forgive_one(&self) -> bool {
        self.surplus.fetch_update(Relaxed, Relaxed, |surplus| surplus.checked_sub(1)).is_ok()
    }
}

fn clamped(size: usize) -> usize {
    size.clamp(1, Semaphore::MAX_PERMITS)
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.0.surplus.load(Relaxed) == 0 || !self.0.forgive_one() {
            self.0.semaphore.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn free(limit: &Limit) -> usize {
        let permits: Vec<_> = std::iter::from_fn(|| limit.enter().now_or_never()).collect();
        permits.len()
    }

    #[test]
    fn grows_and_shrinks_while_permits_are_out() {
        let limit = Limit::new(4);
        let mut out: Vec<_> = (0..3).filter_map(|_| limit.enter().now_or_never()).collect();
        assert_eq!((out.len(), free(&limit)), (3, 1));
        limit.resize(2);
        assert_eq!(free(&limit), 0);
        out.pop();
        assert_eq!(free(&limit), 0, "that one was beyond the limit");
        out.pop();
        assert_eq!(free(&limit), 1);
        limit.resize(1);
        limit.resize(5);
        assert_eq!(free(&limit), 4);
        drop(out);
        assert_eq!(free(&limit), 5);
        limit.resize(0);
        assert_eq!(free(&limit), 1, "nothing at all would be a standstill");
    }
}
