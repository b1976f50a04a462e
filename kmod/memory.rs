// SPDX-License-Identifier: GPL-2.0-only
//! Memory that is shared with one agent session: a doorbell page, or a channel's rings and windows.
//!
//! The rings have pages from the start; a tag's window gets them when a request first uses it
//! ([`Memory::back`]) and gives them back when the device is idle ([`Memory::release_windows`]) or
//! memory is short ([`Memory::release_window`]). Windows of data take theirs from
//! [`crate::pressure`], which bounds them.
//! When a session ends its memory is taken away from the agent ([`Memory::revoke`]) and never used
//! for another: whatever a dead or stuck agent still does to its pages, it does to pages that
//! nobody else has.
//!
//! The memory is the kernel's own: it goes with the last of the module's users. What a mapping
//! holds is a [`View`] of it, which sees nothing any more once the memory is revoked. So an agent
//! that is stuck keeps no memory from the next one.
//!
//! # Invariants
//! - A view points to its memory from the making of the memory until it is revoked, which happens
//!   at its drop at the latest; and is looked through under its lock, the `map`.
//! - A page stands in a window's table from [`Memory::back`] until [`Memory::release_windows`] or
//!   the drop. Between, the holder of the tag may copy to and from it, and faults may map it.
//! - Pages are taken out of a window's table only while its tag is not in use and `map` is held,
//!   after they were unmapped: so no fault can map a page that is about to be freed.
//!
//! # Lock order
//! mmap lock → `map` → the kernel's own locks for unmapping. `map` is never taken in `queue_rq`.

use crate::{
    atomic::SharedWord,
    ffi::{
        mm::{
            copy_from_page, copy_to_page, vmalloc_page, AddressSpace, Mappable, Patience, RawPage,
            SharedPage,
        },
        noio::NoIoGuard,
        request::Request,
    },
    pressure,
    proto::{
        doorbell::{ReadySet, Sleeper, WORDS},
        layout::{ChannelHeader, DoorbellPage, Geometry, Mapping, ABI_VERSION, MAGIC, PAGE_BYTES},
        ring,
    },
};
use core::{mem::offset_of, ops::DerefMut};
use kernel::{
    alloc::{allocator::Vmalloc, flags::__GFP_NOWARN},
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc, Mutex,
    },
};

/// Pages of the largest window there is.
const TABLE_PAGES: usize = 256;

/// The pages of a window: null, or owned by the table.
#[repr(transparent)]
struct PageTable([Atomic<RawPage>; TABLE_PAGES]);

// SAFETY: All zeros are null pointers.
unsafe impl pin_init::Zeroable for PageTable {}

impl PageTable {
    /// The page at `index`, if it is there.
    fn page(&self, index: usize) -> Option<RawPage> {
        // ORDERING: acquire, pairs with the release in `Memory::back`.
        let page = self.0.get(index)?.load(Acquire);
        (!page.is_null()).then_some(page)
    }

    /// Whether the first `bytes` have pages. They come in order and go together: with the last one,
    /// all are there.
    fn has(&self, bytes: usize) -> bool {
        bytes.div_ceil(PAGE_BYTES).checked_sub(1).is_none_or(|last| self.page(last).is_some())
    }

    /// How many of the first `count` pages are not there.
    fn missing(&self, count: usize) -> usize {
        self.0.iter().take(count).filter(|slot| slot.load(Relaxed).is_null()).count()
    }

    /// Walks `len` bytes from `start`, calling `f` with page, offset in it, count, and how many
    /// bytes came before; EIO if a page lacks.
    fn walk(
        &self,
        start: usize,
        len: usize,
        mut f: impl FnMut(RawPage, usize, usize, usize),
    ) -> Result {
        let mut done = 0usize;
        while done < len {
            let at = start.wrapping_add(done);
            let within = at % PAGE_BYTES;
            let count = len.wrapping_sub(done).min(PAGE_BYTES - within);
            f(self.page(at / PAGE_BYTES).ok_or(EIO)?, within, count, done);
            done = done.wrapping_add(count);
        }
        Ok(())
    }
}

