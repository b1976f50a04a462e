// SPDX-License-Identifier: GPL-2.0-only
//! The memory that the module shares, mapped and given its shape.
//!
//! The hop before is the module, which lays channels and doorbell pages out as `srb_proto::layout`
//! says; the hop after are the workers, which read and write through the views made here. A mapping
//! lives until the last window into it is dropped, so that a connection which still sends from a
//! window never sends from unmapped memory.
//!
//! # Invariants
//! - Everything but the windows is accessed as atomic words and each word once: the other side may
//!   write at any time.
//! - No offset leaves the mapping; it is checked where a view is made.

use std::any::Any;
use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::libc::EINVAL;
use srb_proto::atomic::Word;
use srb_proto::descriptor::{Tag, COMPLETION_WORDS, SUBMISSION_WORDS};
use srb_proto::doorbell::{ReadySet, Sleeper, WORDS};
use srb_proto::layout::{ChannelHeader, DoorbellPage, Geometry, ABI_VERSION, MAGIC, PAGE_BYTES};
use srb_proto::ring::Shared;

const WORD_BYTES: usize = size_of::<u64>();

/// Shared memory, unmapped on drop.
#[derive(Debug)]
pub struct Mapped(MmapRaw);

impl Mapped {
    /// Maps `bytes` of `file` at `offset`, shared and writable.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn new(file: BorrowedFd<'_>, offset: u64, bytes: usize) -> Result<Self, Errno> {
        let mapped = MmapOptions::new().offset(offset).len(bytes).map_raw(&file);
        let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(EINVAL));
        mapped.map(Self).map_err(errno)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// The `count` words that start at `offset` bytes; `None` if they do not all lie in the
    /// mapping.
    fn words(&self, offset: usize, count: usize) -> Option<&[AtomicU64]> {
        let end = count.checked_mul(WORD_BYTES)?.checked_add(offset)?;
        if end > self.len() || offset % WORD_BYTES != 0 {
            return None;
        }
        // SAFETY: `offset` is at most `end`, which was seen to lie inside the mapping.
        let first = unsafe { self.0.as_ptr().add(offset) };
        // SAFETY: The words lie inside the mapping, which outlives `self`'s borrow; they are
        // aligned, for mappings start on pages; any bytes are valid; atomics may be written by
        // others.
        Some(unsafe { std::slice::from_raw_parts(first.cast::<AtomicU64>(), count) })
    }

    /// Writes words, for whoever plays the module.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn write_words(&self, offset: usize, values: &[u64]) {
        for (word, value) in self.words(offset, values.len()).unwrap_or(&[]).iter().zip(values) {
            word.store_relaxed(*value);
        }
    }

    fn word(&self, offset: usize) -> Option<&AtomicU64> {
        self.words(offset, 1)?.first()
    }

    /// Where `bytes` at `offset` start; `None` if they do not all lie in the mapping.
    fn part(&self, offset: usize, bytes: usize) -> Option<NonNull<u8>> {
        if offset.checked_add(bytes)? > self.len() {
            return None;
        }
        // SAFETY: `offset` lies inside the mapping.
        NonNull::new(unsafe { self.0.as_mut_ptr().add(offset) })
    }
}

/// Why a channel's memory cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel's header is not of this version ({field} is {found:#x})")]
pub struct BadHeader {
    /// Which field is wrong.
    pub field: &'static str,
    /// What it holds.
    pub found: u64,
}

/// A channel: its header, its two rings and its windows.
#[derive(Clone, Debug)]
pub struct Channel {
    memory: Arc<Mapped>,
    geometry: Geometry,
    attachment: u64,
}

