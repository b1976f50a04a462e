// SPDX-License-Identifier: GPL-2.0-only
//! What becomes of a device's requests: shared by the device, which changes it, and its channels,
//! which ask.

use crate::{params, proto::command::Policy};
use kernel::{
    sync::atomic::{Acquire, Atomic, Full, Relaxed, Release},
    time::Delta,
};

/// Whether requests go on.
pub(crate) struct Fate {
    /// Set once, and never cleared.
    dying: Atomic<bool>,
    failing: Atomic<bool>,
    holding: Holding,
}

/// Requests that no server has answered, and that the policy holds.
struct Holding {
    /// [`Policy::to_secs`].
    policy_secs: Atomic<i64>,
    /// How many are held.
    count: Atomic<usize>,
    /// One was held, and none has been done since.
    outage: Atomic<bool>,
}

impl Fate {
    pub(crate) fn new() -> Self {
        let holding = Holding {
            policy_secs: Atomic::new(params::policy().to_secs()),
            count: Atomic::new(0),
            outage: Atomic::new(false),
        };
        Self { dying: Atomic::new(false), failing: Atomic::new(false), holding }
    }

    /// The device is going away.
    pub(crate) fn is_dying(&self) -> bool {
        self.dying.load(Acquire)
    }

    /// The device goes away from here on.
    pub(crate) fn condemn(&self) {
        // ORDERING: release, pairs with the acquire in `is_dying`.
        self.dying.store(true, Release);
    }

    /// No agent came within the time for it.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Acquire)
    }

    /// Begins or ends the failing of requests; returns what it was before.
    pub(crate) fn set_failing(&self, failing: bool) -> bool {
        self.failing.xchg(failing, Full)
    }

    /// What becomes of requests that no server has answered.
    pub(crate) fn policy(&self) -> Policy {
        Policy::from_secs(self.holding.policy_secs.load(Relaxed))
    }

    /// Sets that, also for those that are held.
    pub(crate) fn set_policy(&self, policy: Policy) {
        self.holding.policy_secs.store(policy.to_secs(), Relaxed);
    }

    /// Whether a request that was held for so long is held on.
    pub(crate) fn holds(&self, held_for: Delta) -> bool {
        !self.is_dying()
            && match self.policy() {
                Policy::Fail => false,
                Policy::Queue => true,
                Policy::QueueFor(secs) => held_for < Delta::from_secs(secs.into()),
            }
    }

    /// A request is about to be held. [`crate::housekeeping`] has it tried again.
    pub(crate) fn hold(&self) {
        self.holding.outage.store(true, Relaxed);
        self.holding.count.fetch_add(1, Full);
    }

    /// A request that was held is tried again.
    pub(crate) fn release(&self) {
        self.holding.count.fetch_sub(1, Full);
    }

    /// Whether any request is held.
    pub(crate) fn has_held(&self) -> bool {
        self.holding.count.load(Relaxed) > 0
    }

    /// A server has answered.
    pub(crate) fn answered(&self) {
        if self.holding.outage.load(Relaxed) {
            self.holding.outage.store(false, Relaxed);
        }
    }

    /// Whether a request was held, and none has been done since.
    pub(crate) fn is_outage(&self) -> bool {
        self.holding.outage.load(Relaxed)
    }
}
