// SPDX-License-Identifier: GPL-2.0-only
//! The windows of a channel's tags: their pages, and copies into and out of them.
//!
//! # Invariants
//! - A page stands in a window's table from [`Memory::back`] until [`Memory::release_windows`] or
//!   the drop. Between, the holder of the tag may copy to and from it, and faults may map it.

use super::Memory;
use crate::{
    ffi::{
        mm::{copy_from_page, copy_to_page, Patience, RawPage, SharedPage},
        request::Request,
    },
    pressure,
    proto::layout::{Mapping, PAGE_BYTES},
};
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Relaxed, Release},
};

/// Pages of the largest window there is.
const TABLE_PAGES: usize = 256;

/// The pages of a window: null, or owned by the table.
#[repr(transparent)]
pub(super) struct PageTable([Atomic<RawPage>; TABLE_PAGES]);

// SAFETY: All zeros are null pointers.
unsafe impl pin_init::Zeroable for PageTable {}

impl PageTable {
    /// The page at `index`, if it is there.
    pub(super) fn page(&self, index: usize) -> Option<RawPage> {
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
pub(super) struct Window(Atomic<*mut PageTable>);

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

impl Window {
    /// One without pages.
    pub(super) fn new() -> Self {
        Self(Atomic::new(core::ptr::null_mut()))
    }
}

impl Memory {
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
    pub(super) fn table(&self, tag: usize) -> Option<&PageTable> {
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

    pub(super) fn free_windows(&self) {
        for window in &self.windows {
            self.free_window(window);
        }
    }

    /// The window is mapped nowhere, and nothing maps it any more.
    pub(super) fn free_window(&self, window: &Window) -> usize {
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
