// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The ioctls of `/dev/srb-control`, and the payloads of control requests.
//!
//! An agent opens the device, says [`Hello`] and so begins a session; it ends when that file is
//! closed. For each worker it opens the device once more and joins ([`JOIN`]): [`ENTER`], poll(2)
//! and the doorbell page of that file are then the worker's.
//!
//! An agent that stands by until the one that is connected has gone opens the device and waits: for
//! a file that has neither begun nor joined a session, poll(2) says readable while a session could
//! begin, and the file may ask for [`CONFIG`]. When several stand by, the first HELLO wins, and the
//! others get EBUSY and wait on.

use core::mem::size_of;

use super::command::{MAX_URLS, MAX_URL_BYTES, MAX_VOLUME_BYTES};

const TYPE: u32 = 0xb5;
const NONE: u32 = 0;
const READ_WRITE: u32 = 3;

/// As `_IOC()` of `<asm-generic/ioctl.h>`.
#[cfg_attr(not(MODULE), expect(clippy::cast_possible_truncation, reason = "asserted first"))]
const fn ioc(direction: u32, number: u32, bytes: usize) -> u32 {
    assert!(bytes < 1 << 14);
    direction << 30 | (bytes as u32) << 16 | TYPE << 8 | number
}

/// Begins a session. Argument: [`Hello`].
///
/// EPROTO: versions differ. EBUSY: an agent is connected, or another one is taking over, and
/// [`HELLO_TAKEOVER`] was not said; the argument is filled in as it will be once that is over.
/// EINVAL: the file has begun or joined a session before.
pub const HELLO: u32 = ioc(READ_WRITE, 1, size_of::<Hello>());
/// Makes this file a worker's. Argument: [`Join`].
///
/// ESTALE: no such session. EINVAL: no such worker, or the file is in use. EBUSY: the worker has a
/// file.
pub const JOIN: u32 = ioc(READ_WRITE, 2, size_of::<Join>());
/// Reads parameters and URLs. Argument: [`Config`]. On the session's file, or on one that has
/// neither begun nor joined a session. ENOSPC: the URLs need `urls_bytes`.
pub const CONFIG: u32 = ioc(READ_WRITE, 3, size_of::<Config>());
/// Reads one device: the first at or above `index`. Argument: [`DeviceInfo`]. ENOENT: there is
/// none.
pub const DEVICE: u32 = ioc(READ_WRITE, 4, size_of::<DeviceInfo>());
/// Reaps what the agent has completed on the worker's channels; then looks for submissions for as
/// long as [`Enter::poll_usecs`] says; then, if [`Enter::wait`] says so, sleeps until the worker is
/// woken, which is for submissions that it may have taken already, or a signal comes (EINTR); not
/// at all if the worker is not marked as asleep. Argument: [`Enter`], by value. Returns how many
/// completions were applied.
///
/// EINVAL: the argument is none, or the file no worker's. ESHUTDOWN: the session has ended: the
/// agent was cut off, and its memory with it.
pub const ENTER: u32 = ioc(NONE, 5, 0);
/// Says which URL requests go to now, so that `srb_urls` shows it first, and what is known of all
/// of them. Argument: [`ActiveUrl`].
///
/// ESTALE: the list has changed since. EINVAL: no such URL.
pub const ACTIVE_URL: u32 = ioc(READ_WRITE, 6, size_of::<ActiveUrl>());

/// Flag of [`Hello`]: if an agent is connected, take its place. It is told to finish what is in
/// flight ([`super::layout::RETIRE`]) and has [`TAKEOVER_MSECS`] for it.
pub const HELLO_TAKEOVER: u32 = 1;
/// Milliseconds after which an agent that is to be replaced is cut off.
pub const TAKEOVER_MSECS: u32 = 3000;

/// Flag of [`Enter`]: sleep if nothing is submitted.
pub const ENTER_WAIT: u64 = 1;
/// Of [`Enter`]: the first bit of `poll_usecs`.
pub const ENTER_POLL_SHIFT: u32 = 16;
/// The most that `poll_usecs` may be.
pub const MAX_POLL_USECS: u32 = 1000;

