// SPDX-License-Identifier: GPL-2.0-only
//! What a mapping has of a memory, and how it is taken away.
//!
//! # Invariants
//! - A view points to its memory from the making of the memory until it is revoked, which happens
//!   at its drop at the latest; and is looked through under its lock, the `map`.
//! - Pages are taken out of a window's table only while its tag is not in use and `map` is held,
//!   after they were unmapped: so no fault can map a page that is about to be freed.
//!
//! `map` is never taken in `queue_rq`.

use super::Memory;
use crate::{
    ffi::{
        mm::{vmalloc_page, AddressSpace, Mappable, RawPage},
        noio::NoIoGuard,
    },
    proto::layout::PAGE_BYTES,
};
use core::ops::DerefMut;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
};

/// What a mapping has of a memory.
#[pin_data]
pub(crate) struct View {
    #[pin]
    map: Mutex<Option<Seen>>,
}

/// What a view sees until its memory is revoked.
///
/// # Invariants
/// The file whose mappings are in `space` is open: a session, which the memory is of, ends before
/// its file is released, and revokes its memory.
struct Seen {
    memory: *const Memory,
    /// Who may have mapped it.
    space: AddressSpace,
}

impl Seen {
    /// Takes a part of the memory away from whoever has mapped it.
    fn unmap(&self, offset: u64, bytes: usize) {
        // SAFETY: By the type's invariant the file is open.
        unsafe { self.space.unmap(offset, bytes) };
    }
}

// SAFETY: The pointer is to something that belongs to no thread.
unsafe impl Send for Seen {}

impl Memory {
    /// Answers a fault; called under `map`.
    fn fault_within(
        &self,
        offset: u64,
        mut insert: impl FnMut(usize, RawPage) -> Result,
    ) -> Result {
        let offset = offset.checked_sub(self.mapping.offset()).ok_or(ENXIO)? as usize;
        let head_bytes = self.head.len() * size_of::<u64>();
        if offset < head_bytes {
            let address = self.words.cast::<u8>().wrapping_add(offset);
            // SAFETY: Within `head`, which is from vmalloc.
            return insert(0, unsafe { vmalloc_page(address) });
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
        if let Some(seen) = map.take() {
            seen.unmap(self.mapping.offset(), self.mapping.bytes());
        }
    }

    /// Gives the pages of all windows back. The caller keeps every tag of the channel unused
    /// meanwhile.
    pub(crate) fn release_windows(&self) {
        let map = self.view.lock();
        if let (Some(seen), Some(geometry)) = (&*map, self.geometry) {
            let start = geometry.windows_offset();
            seen.unmap(
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
        if let Some(seen) = &*map {
            let bytes = geometry.window_bytes as usize;
            let start = geometry.windows_offset().wrapping_add(tag.wrapping_mul(bytes));
            seen.unmap(self.mapping.offset().wrapping_add(start as u64), bytes);
        }
        self.free_window(window)
    }
}

impl View {
    /// One that sees nothing yet.
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(pin_init!(View { map <- new_mutex!(None, "srb::memory") }), GFP_KERNEL)
    }

    /// Lets it see a memory, which may be mapped by files of `space`.
    pub(super) fn show(&self, memory: &Arc<Memory>, space: AddressSpace) {
        // INVARIANT: It stays where it is until its drop, which revokes, as its session's end does.
        *self.lock() = Some(Seen { memory: Arc::as_ptr(memory), space });
    }

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
        unsafe { &*memory }.fault_within(offset, insert)
    }
}
