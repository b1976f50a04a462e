// SPDX-License-Identifier: GPL-2.0-only
//! A command's time alone with a volume, as far as commands go: one after the other, and none
//! while a request of an earlier one may still land.
//!
//! Before: an operation of [`super::Volumes`] begins. After: [`crate::paths`], which tell of each
//! try. A server may carry out late what it has not answered, no later than the settle time
//! (docs/ordering.md). Such a DELETE would take away the volume that was made anew meanwhile, such
//! a change of size would cut what a later one has added, such a PUT would bring back what was
//! undone. So a command waits for what those before it have left, those of an earlier agent
//! included; and what it asks after a try in doubt, it asks when that try has landed or never will.
//!
//! Data take no part in this: they need not wait for a change of size that is tried again.

use tokio::sync::MutexGuard;

use super::unsettled::Asker;
use super::{size_of, Landing, Volume};
use crate::base::errors::RequestError;
use crate::paths::{Client, TryObserver, Watch};
use crate::store::cdmi::{Operation, Reply};

/// Held for as long as the command lasts.
#[derive(Debug)]
pub(super) struct Alone<'a> {
    client: &'a Client,
    volume: &'a Volume,
    /// Dropped before the guard: the next command must find what this one leaves.
    landing: Landing<'a>,
    _guard: MutexGuard<'a, ()>,
}

impl<'a> Alone<'a> {
    /// Waits for its time. `repeated`: a request of an agent that has died may still land.
    pub(super) async fn with(client: &'a Client, volume: &'a Volume, repeated: bool) -> Self {
        let guard = volume.0.changing.lock().await;
        let table = &volume.0.changes;
        table.wait(&Landing::WHOLE, Asker::Write).await;
        let landing = Landing::new(table, Landing::WHOLE);
        if repeated {
            landing.abandon_try();
        }
        Self { client, volume, landing, _guard: guard }
    }

    pub(super) const fn volume(&self) -> &'a Volume {
        self.volume
    }

    /// Waits until no data can land any more that were written before.
    pub(super) async fn data_settled(&self) {
        self.volume.unsettled().wait(&Landing::WHOLE, Asker::Write).await;
    }

    /// Waits until no request of this command can land any more that was not answered.
    pub(super) async fn settled(&self) {
        self.landing.settled().await;
    }

    /// A request that changes the volume.
    pub(super) async fn change(&self, operation: &Operation<'_>) -> Result<Reply, RequestError> {
        let watch = Watch { observer: Some(&self.landing), ..Watch::default() };
        self.client.run(operation, watch).await
    }

    /// The size as it is, and stays once [`Self::settled`] has returned.
    pub(super) async fn size(&self) -> Result<u64, RequestError> {
        size_of(self.client, self.volume).await
    }
}
