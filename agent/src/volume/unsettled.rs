// SPDX-License-Identifier: GPL-2.0-only
//! Writes of a volume that may still land: tried, not answered, and being tried again.
//!
//! Before: [`crate::rest`] enters a write when it is about to be sent once more. After:
//! [`crate::pipeline`] holds back each new read and write that overlaps it, until it is answered or
//! given up. Shared by the workers of the volume's queues. As long as all goes well, asking is one
//! load.
//!
//! What this gives: once a repeated write is answered, no write that started later has been
//! overtaken by one of its tries that the server got in time. What it cannot give: a try that a
//! server or a proxy kept back for longer than all the retries took may land afterwards.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    /// Entries of `table`, to be read without its lock.
    count: AtomicUsize,
    table: Mutex<Table>,
    settled: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    writes: Vec<(u64, Range<u64>)>,
}

/// A write in the table; dropped when it is settled.
#[derive(Debug)]
pub(crate) struct Entry {
    table: Arc<Unsettled>,
    number: u64,
}

impl Unsettled {
    /// Enters a write of these bytes.
    pub(crate) fn enter(self: &Arc<Self>, bytes: Range<u64>) -> Entry {
        let mut table = self.lock();
        let number = table.next;
        table.next = number.wrapping_add(1);
        table.writes.push((number, bytes));
        self.count.store(table.writes.len(), Ordering::Release);
        Entry { table: Arc::clone(self), number }
    }

    /// Whether a request for these bytes has to wait.
    pub(crate) fn blocks(&self, bytes: &Range<u64>) -> bool {
        // ORDERING: acquire, pairs with the release in `enter`. A request that does not see an
        // entry made at this moment was under way at the same time as that write, and their order
        // was open anyway.
        self.count.load(Ordering::Acquire) != 0
            && self.lock().writes.iter().any(|(_, write)| overlap(write, bytes))
    }

    /// Waits until no write overlaps these bytes.
    pub(crate) async fn wait(&self, bytes: &Range<u64>) {
        while self.count.load(Ordering::Acquire) != 0 {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Before looking, so that no entry's end goes unheard.
            settled.as_mut().enable();
            if !self.blocks(bytes) {
                return;
            }
            settled.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        table.writes.retain(|(number, _)| *number != self.number);
        self.table.count.store(table.writes.len(), Ordering::Release);
        drop(table);
        self.table.settled.notify_waiters();
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use proptest::prelude::*;

    #[test]
    fn waiting_ends_with_the_last_overlapping_write() {
        let table = Arc::new(Unsettled::default());
        assert!(table.wait(&(0..10)).now_or_never().is_some());
        let (one, two) = (table.enter(0..4), table.enter(4..8));
        let bytes = 3..5;
        let mut waiting = tokio_test_task(table.wait(&bytes));
        assert!(!waiting());
        drop(one);
        assert!(!waiting());
        assert!(table.wait(&(0..4)).now_or_never().is_some());
        drop(two);
        assert!(waiting());
    }

    /// Polls a future once per call; says whether it has ended.
    fn tokio_test_task(future: impl std::future::Future<Output = ()>) -> impl FnMut() -> bool {
        let mut future = Box::pin(future);
        move || future.as_mut().now_or_never().is_some()
    }

    proptest! {
        /// Against a map of bytes.
        #[test]
        fn blocks_what_shares_a_byte(
            steps in proptest::collection::vec((any::<bool>(), 0u64..40, 0u64..10), 0..60),
        ) {
            let table = Arc::new(Unsettled::default());
            let mut entries: Vec<(Entry, Range<u64>)> = Vec::new();
            for (enter, start, len) in steps {
                let bytes = start..start + len;
                let shares = |write: &Range<u64>| bytes.clone().any(|byte| write.contains(&byte));
                let shared = entries.iter().any(|(_, write)| shares(write));
                prop_assert_eq!(table.blocks(&bytes), shared);
                prop_assert_eq!(table.wait(&bytes).now_or_never().is_none(), shared);
                if enter {
                    entries.push((table.enter(bytes.clone()), bytes));
                } else if !entries.is_empty() {
                    entries.swap_remove(start as usize % entries.len());
                }
            }
            entries.clear();
            prop_assert_eq!(table.count.load(Ordering::Relaxed), 0);
        }
    }
}
