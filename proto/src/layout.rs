// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Where things lie in the memory that the module and the agent share, and where that memory is
//! mapped.
//!
//! Three kinds of memory exist, all made by the module for one agent session and mapped from
//! `/dev/srb-control` at the offset that [`Mapping::offset`] gives:
//! - a [`DoorbellPage`] for each worker;
//! - a channel for each device and queue: [`ChannelHeader`], submission ring, completion ring, and
//!   a window of data for each tag. Windows have addresses from the start; pages come on first use;
//! - the control channel: the same with a smaller [`Geometry`].
//!
//! All numbers have the machine's byte order: both sides run on it.

use core::mem::{offset_of, size_of};

use super::descriptor::{COMPLETION_WORDS, SUBMISSION_WORDS};
use super::doorbell;

/// `srb-ring` in ASCII, at the start of each channel and of the handshake.
pub const MAGIC: u64 = u64::from_be_bytes(*b"srb-ring");
/// Version of everything in this crate that crosses the boundary. Different versions refuse each
/// other.
pub const ABI_VERSION: u32 = 5;
/// Unit of mapping, in bytes.
pub const PAGE_BYTES: usize = 4096;
/// Devices that can be attached at a time.
pub const MAX_DEVICES: usize = doorbell::CAPACITY;
/// Queues of a device, and data workers of an agent.
pub const MAX_QUEUES: usize = 64;
/// The worker that serves the control channel.
pub const CONTROL_WORKER: u32 = 0xff;
/// Bytes of a logical sector.
pub const SECTOR_BYTES: u64 = 512;

/// Member of the control worker's submit set: the control channel has submissions.
pub const CONTROL_READY: usize = 0;
/// Member of the control worker's submit set: parameters or URLs have changed.
pub const CONFIG_CHANGED: usize = 1;
/// Member of the control worker's submit set: another agent takes over. Nothing new is submitted;
/// what is in flight should be completed, and the session ended.
pub const RETIRE: usize = 2;

/// A word with a cache line of its own, so that the two sides do not fight over one.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Line {
    /// The word.
    pub word: u64,
}

/// The first page of a channel. The module writes all but `completion_tail`, and reads nothing but
/// that back.
#[repr(C)]
#[derive(Debug)]
pub struct ChannelHeader {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// Tags of the channel, entries of each ring: a power of two.
    pub depth: u32,
    /// Bytes of a tag's window, a multiple of the page size: the largest request.
    pub window_bytes: u32,
    /// Zero.
    pub reserved: u32,
    /// Which attachment this is: indices are used again, these numbers are not.
    pub attachment: u64,
    /// Entries ever submitted; written by the module.
    pub submission_tail: Line,
    /// Entries ever completed; written by the agent.
    pub completion_tail: Line,
}

/// A worker's page: what is ready in each direction, and whether the agent's thread sleeps.
#[repr(C)]
#[derive(Debug)]
pub struct DoorbellPage {
    /// Not zero while the agent's thread sleeps, or is about to.
    pub sleeping: Line,
    /// Summary of `submit_words`.
    pub submit_summary: Line,
    /// Summary of `complete_words`.
    pub complete_summary: Line,
    /// Devices whose channel has submissions; set by the module, taken by the agent.
    pub submit_words: [u64; doorbell::WORDS],
    /// Devices whose channel has completions; set by the agent, taken by the module.
    pub complete_words: [u64; doorbell::WORDS],
}

/// Size of a channel's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Tags, and entries of each ring: a power of two.
    pub depth: u32,
    /// Bytes of a tag's window, a multiple of [`PAGE_BYTES`].
    pub window_bytes: u32,
}

/// Every data channel.
pub const DATA: Geometry = Geometry { depth: 128, window_bytes: 1 << 20 };
/// The control channel.
pub const CONTROL: Geometry = Geometry { depth: 32, window_bytes: 64 << 10 };

const fn pages_for(bytes: usize) -> usize {
    bytes.div_ceil(PAGE_BYTES)
}

#[cfg_attr(
    not(MODULE),
    expect(clippy::arithmetic_side_effects, reason = "bounded by the asserts below")
)]
impl Geometry {
    /// Words of the submission ring.
    #[must_use]
    pub const fn submission_words(self) -> usize {
        self.depth as usize * SUBMISSION_WORDS
    }
    /// Words of the completion ring.
    #[must_use]
    pub const fn completion_words(self) -> usize {
        self.depth as usize * COMPLETION_WORDS
    }
    /// Where the submission ring starts, in bytes from the channel's start.
    #[must_use]
    pub const fn submissions_offset(self) -> usize {
        PAGE_BYTES
    }
    /// Where the completion ring starts, on a page of its own.
    #[must_use]
    pub const fn completions_offset(self) -> usize {
        self.submissions_offset()
            + PAGE_BYTES * pages_for(self.submission_words() * size_of::<u64>())
    }
    /// Where the windows start; everything before has pages from the start.
    #[must_use]
    pub const fn windows_offset(self) -> usize {
        self.completions_offset()
            + PAGE_BYTES * pages_for(self.completion_words() * size_of::<u64>())
    }
    /// Where the window of `tag` starts; `tag` is below the depth.
    #[must_use]
    pub const fn window_offset(self, tag: usize) -> usize {
        self.windows_offset() + tag * self.window_bytes as usize
    }
    /// Bytes of the whole channel.
    #[must_use]
    pub const fn total_bytes(self) -> usize {
        self.window_offset(self.depth as usize)
    }
    /// Pages before the windows.
    #[must_use]
    pub const fn head_pages(self) -> usize {
        self.windows_offset() / PAGE_BYTES
    }
    /// Pages of one window.
    #[must_use]
    pub const fn window_pages(self) -> usize {
        self.window_bytes as usize / PAGE_BYTES
    }
    const fn check(self) {
        assert!(self.depth.is_power_of_two());
        assert!(self.window_bytes as usize % PAGE_BYTES == 0);
        // A channel ends before the next one's offset begins.
        assert!(self.total_bytes() as u64 <= 1 << QUEUE_SHIFT);
    }
}

