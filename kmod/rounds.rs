// SPDX-License-Identifier: GPL-2.0-only
//! Rounds: work that is done once a second for as long as it says that there is more to do.
//!
//! Whoever makes work for them starts them; [`crate::housekeeping`] is what they do.

use crate::ffi::work;
use kernel::{
    impl_has_delayed_work, new_delayed_work,
    prelude::*,
    sync::Arc,
    workqueue::{DelayedWork, WorkItem},
};

static ROUNDS: work::Place<Round> = work::Place::empty();

#[pin_data]
struct Round {
    /// Does what is to be done, and says whether there is more.
    round: fn() -> bool,
    #[pin]
    work: DelayedWork<Round>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Round { self.work }
}

impl WorkItem for Round {
    type Pointer = Arc<Round>;

    fn run(this: Arc<Round>) {
        if (this.round)() {
            start();
        }
    }
}

/// The work item; dropping it ends the rounds.
pub(crate) struct Rounds(());

impl Rounds {
    /// Makes the work item. Called once.
    pub(crate) fn new(round: fn() -> bool) -> Result<Self> {
        ROUNDS.fill(Arc::pin_init(
            pin_init!(Round { round, work <- new_delayed_work!("srb::rounds") }),
            GFP_KERNEL,
        )?);
        Ok(Self(()))
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        if let Some(rounds) = ROUNDS.take() {
            work::cancel_delayed(&rounds);
        }
    }
}

/// Sees to it that rounds are made. Called when a device is attached, an agent has gone, or a
/// command has left something behind.
pub(crate) fn start() {
    if let Some(rounds) = ROUNDS.get() {
        work::enqueue_in_a_second(rounds);
    }
}