/// A tag's window: null, or the table of its pages, in a page of its own.
struct Window(Atomic<*mut PageTable>);

/// Where a window's pages come from.
enum Supply {
    /// For data: from what all windows together may have.
    Windows(pressure::Pages),
    /// For commands, which may wait: from the kernel.
    Free,
}

impl Supply {
    fn take(&mut self) -> Result<SharedPage> {
        match self {
            Self::Windows(pages) => pages.take(),
            Self::Free => SharedPage::new(Patience::Waits),
        }
    }
}

/// See the module's documentation.
pub(crate) struct Memory {
    mapping: Mapping,
    /// Of a channel; `None` for a doorbell page.
    geometry: Option<Geometry>,
    head: Vec<u64, Vmalloc>,
    /// The same memory, as the words that the agent changes under our eyes.
    words: *const SharedWord,
    windows: KVec<Window>,
    view: Arc<View>,
}

/// What a mapping has of a memory.
#[pin_data]
pub(crate) struct View {
    #[pin]
    map: Mutex<Option<Seen>>,
}

/// What a view sees until its memory is revoked.
struct Seen {
    memory: *const Memory,
    /// Who may have mapped it.
    space: AddressSpace,
}

// SAFETY: The pointer is to something that belongs to no thread.
unsafe impl Send for Seen {}