/// Argument of [`ENTER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enter {
    /// Whether to sleep if nothing is submitted.
    pub wait: bool,
    /// Microseconds for which the call looks for submissions before it sleeps or returns; it keeps
    /// the processor meanwhile, unless somebody else could use that.
    pub poll_usecs: u32,
}

impl Enter {
    /// As a number.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        let wait = if self.wait { ENTER_WAIT } else { 0 };
        (self.poll_usecs as u64) << ENTER_POLL_SHIFT | wait
    }

    /// From a number; `None` if it is none.
    #[must_use]
    #[cfg_attr(not(MODULE), expect(clippy::cast_possible_truncation, reason = "bounded first"))]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        let poll = bits >> ENTER_POLL_SHIFT;
        let flags = bits & ((1 << ENTER_POLL_SHIFT) - 1);
        if flags & !ENTER_WAIT != 0 || poll > MAX_POLL_USECS as u64 {
            return None;
        }
        Some(Self { wait: flags & ENTER_WAIT != 0, poll_usecs: poll as u32 })
    }
}

/// Argument of [`HELLO`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Hello {
    /// In: [`super::layout::MAGIC`].
    pub magic: u64,
    /// In: the agent's [`super::layout::ABI_VERSION`]. Out, also with EPROTO: the module's.
    pub abi_version: u32,
    /// In: 0 or [`HELLO_TAKEOVER`]. Out, with EBUSY: [`HELLO_TAKEOVER`] if the agent that is
    /// connected took the place of another one.
    pub flags: u32,
    /// In: features the agent knows. Out: those in force, a subset. None are defined.
    pub features: u64,
    /// Out: number of the session; with EBUSY, of that of the agent that is connected, or 0.
    pub session: u64,
    /// Out: queues of each device, hence data workers.
    pub queues: u32,
    /// Out: tags of a data channel, [`super::layout::DATA`].
    pub depth: u32,
    /// Out: bytes of a data window.
    pub window_bytes: u32,
    /// Zero.
    pub reserved: u32,
}

/// Argument of [`JOIN`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Join {
    /// In: from [`Hello`].
    pub session: u64,
    /// In: a queue number or [`super::layout::CONTROL_WORKER`].
    pub worker: u32,
    /// Zero.
    pub reserved: u32,
}

/// Argument of [`CONFIG`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Config {
    /// Out: changes with every change of URLs or parameters.
    pub version: u64,
    /// In: address of the buffer for the URLs, each followed by a newline.
    pub urls: u64,
    /// In: bytes of that buffer; [`URLS_CAPACITY`] always suffices.
    pub urls_capacity: u32,
    /// Out: bytes that the URLs take.
    pub urls_bytes: u32,
    /// Out: seconds in which a server must answer, once the connection stands.
    pub req_timeout_secs: u32,
    /// Out: tries after the first one.
    pub nb_req_retries: u32,
    /// Out: seconds for connecting.
    pub server_conn_timeout_secs: u32,
    /// Out: requests at the servers at a time, for each device.
    pub thread_pool_size: u32,
    /// Out: log level, 0 to 7.
    pub debug: u32,
    /// Out: of which URLs an agent of this module has said that they honour ranges, a bit for each
    /// place in the list. The next agent need not find out again.
    pub fit_urls: u32,
}

/// Room for any list of URLs, newlines included.
pub const URLS_CAPACITY: usize = MAX_URLS * (MAX_URL_BYTES + 1);

/// Bytes of the name fields of [`DeviceInfo`]; a name is followed by zeros.
pub const DEVICE_NAME_FIELD: usize = 32;
/// See [`DEVICE_NAME_FIELD`].
pub const VOLUME_NAME_FIELD: usize = MAX_VOLUME_BYTES + 1;

/// Argument of [`DEVICE`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DeviceInfo {
    /// In: where to start looking. Out: index of the device.
    pub index: u32,
    /// Out: queues.
    pub queues: u32,
    /// Out: number of this attachment, never used again.
    pub attachment: u64,
    /// Out: size in bytes.
    pub size_bytes: u64,
    /// Out: [`super::command::Policy::to_secs`].
    pub policy_secs: i64,
    /// Out: name of the disk.
    pub name: [u8; DEVICE_NAME_FIELD],
    /// Out: name of the volume.
    pub volume: [u8; VOLUME_NAME_FIELD],
}

