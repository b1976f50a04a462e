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

use crate::{
    atomic::SharedWord,
    ffi::mm::AddressSpace,
    proto::{
        doorbell::{ReadySet, Sleeper, WORDS},
        layout::{ChannelHeader, DoorbellPage, Geometry, Mapping, ABI_VERSION, MAGIC, PAGE_BYTES},
        ring,
    },
};
use core::mem::offset_of;
use kernel::{
    alloc::{allocator::Vmalloc, flags::__GFP_NOWARN},
    prelude::*,
    sync::Arc,
};

mod view;
mod windows;

use view::View;
use windows::Window;

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

// SAFETY: The pointer is to memory that the object owns and that is accessed as atomics.
unsafe impl Send for Memory {}
// SAFETY: What many threads do to it at once they do by atomics, or as the one holder of a tag.
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
            windows.push(Window::new(), GFP_KERNEL)?;
        }
        let view = View::new()?;
        let memory = Arc::new(Self { mapping, geometry, head, words, windows, view }, GFP_KERNEL)?;
        memory.view.show(&memory, space);
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
}

impl Drop for Memory {
    /// May sleep.
    fn drop(&mut self) {
        self.revoke();
        self.free_windows();
    }
}
