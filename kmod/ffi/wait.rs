// SPDX-License-Identifier: GPL-2.0-only
//! Where threads wait until they are woken: in a call of their own, by poll(2), or by an epoll that
//! the file is in.
//!
//! # Who owns it
//! Nobody tells a poller that its wait queue goes away (POLLFREE): only drivers that are part of
//! the kernel may do that. It is not needed where the queue outlives each file that is polled by
//! it. A poll(2) and a request of io_uring or AIO hold the file, and leave the queue before they
//! let go of it; an epoll leaves the queues of a file before the file's `release` is called. So a
//! queue belongs to what a file owns until its `release`, or to the module, which each file holds:
//! [`Waiting::on`] says so. The drop checks that nobody is left.

use core::marker::PhantomData;
use kernel::{
    bindings,
    prelude::*,
    task::{TASK_INTERRUPTIBLE, TASK_NORMAL},
    types::Opaque,
};

#[expect(improper_ctypes, reason = "passed by pointer, their layout is the bindings'")]
extern "C" {
    /// `helpers.c`: makes a wait queue.
    fn srb_wait_init(queue: *mut bindings::wait_queue_head);
    /// `helpers.c`: warns if anybody waits.
    fn srb_wait_end(queue: *mut bindings::wait_queue_head);
    /// `helpers.c`: has whoever polls woken by a wait queue.
    fn srb_wait_poll(
        file: *mut bindings::file,
        queue: *mut bindings::wait_queue_head,
        table: *mut bindings::poll_table,
    );
}

/// See the module's documentation.
#[pin_data(PinnedDrop)]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
}

// SAFETY: A wait queue belongs to no thread.
unsafe impl Send for WaitQueue {}
// SAFETY: It has a lock of its own.
unsafe impl Sync for WaitQueue {}

impl WaitQueue {
    pub(crate) fn new() -> impl PinInit<Self> {
        // SAFETY: Memory for a wait queue, which stays where it is.
        pin_init!(Self { head <- Opaque::ffi_init(|head| unsafe { srb_wait_init(head) }) })
    }

    /// Wakes everybody. What they look at has been changed before.
    pub(crate) fn wake_all(&self) {
        // SAFETY: A live wait queue; no key, and 0 stands for all.
        unsafe { bindings::__wake_up(self.head.get(), TASK_NORMAL, 0, core::ptr::null_mut()) };
    }

    /// Sleeps until it is woken or a signal comes, but for a need that is `over`. That is asked
    /// when the thread is on the queue: whoever makes it true before it wakes either finds the
    /// thread there, or is seen. `over` must not sleep. EINTR: it slept, and a signal is there.
    pub(crate) fn sleep_unless(&self, over: impl FnOnce() -> bool) -> Result {
        let entry = Opaque::<bindings::wait_queue_entry>::uninit();
        // SAFETY: Memory for an entry, which stays where it is until `finish_wait`.
        unsafe { bindings::init_wait(entry.get()) };
        // ORDERING: The queue's lock, which `wake_all` takes after the change, and the full barrier
        // behind it: `over` sees the change, or the waker sees the entry.
        // SAFETY: A live queue and an entry of this thread.
        unsafe { bindings::prepare_to_wait(self.head.get(), entry.get(), TASK_INTERRUPTIBLE) };
        let sleeps = !over();
        if sleeps {
            // SAFETY: Process context, no spinlock held.
            unsafe { bindings::schedule() };
        }
        // SAFETY: The queue and the entry of above.
        unsafe { bindings::finish_wait(self.head.get(), entry.get()) };
        if sleeps && kernel::current!().signal_pending() {
            return Err(EINTR);
        }
        Ok(())
    }
}

#[pinned_drop]
impl PinnedDrop for WaitQueue {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Made in `new`.
        unsafe { srb_wait_end(self.head.get()) };
    }
}

/// A poll(2) in progress.
pub(crate) struct Waiting<'a> {
    file: *mut bindings::file,
    table: *mut bindings::poll_table,
    _callback: PhantomData<&'a ()>,
}

impl Waiting<'_> {
    /// # Safety
    /// Called from a poll callback with its arguments; what is made lives as long as that runs.
    pub(super) unsafe fn from_raw(
        file: *mut bindings::file,
        table: *mut bindings::poll_table,
    ) -> Self {
        Self { file, table, _callback: PhantomData }
    }

    /// Has the caller of poll(2) woken by this.
    ///
    /// # Safety
    /// The queue lives on until the `release` of the file that is polled.
    pub(crate) unsafe fn on(&self, queue: &WaitQueue) {
        // SAFETY: The poll's own file and table; whoever is entered leaves the queue while it is
        // there, by the contract.
        unsafe { srb_wait_poll(self.file, queue.head.get(), self.table) };
    }
}
