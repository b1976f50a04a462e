// SPDX-License-Identifier: GPL-2.0-only
//! A block request that the driver owns.

use super::compat::errors::EOPNOTSUPP;
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*,
    time::{Instant, Monotonic},
};

#[expect(improper_ctypes, reason = "a request is passed by pointer, its layout is the bindings'")]
extern "C" {
    /// `helpers.c`: ends a request with bottom halves disabled.
    fn srb_end_request(rq: *mut bindings::request, status: bindings::blk_status_t);
    /// `helpers.c`: adds a request to those that end together; false if it cannot.
    fn srb_batch_request(rq: *mut bindings::request, batch: *mut bindings::io_comp_batch) -> bool;
    /// `helpers.c`: ends the requests that were added.
    fn srb_end_batch(batch: *mut bindings::io_comp_batch);
    /// `helpers.c`: takes the first request out of a list; null if it has none.
    fn srb_pop_request(list: *mut bindings::rq_list) -> *mut bindings::request;
    /// `helpers.c`: adds a request to the end of a list.
    fn srb_push_request(list: *mut bindings::rq_list, rq: *mut bindings::request);
}

/// Requests that end together and with success, which costs less than one by one. They end when it
/// is dropped, which is to be soon, and with no lock held.
pub(crate) struct Batch(bindings::io_comp_batch);

impl Batch {
    pub(crate) fn new() -> Self {
        Self(bindings::io_comp_batch::default())
    }

    /// Ends a request with success, by itself or with the others.
    pub(crate) fn end(&mut self, request: Request) {
        // SAFETY: A started request that its owner gives up here, and a batch that only helpers.c
        // changes. The list in it has no pointer to the batch itself, so it may have been moved.
        if !unsafe { srb_batch_request(request.0.as_ptr(), &raw mut self.0) } {
            request.end(Ok(()));
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: As in `end`; nobody else has the requests in it.
        unsafe { srb_end_batch(&raw mut self.0) };
    }
}

/// Requests in a row, linked through themselves.
///
/// # Invariants
/// All of them are as [`Request`] says.
pub(crate) struct Requests(bindings::rq_list);

impl Requests {
    pub(crate) fn new() -> Self {
        Self(bindings::rq_list { head: core::ptr::null_mut(), tail: core::ptr::null_mut() })
    }

    /// Takes over a list.
    ///
    /// # Safety
    /// `queue_rqs` was called with its requests, and nobody else ends or requeues them.
    pub(super) unsafe fn from_raw(list: bindings::rq_list) -> Self {
        // INVARIANT: The caller's promise.
        Self(list)
    }

    /// Gives the list up.
    pub(super) fn into_raw(self) -> bindings::rq_list {
        self.0
    }

    /// The hardware queue of the first one.
    pub(super) fn first_hctx(&self) -> Option<*mut bindings::blk_mq_hw_ctx> {
        // SAFETY: Requests in the list are live, by the type's invariant.
        unsafe { self.0.head.as_ref() }.map(|rq| rq.mq_hctx)
    }

    /// Takes the first one out.
    pub(crate) fn pop(&mut self) -> Option<Request> {
        // SAFETY: A list of live requests.
        let rq = NonNull::new(unsafe { srb_pop_request(&raw mut self.0) })?;
        // INVARIANT: As the list says.
        Some(Request(rq))
    }

    /// Adds one to the end.
    pub(crate) fn push(&mut self, request: Request) {
        // SAFETY: As in `pop`, and a request that is in no list.
        unsafe { srb_push_request(&raw mut self.0, request.0.as_ptr()) };
    }
}

/// What a request wants; nothing else is advertised, so nothing else comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the volume.
    Read,
    /// To the volume.
    Write,
}

/// Says that [`History`] holds: the block layer clears it when it gives the request out anew, and
/// merges nothing with a request that has it.
const HAS_HISTORY: u32 = super::compat::DONTPREP;

/// That a request is held for want of a server.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    pub(crate) since: Instant<Monotonic>,
    /// What it would have failed with.
    pub(crate) error: Error,
    /// The session whose agent found no server. What was waited for its sake does not count with
    /// another one.
    pub(crate) session: u64,
}

/// What the driver remembers of a request that it puts back; lies behind the block layer's own.
#[derive(Clone, Copy, Default)]
pub(crate) struct History {
    /// An agent was given it.
    pub(crate) repeated: bool,
    /// It was held.
    pub(crate) held: Option<Held>,
    /// It is among those that are held now.
    pub(crate) waiting: bool,
}

/// A request between `queue_rq` or `queue_rqs` and its end. Whoever holds it owns it:
/// [`Self::end`] and [`Self::requeue`] consume.
///
/// # Invariants
/// The pointer is to a live request that was handed to this driver and has been neither ended nor
/// requeued.
pub(crate) struct Request(NonNull<bindings::request>);

// SAFETY: A request belongs to no thread.
unsafe impl Send for Request {}

impl Request {
    /// Takes over a request.
    ///
    /// # Safety
    /// `queue_rq` was called with it, and nobody else ends or requeues it.
    pub(super) unsafe fn from_raw(rq: *mut bindings::request) -> Option<Self> {
        // INVARIANT: The caller's promise.
        NonNull::new(rq).map(Self)
    }

    /// The request, as a number to compare.
    pub(crate) fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// Its tag within its hardware queue.
    pub(crate) fn tag(&self) -> usize {
        // SAFETY: The request is live, by the type's invariant.
        unsafe { (*self.0.as_ptr()).tag as usize }
    }

