// SPDX-License-Identifier: GPL-2.0-only
//! One of the agent's threads: its doorbell, and its sleep.

use crate::{
    ffi::{mm::AddressSpace, sleep, wait::WaitQueue},
    memory::Memory,
    proto::control::Enter,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Release},
        Arc,
    },
};

/// See the module's documentation.
#[pin_data]
pub(crate) struct Worker {
    number: u32,
    memory: Arc<Memory>,
    joined: Atomic<bool>,
    #[pin]
    wakeup: WaitQueue,
}

impl Worker {
    pub(super) fn new(number: u32, space: AddressSpace) -> Result<Pin<KBox<Self>>> {
        let memory = Memory::doorbell(number, space)?;
        KBox::pin_init(
            pin_init!(Self {
                number,
                memory,
                joined: Atomic::new(false),
                wakeup <- WaitQueue::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// The queue that it serves, or that it is the control worker.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Its doorbell page.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Where its thread waits, or who polls its file.
    pub(crate) fn wakeup(&self) -> &WaitQueue {
        &self.wakeup
    }

    /// Makes a file its own. EBUSY: it has one.
    pub(crate) fn join(&self) -> Result {
        match self.joined.xchg(true, Full) {
            true => Err(EBUSY),
            false => Ok(()),
        }
    }

    /// Undoes [`Self::join`] of a file that has become something else meanwhile.
    pub(crate) fn leave(&self) {
        self.joined.store(false, Release);
    }

    /// Tells the agent's thread that channel `index` has something, and wakes it if it sleeps.
    pub(super) fn announce(&self, index: usize) {
        if let (Some(set), Some(sleeper)) = (self.memory.submit_set(), self.memory.sleeper()) {
            set.insert(index);
            if sleeper.must_wake() {
                self.wakeup.wake_all();
            }
        }
    }

    /// Whether its thread has said that it sleeps, and nobody has woken it since.
    fn is_asleep(&self) -> bool {
        self.memory.sleeper().is_some_and(|sleeper| sleeper.is_asleep())
    }

    fn has_work(&self) -> bool {
        self.memory.submit_set().is_some_and(|set| !set.is_empty())
    }

    /// Whether its thread has something to do, or was woken. The latter without the former happens
    /// when the agent took the work before a slow producer came to wake: the thread must then mark
    /// itself as asleep again before it sleeps, or nobody wakes it any more.
    pub(crate) fn is_wanted(&self) -> bool {
        self.has_work() || !self.is_asleep()
    }

    /// Looks for submissions as long as it was told, and sleeps until there are some if it was told
    /// so and the worker is marked as asleep; `over`: not any more. EINTR: a signal came.
    pub(crate) fn wait(&self, how: Enter, over: impl Fn() -> bool) -> Result {
        // One that is not marked as asleep has been woken, perhaps without work, if it took that
        // before a slow waker came to its mark; nobody would wake it again.
        let is_woken = || how.wait && !self.is_asleep();
        let must_return = || self.has_work() || is_woken() || over();
        sleep::spin(how.poll_usecs, must_return);
        if how.wait {
            // A waker makes work, clears the mark of who sleeps, and wakes.
            self.wakeup.sleep_unless(must_return)?;
        }
        Ok(())
    }

    /// Takes its memory away from the agent, and wakes its thread. Its session has ended.
    pub(crate) fn revoke(&self) {
        self.memory.revoke();
        self.wakeup.wake_all();
    }
}
