// SPDX-License-Identifier: GPL-2.0-only
//! One write's tries, as far as their order among other writes depends on them; and those of a
//! command that changes the whole volume ([`super::alone`]), among other such commands.
//!
//! Before: [`super::pipeline`] makes one for each write. [`crate::paths`] tell it what becomes of
//! each try. After: the write has an entry in [`super::Unsettled`] from the moment at which a try
//! of it may land that nobody waits for any more. That is so also when the future that carries the
//! write is dropped amid a try: the connection is closed first, then this.
//!
//! A write that is answered at its first try touches nothing but its own fields.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::Arc;

use tokio::time::sleep_until;

#[cfg(test)]
use super::unsettled::hook;
use super::unsettled::{Asker, Entry, Unsettled};
use crate::paths::TryObserver;

/// The state of a write. Belongs to the future that carries it.
#[derive(Debug)]
pub(crate) struct Landing<'a> {
    table: &'a Arc<Unsettled>,
    bytes: Range<u64>,
    under_way: Cell<bool>,
    entry: RefCell<Option<Entry>>,
}

impl<'a> Landing<'a> {
    /// All bytes of a volume.
    pub(super) const WHOLE: Range<u64> = 0..u64::MAX;

    /// A write of these bytes, before its first try.
    pub(crate) const fn new(table: &'a Arc<Unsettled>, bytes: Range<u64>) -> Self {
        Self { table, bytes, under_way: Cell::new(false), entry: RefCell::new(None) }
    }

    /// How it asks the table.
    pub(crate) fn asker(&self) -> Asker {
        let number = self.entry.borrow().as_ref().map(Entry::number);
        number.map_or(Asker::Write, Asker::Entered)
    }

    /// Gives it an entry if it has none.
    pub(crate) fn enter(&self) {
        self.entry.borrow_mut().get_or_insert_with(|| self.table.enter(self.bytes.clone()));
    }

    /// Waits until every try has landed that may: what the server says then stays true.
    pub(super) async fn settled(&self) {
        let settles = self.entry.borrow().as_ref().and_then(Entry::settles);
        if let Some(until) = settles {
            sleep_until(until).await;
        }
    }

    /// Whether another write that was under way at the same time may still land on top of this one.
    pub(crate) fn is_contested(&self) -> bool {
        #[cfg(test)]
        if hook::is(hook::Flaw::Contest) {
            return false;
        }
        self.table.blocks(&self.bytes, self.asker())
    }
}

impl TryObserver for Landing<'_> {
    fn begin_try(&self) {
        if self.under_way.get() {
            self.abandon_try();
        }
        self.under_way.set(true);
    }

    fn end_try(&self) {
        self.under_way.set(false);
    }

    fn abandon_try(&self) {
        self.under_way.set(false);
        self.enter();
        if let Some(entry) = &mut *self.entry.borrow_mut() {
            entry.abandon_try();
        }
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        #[cfg(test)]
        if hook::is(hook::Flaw::Dropped) {
            return;
        }
        if self.under_way.get() {
            self.abandon_try();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tuning::RestConfig;
    use crate::volume::Repository;
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_clear_answer_leaves_nothing() {
        let table = Unsettled::new(Duration::from_secs(2), Arc::default());
        let landing = Landing::new(&table, 0..8);
        landing.begin_try();
        landing.end_try();
        drop(landing);
        assert!(!table.blocks(&(0..8), Asker::Write));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_dropped_amid_a_try_settles() {
        let table = Unsettled::new(Duration::from_secs(2), Arc::default());
        let landing = Landing::new(&table, 0..8);
        landing.begin_try();
        drop(landing);
        assert!(table.blocks(&(0..8), Asker::Write));
        assert!(!table.blocks(&(0..8), Asker::Read));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_was_dropped_before_another_one_settles() {
        let table = Unsettled::new(Duration::from_secs(2), Arc::default());
        let landing = Landing::new(&table, Landing::WHOLE);
        landing.begin_try();
        landing.begin_try();
        landing.end_try();
        let start = Instant::now();
        landing.settled().await;
        assert!(start.elapsed() >= Duration::from_secs(2));
        drop(landing);
        assert!(!table.blocks(&(0..8), Asker::Write), "it has had its time");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_not_settled_outlives_the_volumes_last_handle() {
        let repository = Repository::new(RestConfig::default());
        let blocks = || repository.volume("v").unsettled().blocks(&(0..8), Asker::Write);
        Landing::new(repository.volume("v").unsettled(), 0..8).abandon_try();
        assert!(!repository.volume("other").unsettled().blocks(&(0..8), Asker::Write));
        assert!(blocks());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!blocks());
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_with_an_entry_does_not_wait_for_itself_but_for_what_settles() {
        let table = Unsettled::new(Duration::from_secs(2), Arc::default());
        let (one, two) = (Landing::new(&table, 0..8), Landing::new(&table, 4..12));
        one.abandon_try();
        assert!(!one.is_contested());
        assert!(two.is_contested());
        two.enter();
        assert!(two.is_contested(), "the other one is older");
        assert!(!one.is_contested());
        two.abandon_try();
        drop(two);
        assert!(one.is_contested(), "a try of the other one may still land");
    }
}