// SAFETY: The pointer is to memory that the object owns and that is accessed as atomics.
unsafe impl Send for Memory {}
// SAFETY: As above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(
        mapping: Mapping,
        geometry: Option<Geometry>,
        head_bytes: usize,
        space: AddressSpace,
    ) -> Result<Arc<Self>> {
        // Without the kernel's stack in the log: who asked is told.
        let flags = GFP_KERNEL | __GFP_NOWARN;
        let mut head = Vec::<u64, Vmalloc>::from_elem(0, head_bytes / size_of::<u64>(), flags)?;
        let words = head.as_mut_ptr().cast::<SharedWord>().cast_const();
        let depth = geometry.map_or(0, |geometry| geometry.depth as usize);
        let mut windows = KVec::with_capacity(depth, GFP_KERNEL)?;
        for _ in 0..depth {
            windows.push(Window(Atomic::new(core::ptr::null_mut())), GFP_KERNEL)?;
        }
        let view = pin_init!(View { map <- new_mutex!(None, "srb::memory") });
        let view = Arc::pin_init(view, GFP_KERNEL)?;
        let memory = Arc::new(Self { mapping, geometry, head, words, windows, view }, GFP_KERNEL)?;
        // INVARIANT: It stays where it is until its drop, which revokes.
        *memory.view.lock() = Some(Seen { memory: &raw const *memory, space });
        Ok(memory)
    }

    /// What a mapping may hold.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// A worker's doorbell page.
    pub(crate) fn doorbell(worker: u32, space: AddressSpace) -> Result<Arc<Self>> {
        Self::new(Mapping::Doorbell { worker }, None, PAGE_BYTES, space)
    }

    /// A channel's rings and windows.
    pub(crate) fn channel(
        mapping: Mapping,
        geometry: Geometry,
        attachment: u64,
        space: AddressSpace,
    ) -> Result<Arc<Self>> {
        let memory = Self::new(mapping, Some(geometry), geometry.windows_offset(), space)?;
        memory.store(offset_of!(ChannelHeader, magic), MAGIC);
        let second = u64::from(ABI_VERSION) | u64::from(geometry.depth) << 32;
        memory.store(offset_of!(ChannelHeader, abi_version), second);
        memory.store(offset_of!(ChannelHeader, window_bytes), u64::from(geometry.window_bytes));
        memory.store(offset_of!(ChannelHeader, attachment), attachment);
        Ok(memory)
    }

    /// The word at `offset` bytes; offsets are constants of the layout.
    fn word(&self, offset: usize) -> Option<&SharedWord> {
        self.words(offset, 1).first()
    }

    fn words(&self, offset: usize, count: usize) -> &[SharedWord] {
        let first = offset / size_of::<u64>();
        if first.checked_add(count).is_none_or(|end| end > self.head.len()) {
            return &[];
        }
        // SAFETY: Within the allocation that `head` owns; the words are atomics, so that others may
        // change them.
        unsafe { core::slice::from_raw_parts(self.words.add(first), count) }
    }

    fn store(&self, offset: usize, value: u64) {
        if let Some(word) = self.word(offset) {
            crate::proto::atomic::Word::store_relaxed(word, value);
        }
    }

    /// The submission ring of a channel.
    pub(crate) fn submissions<const N: usize>(&self) -> Option<ring::Shared<'_, SharedWord, N>> {
        let geometry = self.geometry?;
        let tail = self.word(offset_of!(ChannelHeader, submission_tail))?;
        let words = self.words(geometry.submissions_offset(), geometry.submission_words());
        ring::Shared::new(tail, words)
    }

    /// The completion ring of a channel.
    pub(crate) fn completions<const N: usize>(&self) -> Option<ring::Shared<'_, SharedWord, N>> {
        let geometry = self.geometry?;
        let tail = self.word(offset_of!(ChannelHeader, completion_tail))?;
        let words = self.words(geometry.completions_offset(), geometry.completion_words());
        ring::Shared::new(tail, words)
    }

    /// What waits for the agent, in a doorbell page.
    pub(crate) fn submit_set(&self) -> Option<ReadySet<'_, SharedWord>> {
        let summary = self.word(offset_of!(DoorbellPage, submit_summary))?;
        Some(ReadySet::new(summary, self.words(offset_of!(DoorbellPage, submit_words), WORDS)))
    }

    /// What waits for the module, in a doorbell page.
    pub(crate) fn complete_set(&self) -> Option<ReadySet<'_, SharedWord>> {
        let summary = self.word(offset_of!(DoorbellPage, complete_summary))?;
        Some(ReadySet::new(summary, self.words(offset_of!(DoorbellPage, complete_words), WORDS)))
    }

    /// Whether the agent's thread sleeps, in a doorbell page.
    pub(crate) fn sleeper(&self) -> Option<Sleeper<'_, SharedWord>> {
        self.word(offset_of!(DoorbellPage, sleeping)).map(Sleeper::new)
    }

    /// Sees to it that the first `bytes` of a tag's window have pages. Called by the holder of the
    /// tag.
    ///
    /// ENOMEM: there are none now; what was found stays for the next try. Only that of a command
    /// waits for memory.
    pub(crate) fn back(&self, tag: usize, bytes: usize) -> Result {
        let geometry = self.geometry.ok_or(EINVAL)?;
        if bytes > geometry.window_bytes as usize {
            return Err(EINVAL);
        }
        let window = self.windows.get(tag).ok_or(EINVAL)?;
        let wanted = bytes.div_ceil(PAGE_BYTES);
        let missing = match self.table(tag) {
            Some(table) if table.has(bytes) => return Ok(()),
            Some(table) => table.missing(wanted),
            None => wanted.wrapping_add(1),
        };
        let mut supply = match self.mapping {
            Mapping::Channel { .. } => Supply::Windows(pressure::Pages::of(missing)?),
            _ => Supply::Free,
        };
        if window.0.load(Relaxed).is_null() {
            let table = supply.take()?.into_memory::<PageTable>();
            // ORDERING: release, pairs with the acquire in `table`: faults see zeros, not what
            // was there before.
            window.0.store(table, Release);
        }
        let table = self.table(tag).ok_or(EIO)?;
        for slot in table.0.iter().take(wanted) {
            if slot.load(Relaxed).is_null() {
                // ORDERING: release, as above.
                slot.store(supply.take()?.into_raw(), Release);
            }
        }
        Ok(())
    }

    /// Whether the first `bytes` of a tag's window have pages. Called by the holder of the tag, or
    /// while nobody else can come to hold it.
    pub(crate) fn has_pages(&self, tag: usize, bytes: usize) -> bool {
        self.table(tag).is_some_and(|table| table.has(bytes))
    }

    /// The table of a tag's window, if it has one. Called by the holder of the tag, or under `map`.
    fn table(&self, tag: usize) -> Option<&PageTable> {
        // ORDERING: acquire, pairs with the release in `back`.
        let table = self.windows.get(tag)?.0.load(Acquire);
        // SAFETY: Tables are freed only when neither a holder of the tag nor a fault is here; see
        // the invariants.
        unsafe { table.as_ref() }
    }

    /// Copies a request's data into its window. Called by the holder of the tag.
    pub(crate) fn fill_from(&self, tag: usize, request: &Request) -> Result {
        let table = self.table(tag).ok_or(EIO)?;
        let (mut at, mut result) = (0usize, Ok(()));
        request.for_each_piece(|piece, len| {
            let copied = table.walk(at, len, |page, within, count, done| {
                // SAFETY: `for_each_piece` lends `len` bytes, `walk` a live page and a range within
                // it.
                unsafe { copy_to_page(page, within, piece.wrapping_add(done), count) };
            });
            at = at.wrapping_add(len);
            result = result.and(copied);
        });
        result
    }

    /// Copies a window's data into its request. Called by the holder of the tag.
    pub(crate) fn drain_into(&self, tag: usize, request: &Request) -> Result {
        let table = self.table(tag).ok_or(EIO)?;
        let (mut at, mut result) = (0usize, Ok(()));
        request.for_each_piece(|piece, len| {
            let copied = table.walk(at, len, |page, within, count, done| {
                // SAFETY: As in `fill_from`.
                unsafe { copy_from_page(page, within, piece.wrapping_add(done), count) };
            });
            at = at.wrapping_add(len);
            result = result.and(copied);
        });
        result
    }

    /// Writes bytes into a window that has pages for them. Called by the holder of the tag.
    pub(crate) fn write_window(&self, tag: usize, bytes: &[u8]) -> Result {
        if bytes.is_empty() {
            return Ok(());
        }
        let from = bytes.as_ptr();
        self.table(tag).ok_or(EIO)?.walk(0, bytes.len(), |page, within, count, done| {
            // SAFETY: `walk` lends a live page and a range within it, and visits exactly
            // `bytes.len()` bytes.
            unsafe { copy_to_page(page, within, from.wrapping_add(done), count) };
        })
    }

    /// Reads bytes from a window, once. Called by the holder of the tag.
    pub(crate) fn read_window(&self, tag: usize, into: &mut [u8]) -> Result {
        if into.is_empty() {
            return Ok(());
        }
        let to = into.as_mut_ptr();
        self.table(tag).ok_or(EIO)?.walk(0, into.len(), |page, within, count, done| {
            // SAFETY: As in `write_window`.
            unsafe { copy_from_page(page, within, to.wrapping_add(done), count) };
        })
    }

    /// Answers a fault; called under `map`.
    fn fault(&self, offset: u64, mut insert: impl FnMut(usize, RawPage) -> Result) -> Result {
        let offset = offset.checked_sub(self.mapping.offset()).ok_or(ENXIO)? as usize;
        let head_bytes = self.head.len() * size_of::<u64>();
        if offset < head_bytes {
            return insert(0, vmalloc_page(self.words.cast::<u8>().wrapping_add(offset)));
        }
        let window_bytes = self.geometry.ok_or(ENXIO)?.window_bytes as usize;
        let inside = offset.wrapping_sub(head_bytes);
        let tag = inside.checked_div(window_bytes).ok_or(ENXIO)?;
        let first = inside.checked_rem(window_bytes).ok_or(ENXIO)? / PAGE_BYTES;
        let table = self.table(tag).ok_or(ENXIO)?;
        insert(0, table.page(first).ok_or(ENXIO)?)?;
        for nth in 1..(window_bytes / PAGE_BYTES).wrapping_sub(first) {
            let Some(page) = table.page(first.wrapping_add(nth)) else { break };
            if insert(nth, page).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Takes the memory away from the agent; a later touch is a SIGBUS.
    pub(crate) fn revoke(&self) {
        let mut map = self.view.lock();
        if let Some(Seen { space, .. }) = map.take() {
            space.unmap(self.mapping.offset(), self.mapping.bytes());
        }
    }

    /// Gives the pages of all windows back. The caller keeps every tag of the channel unused
    /// meanwhile.
    pub(crate) fn release_windows(&self) {
        let map = self.view.lock();
        if let (Some(Seen { space, .. }), Some(geometry)) = (&*map, self.geometry) {
            let start = geometry.windows_offset();
            space.unmap(
                self.mapping.offset().wrapping_add(start as u64),
                geometry.total_bytes().wrapping_sub(start),
            );
        }
        self.free_windows();
    }

    /// Gives the pages of one window back, and says how many. The caller keeps its tag unused
    /// meanwhile.
    pub(crate) fn release_window(&self, tag: usize) -> usize {
        let map = self.view.lock();
        let (Some(geometry), Some(window)) = (self.geometry, self.windows.get(tag)) else {
            return 0;
        };
        if let Some(Seen { space, .. }) = &*map {
            let bytes = geometry.window_bytes as usize;
            let start = geometry.windows_offset().wrapping_add(tag.wrapping_mul(bytes));
            space.unmap(self.mapping.offset().wrapping_add(start as u64), bytes);
        }
        self.free_window(window)
    }

    fn free_windows(&self) {
        for window in &self.windows {
            self.free_window(window);
        }
    }

    /// The window is mapped nowhere, and nothing maps it any more.
    fn free_window(&self, window: &Window) -> usize {
        let table = window.0.xchg(core::ptr::null_mut(), Full);
        // SAFETY: Tables come from `back`, and this one is ours alone since the exchange.
        let Some(pages) = (unsafe { table.as_ref() }) else { return 0 };
        let mut count = 0usize;
        let mut free = |page: Option<SharedPage>| {
            let Some(page) = page else { return };
            count = count.wrapping_add(1);
            match self.mapping {
                Mapping::Channel { .. } => pressure::give_back(page),
                _ => drop(page),
            }
        };
        for slot in &pages.0 {
            // SAFETY: From `into_raw` in `back`; the table is ours alone, and goes below.
            free(unsafe { SharedPage::from_raw(slot.load(Relaxed)) });
        }
        // SAFETY: From `into_memory` in `back`, taken out once by the exchange.
        free(unsafe { SharedPage::from_memory(table) });
        count
    }

    /// Whether a window has pages.
    pub(crate) fn is_window_backed(&self, tag: usize) -> bool {
        self.windows.get(tag).is_some_and(|window| !window.0.load(Relaxed).is_null())
    }

    /// Whether any window has pages.
    pub(crate) fn is_backed(&self) -> bool {
        self.windows.iter().any(|window| !window.0.load(Relaxed).is_null())
    }
}

impl Drop for Memory {
    /// May sleep.
    fn drop(&mut self) {
        self.revoke();
        self.free_windows();
    }
}

impl View {
    /// Recovery takes it, to take the memory away: who maps pages allocates tables for them, and
    /// must not wait for I/O meanwhile.
    fn lock(&self) -> NoIoGuard<impl DerefMut<Target = Option<Seen>> + '_> {
        NoIoGuard::new(|| self.map.lock())
    }
}

impl Mappable for View {
    /// Maps the page at the offset, and those behind it in its window.
    ///
    /// ENXIO: revoked, or nothing is there.
    fn fault(&self, offset: u64, insert: impl FnMut(usize, RawPage) -> Result) -> Result {
        let map = self.lock();
        let memory = map.as_ref().ok_or(ENXIO)?.memory;
        // SAFETY: Not revoked, hence not dropped, nor can it be before the lock is let go.
        unsafe { &*memory }.fault(offset, insert)
    }
}
