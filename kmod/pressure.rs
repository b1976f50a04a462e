// SPDX-License-Identifier: GPL-2.0-only
//! The pages of windows when memory is short: no more than a share of the machine's, a reserve for
//! when the kernel has none to give at once, and windows that nobody uses are given up.
//!
//! Before: [`crate::memory`] wants a page for a window, in `queue_rq`, which must not wait. After:
//! a page, or ENOMEM and a [`Trimmer`] on its way; the block layer tries again soon. A request that
//! is turned away keeps nothing from others: the window of an unused tag can always be taken, so
//! pages come free as long as requests are completed.

use crate::{
    ffi::{mm::SharedPage, system, work},
    registry,
};
use kernel::{
    alloc::{flags::__GFP_NOWARN, flags::GFP_NOWAIT, Flags},
    impl_has_work, new_work,
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        global_lock, Arc,
    },
    workqueue::{Work, WorkItem},
};

/// Windows may take one part in so many of the machine's memory.
const SHARE: usize = 8;
/// Pages that they may take in any case.
const LEAST_BUDGET: usize = 2048;
/// Pages kept for when the kernel has none: the largest request.
const RESERVE_PAGES: usize = 256;
/// Pages that one round of trimming frees at most.
const TRIM_PAGES: usize = 1024;

static BUDGET: Atomic<usize> = Atomic::new(LEAST_BUDGET);
static USED: Atomic<usize> = Atomic::new(0);
static TRIMMER: work::Place<Trimmer> = work::Place::empty();

global_lock! {
    // SAFETY: `init` runs before anything else of the module.
    unsafe(uninit) static RESERVE: SpinLock<KVec<SharedPage>> = KVec::new();
}

/// Frees windows that nobody uses.
#[pin_data]
struct Trimmer {
    #[pin]
    work: Work<Trimmer>,
}

impl_has_work! {
    impl HasWork<Self> for Trimmer { self.work }
}

impl WorkItem for Trimmer {
    type Pointer = Arc<Trimmer>;

    fn run(_this: Arc<Trimmer>) {
        let mut left = TRIM_PAGES;
        // Those that have been quiet for a while first.
        for quiet in [true, false] {
            registry::for_each_device(|device| {
                left = left.saturating_sub(device.trim_windows(quiet, left));
            });
        }
        refill();
        registry::for_each_device(|device| device.run_queues());
    }
}

/// # Safety
/// Called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: The contract.
    unsafe { RESERVE.init() };
}

/// The reserve and what refills it; dropping it frees both.
pub(crate) struct Reserve(());

impl Reserve {
    /// Fills the reserve. Called once.
    pub(crate) fn new() -> Result<Self> {
        BUDGET.store((system::total_pages() / SHARE).max(LEAST_BUDGET), Relaxed);
        let mut pages = KVec::with_capacity(RESERVE_PAGES, GFP_KERNEL)?;
        for _ in 0..RESERVE_PAGES {
            pages.push(SharedPage::new(GFP_KERNEL)?, GFP_KERNEL)?;
        }
        let empty = core::mem::replace(&mut *RESERVE.lock(), pages);
        drop(empty);
        // From here on its drop frees what there is, also if something below fails.
        let reserve = Self(());
        TRIMMER.fill(Arc::pin_init(
            pin_init!(Trimmer { work <- new_work!("srb::trim") }),
            GFP_KERNEL,
        )?);
        Ok(reserve)
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        if let Some(trimmer) = TRIMMER.take() {
            work::cancel(&trimmer);
        }
        let pages = core::mem::replace(&mut *RESERVE.lock(), KVec::new());
        drop(pages);
    }
}

/// A page for a window; [`freed`] is told when it goes. ENOMEM: not now, but soon.
pub(crate) fn page(flags: Flags) -> Result<SharedPage> {
    if USED.fetch_add(1, Relaxed) < BUDGET.load(Relaxed) {
        if let Ok(page) = SharedPage::new(flags) {
            return Ok(page);
        }
        let reserved = RESERVE.lock().pop();
        if let Some(page) = reserved {
            trim();
            return Ok(page);
        }
    }
    USED.fetch_sub(1, Relaxed);
    trim();
    Err(ENOMEM)
}

/// Notes that pages of windows were freed.
pub(crate) fn freed(pages: usize) {
    USED.fetch_sub(pages, Full);
}

fn trim() {
    if let Some(trimmer) = TRIMMER.get() {
        // One that is on its way already will do.
        work::enqueue(trimmer);
    }
}

fn refill() {
    // Waiting for memory here could be waiting for this module.
    while RESERVE.lock().len() < RESERVE_PAGES {
        let Ok(page) = SharedPage::new(GFP_NOWAIT | __GFP_NOWARN) else { return };
        // It was made with this capacity, and another page may only have been taken.
        if RESERVE.lock().push(page, GFP_NOWAIT).is_err() {
            return;
        }
    }
}