/// What can be mapped from `/dev/srb-control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// The [`DoorbellPage`] of a worker.
    Doorbell {
        /// A queue number, or [`CONTROL_WORKER`].
        worker: u32,
    },
    /// A device's channel.
    Channel {
        /// Index of the device.
        device: u32,
        /// Queue of the device.
        queue: u32,
    },
    /// The control channel.
    Control,
}

const KIND_SHIFT: u32 = 56;
const DEVICE_SHIFT: u32 = 40;
const QUEUE_SHIFT: u32 = 32;

impl Mapping {
    /// The offset to pass to mmap(2), in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        match self {
            Self::Doorbell { worker } => 1 << KIND_SHIFT | (worker as u64) << QUEUE_SHIFT,
            Self::Channel { device, queue } => {
                2 << KIND_SHIFT | (device as u64) << DEVICE_SHIFT | (queue as u64) << QUEUE_SHIFT
            }
            Self::Control => 3 << KIND_SHIFT,
        }
    }

    /// What lies at `offset`; `None` for an offset that [`Self::offset`] never gives.
    #[must_use]
    pub const fn at(offset: u64) -> Option<Self> {
        let queue = (offset >> QUEUE_SHIFT & 0xff) as u32;
        let device = (offset >> DEVICE_SHIFT & 0xffff) as u32;
        let mapping = match offset >> KIND_SHIFT {
            1 => Self::Doorbell { worker: queue },
            2 => Self::Channel { device, queue },
            3 => Self::Control,
            _ => return None,
        };
        if mapping.offset() == offset {
            Some(mapping)
        } else {
            None
        }
    }

    /// How many bytes there are to map.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Doorbell { .. } => PAGE_BYTES,
            Self::Channel { .. } => DATA.total_bytes(),
            Self::Control => CONTROL.total_bytes(),
        }
    }
}

const _: () = {
    assert!(size_of::<ChannelHeader>() == 192);
    assert!(offset_of!(ChannelHeader, submission_tail) == 64);
    assert!(offset_of!(ChannelHeader, completion_tail) == 128);
    assert!(size_of::<DoorbellPage>() == 1216);
    assert!(offset_of!(DoorbellPage, submit_words) == 192);
    assert!(offset_of!(DoorbellPage, complete_words) == 704);
    DATA.check();
    CONTROL.check();
    assert!(MAX_QUEUES <= CONTROL_WORKER as usize);
    assert!(MAX_DEVICES <= 1 << (KIND_SHIFT - DEVICE_SHIFT));
};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rings_and_windows_begin_on_pages_of_their_own() {
        // 4096 submissions of 24 bytes are 24 pages; as many completions of 16 bytes, 16.
        let large = Geometry { depth: 4096, window_bytes: 8192 };
        assert_eq!([large.submission_words(), large.completion_words()], [12_288, 8192]);
        assert_eq!(large.completions_offset(), 25 * PAGE_BYTES);
        assert_eq!([large.windows_offset(), large.head_pages()], [41 * PAGE_BYTES, 41]);
        assert_eq!([large.window_offset(3), large.window_pages()], [47 * PAGE_BYTES, 2]);
        assert_eq!(large.total_bytes(), (41 + 2 * 4096) * PAGE_BYTES);
        // What does not fill a page takes one.
        assert_eq!([DATA.head_pages(), CONTROL.head_pages()], [3, 3]);
    }

    #[test]
    fn each_kind_of_mapping_has_offsets_of_its_own() {
        assert_eq!(Mapping::Doorbell { worker: 2 }.offset(), 0x0100_0002_0000_0000);
        assert_eq!(Mapping::Channel { device: 5, queue: 3 }.offset(), 0x0200_0503_0000_0000);
        assert_eq!(Mapping::Control.offset(), 0x0300_0000_0000_0000);
        assert_eq!(Mapping::Doorbell { worker: 2 }.bytes(), PAGE_BYTES);
        assert_eq!(Mapping::Channel { device: 0, queue: 0 }.bytes(), (128 << 20) + 3 * PAGE_BYTES);
        assert_eq!(Mapping::Control.bytes(), (2 << 20) + 3 * PAGE_BYTES);
    }

    proptest! {
        #[test]
        fn each_offset_leads_back(device in 0..MAX_DEVICES as u32, queue in 0..MAX_QUEUES as u32) {
            let channel = Mapping::Channel { device, queue };
            for mapping in [channel, Mapping::Doorbell { worker: queue }, Mapping::Control] {
                prop_assert_eq!(Mapping::at(mapping.offset()), Some(mapping));
                prop_assert_eq!(Mapping::at(mapping.offset() + PAGE_BYTES as u64), None);
            }
        }

        #[test]
        fn any_offset_is_taken_or_refused(offset: u64) {
            if let Some(mapping) = Mapping::at(offset) {
                prop_assert_eq!(mapping.offset(), offset);
            }
        }
    }
}
