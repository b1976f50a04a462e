// SPDX-License-Identifier: GPL-2.0-only
//! `/dev/srb-control` without any of an agent's care: every call and mapping as it comes.

use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::mman::{mmap, munmap, MapFlags, ProtFlags};
use nix::unistd::{pipe, write};
use srb_proto::control::{Hello, Join, HELLO, JOIN};
use srb_proto::layout::{Mapping, ABI_VERSION, MAGIC};

/// An open file of the control device.
pub(in crate::guest::cases) struct Control(File);

impl Control {
    pub(in crate::guest::cases) fn open() -> std::io::Result<Self> {
        Self::open_at(Path::new("/dev/srb-control"))
    }

    /// A file of another node of the device.
    pub(super) fn open_at(node: &Path) -> std::io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(node).map(Self)
    }

    /// A file that has begun a session, and what the module said.
    pub(in crate::guest::cases) fn begin() -> Result<(Self, Hello), Errno> {
        let control = Self::open().map_err(|_| Errno::ENODEV)?;
        let mut hello = Hello { magic: MAGIC, abi_version: ABI_VERSION, ..Hello::default() };
        control.ioctl(HELLO, &mut hello)?;
        Ok((control, hello))
    }

    /// A file that has joined a session as this worker.
    pub(in crate::guest::cases) fn join(session: u64, worker: u32) -> Result<Self, Errno> {
        let control = Self::open().map_err(|_| Errno::ENODEV)?;
        control.ioctl(JOIN, &mut Join { session, worker, reserved: 0 })?;
        Ok(control)
    }

    /// An ioctl that reads and writes a struct.
    pub(in crate::guest::cases) fn ioctl<T: Copy>(
        &self,
        cmd: u32,
        argument: &mut T,
    ) -> Result<i32, Errno> {
        self.call(cmd, std::ptr::from_mut(argument) as u64)
    }

    /// An ioctl with any argument: what it makes the module write goes where it points to.
    pub(in crate::guest::cases) fn call(&self, cmd: u32, argument: u64) -> Result<i32, Errno> {
        // SAFETY: The callers pass numbers, structs of the ABI, or addresses without our memory.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), cmd.into(), argument) })
    }

    /// poll(2): whether it became readable in time.
    pub(super) fn poll(&self, bound: Duration) -> Result<bool, Errno> {
        let timeout = PollTimeout::try_from(bound).map_err(|_| Errno::EINVAL)?;
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, timeout).map(|count| count > 0)
    }

    /// mmap(2) with these flags.
    pub(in crate::guest::cases) fn map(
        &self,
        offset: u64,
        bytes: usize,
        flags: MapFlags,
    ) -> Result<Map, Errno> {
        let len = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
        let offset = offset.try_into().map_err(|_| Errno::EOVERFLOW)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: A new mapping at an address of the kernel's choice.
        let at = unsafe { mmap(None, len, protection, flags, &self.0, offset) }?;
        Ok(Map { at: at.cast(), bytes })
    }

    /// All of what lies at an offset.
    pub(in crate::guest::cases) fn map_all(&self, mapping: Mapping) -> Result<Map, Errno> {
        self.map(mapping.offset(), mapping.bytes(), MapFlags::MAP_SHARED)
    }
}

/// Memory that is shared with the module; unmapped when dropped.
pub(in crate::guest::cases) struct Map {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: All that a shared reference allows is atomic or done by the kernel.
unsafe impl Sync for Map {}

impl Map {
    /// The words of a range of bytes. A touch is a SIGBUS once the session has ended.
    pub(in crate::guest::cases) fn words(&self, start: usize, bytes: usize) -> &[AtomicU64] {
        assert!(start % 8 == 0 && start + bytes <= self.bytes, "a range of the mapping");
        // SAFETY: Within the mapping, as asserted.
        let first = unsafe { self.at.add(start) }.cast::<AtomicU64>();
        // SAFETY: Mapped for as long as `self`, aligned, and atomics may change under our eyes.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), bytes / 8) }
    }

    pub(in crate::guest::cases) fn word(&self, start: usize) -> &AtomicU64 {
        self.words(start, 8).first().expect("one word")
    }

    pub(in crate::guest::cases) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets the kernel read a byte there: EFAULT where a touch would be a SIGBUS.
    pub(in crate::guest::cases) fn probe(&self, start: usize) -> Result<(), Errno> {
        assert!(start < self.bytes);
        let (_reader, writer): (OwnedFd, OwnedFd) = pipe()?;
        // SAFETY: Within the mapping, as asserted.
        let at = unsafe { self.at.add(start) };
        // SAFETY: One byte of the mapping, which only the kernel touches; it says if it cannot.
        let byte = unsafe { std::slice::from_raw_parts(at.as_ptr(), 1) };
        write(&writer, byte).map(drop)
    }

    /// Unmaps a part in the middle; the rest is two mappings then.
    pub(in crate::guest::cases) fn punch(&self, start: usize, bytes: usize) -> Result<(), Errno> {
        assert!(start + bytes <= self.bytes);
        // SAFETY: Within the mapping, as asserted.
        let at = unsafe { self.at.add(start) };
        // SAFETY: Nobody touches that part any more: the caller drops the mapping.
        unsafe { munmap(at.cast(), bytes) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: Nothing borrows from it any more.
        let unmapped = unsafe { munmap(self.at.cast(), self.bytes) };
        assert_eq!(unmapped, Ok(()));
    }
}
