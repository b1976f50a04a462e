// SPDX-License-Identifier: GPL-2.0-only
//! The module, as an agent reaches it: a device to open, and what can be asked of an open file.
//!
//! Before: [`super::session`] and [`super::bell`] ask. After: the module in the kernel, behind
//! `/dev/srb-control`; in tests the simulated one (`sim`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc;
use srb_proto::control::{
    ActiveUrl, Config, DeviceInfo, Enter, Hello, Join, ACTIVE_URL, CONFIG, DEVICE, ENTER, HELLO,
    JOIN,
};
use srb_proto::layout::Mapping;

use super::mapping::Mapped;

/// Where agents connect.
pub trait ControlDevice {
    /// Opens the device once more.
    ///
    /// # Errors
    /// Those of open(2).
    fn open(&self) -> io::Result<Box<dyn ControlFile>>;
    /// How messages name the device.
    fn name(&self) -> String;
}

/// An open file of the control device. Each method is the request of that name in
/// `srb_proto::control`, which lists its errors. poll(2) says readable while the worker's submit
/// set has members; it wakes a sleeper only if the worker's `sleeping` word was set.
pub trait ControlFile: AsFd + Send + Sync {
    /// Begins a session.
    fn hello(&self, hello: &mut Hello) -> Result<(), Errno>;
    /// Makes the file a worker's.
    fn join(&self, join: &mut Join) -> Result<(), Errno>;
    /// Reads parameters, and URLs into `urls`.
    fn config(&self, config: &mut Config, urls: &mut [u8]) -> Result<(), Errno>;
    /// Reads the first device at or above the index.
    fn device(&self, info: &mut DeviceInfo) -> Result<(), Errno>;
    /// Lets the module reap completions, then look for submissions, and sleep until the worker's
    /// submit set has members, as [`Enter`] says. How many completions it applied.
    fn enter(&self, how: Enter) -> Result<u32, Errno>;
    /// Says which URL is in use.
    fn active_url(&self, active: &mut ActiveUrl) -> Result<(), Errno>;
    /// Maps memory of the session.
    fn map(&self, mapping: Mapping) -> Result<Mapped, Errno>;
}

/// The module in the kernel.
#[derive(Debug)]
pub struct KernelDevice {
    /// Of the character device.
    pub path: PathBuf,
}

impl ControlDevice for KernelDevice {
    fn open(&self) -> io::Result<Box<dyn ControlFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(libc::O_CLOEXEC).open(&self.path)?;
        Ok(Box::new(KernelFile { file }))
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

struct KernelFile {
    file: File,
}

impl KernelFile {
    fn ioctl<T>(&self, number: u32, argument: &mut T) -> Result<(), Errno> {
        let argument: *mut T = argument;
        // SAFETY: Each request of the module reads and writes one `T` (`srb_proto::control` says
        // which) at the address, which is exclusively borrowed.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), number.into(), argument) };
        Errno::result(result).map(drop)
    }
}

impl AsFd for KernelFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl ControlFile for KernelFile {
    fn hello(&self, hello: &mut Hello) -> Result<(), Errno> {
        self.ioctl(HELLO, hello)
    }
    fn join(&self, join: &mut Join) -> Result<(), Errno> {
        self.ioctl(JOIN, join)
    }
    fn config(&self, config: &mut Config, urls: &mut [u8]) -> Result<(), Errno> {
        config.urls = urls.as_mut_ptr().expose_provenance() as u64;
        config.urls_capacity = u32::try_from(urls.len()).unwrap_or(u32::MAX);
        self.ioctl(CONFIG, config)
    }
    fn device(&self, info: &mut DeviceInfo) -> Result<(), Errno> {
        self.ioctl(DEVICE, info)
    }
    fn enter(&self, how: Enter) -> Result<u32, Errno> {
        // SAFETY: The request takes its argument by value and touches no memory of the caller.
        let reaped = unsafe { libc::ioctl(self.file.as_raw_fd(), ENTER.into(), how.to_bits()) };
        Errno::result(reaped).map(i32::unsigned_abs)
    }
    fn active_url(&self, active: &mut ActiveUrl) -> Result<(), Errno> {
        self.ioctl(ACTIVE_URL, active)
    }
    fn map(&self, mapping: Mapping) -> Result<Mapped, Errno> {
        Mapped::new(self.file.as_fd(), mapping.offset(), mapping.bytes())
    }
}
