// SPDX-License-Identifier: GPL-2.0-only
//! One open volume: positioned reads and writes that never change its size, and setting that size.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{PoisonError, RwLock};

/// A volume's open file, shared by all requests that use it.
#[derive(Debug)]
pub(crate) struct Volume {
    file: File,
    /// Held shared by a write from its look at the size to its end, and alone by a change of size:
    /// a write that was checked cannot lengthen the volume again after it was cut.
    resize: RwLock<()>,
}

/// What a write that changed nothing failed on.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// It would end beyond the volume's end, at `size`.
    Beyond { size: u64 },
    /// The filesystem's answer.
    Io(io::Error),
}

impl Volume {
    pub(crate) fn new(file: File) -> Self {
        Self { file, resize: RwLock::new(()) }
    }

    /// The size in bytes, or nothing when the volume was destroyed or replaced by another file.
    pub(crate) fn size_if_linked(&self) -> io::Result<Option<u64>> {
        let metadata = self.file.metadata()?;
        Ok((metadata.nlink() > 0).then_some(metadata.len()))
    }

    /// Fills `buffer` from `offset`; an end of the volume before that is an error.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Writes all of `bytes` at `offset` if the volume is as long as that.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        let _size_stays = self.resize.read().unwrap_or_else(PoisonError::into_inner);
        let size = self.file.metadata().map_err(WriteError::Io)?.len();
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > size) {
            return Err(WriteError::Beyond { size });
        }
        self.file.write_all_at(bytes, offset).map_err(WriteError::Io)
    }

    /// Cuts the volume, or lengthens it with a hole.
    pub(crate) fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        let _alone = self.resize.write().unwrap_or_else(PoisonError::into_inner);
        self.file.set_len(size_bytes)
    }

    /// Returns once data and size are on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_never_lengthens() -> io::Result<()> {
        let volume = Volume::new(tempfile::tempfile()?);
        volume.set_size(8)?;
        assert!(volume.write_at(b"abcd", 4).is_ok());
        for offset in [5, 8, 9, u64::MAX] {
            let outcome = volume.write_at(b"abcd", offset);
            assert!(matches!(outcome, Err(WriteError::Beyond { size: 8 })), "{offset}");
        }
        let mut all = [1; 8];
        volume.read_at(&mut all, 0)?;
        assert_eq!(&all, b"\0\0\0\0abcd");
        assert!(volume.read_at(&mut all, 1).is_err());
        Ok(())
    }
}