impl Channel {
    /// Takes `memory` for a channel of the shape `geometry`, after a look at its header.
    ///
    /// # Errors
    /// [`BadHeader`]: the module that made it has another layout.
    pub fn new(memory: Mapped, geometry: Geometry) -> Result<Self, BadHeader> {
        if memory.len() < geometry.total_bytes() {
            let found = memory.len() as u64;
            return Err(BadHeader { field: "size", found });
        }
        let word = |offset: usize| memory.word(offset).map_or(0, Word::load_relaxed);
        let half = |offset: usize| {
            let bytes = word(offset & !(WORD_BYTES - 1)).to_ne_bytes();
            let (low, high) = bytes.split_at(WORD_BYTES / 2);
            let chosen = if offset % WORD_BYTES == 0 { low } else { high };
            u64::from(chosen.try_into().map_or(0, u32::from_ne_bytes))
        };
        for (field, found, expected) in [
            ("magic", word(offset_of!(ChannelHeader, magic)), MAGIC),
            ("version", half(offset_of!(ChannelHeader, abi_version)), ABI_VERSION.into()),
            ("depth", half(offset_of!(ChannelHeader, depth)), geometry.depth.into()),
            ("window", half(offset_of!(ChannelHeader, window_bytes)), geometry.window_bytes.into()),
        ] {
            if found != expected {
                return Err(BadHeader { field, found });
            }
        }
        let attachment = word(offset_of!(ChannelHeader, attachment));
        Ok(Self { memory: Arc::new(memory), geometry, attachment })
    }

    /// Which attachment the channel was made for.
    #[must_use]
    pub fn attachment(&self) -> u64 {
        self.attachment
    }

    /// Tags, and the size of their windows.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn ring<const N: usize>(
        &self,
        tail: usize,
        entries: usize,
        words: usize,
    ) -> Option<Shared<'_, AtomicU64, N>> {
        Shared::new(self.memory.word(tail)?, self.memory.words(entries, words)?)
    }

    /// The ring that the module sends on; always there in a channel that [`Self::new`] let pass.
    #[must_use]
    pub fn submissions(&self) -> Option<Shared<'_, AtomicU64, SUBMISSION_WORDS>> {
        self.ring(
            offset_of!(ChannelHeader, submission_tail.word),
            self.geometry.submissions_offset(),
            self.geometry.submission_words(),
        )
    }

    /// The ring that the agent sends on; always there in a channel that [`Self::new`] let pass.
    #[must_use]
    pub fn completions(&self) -> Option<Shared<'_, AtomicU64, COMPLETION_WORDS>> {
        self.ring(
            offset_of!(ChannelHeader, completion_tail.word),
            self.geometry.completions_offset(),
            self.geometry.completion_words(),
        )
    }

    /// Where the window of `tag` starts; `None` for a tag that the channel does not have.
    #[must_use]
    pub fn window(&self, tag: Tag) -> Option<NonNull<u8>> {
        if tag.index() >= self.geometry.depth as usize {
            return None;
        }
        let offset = self.geometry.window_offset(tag.index());
        self.memory.part(offset, self.geometry.window_bytes as usize)
    }

    /// What keeps the windows mapped.
    #[must_use]
    pub fn owner(&self) -> Arc<dyn Any + Send + Sync> {
        self.memory.clone()
    }
}

/// A worker's doorbell page.
#[derive(Debug)]
pub struct Doorbell {
    memory: Mapped,
}

impl Doorbell {
    /// Takes `memory` for a doorbell page; `None` if it is smaller than one.
    #[must_use]
    pub fn new(memory: Mapped) -> Option<Self> {
        (memory.len() >= PAGE_BYTES).then_some(Self { memory })
    }

