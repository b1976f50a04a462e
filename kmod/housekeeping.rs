// SPDX-License-Identifier: GPL-2.0-only
//! What is done once a second while there are devices: memory of idle windows goes back, requests
//! that are held for want of a server are tried again, waiting for an agent ends.
//!
//! Runs on the module's workqueue. Nothing of it is in the way of a request.

use crate::{ffi::work, log, params, registry, session};
use kernel::{
    impl_has_delayed_work, new_delayed_work,
    prelude::*,
    sync::Arc,
    workqueue::{DelayedWork, WorkItem},
};

static ROUNDS: work::Place<Rounds> = work::Place::empty();

/// The work item.
#[pin_data]
pub(crate) struct Rounds {
    #[pin]
    work: DelayedWork<Rounds>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self> for Rounds { self.work }
}

impl WorkItem for Rounds {
    type Pointer = Arc<Rounds>;

    fn run(_this: Arc<Rounds>) {
        {
            let _lifecycle = session::lock_lifecycle();
            registry::for_each_device(|device| {
                device.reclaim_if_idle();
                device.retry_held();
            });
        }
        expire();
        crate::control::expire_abandoned();
        if registry::has_devices() || crate::control::has_waiters() {
            start();
        }
    }
}

/// Ends the wait for an agent if `agent_grace` is over.
fn expire() {
    let grace = params::agent_grace();
    // Under the lock that an agent comes and goes by: it is this one's absence that has lasted.
    let lifecycle = session::lock_lifecycle();
    let Some(gone_for) = registry::gone_for_secs() else { return };
    if u64::try_from(grace).is_ok_and(|grace| gone_for >= grace) {
        if registry::fail_devices(&lifecycle) > 0 {
            log::error!(
                "no agent for {} seconds: requests fail until one connects; start srb-agent\n",
                gone_for
            );
        }
    }
}

/// The work item; dropping it ends the rounds.
pub(crate) struct Housekeeping(());

impl Housekeeping {
    /// Makes the work item. Called once.
    pub(crate) fn new() -> Result<Self> {
        ROUNDS.fill(Arc::pin_init(
            pin_init!(Rounds { work <- new_delayed_work!("srb::rounds") }),
            GFP_KERNEL,
        )?);
        Ok(Self(()))
    }
}

impl Drop for Housekeeping {
    fn drop(&mut self) {
        if let Some(rounds) = ROUNDS.take() {
            work::cancel_delayed(&rounds);
        }
    }
}

/// Sees to it that rounds are made. Called when a device is attached or an agent has gone.
pub(crate) fn start() {
    if let Some(rounds) = ROUNDS.get() {
        work::enqueue_in_a_second(rounds);
    }
}