impl Default for DeviceInfo {
    fn default() -> Self {
        Self {
            index: 0,
            queues: 0,
            attachment: 0,
            size_bytes: 0,
            policy_secs: 0,
            name: [0; DEVICE_NAME_FIELD],
            volume: [0; VOLUME_NAME_FIELD],
        }
    }
}

/// Argument of [`ACTIVE_URL`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ActiveUrl {
    /// In: [`Config::version`] that the index belongs to.
    pub version: u64,
    /// In: place in the list of URLs.
    pub index: u32,
    /// In: which URLs were seen to honour ranges, as in [`Config::fit_urls`].
    pub fit_urls: u32,
}

/// The reply to [`super::descriptor::Op::List`]: how many volumes there are in all, then as many
/// names as there was room for, each followed by a newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing<'a> {
    /// Volumes on the server.
    pub total: u64,
    /// Names, each followed by a newline.
    pub names: &'a [u8],
}

/// Bytes before the names of a [`Listing`].
pub const LISTING_HEAD_BYTES: usize = size_of::<u64>();

impl<'a> Listing<'a> {
    /// Reads a reply; `None` if it is cut short.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (head, names) = bytes.split_first_chunk()?;
        Some(Self { total: u64::from_ne_bytes(*head), names })
    }
}

const _: () = {
    assert!(MAX_URLS <= u32::BITS as usize);
    assert!(size_of::<Hello>() == 48);
    assert!(size_of::<Join>() == 16);
    assert!(size_of::<Config>() == 48);
    assert!(size_of::<DeviceInfo>() == 320);
    assert!(size_of::<ActiveUrl>() == 16);
};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    extern crate std;

    #[test]
    fn the_numbers_are_those_of_the_kernels_macros() {
        // _IOWR(0xb5, 1, struct of 48 bytes), and so on.
        assert_eq!([HELLO, JOIN, CONFIG], [0xc030_b501, 0xc010_b502, 0xc030_b503]);
        assert_eq!([DEVICE, ENTER, ACTIVE_URL], [0xc140_b504, 0xb505, 0xc010_b506]);
    }

    #[test]
    fn the_longest_names_and_lists_have_room() {
        // 32 URLs of 512 bytes with a newline each; 255 bytes and a zero.
        assert_eq!(URLS_CAPACITY, 32 * 513);
        assert_eq!(VOLUME_NAME_FIELD, 256);
    }

    #[test]
    fn a_listing_is_a_count_and_names() {
        let total = 3u64.to_ne_bytes();
        let whole = [&total[..], b"a\nbc\n"].concat();
        assert_eq!(Listing::from_bytes(&whole), Some(Listing { total: 3, names: b"a\nbc\n" }));
        assert_eq!(Listing::from_bytes(&total), Some(Listing { total: 3, names: b"" }));
        assert_eq!(Listing::from_bytes(&total[..7]), None);
    }

    #[test]
    fn enter_looks_for_a_millisecond_at_the_most() {
        let looking = |usecs: u64| Enter::from_bits(usecs << ENTER_POLL_SHIFT);
        assert_eq!(looking(1000), Some(Enter { wait: false, poll_usecs: 1000 }));
        assert_eq!(looking(1001), None);
    }

    proptest! {
        #[test]
        fn what_enter_is_told_is_what_was_said(wait: bool, poll_usecs in 0..=MAX_POLL_USECS) {
            let how = Enter { wait, poll_usecs };
            prop_assert_eq!(Enter::from_bits(how.to_bits()), Some(how));
        }

        #[test]
        fn enter_takes_nothing_that_it_does_not_know(bits: u64) {
            for bits in [bits, bits & 0xffff, bits & 0x7ff_ffff] {
                if let Some(how) = Enter::from_bits(bits) {
                    prop_assert!(how.poll_usecs <= MAX_POLL_USECS);
                    prop_assert_eq!(how.to_bits(), bits);
                }
            }
        }
    }
}
