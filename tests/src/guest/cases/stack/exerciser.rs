// SPDX-License-Identifier: GPL-2.0-only
//! A file that is written, read, cut, grown and punched at random, and held against what it must
//! contain, as fsx does it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::fcntl::{fallocate, posix_fadvise, FallocateFlags, PosixFadviseAdvice};

use crate::guest::random::Random;
use crate::guest::TestResult;

/// The largest that the file becomes.
const LARGEST: u64 = 1 << 20;
/// The largest piece that is written or read at a time.
const PIECE: u64 = 64 << 10;

/// A file and its content.
pub(super) struct Exerciser {
    file: File,
    content: Vec<u8>,
    random: Random,
}

impl Exerciser {
    /// A new file in this folder.
    pub(super) fn new(folder: &Path, random: Random) -> TestResult<Self> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create_new(true).open(folder.join("exercised"))?;
        Ok(Self { file, content: Vec::new(), random })
    }

    /// So many operations, then a look at all of it, from the device.
    pub(super) fn run(mut self, operations: u32) -> TestResult {
        for number in 0..operations {
            let what = self.step()?;
            if self.file.metadata()?.len() != self.content.len() as u64 {
                return Err(format!("operation {number}, {what}: another length").into());
            }
            let (start, len) = self.piece();
            self.compare(start, len).map_err(|why| format!("operation {number}, {what}: {why}"))?;
        }
        self.forget()?;
        Ok(self.compare(0, self.content.len()).map_err(|why| format!("at the end: {why}"))?)
    }

    fn step(&mut self) -> TestResult<&'static str> {
        match self.random.below(8) {
            0..4 => {
                let start = self.random.below(LARGEST - PIECE) as usize;
                let len = 1 + self.random.below(PIECE) as usize;
                let bytes = self.random.bytes(len);
                self.file.write_all_at(&bytes, start as u64)?;
                let end = self.content.len().max(start + len);
                self.content.resize(end, 0);
                self.content.splice(start..start + len, bytes);
                Ok("write")
            }
            4 => {
                let len = self.random.below(LARGEST);
                self.file.set_len(len)?;
                self.content.resize(len as usize, 0);
                Ok("truncate")
            }
            5 => {
                let (start, len) = self.piece();
                if len > 0 {
                    let hole =
                        FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                    fallocate(&self.file, hole, start.try_into()?, len.try_into()?)?;
                    self.content.splice(start..start + len, std::iter::repeat_n(0, len));
                }
                Ok("punch")
            }
            6 => {
                self.file.sync_data()?;
                Ok("sync")
            }
            _ => {
                self.forget()?;
                Ok("forget")
            }
        }
    }

    /// A random part of the file.
    fn piece(&mut self) -> (usize, usize) {
        let size = self.content.len() as u64;
        let start = self.random.below(size.max(1));
        let len = self.random.below(PIECE).min(size.saturating_sub(start));
        (start as usize, len as usize)
    }

    /// Has it read from the device the next time.
    fn forget(&self) -> TestResult {
        self.file.sync_all()?;
        Ok(posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    }

    fn compare(&self, start: usize, len: usize) -> Result<(), String> {
        let mut read = vec![0; len];
        self.file.read_exact_at(&mut read, start as u64).map_err(|error| error.to_string())?;
        let expected = self.content.get(start..start + len).unwrap_or_default();
        match read.iter().zip(expected).position(|(read, expected)| read != expected) {
            Some(at) => Err(format!("other data at {}", start + at)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_file_passes_and_one_that_somebody_else_changes_does_not() {
        let folder = std::env::temp_dir().join(format!("srb-exerciser-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Exerciser::new(&folder, Random::from_seed(1)).unwrap().run(100).unwrap();
        std::fs::remove_file(folder.join("exercised")).unwrap();
        let mut spoilt = Exerciser::new(&folder, Random::from_seed(2)).unwrap();
        spoilt.content = vec![1; 10];
        spoilt.file.write_all_at(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 2], 0).unwrap();
        assert_eq!(spoilt.compare(0, 10), Err("other data at 9".to_owned()));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
