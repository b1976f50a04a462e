// SPDX-License-Identifier: GPL-2.0-only
//! Writes of a volume that may still land: tried without a clear answer, and either being tried
//! again or over for too short a time. docs/ordering.md says what follows from it.
//!
//! Before: [`super::Landing`] enters a write as soon as one of its tries went wrong. After:
//! [`super::pipeline`] holds back what overlaps it. Shared by the workers of the volume's queues.
//! As long as all goes well, asking is one load.
//!
//! # Life of an entry
//! *Active* until its write is over: overlapping reads and writes wait. Then *settling*, until the
//! settle time has passed since the last try was abandoned that may still land: overlapping writes
//! wait. No task and no timer stands behind an entry: who waits knows how long, and the next one
//! who asks finds what has expired.
//!
//! # Invariants
//! An active entry waits for older active ones alone (smaller numbers), so that there is no circle.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep_until, Instant};

use super::heritage::Heritage;
use super::settling::{overlap, Settling};

/// The table.
#[derive(Debug)]
pub(crate) struct Unsettled {
    settle: Duration,
    heritage: Arc<Heritage>,
    /// Entries of `table`, to be read without its lock.
    count: AtomicUsize,
    table: Mutex<Table>,
    /// An active entry has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    active: Vec<(u64, Range<u64>)>,
    settling: Settling,
}

/// Who wants to know what is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A read.
    Read,
    /// A write that has no entry.
    Write,
    /// A write with an entry of this number.
    Entered(u64),
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// The end of an active entry.
    Active,
    /// A time.
    Settling(Instant),
}

/// An active entry; dropped when its write is over.
#[derive(Debug)]
pub(crate) struct Entry {
    table: Arc<Unsettled>,
    number: u64,
    /// When the last try ended of those that may still land.
    abandoned: Option<Instant>,
}

impl Unsettled {
    /// A table whose entries settle for this long; zero switches that off. All is held back that
    /// earlier agents left unsettled.
    pub(super) fn new(settle: Duration, heritage: Arc<Heritage>) -> Arc<Self> {
        let mut table = Table::default();
        if let Some(until) = heritage.inherited(settle) {
            table.settling.hold(0..u64::MAX, until);
        }
        let count = AtomicUsize::new(table.settling.len());
        let (table, ended) = (Mutex::new(table), Notify::new());
        Arc::new(Self { settle, heritage, count, table, ended })
    }

    /// Enters a write of these bytes.
    pub(super) fn enter(self: &Arc<Self>, bytes: Range<u64>) -> Entry {
        let mut table = self.lock();
        let number = table.next;
        table.next = number.wrapping_add(1);
        table.active.push((number, bytes));
        self.publish(&table);
        Entry { table: Arc::clone(self), number, abandoned: None }
    }

    /// Whether a request for these bytes has to wait.
    pub(crate) fn blocks(&self, bytes: &Range<u64>, asker: Asker) -> bool {
        // ORDERING: acquire, pairs with the release in `publish`. A request that does not see an
        // entry made at this moment was under way at the same time as that write, and their order
        // was open anyway.
        self.count.load(Ordering::Acquire) != 0 && self.obstacle(bytes, asker).is_some()
    }

    /// Waits until nothing is in the way of a request for these bytes.
    pub(crate) async fn wait(&self, bytes: &Range<u64>, asker: Asker) {
        while self.count.load(Ordering::Acquire) != 0 {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // Before looking, so that no entry's end goes unheard.
            ended.as_mut().enable();
            match self.obstacle(bytes, asker) {
                None => return,
                Some(Obstacle::Active) => ended.await,
                Some(Obstacle::Settling(until)) => sleep_until(until).await,
            }
        }
    }

    /// Whether no write is entered.
    pub(crate) fn is_empty(&self) -> bool {
        let mut table = self.lock();
        table.settling.expire(Instant::now());
        self.publish(&table);
        table.active.is_empty() && table.settling.len() == 0
    }

