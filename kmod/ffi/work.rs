// SPDX-License-Identifier: GPL-2.0-only
//! The module's own workqueue: whatever is on it has ended when the module goes.

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

static QUEUE: Atomic<*mut bindings::workqueue_struct> = Atomic::new(core::ptr::null_mut());

/// The workqueue; dropping it waits for all work.
pub(crate) struct WorkQueue(());

impl WorkQueue {
    /// Makes the workqueue. Called once.
    pub(crate) fn new() -> Result<Self> {
        // It must make progress when memory is short: ending a session gives requests back.
        let flags = bindings::wq_flags_WQ_UNBOUND | bindings::wq_flags_WQ_MEM_RECLAIM;
        // SAFETY: A name without format directives.
        let queue = unsafe { bindings::alloc_workqueue_noprof(c"srb".as_char_ptr(), flags, 0) };
        if queue.is_null() {
            return Err(ENOMEM);
        }
        QUEUE.store(queue, Release);
        Ok(Self(()))
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        let queue = QUEUE.xchg(core::ptr::null_mut(), Full);
        // SAFETY: Made in `new`; waits for what is on it.
        unsafe { bindings::destroy_workqueue(queue) };
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
    let queue = QUEUE.load(Acquire);
    if queue.is_null() {
        return false;
    }
    // SAFETY: Live: the module's exit removes everything that enqueues before it destroys the
    // queue.
    unsafe { Queue::from_raw(queue) }.enqueue(work).is_ok()
}

/// Has delayed work done in a second. False if it is due already.
pub(crate) fn enqueue_in_a_second<T>(work: Arc<T>) -> bool
where
    T: HasDelayedWork<T> + WorkItem<Pointer = Arc<T>> + Send + Sync + 'static,
{
    let queue = QUEUE.load(Acquire);
    if queue.is_null() {
        return false;
    }
    // SAFETY: As in `enqueue`.
    unsafe { Queue::from_raw(queue) }.enqueue_delayed(work, msecs_to_jiffies(1000)).is_ok()
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