    /// Which way the data go; `None` for an operation that the disk does not advertise.
    pub(crate) fn direction(&self) -> Option<Direction> {
        // SAFETY: As in `tag`.
        let flags = unsafe { (*self.0.as_ptr()).cmd_flags };
        match flags & ((1 << bindings::REQ_OP_BITS) - 1) {
            bindings::req_op_REQ_OP_READ => Some(Direction::Read),
            bindings::req_op_REQ_OP_WRITE => Some(Direction::Write),
            _ => None,
        }
    }

    /// First sector, in units of 512 bytes.
    pub(crate) fn sector(&self) -> u64 {
        // SAFETY: As in `tag`.
        unsafe { (*self.0.as_ptr()).__sector }
    }

    /// Bytes to move.
    pub(crate) fn bytes(&self) -> usize {
        // SAFETY: As in `tag`.
        unsafe { (*self.0.as_ptr()).__data_len as usize }
    }

    /// Starts its clock.
    pub(crate) fn start(&self) {
        if !self.has_history() {
            self.remember(History::default());
            // Before the clock: afterwards the kernel's work for time-outs changes the same word,
            // not atomically either, and one of the two changes may be lost.
            // SAFETY: The driver owns the request.
            unsafe { (*self.0.as_ptr()).rq_flags |= HAS_HISTORY };
        }
        // SAFETY: The driver owns the request.
        unsafe { bindings::blk_mq_start_request(self.0.as_ptr()) };
    }

    /// Whether it was started before.
    pub(crate) fn has_history(&self) -> bool {
        // SAFETY: As in `tag`.
        unsafe { (*self.0.as_ptr()).rq_flags & HAS_HISTORY != 0 }
    }

    /// What became of it before.
    pub(crate) fn history(&self) -> History {
        if !self.has_history() {
            return History::default();
        }
        // SAFETY: The tag set has room for it behind each request, and the flag says that
        // `start` has filled it.
        unsafe { self.0.as_ptr().add(1).cast::<History>().read() }
    }

    /// Notes what became of a request that was started before, until it has ended.
    pub(crate) fn remember(&self, history: History) {
        // SAFETY: The tag set has room for it behind each request, which the driver owns.
        unsafe { self.0.as_ptr().add(1).cast::<History>().write(history) };
    }

    /// Puts it back; it comes through `queue_rq` again after the next kick of the requeue list.
    pub(crate) fn requeue(self) {
        // SAFETY: A started request that the driver owns, and gives up here.
        unsafe { bindings::blk_mq_requeue_request(self.0.as_ptr(), false) };
    }

    /// Ends it, with success or an error.
    pub(crate) fn end(self, result: Result) {
        let status = result.map_or_else(blk_status, |()| 0);
        // SAFETY: A started request that the driver owns, and gives up here.
        unsafe { srb_end_request(self.0.as_ptr(), status) };
    }

    /// Calls `f` with each piece of the request's memory in order; `f` may touch `len` bytes from
    /// the pointer, for as long as it runs.
    ///
    /// The same walk as `rq_for_each_bvec()`, which is a macro in C; where a page has no address of
    /// its own, as `rq_for_each_segment()`.
    pub(crate) fn for_each_piece(&self, mut f: impl FnMut(*mut u8, usize)) {
        // SAFETY: The request is live and owns its bios.
        let mut bio = unsafe { (*self.0.as_ptr()).bio };
        while !bio.is_null() {
            // SAFETY: A bio of the request.
            let iter = unsafe { (*bio).bi_iter };
            let mut left = iter.bi_size as usize;
            let mut index = iter.bi_idx as usize;
            let mut done = super::compat::bvec_done(&iter);
            while left > 0 {
                // SAFETY: `bi_size` bytes from the iterator's position lie within the vector.
                let bvec = unsafe { (*bio).bi_io_vec.add(index) };
                // SAFETY: There are bytes left, so this vector is one of the bio's.
                let bvec = unsafe { bvec.read() };
                let start = (bvec.bv_offset as usize).wrapping_add(done);
                let within = start % bindings::PAGE_SIZE;
                let count = left
                    .min((bvec.bv_len as usize).wrapping_sub(done))
                    .min(super::mm::MAPPED_BYTES.saturating_sub(within));
                // SAFETY: A bvec's pages are contiguous in the memory map.
                let page = unsafe { bvec.bv_page.add(start / bindings::PAGE_SIZE) };
                let piece = |base: *mut u8| f(base.wrapping_add(within), count);
                // SAFETY: A page of the request, which is live.
                unsafe { super::mm::with_page(page, piece) };
                left = left.wrapping_sub(count);
                done = done.wrapping_add(count);
                if done == bvec.bv_len as usize {
                    done = 0;
                    index = index.wrapping_add(1);
                }
            }
            // SAFETY: A bio of the request.
            bio = unsafe { (*bio).bi_next };
        }
    }
}

/// The block layer's name for an error. It has others, which are orders to it rather than failures
/// (EAGAIN, ENOMEM), or say something of the medium that nobody here knows (EREMCHG, ENODATA): all
/// but these are failed I/O.
pub(super) fn blk_status(error: Error) -> bindings::blk_status_t {
    let error = match error {
        error if error == ETIMEDOUT || error == ENOSPC || error == EOPNOTSUPP => error,
        _ => EIO,
    };
    // SAFETY: Looks a number up in a table.
    unsafe { bindings::errno_to_blk_status(error.to_errno()) }
}
