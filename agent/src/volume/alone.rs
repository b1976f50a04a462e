// SPDX-License-Identifier: GPL-2.0-only
//! A command's time alone with a volume, as far as commands go: one after the other, and none
//! while a request of an earlier one may still land.
//!
//! Before: an operation of [`super::Volumes`] begins. After: [`crate::store`], which tells of each
//! try. A server may carry out late what it has not answered, no later than the settle time
//! (docs/ordering.md). Such a DELETE would take away the volume that was made anew meanwhile, such
//! a change of size would cut what a later one has added, such a PUT would bring back what was
//! undone. So a command waits for what those before it have left, those of an earlier agent
//! included; and what it asks after a try in doubt, it asks when that try has landed or never will.
//!
//! Data take no part in this: they need not wait for a change of size that is tried again.

use tokio::sync::MutexGuard;

use super::unsettled::Asker;
use super::{Landing, Volume};
use crate::paths::TryObserver;
use crate::store::Turn;

/// Held for as long as the command lasts.
#[derive(Debug)]
pub(super) struct Alone<'a> {
    volume: &'a Volume,
    /// Dropped before the guard: the next command must find what this one leaves.
    landing: Landing<'a>,
    _guard: MutexGuard<'a, ()>,
}

impl<'a> Alone<'a> {
    /// Waits for its time. `repeated`: a request of an agent that has died may still land.
    pub(super) async fn with(volume: &'a Volume, repeated: bool) -> Self {
        let guard = volume.0.changing.lock().await;
        let table = &volume.0.changes;
        table.wait(&Landing::WHOLE, Asker::Write).await;
        let landing = Landing::new(table, Landing::WHOLE);
        if repeated {
            landing.abandon_try();
        }
        Self { volume, landing, _guard: guard }
    }

    /// Waits until no data can land any more that were written before.
    pub(super) async fn data_settled(&self) {
        self.volume.unsettled().wait(&Landing::WHOLE, Asker::Write).await;
    }
}

impl TryObserver for Alone<'_> {
    fn begin_try(&self) {
        self.landing.begin_try();
    }

    fn end_try(&self) {
        self.landing.end_try();
    }

    fn abandon_try(&self) {
        self.landing.abandon_try();
    }
}

impl Turn for Alone<'_> {
    async fn settled(&self) {
        self.landing.settled().await;
    }
}