    fn set(&self, summary: usize, words: usize) -> ReadySet<'_, AtomicU64> {
        static NOTHING: AtomicU64 = AtomicU64::new(0);
        let words = self.memory.words(words, WORDS).unwrap_or(&[]);
        ReadySet::new(self.memory.word(summary).unwrap_or(&NOTHING), words)
    }

    /// Channels that have submissions.
    #[must_use]
    pub fn submit(&self) -> ReadySet<'_, AtomicU64> {
        self.set(
            offset_of!(DoorbellPage, submit_summary.word),
            offset_of!(DoorbellPage, submit_words),
        )
    }

    /// Makes the submit set look as if it had members, though it has not: for whoever sleeps until
    /// it does. Taking the set undoes it.
    pub fn knock(&self) {
        let summary = offset_of!(DoorbellPage, submit_summary.word);
        if let Some(summary) = self.memory.word(summary) {
            // ORDERING: full, between what the caller has for the sleeper and the sleeper's look at
            // the set; pairs with the fence in `Sleeper::prepare`.
            summary.fetch_or(1, Ordering::SeqCst);
        }
    }

    /// Channels that have completions.
    #[must_use]
    pub fn complete(&self) -> ReadySet<'_, AtomicU64> {
        self.set(
            offset_of!(DoorbellPage, complete_summary.word),
            offset_of!(DoorbellPage, complete_words),
        )
    }

    /// Whether the agent's thread sleeps.
    #[must_use]
    pub fn sleeper(&self) -> Sleeper<'_, AtomicU64> {
        static NOTHING: AtomicU64 = AtomicU64::new(0);
        Sleeper::new(self.memory.word(offset_of!(DoorbellPage, sleeping.word)).unwrap_or(&NOTHING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{memfd_create, MFdFlags};
    use srb_proto::layout::CONTROL;
    use std::os::fd::{AsFd, OwnedFd};

    fn memory(bytes: usize) -> (OwnedFd, Mapped) {
        let file = memfd_create("test", MFdFlags::MFD_CLOEXEC).expect("memfd");
        nix::unistd::ftruncate(&file, bytes as i64).expect("grown");
        let mapped = Mapped::new(file.as_fd(), 0, bytes).expect("mapped");
        (file, mapped)
    }

    fn write_header(memory: &Mapped, depth: u32) {
        let halves = |low: u32, high: u32| {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&low.to_ne_bytes());
            bytes[4..].copy_from_slice(&high.to_ne_bytes());
            u64::from_ne_bytes(bytes)
        };
        let words = [MAGIC, halves(ABI_VERSION, depth), halves(CONTROL.window_bytes, 0), 7];
        memory.write_words(0, &words);
    }

    #[test]
    fn a_channel_is_taken_after_a_look_at_its_header() {
        let (_file, memory) = memory(CONTROL.total_bytes());
        write_header(&memory, CONTROL.depth);
        let channel = Channel::new(memory, CONTROL).expect("as it should be");
        assert_eq!(channel.attachment(), 7);
        assert!(channel.submissions().is_some());
        assert!(channel.completions().is_some());
        let (first, last) = (Tag(0), Tag(31));
        let distance = channel.window(last).expect("a tag").as_ptr() as usize
            - channel.window(first).expect("a tag").as_ptr() as usize;
        assert_eq!(distance, 31 * CONTROL.window_bytes as usize);
        assert_eq!(channel.window(Tag(32)), None);
        assert_eq!(channel.window(Tag(u16::MAX)), None);
    }

    #[test]
    fn another_layout_is_refused() {
        let (_file, small) = memory(CONTROL.total_bytes() - PAGE_BYTES);
        assert_eq!(Channel::new(small, CONTROL).expect_err("too small").field, "size");
        let (_file, blank) = memory(CONTROL.total_bytes());
        assert_eq!(Channel::new(blank, CONTROL).expect_err("blank").field, "magic");
        let (_file, deep) = memory(CONTROL.total_bytes());
        write_header(&deep, 64);
        let error = Channel::new(deep, CONTROL).expect_err("another depth");
        assert_eq!(error, BadHeader { field: "depth", found: 64 });
    }

    #[test]
    fn windows_outlive_their_channel() {
        let (_file, memory) = memory(CONTROL.total_bytes());
        write_header(&memory, CONTROL.depth);
        let channel = Channel::new(memory, CONTROL).expect("as it should be");
        let (window, owner) = (channel.window(Tag(3)).expect("a tag"), channel.owner());
        drop(channel);
        // SAFETY: The window is mapped for as long as its owner lives, and nobody else writes it.
        unsafe { window.write_bytes(1, 4096) };
        drop(owner);
    }

    #[test]
    fn no_view_leaves_the_mapping() {
        let (_file, memory) = memory(PAGE_BYTES);
        assert!(memory.words(PAGE_BYTES - 8, 1).is_some());
        assert!(memory.words(PAGE_BYTES - 8, 2).is_none());
        assert!(memory.words(4, 1).is_none());
        assert!(memory.words(8, usize::MAX).is_none());
        assert!(memory.part(1, PAGE_BYTES).is_none());
        assert!(Doorbell::new(memory).is_some());
    }
}
