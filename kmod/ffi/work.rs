// SPDX-License-Identifier: GPL-2.0-only
//! The module's own workqueues: whatever is on them has ended when the module goes.

use super::compat;
use kernel::{
    bindings, container_of,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Release},
        Arc,
    },
    time::msecs_to_jiffies,
    workqueue::{HasDelayedWork, HasWork, Queue, RawWorkItem, Work, WorkItem},
};

/// For what recovery needs: it must make progress when memory is short, and whatever else waits.
static QUEUE: Raw = Raw(Atomic::new(core::ptr::null_mut()));
/// For scans for partitions, which wait for an agent and a server, and so for recovery: on one
/// queue with it, enough scans that hang would keep it from being done.
static SCANS: Raw = Raw(Atomic::new(core::ptr::null_mut()));

/// For what is to be done when the machine has woken: it stands still with the processes.
static THAW: Raw = Raw(Atomic::new(core::ptr::null_mut()));

/// A workqueue, between its making and its end.
struct Raw(Atomic<*mut bindings::workqueue_struct>);

impl Raw {
    fn make(&self, name: &'static CStr, flags: bindings::wq_flags) -> Result {
        // SAFETY: Our callers pass flags of the header's.
        let queue = unsafe { compat::alloc_workqueue(name, flags) };
        if queue.is_null() {
            return Err(ENOMEM);
        }
        self.0.store(queue, Release);
        Ok(())
    }

    /// Waits for what is on it, and takes no more.
    fn destroy(&self) {
        let queue = self.0.xchg(core::ptr::null_mut(), Full);
        if !queue.is_null() {
            // SAFETY: Made in `make`.
            unsafe { bindings::destroy_workqueue(queue) };
        }
    }

    /// The queue, if the module has it.
    fn get(&self) -> Option<&Queue> {
        let queue = self.0.load(Acquire);
        // SAFETY: Live: the module's exit removes everything that enqueues before it destroys the
        // queue.
        (!queue.is_null()).then(|| unsafe { Queue::from_raw(queue) })
    }
}

/// The workqueues; dropping it waits for all work.
pub(crate) struct WorkQueues(());

impl WorkQueues {
    /// Makes the workqueues. Called once.
    pub(crate) fn new() -> Result<Self> {
        // From here on its drop ends what there is, also if one cannot be made.
        let queues = Self(());
        QUEUE.make(c"srb", bindings::wq_flags_WQ_UNBOUND | bindings::wq_flags_WQ_MEM_RECLAIM)?;
        SCANS.make(c"srb_scan", bindings::wq_flags_WQ_UNBOUND)?;
        THAW.make(c"srb_thaw", bindings::wq_flags_WQ_UNBOUND | bindings::wq_flags_WQ_FREEZABLE)?;
        Ok(queues)
    }
}

impl Drop for WorkQueues {
    fn drop(&mut self) {
        THAW.destroy();
        SCANS.destroy();
        QUEUE.destroy();
    }
}

/// Where a static keeps work that is made when the module is loaded, and gives it back when the
/// module goes.
pub(crate) struct Place<T>(Atomic<*mut T>);

impl<T> Place<T> {
    pub(crate) const fn empty() -> Self {
        Self(Atomic::new(core::ptr::null_mut()))
    }

    /// Puts it in. Called once.
    pub(crate) fn fill(&self, work: Arc<T>) {
        self.0.store(Arc::into_raw(work).cast_mut(), Release);
    }

    /// What is there. Nobody may call this when [`Self::take`] is called.
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        let work = self.0.load(Acquire);
        if work.is_null() {
            return None;
        }
        // SAFETY: From `into_raw` in `fill`; the place keeps its reference.
        let held = core::mem::ManuallyDrop::new(unsafe { Arc::from_raw(work) });
        Some(Arc::clone(&held))
    }

    /// Takes it out.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        let work = self.0.xchg(core::ptr::null_mut(), Full);
        // SAFETY: From `into_raw` in `fill`, taken out once by the exchange.
        (!work.is_null()).then(|| unsafe { Arc::from_raw(work) })
    }
}

/// Has work done soon. False if it was on the queue already, or the module is going.
pub(crate) fn enqueue<W, const ID: u64>(work: W) -> bool
where
    W: RawWorkItem<ID, EnqueueOutput = core::result::Result<(), W>> + Send + 'static,
{
    QUEUE.get().is_some_and(|queue| queue.enqueue(work).is_ok())
}

/// As [`enqueue`], for work that may wait for an agent.
pub(crate) fn enqueue_scan<W, const ID: u64>(work: W) -> bool
where
    W: RawWorkItem<ID, EnqueueOutput = core::result::Result<(), W>> + Send + 'static,
{
    SCANS.get().is_some_and(|queue| queue.enqueue(work).is_ok())
}

/// As [`enqueue`], for work that is not done while processes are frozen.
pub(crate) fn enqueue_for_thaw<W, const ID: u64>(work: W) -> bool
where
    W: RawWorkItem<ID, EnqueueOutput = core::result::Result<(), W>> + Send + 'static,
{
    THAW.get().is_some_and(|queue| queue.enqueue(work).is_ok())
}

/// Has delayed work done in a second. False if it is due already.
pub(crate) fn enqueue_in_a_second<T>(work: Arc<T>) -> bool
where
    T: HasDelayedWork<T> + WorkItem<Pointer = Arc<T>> + Send + Sync + 'static,
{
    let due = msecs_to_jiffies(1000);
    QUEUE.get().is_some_and(|queue| queue.enqueue_delayed(work, due).is_ok())
}

/// Cancels work that waits to be done, and waits for it if it is being done.
pub(crate) fn cancel<T: HasWork<T>>(work: &Arc<T>) {
    // SAFETY: A live object, and the work within it.
    let raw = unsafe { Work::raw_get(T::raw_get_work(Arc::as_ptr(work).cast_mut())) };
    // SAFETY: Live and initialised work.
    if unsafe { bindings::cancel_work_sync(raw) } {
        // SAFETY: The work that waited owned a reference, which nobody gives back now.
        drop(unsafe { Arc::from_raw(Arc::as_ptr(work)) });
    }
}

/// As [`cancel`], for delayed work.
pub(crate) fn cancel_delayed<T: HasDelayedWork<T>>(work: &Arc<T>) {
    // SAFETY: A live object, and the work within it.
    let raw = unsafe { Work::raw_get(T::raw_get_work(Arc::as_ptr(work).cast_mut())) };
    // SAFETY: The work of a type with delayed work stands within one.
    let delayed = unsafe { container_of!(raw, bindings::delayed_work, work) };
    // SAFETY: Live and initialised delayed work.
    if unsafe { bindings::cancel_delayed_work_sync(delayed) } {
        // SAFETY: As in `cancel`.
        drop(unsafe { Arc::from_raw(Arc::as_ptr(work)) });
    }
}