    fn obstacle(&self, bytes: &Range<u64>, asker: Asker) -> Option<Obstacle> {
        #[cfg(test)]
        if hook::is(hook::Flaw::Table) {
            return None;
        }
        let mut table = self.lock();
        if table.settling.len() > 0 {
            table.settling.expire(Instant::now());
            self.publish(&table);
        }
        let waits_for = |number: u64| match asker {
            Asker::Entered(own) => number < own,
            Asker::Read | Asker::Write => true,
        };
        let mut active = table.active.iter();
        if active.any(|(number, write)| waits_for(*number) && overlap(write, bytes)) {
            return Some(Obstacle::Active);
        }
        match asker {
            Asker::Read => None,
            _ => table.settling.until(bytes).map(Obstacle::Settling),
        }
    }

    fn publish(&self, table: &Table) {
        let count = table.active.len().saturating_add(table.settling.len());
        self.count.store(count, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// A try was abandoned just now and may still land.
    pub(super) fn abandon_try(&mut self) {
        self.abandoned = Some(Instant::now());
    }

    /// When the last try has landed of those that may, if there was one.
    pub(super) fn settles(&self) -> Option<Instant> {
        self.abandoned.and_then(|at| at.checked_add(self.table.settle))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let settle = Some(self.table.settle).filter(|settle| !settle.is_zero());
        let until = self.abandoned.zip(settle).and_then(|(at, settle)| at.checked_add(settle));
        if let Some(until) = until.filter(|until| *until > Instant::now()) {
            // Before the write is answered: from then on only this agent knows of it.
            self.table.heritage.extend(until);
        }
        let mut table = self.table.lock();
        if let Some(index) = table.active.iter().position(|(number, _)| *number == self.number) {
            let (_, bytes) = table.active.swap_remove(index);
            if let Some(until) = until {
                table.settling.hold(bytes, until);
            }
        }
        self.table.publish(&table);
        drop(table);
        self.table.ended.notify_waiters();
    }
}

/// Lets the simulation show that it finds what goes wrong without a part of the mechanism.
#[cfg(test)]
pub(crate) mod hook {
    use std::cell::Cell;

    /// What is left out.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Flaw {
        /// Holding anything back.
        Table,
        /// Minding what was under way at the same time.
        Contest,
        /// Entering what is dropped amid a try.
        Dropped,
    }

    thread_local!(static FLAW: Cell<Option<Flaw>> = const { Cell::new(None) });

    /// On this thread.
    pub(crate) fn set(flaw: Option<Flaw>) {
        FLAW.set(flaw);
    }

    pub(in crate::volume) fn is(flaw: Flaw) -> bool {
        FLAW.get() == Some(flaw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use proptest::prelude::*;
    use tokio::time::advance;

    const SETTLE: Duration = Duration::from_secs(2);

    fn unsettled(settle: Duration) -> Arc<Unsettled> {
        Unsettled::new(settle, Arc::default())
    }

    fn count(table: &Unsettled) -> usize {
        table.count.load(Ordering::Relaxed)
    }

    #[test]
    fn waiting_ends_with_the_last_overlapping_write() {
        let table = unsettled(SETTLE);
        assert!(table.wait(&(0..10), Asker::Write).now_or_never().is_some());
        let (one, two) = (table.enter(0..4), table.enter(4..8));
        let bytes = 3..5;
        let mut waiting = Box::pin(table.wait(&bytes, Asker::Read));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(one);
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(table.wait(&(0..4), Asker::Write).now_or_never().is_some());
        drop(two);
        assert!(waiting.now_or_never().is_some());
        assert_eq!(count(&table), 0, "no try of theirs may still land");
    }

    #[tokio::test(start_paused = true)]
    async fn writes_wait_until_an_abandoned_try_has_settled_and_reads_do_not() {
        let table = unsettled(SETTLE);
        let mut entry = table.enter(0..4);
        entry.abandon_try();
        advance(Duration::from_millis(500)).await;
        entry.abandon_try();
        advance(Duration::from_millis(500)).await;
        assert!(table.blocks(&(3..9), Asker::Read));
        drop(entry);
        assert!(!table.blocks(&(3..9), Asker::Read));
        assert!(!table.blocks(&(4..9), Asker::Write));
        assert!(table.blocks(&(3..9), Asker::Write));
        let start = Instant::now();
        table.wait(&(3..9), Asker::Write).await;
        let waited = start.elapsed();
        assert!((1500..=1502).contains(&waited.as_millis()), "{waited:?}");
        assert_eq!(count(&table), 0, "and asking is one load again");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_settle_time_an_entry_ends_with_its_write() {
        let table = unsettled(Duration::ZERO);
        let mut entry = table.enter(0..4);
        entry.abandon_try();
        drop(entry);
        assert_eq!(count(&table), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_agent_left_holds_back_every_write() {
        let one = Arc::new(Heritage::default());
        let mut entry = Unsettled::new(SETTLE, Arc::clone(&one)).enter(0..4);
        entry.abandon_try();
        advance(SETTLE / 2).await;
        drop(entry);
        let next = Unsettled::new(SETTLE, Arc::new(Heritage::after(one.until())));
        assert!(next.blocks(&(7..9), Asker::Write));
        assert!(!next.blocks(&(7..9), Asker::Read));
        advance(SETTLE / 2 + Duration::from_millis(101)).await;
        assert!(!next.blocks(&(7..9), Asker::Write));
        assert_eq!(count(&next), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn writes_with_entries_wait_for_older_ones_alone() {
        let table = unsettled(SETTLE);
        let (mut one, two) = (table.enter(0..4), table.enter(2..6));
        one.abandon_try();
        let (first, second) = (Asker::Entered(one.number()), Asker::Entered(two.number()));
        assert!(!table.blocks(&(0..4), first));
        assert!(table.blocks(&(2..6), second));
        drop(one);
        assert!(table.blocks(&(2..6), second), "it settles");
        advance(SETTLE).await;
        assert!(!table.blocks(&(2..6), second));
    }

    #[tokio::test(start_paused = true)]
    async fn thousands_of_failed_writes_take_bounded_room_and_leave_none() {
        let table = unsettled(SETTLE);
        for n in 0..20_000u64 {
            let mut entry = table.enter(n * 4096..(n + 1) * 4096);
            entry.abandon_try();
        }
        assert!(count(&table) <= 256, "{}", count(&table));
        assert!((0..20_000u64).all(|n| table.blocks(&(n * 4096..n * 4096 + 1), Asker::Write)));
        advance(SETTLE).await;
        assert!(!table.blocks(&(0..1), Asker::Write));
        assert_eq!(count(&table), 0);
    }

    proptest! {
        /// Against a map of bytes.
        #[test]
        fn blocks_what_shares_a_byte(
            steps in proptest::collection::vec((any::<bool>(), 0u64..40, 0u64..10), 0..60),
        ) {
            let table = unsettled(SETTLE);
            let mut entries: Vec<(Entry, Range<u64>)> = Vec::new();
            for (enter, start, len) in steps {
                let bytes = start..start + len;
                let shares = |write: &Range<u64>| bytes.clone().any(|byte| write.contains(&byte));
                let shared = entries.iter().any(|(_, write)| shares(write));
                prop_assert_eq!(table.blocks(&bytes, Asker::Read), shared);
                let waits = table.wait(&bytes, Asker::Write).now_or_never().is_none();
                prop_assert_eq!(waits, shared);
                if enter {
                    entries.push((table.enter(bytes.clone()), bytes));
                } else if !entries.is_empty() {
                    entries.swap_remove(start as usize % entries.len());
                }
            }
            entries.clear();
            prop_assert_eq!(count(&table), 0);
        }
    }
}
