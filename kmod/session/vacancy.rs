// SPDX-License-Identifier: GPL-2.0-only
//! The place of an agent: who waits for it, and who goes first.

use super::current;
use crate::ffi::{wait::WaitQueue, work};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full},
        Arc,
    },
};

/// How many agents are taking over; they begin before those that stand by.
static TAKING_OVER: Atomic<u32> = Atomic::new(0);

/// An agent that takes over, from when it makes the other one go until it has begun or failed to.
pub(crate) struct TakingOver(());

impl TakingOver {
    pub(crate) fn new() -> Self {
        TAKING_OVER.fetch_add(1, Full);
        Self(())
    }
}

impl Drop for TakingOver {
    fn drop(&mut self) {
        TAKING_OVER.fetch_sub(1, Full);
        announce();
    }
}

/// Whether any agent is taking over.
pub(super) fn is_promised() -> bool {
    TAKING_OVER.load(Acquire) > 0
}

static VACANCY: work::Place<Vacancy> = work::Place::empty();

/// Where agents wait that stand by until there is no other one.
#[pin_data]
pub(crate) struct Vacancy {
    #[pin]
    wakeup: WaitQueue,
}

impl Vacancy {
    pub(crate) fn wakeup(&self) -> &WaitQueue {
        &self.wakeup
    }
}

/// Keeps the place where agents stand by; dropping it takes it away.
pub(crate) struct VacancyKeeper(());

impl VacancyKeeper {
    /// Makes the place. Called once, before there is a control device.
    pub(crate) fn new() -> Result<Self> {
        VACANCY.fill(Arc::pin_init(pin_init!(Vacancy { wakeup <- WaitQueue::new() }), GFP_KERNEL)?);
        Ok(Self(()))
    }
}

impl Drop for VacancyKeeper {
    fn drop(&mut self) {
        drop(VACANCY.take());
    }
}

/// The place where agents stand by.
pub(crate) fn vacancy() -> Option<Arc<Vacancy>> {
    VACANCY.get()
}

/// Whether an agent could begin a session now. Asked by who waits at the [`vacancy`]: whoever
/// changes one of the two announces it afterwards, so that either this look sees the change or the
/// announcement finds who waits.
pub(crate) fn is_vacant() -> bool {
    !is_promised() && current::session().is_none()
}

/// Wakes those who wait.
pub(super) fn announce() {
    if let Some(vacancy) = VACANCY.get() {
        vacancy.wakeup.wake_all();
    }
}
