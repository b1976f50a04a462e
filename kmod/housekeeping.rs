// SPDX-License-Identifier: GPL-2.0-only
//! What is done in the background: once a second while there are devices, and when memory is short.
//!
//! Runs on the module's workqueue. Nothing of it is in the way of a request.

use crate::{calls, lifecycle, log, params, pressure, registry, session};

/// Pages that one round of trimming frees at most.
const TRIM_PAGES: usize = 1024;

/// A round: memory of idle windows goes back, requests that are held for want of a server are tried
/// again, waiting for an agent ends. Returns whether there is to be another one.
pub(crate) fn round() -> bool {
    {
        let _lifecycle = lifecycle::lock();
        registry::for_each_device(|device| {
            device.reclaim_if_idle();
            device.retry_held();
        });
    }
    expire();
    calls::expire_abandoned();
    registry::has_devices() || calls::has_waiters()
}

/// Ends the wait for an agent if `agent_grace` is over.
fn expire() {
    let grace = params::agent_grace();
    // Under the lock that an agent comes and goes by: it is this one's absence that has lasted.
    let lifecycle = lifecycle::lock();
    let Some(gone_for) = session::gone_for_secs() else { return };
    if u64::try_from(grace).is_ok_and(|grace| gone_for >= grace) {
        if session::fail_waiting(&lifecycle) > 0 {
            log::error!(
                "no agent for {} seconds: requests fail until one connects; start srb-agent\n",
                gone_for
            );
        }
    }
}

/// Memory is short: frees windows that nobody uses, and has requests that were turned away tried
/// again.
pub(crate) fn relieve() {
    let mut left = TRIM_PAGES;
    // Those that have been quiet for a while first.
    for quiet in [true, false] {
        registry::for_each_device(|device| {
            left = left.saturating_sub(device.trim_windows(quiet, left));
        });
    }
    pressure::refill();
    registry::for_each_device(|device| device.run_queues());
}
