// SPDX-License-Identifier: GPL-2.0-only
//! The pages of windows when memory is short: no more than a share of the machine's, a reserve for
//! when the kernel has none to give at once, and windows that nobody uses are given up.
//!
//! Before: [`crate::memory`] wants pages for a window, in `queue_rq`, which must not wait. After:
//! pages, or ENOMEM and a [`Trimmer`] on its way; the block layer tries again soon. A request that
//! is turned away keeps nothing from others: the window of an unused tag can always be taken, so
//! pages come free as long as requests are completed.
//!
//! # How requests get through without memory
//! Where pages are written out for want of memory, the kernel lets the writer have its last pages.
//! Windows take none of those: the agent's sockets need them. They come from the reserve, which has
//! all that the largest request needs, the table of its window included, promises a request
//! the whole of what it lacks or nothing, and is the first to get the pages that windows give up.

use crate::{
    ffi::{
        machine,
        mm::{Patience, SharedPage},
        work,
    },
    proto::layout::DATA,
};
use kernel::{
    alloc::flags::GFP_NOWAIT,
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
/// Pages kept for when the kernel has none: the largest request's, and one for their table.
const RESERVE_PAGES: usize = DATA.window_pages() + 1;

static BUDGET: Atomic<usize> = Atomic::new(LEAST_BUDGET);
static USED: Atomic<usize> = Atomic::new(0);
static TRIMMER: work::Place<Trimmer> = work::Place::empty();

global_lock! {
    // SAFETY: `init` runs before anything else of the module.
    unsafe(uninit) static RESERVE: SpinLock<Stock> = Stock { pages: KVec::new(), promised: 0 };
}

/// What the reserve has.
struct Stock {
    pages: KVec<SharedPage>,
    /// How many of them are somebody's already.
    promised: usize,
}

/// Has windows freed that nobody uses.
#[pin_data]
struct Trimmer {
    relieve: fn(),
    #[pin]
    work: Work<Trimmer>,
}

impl_has_work! {
    impl HasWork<Self> for Trimmer { self.work }
}

impl WorkItem for Trimmer {
    type Pointer = Arc<Trimmer>;

    fn run(this: Arc<Trimmer>) {
        (this.relieve)();
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
    /// Fills the reserve. Called once. `relieve` is called when memory is short: it makes channels
    /// give windows up, calls [`refill`], and has requests tried again.
    pub(crate) fn new(relieve: fn()) -> Result<Self> {
        BUDGET.store((machine::total_pages() / SHARE).max(LEAST_BUDGET), Relaxed);
        let mut pages = KVec::with_capacity(RESERVE_PAGES, GFP_KERNEL)?;
        for _ in 0..RESERVE_PAGES {
            pages.push(SharedPage::new(Patience::Waits)?, GFP_KERNEL)?;
        }
        let empty = core::mem::replace(&mut RESERVE.lock().pages, pages);
        drop(empty);
        // From here on its drop frees what there is, also if something below fails.
        let reserve = Self(());
        TRIMMER.fill(Arc::pin_init(
            pin_init!(Trimmer { relieve, work <- new_work!("srb::trim") }),
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
        let pages = core::mem::replace(&mut RESERVE.lock().pages, KVec::new());
        drop(pages);
    }
}

/// Pages for one window, as many as it needs, out of what all windows may have. Those that are not
/// taken count no more when it is dropped.
pub(crate) struct Pages {
    left: usize,
    /// The kernel had none: all that are left come from the reserve, which has promised them.
    promised: bool,
}

impl Pages {
    /// So many pages. ENOMEM: not now, but soon.
    pub(crate) fn of(count: usize) -> Result<Self> {
        let pages = Self { left: count, promised: false };
        if USED.fetch_add(count, Relaxed).wrapping_add(count) > BUDGET.load(Relaxed) {
            // The drop takes back what was added.
            trim();
            return Err(ENOMEM);
        }
        Ok(pages)
    }

    /// The next one; [`give_back`] is told when it goes. ENOMEM: as above.
    pub(crate) fn take(&mut self) -> Result<SharedPage> {
        if self.left == 0 {
            return Err(EIO);
        }
        let page = match self.promised {
            false => SharedPage::new(Patience::Hurries).or_else(|_| self.take_reserved()),
            true => self.take_reserved(),
        }?;
        self.left = self.left.saturating_sub(1);
        Ok(page)
    }

    fn take_reserved(&mut self) -> Result<SharedPage> {
        let had_promise = self.promised;
        let page = {
            let mut reserve = RESERVE.lock();
            let free = reserve.pages.len().saturating_sub(reserve.promised);
            // All or none: of two that each took a part neither could go on.
            if !self.promised && free >= self.left {
                self.promised = true;
                reserve.promised = reserve.promised.saturating_add(self.left);
            }
            let page = if self.promised { reserve.pages.pop() } else { None };
            if page.is_some() {
                reserve.promised = reserve.promised.saturating_sub(1);
            }
            page
        };
        if !had_promise {
            // It is to be full again soon.
            trim();
        }
        page.ok_or(ENOMEM)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        USED.fetch_sub(self.left, Full);
        if self.promised && self.left > 0 {
            let mut reserve = RESERVE.lock();
            reserve.promised = reserve.promised.saturating_sub(self.left);
        }
    }
}

/// Takes a window's page back, for the reserve first. It is mapped nowhere any more.
pub(crate) fn give_back(page: SharedPage) {
    USED.fetch_sub(1, Full);
    if !has_room(&RESERVE.lock()) {
        return;
    }
    if let Some(page) = page.renewed() {
        put(page);
    }
}

fn has_room(reserve: &Stock) -> bool {
    reserve.pages.len() < RESERVE_PAGES
}

/// Adds a page to the reserve, if it has room. Returns whether there is room for more.
fn put(page: SharedPage) -> bool {
    let mut reserve = RESERVE.lock();
    // It was made with this capacity; a page that does not fit is freed.
    has_room(&reserve) && reserve.pages.push(page, GFP_NOWAIT).is_ok() && has_room(&reserve)
}

fn trim() {
    if let Some(trimmer) = TRIMMER.get() {
        // One that is on its way already will do.
        work::enqueue(trimmer);
    }
}

/// Fills the reserve up with what can be had at once.
pub(crate) fn refill() {
    let mut room = has_room(&RESERVE.lock());
    while room {
        // Waiting for memory here could be waiting for this module.
        let Ok(page) = SharedPage::new(Patience::Hurries) else { return };
        room = put(page);
    }
}
