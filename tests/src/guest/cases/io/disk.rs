// SPDX-License-Identifier: GPL-2.0-only
//! Direct I/O of this process, where a test wants one request and its errno.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

/// What direct I/O wants of memory, at most.
const ALIGN: usize = 4096;

/// A block device, open for direct I/O.
pub(in crate::guest::cases) struct Disk(File);

/// Memory that direct I/O takes.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn new(len: usize) -> Self {
        let bytes = vec![0; len.saturating_add(ALIGN)];
        let start = bytes.as_ptr().align_offset(ALIGN);
        Self { bytes, start, len }
    }

    fn as_mut(&mut self) -> &mut [u8] {
        let end = self.start.saturating_add(self.len);
        self.bytes.get_mut(self.start..end).unwrap_or_default()
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

impl Disk {
    pub(in crate::guest::cases) fn open(path: &Path) -> Result<Self, Errno> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        options.open(path).map(Self).map_err(errno)
    }

    /// Reads with one pread(2); what came may be shorter.
    pub(in crate::guest::cases) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut buffer = Buffer::new(len);
        let got = self.0.read_at(buffer.as_mut(), offset).map_err(errno)?;
        Ok(buffer.as_mut().get(..got).unwrap_or_default().to_vec())
    }

    /// Writes with one pwrite(2); returns how much was taken.
    pub(in crate::guest::cases) fn write(&self, offset: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let mut buffer = Buffer::new(bytes.len());
        buffer.as_mut().copy_from_slice(bytes);
        self.0.write_at(buffer.as_mut(), offset).map_err(errno)
    }
}
